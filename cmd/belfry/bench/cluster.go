package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/limit"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/profile"
)

// trio is a running cluster of three nodes with its client.
type trio struct {
	*peer.Cluster
	load.Kafka
	name string
	what string // how this cluster differs from the other ones of the same name
}

func (t *trio) label() string { return t.name + t.what }

// safe are the settings of a topic that outlives the loss of a node, on both sides. Why nothing
// else: with three replicas of which two must be in sync, a message is answered from the page cache
// by either's defaults.
func safe() map[string]string { return map[string]string{"min.insync.replicas": "2"} }

// clusters are what can be started, Belfry first.
func (r *run) clusters(ctx context.Context) ([]peer.ClusterSpec, error) {
	specs := []peer.ClusterSpec{peer.BelfryCluster(r.o.Program, r.o.Version)}
	if _, ok := r.spec(peer.Kafka); ok {
		s, err := peer.KafkaCluster(ctx, r.o.Cache)
		if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	for _, s := range specs {
		r.res.Peers = append(r.res.Peers, Peer{Name: s.Name, Version: s.Version, Settings: s.Settings})
	}
	return specs, nil
}

// cluster measures three nodes that replicate: throughput and times, then what the loss of a node
// does, then, with clusters of their own, thousands of partitions.
func (r *run) cluster(ctx context.Context) error {
	specs, err := r.clusters(ctx)
	if err != nil {
		return err
	}
	r.res.remark("3 nodes: equal settings, 3 replicas, acks=all, min.insync.replicas=2, with which both answer from the page cache by default; ours does so only with at least 3 replicas and min.insync.replicas=2, else every in-sync replica flushes first. Memory is PSS, idle nodes beside each other take processor time from who is measured")
	// Why it goes on after an error: the others do not depend on it.
	failed := r.clusterPart(ctx, "few partitions", func() error {
		ts, stop, err := r.startClusters(ctx, specs)
		if err != nil {
			return err
		}
		defer stop()
		for _, t := range ts {
			if err := r.clusterWarmUp(ctx, t); err != nil {
				return fmt.Errorf("%s: %w\n%s", t.label(), err, t.Said())
			}
		}
		return errors.Join(
			r.clusterPart(ctx, "throughput and times", func() error { return r.clusterData(ctx, ts) }),
			r.clusterPart(ctx, "lost nodes", func() error { return r.outages(ctx, ts) }))
	})
	return errors.Join(failed, r.clusterPart(ctx, "many partitions", func() error { return r.many(ctx, specs) }))
}

func (r *run) clusterPart(ctx context.Context, name string, do func() error) error {
	if ctx.Err() != nil {
		return nil
	}
	begin := time.Now()
	err := do()
	r.say("three nodes, %s took %v", name, time.Since(begin).Round(time.Second))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// startCluster runs one until it is stopped, and reads the memory of its idle nodes.
func (r *run) startCluster(ctx context.Context, s peer.ClusterSpec) (*trio, error) {
	t, err := r.newTrio(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, r.rest()); err != nil {
		t.Stop()
		return nil, err
	}
	r.res.note(idClusterIdle, t.name, t.Memory())
	return t, nil
}

// rest is how long a cluster is left alone before it is looked at: settle, but in runs that are short.
func (r *run) rest() time.Duration { return min(settle, r.o.Time) }

func (r *run) newTrio(ctx context.Context, s peer.ClusterSpec) (*trio, error) {
	begin := time.Now()
	c, err := peer.StartCluster(ctx, s, r.o.Dir)
	if err != nil {
		return nil, err
	}
	r.say("%s: three nodes in %v", s.Name, time.Since(begin).Round(time.Millisecond))
	addrs := c.Addrs()
	return &trio{Cluster: c, Kafka: load.Kafka{Addr: addrs[0], Others: addrs[1:], Replicas: peer.ClusterSize}, name: s.Name}, nil
}

func (r *run) startClusters(ctx context.Context, specs []peer.ClusterSpec) (ts []*trio, stop func(), err error) {
	stop = func() {
		for _, t := range ts {
			t.Stop()
		}
	}
	for _, s := range specs {
		t, err := r.startCluster(ctx, s)
		if err != nil {
			stop()
			return nil, nil, err
		}
		ts = append(ts, t)
	}
	return ts, stop, nil
}

// clusterData measures throughput, end-to-end times and memory under load.
func (r *run) clusterData(ctx context.Context, ts []*trio) error {
	return turns(ctx, r, ts, func(ctx context.Context, t *trio, _ int) error {
		return inOrder(ctx, t, r.clusterProduce, r.clusterProduceUnsafe, r.clusterEndToEnd)
	})
}

// inOrder takes steps until one fails.
func inOrder[T any](ctx context.Context, of T, steps ...func(context.Context, T) error) error {
	for _, step := range steps {
		if err := step(ctx, of); err != nil {
			return err
		}
	}
	return nil
}

// clusterWarmUp drives both data roads for a while.
func (r *run) clusterWarmUp(ctx context.Context, t *trio) error {
	r.say("warming up %s", t.label())
	half := r.o.WarmUp / 2
	return r.onCluster(ctx, t, safe(), func(topic string) error {
		if _, err := t.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: half}); err != nil {
			return err
		}
		_, err := t.Consume(ctx, topic, half)
		return err
	})
}

