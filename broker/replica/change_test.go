package replica

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// nobody is never asked: the set of these tests does not run.
type nobody struct{}

func (nobody) Fetch(context.Context, metadata.BrokerID, string, *peer.Fetch) (*peer.FetchAnswer, error) {
	panic("BUG: a set that does not run fetches")
}

// cast makes changes of a cluster at random.
type cast struct {
	r     *rand.Rand
	img   *metadata.Image
	names int
}

func (c *cast) fold(records ...metadata.Record) {
	next, err := c.img.Fold(c.img.Index()+1, records)
	if err != nil {
		panic(err)
	}
	c.img = next
}

func (c *cast) state(was metadata.Partition) metadata.Partition {
	ids := []metadata.BrokerID{1, 2, 3, 4}
	c.r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	p := was
	if len(p.Replicas) == 0 || c.r.IntN(4) == 0 {
		p.Replicas = slices.Clone(ids[:3])
	}
	p.ISR = p.Replicas[:1+c.r.IntN(3)]
	if leader := p.ISR[c.r.IntN(len(p.ISR))]; len(was.Replicas) == 0 || leader != p.Leader {
		p.Leader, p.LeaderEpoch = leader, was.LeaderEpoch+1
	}
	p.PartitionEpoch++
	return p
}

// step makes one change, or a few in one batch.
func (c *cast) step() {
	topics := c.img.Topics()
	setting := func(r metadata.Resource, name string) metadata.Record {
		if c.r.IntN(3) == 0 && c.img.Config(r)[name] != "" {
			return &metadata.ConfigRemoved{Resource: r, Name: name}
		}
		return &metadata.ConfigSet{Resource: r, Name: name, Value: fmt.Sprint(1 + c.r.IntN(3))}
	}
	switch n := c.r.IntN(20); {
	case n < 3 || len(topics) == 0:
		c.names++
		t := &metadata.TopicCreated{Name: fmt.Sprint("t", c.r.IntN(6)), ID: topic.ID{1, byte(c.names >> 8), byte(c.names)}}
		records := []metadata.Record{t}
		if old := c.img.Topic(t.Name); old != nil {
			records = []metadata.Record{&metadata.TopicRemoved{ID: old.ID}, t}
		}
		for n := range 1 + c.r.IntN(5) {
			records = append(records, &metadata.PartitionCreated{Topic: t.ID, Number: int32(n), State: c.state(metadata.Partition{Leader: -1})})
		}
		c.fold(records...)
	case n < 5:
		c.fold(&metadata.TopicRemoved{ID: topics[c.r.IntN(len(topics))].ID})
	case n < 7:
		c.fold(setting(metadata.Resource{Kind: resourceTopic, Name: topics[c.r.IntN(len(topics))].Name}, "min.insync.replicas"))
	case n == 7:
		c.fold(setting(metadata.Resource{Kind: resourceBroker, Name: []string{"", "1", "2"}[c.r.IntN(3)]}, "min.insync.replicas"))
	case n == 8:
		id := metadata.BrokerID(1 + c.r.IntN(4))
		c.fold(&metadata.BrokerRegistered{Broker: metadata.Broker{ID: id, Epoch: metadata.EpochFromIndex}})
	default:
		t := topics[c.r.IntN(len(topics))]
		at := c.r.IntN(len(t.Partitions))
		c.fold(&metadata.PartitionChanged{Topic: t.ID, Number: int32(at), State: c.state(t.Partitions[at])})
	}
}

