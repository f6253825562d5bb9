package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// loadBeforeKill is how long messages come in before each kill -9.
const loadBeforeKill = time.Second

// restart fills logs once and then, round by round, kills a peer under load and starts it over
// what is there, until every partition tells its end.
func (r *run) restart(ctx context.Context) error {
	specs := r.only(peer.Belfry, peer.Kafka)
	if err := r.room(len(specs)); err != nil {
		return err
	}
	ls, stop, err := r.startAll(ctx, specs)
	if err != nil {
		return err
	}
	defer stop()
	const topic = "bench-restart"
	for _, l := range ls {
		r.say("filling %s with %.3g GB", l.name, r.o.LogGB)
		if err := l.Create(ctx, topic, r.o.Partitions, l.pageCache()); err != nil {
			return err
		}
		if _, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, Bytes: int64(r.o.LogGB * 1e9)}); err != nil {
			return err
		}
		if err := l.settle(); err != nil {
			return err
		}
	}
	return r.rounds(ctx, ls, func(ctx context.Context, l *live) error {
		if err := killUnderLoad(ctx, l, topic); err != nil {
			return err
		}
		begin := time.Now()
		if err := l.Launch(ctx); err != nil {
			return err
		}
		if _, err := l.Await(ctx, topic); err != nil {
			return err
		}
		r.res.note(idRestart, l.name, float64(time.Since(begin).Microseconds())/1000)
		return l.settle()
	})
}

func killUnderLoad(ctx context.Context, l *live, topic string) error {
	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := l.Produce(loadCtx, load.Produce{Topic: topic, Size: 1000, For: time.Hour})
		ended <- err
	}()
	select {
	case err := <-ended:
		return errors.Join(errors.New("cannot keep the load up"), err)
	case <-time.After(loadBeforeKill):
	}
	l.Kill()
	cancel()
	<-ended // it has failed, as it had to
	return ctx.Err()
}

// room lowers the amount of logs to what the disk has room for, and says so.
func (r *run) room(peers int) error {
	free, err := freeBytes(r.o.Dir)
	if err != nil {
		return err
	}
	const spare = 5.0 // GB that stay free
	if most := (float64(free)/1e9 - spare) / (1.2 * float64(peers)); most < r.o.LogGB {
		if most <= 0.1 {
			return fmt.Errorf("the disk of %q has only %.3g GB free", r.o.Dir, float64(free)/1e9)
		}
		r.res.remark("restart: %.3g GB of logs instead of %.3g, as there is no more room on the disk", most, r.o.LogGB)
		r.o.LogGB = most
	}
	return nil
}
