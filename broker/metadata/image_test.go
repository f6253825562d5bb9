package metadata

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// idOf gives a topic ID made from a number.
func idOf(n int) (id topic.ID) {
	copy(id[:], fmt.Sprintf("%016d", n))
	return id
}

func oneReplica(b BrokerID) Partition {
	return Partition{Leader: b, Replicas: []BrokerID{b}, ISR: []BrokerID{b}}
}

// grow makes random batches that fit the image it holds and folds them.
type grow struct {
	rnd *rand.Rand
	img *Image
}

func (g *grow) step(t *testing.T, index uint64) {
	t.Helper()
	var batch []Record
	for range 1 + g.rnd.IntN(4) {
		r := g.record(index)
		longer := append(slices.Clone(batch), r...)
		if _, err := g.img.Fold(index, longer); err != nil {
			continue // it does not fit behind the others of the batch
		}
		batch = longer
	}
	before := bytesOf(t, g.img)
	next, err := g.img.Fold(index, batch)
	if err != nil {
		t.Fatalf("fold: %v", err)
	}
	if !bytes.Equal(before, bytesOf(t, g.img)) {
		t.Fatal("a fold changed the image it started from")
	}
	g.img = next
}

func (g *grow) record(index uint64) []Record {
	topics, brokers := g.img.Topics(), g.img.Brokers()
	pick := g.rnd.IntN(13)
	switch {
	case pick == 0 || len(brokers) == 0:
		return []Record{&BrokerRegistered{Broker{ID: BrokerID(g.rnd.IntN(5)), Epoch: EpochFromIndex, Fenced: true,
			Incarnation: idOf(int(index)), Rack: "a", Endpoints: []Endpoint{{"PLAINTEXT", "h", 9092, 0}}}}}
	case pick <= 4 || len(topics) == 0:
		id := idOf(int(index))
		records := []Record{&TopicCreated{Name: fmt.Sprintf("t%d", g.rnd.IntN(400)), ID: id, Created: int64(index)}}
		for n := range g.rnd.IntN(4) {
			records = append(records, &PartitionCreated{Topic: id, Number: int32(n), State: oneReplica(BrokerID(n))})
		}
		return records
	}
	some := topics[g.rnd.IntN(len(topics))]
	b := brokers[g.rnd.IntN(len(brokers))]
	res := Resource{TopicResource, some.Name}
	switch pick {
	case 5:
		return []Record{&TopicRemoved{some.ID}}
	case 6:
		return []Record{&PartitionCreated{Topic: some.ID, Number: int32(len(some.Partitions)), State: oneReplica(1)}}
	case 7:
		if len(some.Partitions) == 0 {
			return nil
		}
		p := some.Partitions[0]
		p.PartitionEpoch++
		p.LeaderEpoch += record.Epoch(g.rnd.IntN(2))
		return []Record{&PartitionChanged{Topic: some.ID, Number: 0, State: p}}
	case 8:
		return []Record{&ConfigSet{res, fmt.Sprintf("k%d", g.rnd.IntN(3)), fmt.Sprint(index)}}
	case 9:
		return []Record{&ConfigRemoved{res, fmt.Sprintf("k%d", g.rnd.IntN(3))}}
	case 10:
		e := QuotaEntity{User: QuotaName{QuotaNamed, fmt.Sprint(g.rnd.IntN(200))}}
		if len(g.img.Quota(e)) == 2 {
			return []Record{&QuotaRemoved{e, "a"}, &QuotaRemoved{e, "b"}}
		}
		return []Record{&QuotaSet{e, "a", float64(index)}, &QuotaSet{e, "b", 1}}
	case 11:
		return []Record{&BrokerUnfenced{b.ID, b.Epoch}, &LeadershipRenewed{b.ID}, &FeatureSet{"f", int16(index % 3)}}
	default:
		return []Record{&ProducerBlock{g.img.NextProducerID(), 1000}}
	}
}

