package bench

import (
	"context"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// settle is how long a peer is left alone before its memory is read.
const settle = 2 * time.Second

// fresh measures processes that have just been started: the start itself and memory. Two
// processes a round: what partitions leave behind must not count for connections.
func (r *run) fresh(ctx context.Context) error {
	specs := r.only(peer.Belfry, peer.Kafka, peer.Klite, peer.NATS)
	for round := range r.o.Rounds {
		for i := range specs {
			s := specs[(i+round)%len(specs)]
			r.say("round %d of %d: %s", round+1, r.o.Rounds, s.Name)
			loads := []func(context.Context, *live) error{r.manyPartitions, r.idleConnections}
			if s.Name == peer.NATS {
				loads = []func(context.Context, *live) error{r.idleConnections}
			}
			for _, measure := range loads {
				if err := r.freshProcess(ctx, s, measure); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *run) freshProcess(ctx context.Context, s peer.Spec, measure func(context.Context, *live) error) error {
	l, err := r.start(ctx, s)
	if err != nil {
		return err
	}
	defer l.Stop()
	r.res.note(idStart, s.Name, float64(l.Started.Microseconds())/1000)
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	r.res.note(idMemoryIdle, s.Name, l.Memory("VmRSS"))
	return measure(ctx, l)
}

func (r *run) manyPartitions(ctx context.Context, l *live) error {
	if err := l.Create(ctx, "bench-many", r.o.ManyPartitions, nil); err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	r.res.note(idMemoryMany, l.name, l.Memory("VmRSS"))
	return nil
}

func (r *run) idleConnections(ctx context.Context, l *live) error {
	hello := peer.Hello
	if l.name == peer.NATS {
		hello = peer.HelloNATS
	}
	done, err := l.Idle(ctx, r.o.IdleConnections, hello)
	if err != nil {
		return err
	}
	defer done()
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	r.res.note(idMemoryConns, l.name, l.Memory("VmRSS"))
	return nil
}
