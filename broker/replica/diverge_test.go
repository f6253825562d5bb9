package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// pair is replicas of one partition, without any network.
type pair struct {
	t    *testing.T
	sets map[metadata.BrokerID]*Set
}

func (w *pair) replica(id metadata.BrokerID) *Partition {
	w.t.Helper()
	if w.sets[id] == nil {
		store, err := storage.Open(storage.Options{FS: disk.NewMemory(0), Dirs: []string{"/data"}, NodeID: int32(id), ClusterID: "pair", Now: time.Now, Checkpoint: time.Hour, RetentionCheck: time.Hour})
		if err != nil {
			w.t.Fatal(err)
		}
		w.sets[id] = New(Options{Node: id, Store: store, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
		w.role(id, metadata.NoBroker, 0)
	}
	p, err := w.sets[id].Partition(orders)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *pair) role(id, leader metadata.BrokerID, epoch record.Epoch) {
	w.t.Helper()
	all := []metadata.BrokerID{1, 2, 3}
	unflushed := map[string]string{"flush.messages": strconv.Itoa(math.MaxInt64)}
	wishes := map[topic.Partition]wish{orders: {id: idA, state: metadata.Partition{Leader: leader, LeaderEpoch: epoch, Replicas: all, ISR: all}, set: readSettings(config.TopicValues(config.Defaults(), nil, nil, unflushed, 3))}}
	if err := w.sets[id].apply(wishes, false); err != nil {
		w.t.Fatal(err)
	}
}

func (w *pair) show(id metadata.BrokerID) string {
	p := w.replica(id)
	got, err := entries(p, p.LogStart(), p.End())
	if err != nil {
		w.t.Fatal(err)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%d: [%d", id, p.LogStart())
	for _, e := range got {
		fmt.Fprintf(&s, " %d%s", e.epoch, e.value)
	}
	fmt.Fprintf(&s, " %d) hw %d\n", p.End(), p.HighWatermark())
	return s.String()
}

// round is one fetch and what the follower makes of the answer.
func (w *pair) round(id, leader metadata.BrokerID, epoch record.Epoch) (said string, more bool) {
	f, l := w.replica(id), w.replica(leader)
	at, ok := f.position(epoch)
	if !ok {
		return "does not follow in that epoch\n", false
	}
	said = fmt.Sprintf("fetch at %d after epoch %d: ", at.Offset, at.LastFetched)
	got, err := l.ReadFollower(FollowerFetch{Broker: id, BrokerEpoch: -1, LeaderEpoch: at.LeaderEpoch, Offset: at.Offset, LastFetched: at.LastFetched, LogStart: at.LogStart, Max: 1 << 20, MinOne: true})
	answer := peer.FetchedPartition{PartitionID: at.PartitionID, HighWatermark: got.HighWatermark, LogStart: got.LogStart, Diverged: got.Diverged, EndEpoch: got.EndEpoch, EndOffset: got.EndOffset}
	switch {
	case errors.Is(err, storage.ErrOffsetOutOfRange):
		answer.Code = kerr.OffsetOutOfRange.Code
		said += "out of range"
	case err != nil:
		return said + err.Error() + "\n", false
	case got.Diverged:
		said += fmt.Sprintf("epoch %d ends at %d", got.EndEpoch, got.EndOffset)
	default:
		answer.Records = make([]byte, got.Slice.Len())
		_, _ = got.Slice.ReadAt(answer.Records, 0)
		got.Slice.Release()
		said += fmt.Sprintf("%d bytes", len(answer.Records))
	}
	more, err = f.receive(epoch, &at, &answer)
	if err != nil {
		return said + ", " + err.Error() + "\n", false
	}
	return said + fmt.Sprintf(", log ends at %d\n", f.End()), more
}

// Commands: "log ID EPOCHtext..." appends records as they come, of these epochs; "begin ID EPOCH"
// opens an epoch without a record; "start ID OFFSET" deletes below it; "lead ID EPOCH" makes a
// leader; "write ID text..." appends as the leader; "follow ID LEADER EPOCH" fetches until there
// is nothing new; "show ID".
func TestDivergingScripts(t *testing.T) {
	runScripts(t, "diverge_*.txt", func(t *testing.T) func(string, []string) string {
		w := &pair{t: t, sets: make(map[metadata.BrokerID]*Set)}
		return func(cmd string, args []string) string {
			id := metadata.BrokerID(numberOf(t, args[0]))
			p := w.replica(id)
			switch cmd {
			case "log":
				for _, a := range args[1:] {
					b := oneBatch(t, a[1:])
					record.SetBase(b, p.End(), record.Epoch(numberOf(t, a[:1])))
					if _, err := p.log.Append(b, storage.Append{Now: 1}); err != nil {
						t.Fatal(err)
					}
				}
			case "begin":
				if err := p.log.BeginEpoch(record.Epoch(numberOf(t, args[1]))); err != nil {
					t.Fatal(err)
				}
			case "start":
				if _, err := p.log.DeleteBefore(record.Offset(numberOf(t, args[1]))); err != nil {
					t.Fatal(err)
				}
			case "lead":
				w.role(id, id, record.Epoch(numberOf(t, args[1])))
			case "write":
				for _, a := range args[1:] {
					if _, err := p.Append(oneBatch(t, a), 1, time.Now()); err != nil {
						t.Fatal(err)
					}
				}
			case "follow":
				leader, epoch := metadata.BrokerID(numberOf(t, args[1])), record.Epoch(numberOf(t, args[2]))
				w.role(id, leader, epoch)
				out := ""
				for n := 0; ; n++ {
					said, more := w.round(id, leader, epoch)
					out += said
					if !more {
						return out + w.show(id)
					}
					if n > 10 {
						return out + "and so on\n"
					}
				}
			case "show":
			default:
				t.Fatalf("no command %q", cmd)
			}
			return w.show(id)
		}
	})
}