func bytesOf(t testing.TB, i *Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := i.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// same compares everything that an image can be asked.
func same(t *testing.T, a, b *Image) {
	t.Helper()
	if !bytes.Equal(bytesOf(t, a), bytesOf(t, b)) {
		t.Fatal("images differ in their snapshots")
	}
	if a.Partitions() != b.Partitions() || a.TopicCount() != b.TopicCount() || a.Index() != b.Index() {
		t.Fatalf("counts differ: %d %d %d, %d %d %d",
			a.Partitions(), a.TopicCount(), a.Index(), b.Partitions(), b.TopicCount(), b.Index())
	}
	for _, ta := range a.Topics() {
		tb := b.Topic(ta.Name)
		if tb == nil || !reflect.DeepEqual(ta, tb) || b.TopicByID(ta.ID) != tb {
			t.Fatalf("topic %q differs: %+v, %+v", ta.Name, ta, tb)
		}
	}
	if d := Diff(a, b); !d.Empty() {
		t.Fatalf("Diff of equal images: %+v", d)
	}
}

func TestFoldIsTheSameAsFoldOfSnapshot(t *testing.T) {
	for seed := range uint64(6) {
		g := &grow{rnd: rand.New(rand.NewPCG(seed, 1)), img: Empty()}
		for index := uint64(1); index <= 600; index++ {
			old := g.img
			g.step(t, index)
			checkDelta(t, old, g.img)
		}
		again, err := Empty().Fold(g.img.Index(), g.img.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		same(t, g.img, again)
		read, err := ReadSnapshot(bytes.NewReader(bytesOf(t, g.img)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, g.img, read)
	}
}

// checkDelta compares Diff with what a plain walk over both images finds.
func checkDelta(t *testing.T, old, new *Image) {
	t.Helper()
	d := Diff(old, new)
	var added, removed, changed, brokers int
	for _, a := range old.Topics() {
		b := new.TopicByID(a.ID)
		if b == nil {
			removed++
		} else if !reflect.DeepEqual(a, b) {
			changed++
		}
	}
	for _, b := range new.Topics() {
		if old.TopicByID(b.ID) == nil {
			added++
		}
	}
	for _, b := range new.Brokers() {
		if !reflect.DeepEqual(old.Broker(b.ID), b) {
			brokers++
		}
	}
	if len(d.Added) != added || len(d.Removed) != removed || len(d.Changed) != changed || len(d.Brokers) != brokers {
		t.Fatalf("Diff: %d added, %d removed, %d changed, %d brokers; want %d, %d, %d, %d",
			len(d.Added), len(d.Removed), len(d.Changed), len(d.Brokers), added, removed, changed, brokers)
	}
	for _, r := range d.Configs {
		if reflect.DeepEqual(old.Config(r), new.Config(r)) {
			t.Fatalf("Diff names %v, whose settings are the same", r)
		}
	}
	if old.Index() > 0 && slices.ContainsFunc(new.Configured(TopicResource), func(r Resource) bool {
		return !reflect.DeepEqual(old.Config(r), new.Config(r)) && !slices.Contains(d.Configs, r)
	}) {
		t.Fatal("Diff misses a resource whose settings changed")
	}
}

func TestRefusedBatchLeavesNoTrace(t *testing.T) {
	img, err := Empty().Fold(1, []Record{
		&BrokerRegistered{Broker{ID: 1, Epoch: EpochFromIndex}},
		&TopicCreated{Name: "a", ID: idOf(1)},
		&PartitionCreated{Topic: idOf(1), State: oneReplica(1)},
		&ConfigSet{Resource{TopicResource, "a"}, "k", "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	before := bytesOf(t, img)
	good := []Record{
		&TopicCreated{Name: "b", ID: idOf(2)},
		&PartitionCreated{Topic: idOf(1), Number: 1, State: oneReplica(1)},
		&ConfigSet{Resource{TopicResource, "a"}, "k", "w"},
		&FeatureSet{"f", 1},
	}
	stale := oneReplica(1)
	moved := Partition{Leader: 2, PartitionEpoch: 1, Replicas: []BrokerID{1, 2}, ISR: []BrokerID{1, 2}}
	twice := Partition{Leader: 1, PartitionEpoch: 1, Replicas: []BrokerID{1, 1}, ISR: []BrokerID{1}}
	for name, bad := range map[string]Record{
		"name taken":         &TopicCreated{Name: "a", ID: idOf(3)},
		"ID taken":           &TopicCreated{Name: "c", ID: idOf(1)},
		"bad name":           &TopicCreated{Name: "a/b", ID: idOf(3)},
		"zero ID":            &TopicCreated{Name: "c"},
		"no such topic":      &TopicRemoved{idOf(9)},
		"gap":                &PartitionCreated{Topic: idOf(1), Number: 7, State: oneReplica(1)},
		"no replicas":        &PartitionCreated{Topic: idOf(1), Number: 2, State: Partition{Leader: NoBroker}},
		"stale epoch":        &PartitionChanged{Topic: idOf(1), Number: 0, State: stale},
		"leader, same epoch": &PartitionChanged{Topic: idOf(1), Number: 0, State: moved},
		"replica twice":      &PartitionChanged{Topic: idOf(1), Number: 0, State: twice},
		"no partition":       &PartitionChanged{Topic: idOf(1), Number: 9, State: stale},
		"config, no topic":   &ConfigSet{Resource{TopicResource, "zz"}, "k", "v"},
		"config not set":     &ConfigRemoved{Resource{TopicResource, "a"}, "other"},
		"wrong epoch":        &BrokerFenced{1, 99},
		"no broker":          &BrokerUnregistered{7, 1},
		"older registration": &BrokerRegistered{Broker{ID: 1, Epoch: 1}},
		"producer IDs twice": &ProducerBlock{5, 10},
		"no producer IDs":    &ProducerBlock{0, 0},
		"negative feature":   &FeatureSet{"f", -1},
		"nameless cluster":   &ClusterNamed{},
		"quota of nobody":    &QuotaSet{QuotaEntity{}, "q", 1},
		"quota of too much":  &QuotaSet{QuotaEntity{User: QuotaName{Of: QuotaDefault}, IP: QuotaName{Of: QuotaDefault}}, "q", 1},
		"quota of no name":   &QuotaSet{QuotaEntity{User: QuotaName{Of: QuotaNamed}}, "q", 1},
		"quota of zero":      &QuotaSet{QuotaEntity{User: QuotaName{Of: QuotaDefault}}, "q", 0},
		"quota of NaN":       &QuotaSet{QuotaEntity{User: QuotaName{Of: QuotaDefault}}, "q", math.NaN()},
		"quota not set":      &QuotaRemoved{QuotaEntity{User: QuotaName{Of: QuotaDefault}}, "q"},
		"renewed by nobody":  &LeadershipRenewed{7},
	} {
		if _, err := img.Fold(2, append(slices.Clone(good), bad)); err == nil {
			t.Errorf("%s: folded", name)
		} else if !bytes.Equal(before, bytesOf(t, img)) {
			t.Fatalf("%s: the refused batch changed the image", name)
		}
	}
	if _, err := img.Fold(0, nil); err == nil {
		t.Error("an older index was folded")
	}
	if _, err := img.Fold(2, good); err != nil {
		t.Errorf("the good records alone: %v", err)
	}
}

func TestTopicMadeAgainIsRemovedAndAdded(t *testing.T) {
	a, _ := Empty().Fold(1, []Record{&TopicCreated{Name: "x", ID: idOf(1)}})
	b, err := a.Fold(2, []Record{&TopicRemoved{idOf(1)}, &TopicCreated{Name: "x", ID: idOf(2)}})
	if err != nil {
		t.Fatal(err)
	}
	d := Diff(a, b)
	if len(d.Removed) != 1 || len(d.Added) != 1 || len(d.Changed) != 0 || d.Removed[0].ID == d.Added[0].ID {
		t.Fatalf("Diff: %+v", d)
	}
}

func TestPartitionsDoesNotCountInternalTopics(t *testing.T) {
	img, err := Empty().Fold(1, []Record{
		&TopicCreated{Name: topic.ConsumerOffsets, ID: idOf(1)},
		&PartitionCreated{Topic: idOf(1), State: oneReplica(1)},
		&TopicCreated{Name: "a", ID: idOf(2)},
		&PartitionCreated{Topic: idOf(2), State: oneReplica(1)},
		&PartitionCreated{Topic: idOf(2), Number: 1, State: oneReplica(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if img.Partitions() != 2 {
		t.Fatalf("Partitions: %d, want 2", img.Partitions())
	}
	img, err = img.Fold(2, []Record{&TopicRemoved{idOf(1)}, &TopicRemoved{idOf(2)}})
	if err != nil || img.Partitions() != 0 {
		t.Fatalf("Partitions after removal: %d, %v", img.Partitions(), err)
	}
}

func TestLeadershipRenewed(t *testing.T) {
	img, err := Empty().Fold(1, []Record{
		&BrokerRegistered{Broker{ID: 1, Epoch: EpochFromIndex}},
		&TopicCreated{Name: "a", ID: idOf(1)},
		&PartitionCreated{Topic: idOf(1), State: oneReplica(1)},
		&PartitionCreated{Topic: idOf(1), Number: 1, State: oneReplica(2)},
		&PartitionCreated{Topic: idOf(1), Number: 2, State: oneReplica(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	next, err := img.Fold(2, []Record{&LeadershipRenewed{1}, &LeadershipRenewed{1}})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []int32{2, 0, 2} {
		p := next.Topic("a").Partitions[n]
		if int32(p.LeaderEpoch) != want || p.PartitionEpoch != want || img.Topic("a").Partitions[n].LeaderEpoch != 0 {
			t.Errorf("partition %d: %+v, want epochs %d", n, p, want)
		}
	}
}

// great makes an image of topics × partitions.
func great(b testing.TB, topics, partitions int) *Image {
	var records []Record
	for n := range topics {
		records = append(records, &TopicCreated{Name: fmt.Sprintf("topic-%06d", n), ID: idOf(n + 1)})
		for p := range partitions {
			records = append(records, &PartitionCreated{Topic: idOf(n + 1), Number: int32(p), State: oneReplica(1)})
		}
	}
	img, err := Empty().Fold(1, records)
	if err != nil {
		b.Fatal(err)
	}
	return img
}

func BenchmarkFold(b *testing.B) {
	for _, shape := range [][2]int{{100_000, 1}, {1_000, 100}} {
		img := great(b, shape[0], shape[1])
		b.Run(fmt.Sprintf("create/topics=%d/partitions=%d", shape[0], shape[0]*shape[1]), func(b *testing.B) {
			records := []Record{&TopicCreated{Name: "topic-000500x", ID: idOf(1 << 30)},
				&PartitionCreated{Topic: idOf(1 << 30), State: oneReplica(1)}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := img.Fold(2, records); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("leader/topics=%d/partitions=%d", shape[0], shape[0]*shape[1]), func(b *testing.B) {
			p := oneReplica(1)
			p.PartitionEpoch, p.LeaderEpoch = 1, 1
			records := []Record{&PartitionChanged{Topic: idOf(501), State: p}}
			b.ReportAllocs()
			for b.Loop() {
				next, err := img.Fold(2, records)
				if err != nil {
					b.Fatal(err)
				}
				if len(Diff(img, next).Changed) != 1 {
					b.Fatal("Diff")
				}
			}
		})
	}
}

// BenchmarkRenew is what the restart of a broker costs that leads everything.
func BenchmarkRenew(b *testing.B) {
	img, err := great(b, 1_000, 100).Fold(2, []Record{&BrokerRegistered{Broker{ID: 1, Epoch: EpochFromIndex}}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := img.Fold(3, []Record{&LeadershipRenewed{1}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	img := great(b, 1_000, 100)
	raw := bytesOf(b, img)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			bytesOf(b, img)
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, err := ReadSnapshot(bytes.NewReader(raw)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
