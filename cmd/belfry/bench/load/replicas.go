package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// View is what the brokers of a cluster say of it.
type View struct {
	c     *kgo.Client
	topic string
}

// Replicas is where a partition is; brokers by their IDs.
type Replicas struct {
	Leader int32   // -1: none
	All    []int32 // the preferred leader first
	InSync []int32
}

// View opens a look at a topic. Brokers are asked by their number among the addresses, from 0.
func (k Kafka) View(topic string) (*View, error) {
	c, err := k.client()
	return &View{c, topic}, err
}

// Close ends the client.
func (v *View) Close() { v.c.Close() }

// Partitions gives what one broker knows. Why one: another may know it later.
//
// Errors: no answer, or the broker does not know the topic (yet).
func (v *View) Partitions(ctx context.Context, via int) (map[int32]Replicas, error) {
	q := kmsg.NewPtrMetadataRequest()
	q.Topics = []kmsg.MetadataRequestTopic{{Topic: &v.topic}}
	answer, err := q.RequestWith(ctx, v.c.SeedBrokers()[via])
	if err != nil {
		return nil, err
	}
	all := map[int32]Replicas{}
	for _, t := range answer.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, err
		}
		for _, p := range t.Partitions {
			all[p.Partition] = Replicas{Leader: p.Leader, All: p.Replicas, InSync: p.ISR}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cannot see the partitions of %q", v.topic)
	}
	return all, nil
}

// look is how often a broker is asked for something that is waited for. Why not more often: an answer
// about thousands of partitions costs the broker time.
const look = 20 * time.Millisecond

// Until waits until a broker says of every partition what is wanted.
//
// Errors: ctx, with what was missing.
func (v *View) Until(ctx context.Context, via int, what string, wanted func(Replicas) bool) error {
	for {
		all, err := v.Partitions(ctx, via)
		if err == nil {
			missing := 0
			for _, p := range all {
				if !wanted(p) {
					missing++
				}
			}
			if missing == 0 {
				return nil
			}
			err = fmt.Errorf("%d of %d partitions are not", missing, len(all))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot see every partition of %q %s: %w: %w", v.topic, what, err, context.Cause(ctx))
		case <-time.After(look):
		}
	}
}

// Whole waits until every partition has a leader and all its replicas are in sync.
func (v *View) Whole(ctx context.Context, via int) error {
	return v.Until(ctx, via, "in sync", func(p Replicas) bool { return p.Leader >= 0 && len(p.InSync) == len(p.All) })
}

// Without waits until a broker is in sync nowhere.
func (v *View) Without(ctx context.Context, via int, id int32) error {
	return v.Until(ctx, via, fmt.Sprintf("without broker %d", id), func(p Replicas) bool { return !slices.Contains(p.InSync, id) })
}

// Prefer gives every partition back to its preferred leader and waits until it leads.
func (v *View) Prefer(ctx context.Context, via int) error {
	all, err := v.Partitions(ctx, via)
	if err != nil {
		return err
	}
	var set kadm.TopicsSet
	for p := range all {
		set.Add(v.topic, p)
	}
	results, err := kadm.NewClient(v.c).ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
	if err != nil {
		return fmt.Errorf("cannot elect the preferred leaders of %q: %w", v.topic, err)
	}
	for _, of := range results {
		for _, r := range of {
			if r.Err != nil && !errors.Is(r.Err, kerr.ElectionNotNeeded) {
				return fmt.Errorf("cannot elect the preferred leader of partition %d of %q: %w", r.Partition, v.topic, r.Err)
			}
		}
	}
	return v.Until(ctx, via, "led by its preferred leader", func(p Replicas) bool { return p.Leader == p.All[0] })
}

// Controller gives the ID of the broker that leads the metadata log.
//
// Errors: none of the brokers names one.
func (v *View) Controller(ctx context.Context) (int32, error) {
	q := kmsg.NewPtrDescribeQuorumRequest()
	q.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}}}
	var failed []error
	for _, b := range v.c.SeedBrokers() {
		answer, err := q.RequestWith(ctx, b)
		if err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		if err == nil && len(answer.Topics) == 1 && len(answer.Topics[0].Partitions) == 1 {
			p := answer.Topics[0].Partitions[0]
			if err = kerr.ErrorForCode(p.ErrorCode); err == nil && p.LeaderID >= 0 {
				return p.LeaderID, nil
			}
		}
		failed = append(failed, err)
	}
	return 0, fmt.Errorf("cannot tell who leads the metadata log: %w", errors.Join(failed...))
}
