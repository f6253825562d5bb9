package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

const (
	manyTopic = "bench-many"
	// manyLimit is the longest that one step may take.
	manyLimit = 5 * time.Minute
	// manyRounds is how often clusters with thousands of partitions are made at most: it takes Kafka minutes.
	manyRounds = 1
	// manyIdle is how long the processor time of idle nodes is counted.
	manyIdle = 5 * time.Second
)

// many measures what thousands of replicated partitions cost: one cluster at a time, as even an idle one takes
// processor time then.
func (r *run) many(ctx context.Context, specs []peer.ClusterSpec) error {
	rounds := min(r.o.Rounds, manyRounds)
	r.readAhead()
	r.res.remark("3 nodes, %d partitions × %d: rounds %d, each with new clusters, one at a time; in sync means that a node that stayed says so of every partition, to which a message came meanwhile; all take writes once each has acknowledged (acks=all) a message sent after the kill", r.o.ClusterPartitions, peer.ClusterSize, rounds)
	var failed []error
	for round := range rounds {
		for i := range specs {
			s := specs[(i+round)%len(specs)]
			r.say("round %d of %d: %s with %d partitions", round+1, rounds, s.Name, r.o.ClusterPartitions)
			if err := r.manyOf(ctx, s); err != nil {
				if failed = append(failed, err); ctx.Err() != nil {
					return err
				}
				r.say("%v", err)
			}
		}
	}
	return errors.Join(failed...)
}

func (r *run) manyOf(ctx context.Context, s peer.ClusterSpec) error {
	if err := r.hole.fill(); err != nil {
		return err
	}
	t, err := r.startCluster(ctx, s)
	if err != nil {
		return err
	}
	defer t.Stop()
	if err := r.manySteps(ctx, t); err != nil {
		return fmt.Errorf("%s: %w\n%s", t.label(), err, t.Said())
	}
	return nil
}

func (r *run) manySteps(ctx context.Context, t *trio) error {
	err := r.timed(ctx, t, idManyCreate, func(ctx context.Context) error {
		return t.Create(ctx, manyTopic, r.o.ClusterPartitions, safe())
	})
	if err != nil {
		return err
	}
	s, err := t.StartSweeper(ctx, manyTopic, r.o.ClusterPartitions, 1000)
	if err != nil {
		return err
	}
	defer s.Close()
	v, err := t.View(manyTopic)
	if err != nil {
		return err
	}
	defer v.Close()
	return inOrder(ctx, &manied{trio: t, s: s, v: v}, r.manyAtRest, r.manyStopped, r.manyKilled)
}

// manied is a cluster with many partitions, and who writes to them and looks at them.
type manied struct {
	*trio
	s *load.Sweeper
	v *load.View
}

// timed notes how long something takes.
func (r *run) timed(ctx context.Context, t *trio, id string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, manyLimit, errors.New("it took longer than "+manyLimit.String()))
	defer cancel()
	begin := time.Now()
	err := do(ctx)
	took := time.Since(begin)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	r.say("%s: %s %v", t.label(), id, took.Round(time.Millisecond))
	r.res.note(id, t.name, float64(took.Microseconds())/1000)
	return nil
}

// manyAtRest measures memory and processor time while nothing comes.
func (r *run) manyAtRest(ctx context.Context, m *manied) error {
	if err := m.v.Whole(ctx, 0); err != nil {
		return err
	}
	if err := errors.Join(m.settle(), sleep(ctx, r.rest())); err != nil {
		return err
	}
	idle := min(manyIdle, 2*r.o.Time)
	before := m.CPU()
	if err := sleep(ctx, idle); err != nil {
		return err
	}
	r.res.note(idManyCPU, m.name, 100*(m.CPU()-before).Seconds()/idle.Seconds())
	r.res.note(idManyMemory, m.name, m.Memory())
	return nil
}

// manyStopped stops a node that does not lead the metadata log, and starts it again.
func (r *run) manyStopped(ctx context.Context, m *manied) error {
	controller, err := m.v.Controller(ctx)
	if err != nil {
		return err
	}
	victim := controller%peer.ClusterSize + 1
	if err := m.Nodes[victim-1].Terminate(ctx); err != nil {
		return err
	}
	if err := m.s.Sweep(ctx); err != nil {
		return err
	}
	return r.manyBack(ctx, m, victim, idManyRestart)
}

// manyKilled kills the other node that does not lead the metadata log, with its third of the leaders.
func (r *run) manyKilled(ctx context.Context, m *manied) error {
	if err := m.v.Prefer(ctx, 0); err != nil {
		return err
	}
	if err := m.s.Sweep(ctx); err != nil { // the client knows the leaders
		return err
	}
	controller, err := m.v.Controller(ctx)
	if err != nil {
		return err
	}
	victim := (controller+1)%peer.ClusterSize + 1
	err = r.timed(ctx, m.trio, idManyFailover, func(ctx context.Context) error {
		m.Nodes[victim-1].Kill()
		return m.s.Sweep(ctx)
	})
	if err != nil {
		return err
	}
	return r.manyBack(ctx, m, victim, idManyRecover)
}

// manyBack starts a node again and waits until one that stayed says that all replicas are in sync.
func (r *run) manyBack(ctx context.Context, m *manied, victim int32, id string) error {
	survivor := int(victim % peer.ClusterSize) // the one after it, from 0
	waiting, cancel := context.WithTimeoutCause(ctx, manyLimit, errors.New("it took longer than "+manyLimit.String()))
	defer cancel()
	if err := m.v.Without(waiting, survivor, victim); err != nil {
		return err
	}
	return r.timed(ctx, m.trio, id, func(ctx context.Context) error {
		if err := m.Nodes[victim-1].Launch(ctx); err != nil {
			return err
		}
		return m.v.Whole(ctx, survivor)
	})
}