// clusterPeak is how often the memory of a cluster under load is read. Why not more often: for each
// answer the system walks through all pages of three processes.
const clusterPeak = 200 * time.Millisecond

func (r *run) clusterProduce(ctx context.Context, t *trio) error {
	return r.onCluster(ctx, t, safe(), func(topic string) error {
		before, most := t.CPU(), peak(clusterPeak, t.Memory)
		a, err := t.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time})
		memory := most()
		if err != nil {
			return err
		}
		r.res.note(idClusterProduce, t.name, a.Rate())
		r.res.note(idClusterCPU, t.name, (t.CPU()-before).Seconds()/a.Gigabytes())
		r.res.note(idClusterLoad, t.name, memory)
		return nil
	})
}

// clusterProduceUnsafe is the same where one replica is enough, which is the default of both: ours
// flushes then before it answers.
func (r *run) clusterProduceUnsafe(ctx context.Context, t *trio) error {
	return r.onCluster(ctx, t, nil, func(topic string) error {
		a, err := t.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time})
		if err != nil {
			return err
		}
		r.res.note(idClusterDefault, t.name, a.Rate())
		return nil
	})
}

func (r *run) clusterEndToEnd(ctx context.Context, t *trio) error {
	return r.onCluster(ctx, t, safe(), func(topic string) error {
		ts, err := t.EndToEnd(ctx, load.Pace{Topic: topic, Size: 1000, Rate: r.o.EndToEndRate, For: r.o.Time})
		if err != nil {
			return err
		}
		r.res.note(idClusterE2E, t.name, ts.Quantile(0.99))
		return nil
	})
}

// onCluster runs something on a topic of its own, which is gone from all nodes afterwards.
func (r *run) onCluster(ctx context.Context, t *trio, settings map[string]string, do func(topic string) error) error {
	r.seq++
	topic := fmt.Sprintf("bench-%d", r.seq)
	_, before := t.Files()
	if err := t.Create(ctx, topic, r.o.Partitions, settings); err != nil {
		return err
	}
	err := do(topic)
	if err := errors.Join(err, t.Delete(ctx, topic)); err != nil {
		return err
	}
	return errors.Join(filesGone(ctx, before, dropTime, t.Files), t.settle())
}

// settle waits until the disk has what the nodes have written.
func (t *trio) settle() error {
	large, _ := t.Files()
	return limit.Settle(large)
}

// clusterLoads are what can be profiled of three nodes.
func (r *run) clusterLoads() []workload {
	return []workload{
		{name: "3 nodes, produce", lines: []string{idClusterProduce}, settings: safe(), cluster: true, run: r.produces(load.Produce{Size: 1000})},
		{
			name: fmt.Sprintf("3 nodes, end to end, %d msg/s", r.o.EndToEndRate), lines: []string{idClusterE2E}, settings: safe(), cluster: true,
			run: func(ctx context.Context, l *live, topic string) error {
				_, err := l.EndToEnd(ctx, load.Pace{Topic: topic, Size: 1000, Rate: r.o.EndToEndRate, For: r.o.Time})
				return err
			},
		},
	}
}

func (r *run) clusterProfiles(ctx context.Context, all []workload) error {
	if len(all) == 0 {
		return nil
	}
	t, err := r.newTrio(ctx, peer.BelfryClusterProfiled(r.o.Program, r.o.Version))
	if err != nil {
		return err
	}
	defer t.Stop()
	s := side{cpu: t.CPU}
	for _, n := range t.Nodes {
		s.remotes = append(s.remotes, profile.Remote(n.Profiles))
	}
	client := &live{Kafka: t.Kafka, name: t.name}
	for _, w := range all {
		r.say("profile of %s", w.name)
		err := r.onCluster(ctx, t, w.settings, func(topic string) error {
			p, err := r.record(s, w, func() error { return w.run(ctx, client, topic) })
			if err == nil {
				r.res.Profiles = append(r.res.Profiles, p)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", w.name, err, t.Said())
		}
	}
	return nil
}