// TestStepByStepIsAsAtOnce takes a set through changes of a cluster, one after the other, and
// compares it with what an image says as a whole. Now and then a log cannot be opened.
func TestStepByStepIsAsAtOnce(t *testing.T) {
	for seed := range uint64(40) {
		s, store, _ := newFakeSet(t)
		s.o.Peers = nobody{}
		s.o.Settings = func(img *metadata.Image, name string) *config.Values {
			get := func(kind int8, name string) map[string]string {
				return img.Config(metadata.Resource{Kind: kind, Name: name})
			}
			return config.TopicValues(config.Defaults(), get(resourceBroker, ""), get(resourceBroker, "1"), get(resourceTopic, name), 3)
		}
		c := &cast{r: rand.New(rand.NewPCG(seed, 1)), img: metadata.Empty()}
		var last *metadata.Image
		for range 150 {
			for range 1 + c.r.IntN(3) {
				c.step()
			}
			if c.r.IntN(10) == 0 {
				store.refuse = context.DeadlineExceeded
			}
			err := s.Apply(last, c.img)
			last = c.img
			if store.refuse != nil {
				store.refuse = nil
				err = s.Apply(last, last)
			}
			if err != nil {
				t.Fatal(err)
			}
			holdSet(t, s, store, c.img)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// holdSet compares a set with an image.
func holdSet(t *testing.T, s *Set, store *fakeStore, img *metadata.Image) {
	t.Helper()
	want := make(map[fetcherKey]map[peer.PartitionID]record.Epoch)
	n := 0
	for _, top := range img.Topics() {
		for i, state := range top.Partitions {
			name := topic.Partition{Topic: top.Name, Partition: int32(i)}
			p, err := s.Partition(name)
			if here := slices.Contains(state.Replicas, 1); here != (err == nil) {
				t.Fatalf("%v: replicas %v, and the set says %v", name, state.Replicas, err)
			} else if !here {
				continue
			}
			n++
			leader, epoch := p.Leader()
			min := int(s.o.Settings(img, top.Name).Int("min.insync.replicas"))
			if leader != state.Leader || epoch != state.LeaderEpoch || p.id != top.ID || p.settings.Load().minInSync != min {
				t.Fatalf("%v: leader %d epoch %d min %d, want %d %d %d", name, leader, epoch, p.settings.Load().minInSync, state.Leader, state.LeaderEpoch, min)
			}
			if leader == 1 {
				if !slices.Equal(p.mu.lead.isr.committed, state.ISR) || p.mu.lead.required != min {
					t.Fatalf("%v: in sync %v, want %v", name, p.mu.lead.isr.committed, state.ISR)
				}
				for id, o := range p.mu.lead.others {
					if b := img.Broker(id); b != nil && o.epoch != b.Epoch {
						t.Fatalf("%v: broker %d counts under registration %d, not %d", name, id, o.epoch, b.Epoch)
					}
				}
				continue
			}
			key := fetcherKey{leader, (int(top.ID[0]) + i) % s.o.Replication.Fetchers}
			if want[key] == nil {
				want[key] = make(map[peer.PartitionID]record.Epoch)
			}
			want[key][peer.PartitionID{Topic: top.ID, Partition: int32(i)}] = epoch
		}
	}
	if len(s.All()) != n || len(store.held) != n {
		t.Fatalf("%d partitions and %d logs, want %d", len(s.All()), len(store.held), n)
	}
	got := make(map[fetcherKey]map[peer.PartitionID]record.Epoch)
	for key, f := range s.fetchers.mu.list {
		got[key] = make(map[peer.PartitionID]record.Epoch)
		for id, a := range f.mu.next {
			if p, err := s.Partition(a.p.name); err != nil || p != a.p {
				t.Fatalf("a fetcher has a partition that is not the set's: %v", a.p.name)
			}
			got[key][id] = a.epoch
		}
	}
	if !maps.EqualFunc(got, want, maps.Equal) {
		t.Fatalf("fetchers have %v, want %v", got, want)
	}
}

// BenchmarkOneChange changes the in-sync set of one partition of a large cluster, which one of
// its brokers follows.
func BenchmarkOneChange(b *testing.B) {
	for _, partitions := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(partitions), func(b *testing.B) {
			s, _, _ := newFakeSet(b)
			values := readSettings(config.TopicValues(config.Defaults(), nil, nil, nil, 3)).values
			s.o.Settings = func(*metadata.Image, string) *config.Values { return values }
			s.o.Now = time.Now
			c := &cast{r: rand.New(rand.NewPCG(1, 1)), img: metadata.Empty()}
			for n := range partitions / 100 {
				id := topic.ID{1, byte(n >> 8), byte(n)}
				records := []metadata.Record{&metadata.TopicCreated{Name: fmt.Sprint("t", n), ID: id}}
				for i := range 100 {
					first := metadata.BrokerID(n + i)
					ids := []metadata.BrokerID{first%50 + 1, (first+1)%50 + 1, (first+2)%50 + 1}
					records = append(records, &metadata.PartitionCreated{Topic: id, Number: int32(i), State: metadata.Partition{Leader: ids[0], Replicas: ids, ISR: ids}})
				}
				c.fold(records...)
			}
			if err := s.Apply(nil, c.img); err != nil {
				b.Fatal(err)
			}
			t := c.img.Topic("t0")
			for b.Loop() {
				last := c.img
				p := c.img.TopicByID(t.ID).Partitions[0]
				p.PartitionEpoch++
				c.fold(&metadata.PartitionChanged{Topic: t.ID, State: p})
				if err := s.Apply(last, c.img); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
