package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

var errPower = errors.New("power is out")

// node is a coordinator over the real rooms below it, on a disk in memory.
type node struct {
	*Coordinator
	set   *replica.Set
	store *storage.Store
	stop  func()
}

func startNode(t testing.TB, fs disk.FS) *node {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	n := &node{}
	store, err := storage.Open(storage.Options{
		FS: fs, Dirs: []string{"/data"}, NodeID: 1, Now: time.Now, Logger: log,
		DirFailed: func(dir string, err error) { n.set.DirFailed(dir, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.store = store
	values, err := config.Defaults().With(nil)
	if err != nil {
		t.Fatal(err)
	}
	n.set = replica.New(replica.Options{
		Node: 1, Store: store, Stats: stats.New(), Logger: log, Now: time.Now,
		Settings: func(*metadata.Image, string) *config.Values {
			return config.TopicValues(values, nil, nil, map[string]string{"cleanup.policy": "compact"}, 1)
		},
	})
	n.Coordinator = New(Options{Node: 1, Replicas: n.set, Settings: func() *config.Values { return values }, Logger: log, Now: time.Now})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{store.Run, n.set.Run, n.Run} {
		wg.Go(func() { _ = run(ctx) }) // a disk without power ends the store with an error
	}
	n.stop = func() { cancel(); wg.Wait(); _ = store.Close() }

	img := image(t)
	if err := n.set.Apply(nil, img); err != nil && !errors.Is(err, errPower) && !errors.Is(err, storage.ErrOffline) {
		t.Fatal(err)
	}
	n.Apply(nil, img)
	return n
}

// image is two topics: the one that is consumed and the one that offsets are kept in.
func image(t testing.TB) *metadata.Image {
	t.Helper()
	var rs []metadata.Record
	for i, name := range []string{"t", topic.ConsumerOffsets} {
		id := topic.ID{byte(i + 1)}
		rs = append(rs, &metadata.TopicCreated{Name: name, ID: id})
		for n := range int32(2) {
			p := metadata.Partition{Leader: 1, Replicas: []metadata.BrokerID{1}, ISR: []metadata.BrokerID{1}, Dirs: make([]topic.ID, 1)}
			rs = append(rs, &metadata.PartitionCreated{Topic: id, Number: n, State: p})
		}
	}
	img, err := metadata.Empty().Fold(1, rs)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// commitWait commits and waits for the answer.
func (n *node) commitWait(group string, o int64) code {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.Group, r.Generation = 9, group, -1
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: o}}}}
	got := make(chan code, 1)
	n.OffsetCommit(r, func(resp *kmsg.OffsetCommitResponse) { got <- resp.Topics[0].Partitions[0].ErrorCode })
	return <-got
}

// loaded waits until a group is served and gives its offset.
func (n *node) loaded(t testing.TB, group string) int64 {
	t.Helper()
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Version = 8
	r.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}}}
	for deadline := time.Now().Add(10 * time.Second); ; {
		g := n.OffsetFetch(r).Groups[0]
		if g.ErrorCode == none {
			return g.Topics[0].Partitions[0].Offset
		}
		if time.Now().After(deadline) {
			t.Fatalf("group %s is not served: %s", group, named(g.ErrorCode))
		}
		time.Sleep(time.Millisecond)
	}
}

// TestPowerIsLost has many groups commit at once, takes the power away in the middle of
// it, and looks whether each offset that was acknowledged is there again (R31).
func TestPowerIsLost(t *testing.T) {
	const groups = 8
	var total int64
	for round := range uint64(12) {
		memory := disk.NewMemory(0)
		cut := 60 + int(round)*37
		n := startNode(t, disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
			if op.N >= cut {
				return &disk.Fault{Err: errPower, Short: cut % 50}
			}
			return nil
		}))
		var wg sync.WaitGroup
		var acked [groups]int64
		for g := range groups {
			id := fmt.Sprint("group", g)
			wg.Go(func() {
				acked[g] = -1
				for o := int64(0); o < 200 && n.store.Dirs()[0].Err == nil; {
					switch n.commitWait(id, o) {
					case none:
						acked[g] = o
						o++
					case loadInProgress:
						time.Sleep(time.Millisecond)
					default:
						return
					}
				}
			})
		}
		wg.Wait()
		n.stop()

		again := startNode(t, memory.Crash(round))
		for g := range groups {
			total += acked[g]
			if o := again.loaded(t, fmt.Sprint("group", g)); o < acked[g] {
				t.Errorf("round %d: group %d was acknowledged %d and is at %d", round, g, acked[g], o)
			}
		}
		if c := again.commitWait("group0", 1000); c != none {
			t.Errorf("round %d: a commit after the crash gives %s", round, named(c))
		}
		again.stop()
		t.Logf("round %d: acknowledged %v", round, acked)
	}
	if total < 100 {
		t.Errorf("only %d commits were acknowledged: nothing was tested", total)
	}
}
