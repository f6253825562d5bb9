package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Times that stand for an end of the log. Source: ListOffsets of the protocol.
const (
	latest   = -1
	earliest = -2
)

// bound is one kind of offset that is asked of every partition.
type bound struct {
	name string
	time int64
	put  func(*Partition, int64)
	// again asks once more, whatever metadata and retries that takes.
	again func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)
}

func (c *Client) starts(ctx context.Context, s *State) error {
	return c.offsets(ctx, s, bound{"start", earliest, func(p *Partition, at int64) { p.Start = at }, c.admin.ListStartOffsets})
}

func (c *Client) ends(ctx context.Context, s *State) error {
	err := c.offsets(ctx, s, bound{"end", latest, func(p *Partition, at int64) { p.End = at }, c.admin.ListEndOffsets})
	s.Ended = time.Now()
	return err
}

// spot is a partition's place in a State.
type spot struct{ topic, partition int }

// offsets asks the leader of every partition that the pass found, all leaders at once and
// each for a bounded number at a time. What a leader refuses or does not answer, because
// it is none any more, is asked again by topic.
//
// A partition that has no leader is no error here: it is Unknown, and the count
// of offline partitions tells of it.
func (c *Client) offsets(ctx context.Context, s *State, b bound) error {
	byLeader := map[int32][]spot{}
	for i := range s.Topics {
		for j := range s.Topics[i].Partitions {
			if id := s.Topics[i].Partitions[j].Leader; id >= 0 {
				byLeader[id] = append(byLeader[id], spot{i, j})
			}
		}
	}
	var all sync.WaitGroup
	refused := make(chan []spot, len(byLeader))
	for id, spots := range byLeader {
		all.Go(func() {
			var left []spot
			for some := range slices.Chunk(spots, partitionsAtOnce) {
				left = append(left, c.ask(ctx, s, b, id, some)...)
			}
			refused <- left
		})
	}
	all.Wait()
	close(refused)
	var left []spot
	for some := range refused {
		left = append(left, some...)
	}
	return c.askAgain(ctx, s, b, left)
}

// ask gives what one broker did not tell.
func (c *Client) ask(ctx context.Context, s *State, b bound, broker int32, spots []spot) []spot {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for from := 0; from < len(spots); {
		t := kmsg.NewListOffsetsRequestTopic()
		at := spots[from].topic
		t.Topic = s.Topics[at].Name
		to := from
		for to < len(spots) && spots[to].topic == at {
			to++
		}
		t.Partitions = make([]kmsg.ListOffsetsRequestTopicPartition, 0, to-from)
		for _, sp := range spots[from:to] {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = s.Topics[at].Partitions[sp.partition].ID, b.time
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
		from = to
	}
	answer, err := c.kafka.Broker(int(broker)).RetriableRequest(ctx, req)
	if err != nil {
		return spots
	}
	told := make(map[spot]bool, len(spots))
	for _, t := range answer.(*kmsg.ListOffsetsResponse).Topics {
		i, ok := slices.BinarySearchFunc(s.Topics, t.Topic, func(t Topic, name string) int { return strings.Compare(t.Name, name) })
		if !ok {
			continue
		}
		ps := s.Topics[i].Partitions
		for _, a := range t.Partitions {
			// Why no copy of one is made: offsets of others are being written by those who ask other leaders.
			j, ok := sort.Find(len(ps), func(k int) int { return cmp.Compare(a.Partition, ps[k].ID) })
			if ok && ps[j].Leader == broker && a.ErrorCode == 0 {
				told[spot{i, j}] = true
				if a.Offset >= 0 {
					b.put(&ps[j], a.Offset)
				}
			}
		}
	}
	if len(told) == len(spots) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(spots), func(sp spot) bool { return told[sp] })
}

// askAgain asks for the topics of some partitions, a bounded number at once.
func (c *Client) askAgain(ctx context.Context, s *State, b bound, left []spot) error {
	slices.SortFunc(left, func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	var trouble error
	for len(left) > 0 {
		var names []string
		n, asked := 0, 0
		for ; n < len(left); n++ {
			t := &s.Topics[left[n].topic]
			if len(names) > 0 && names[len(names)-1] == t.Name {
				continue
			}
			if asked += len(t.Partitions); len(names) > 0 && asked > partitionsAtOnce {
				break
			}
			names = append(names, t.Name)
		}
		listed, err := b.again(ctx, names...)
		if err != nil && trouble == nil {
			trouble = fmt.Errorf("cannot list %s offsets: %w", b.name, err)
		}
		for _, sp := range left[:n] {
			t := &s.Topics[sp.topic]
			p := &t.Partitions[sp.partition]
			o, ok := listed.Lookup(t.Name, p.ID)
			switch {
			case ok && errors.Is(o.Err, kerr.KafkaStorageError):
				p.Leader = -1 // its log is damaged or its disk has failed: nobody can read or write it
			case ok && o.Err == nil && o.Offset >= 0:
				b.put(p, o.Offset)
			}
		}
		left = left[n:]
	}
	return trouble
}
