package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/limit"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/null"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// live is a running peer with its client.
type live struct {
	*peer.Process
	load.Kafka
	name   string
	gaveUp map[string]bool // steps that have failed
}

// Said is what the process wrote, where there is one.
func (l *live) Said() string {
	if l.Process == nil {
		return ""
	}
	return l.Process.Said()
}

// start runs a peer until stop is called.
func (r *run) start(ctx context.Context, s peer.Spec) (*live, error) {
	p, err := peer.Start(ctx, s, r.o.Dir)
	if err != nil {
		return nil, err
	}
	return &live{Process: p, Kafka: load.Kafka{Addr: p.Addr}, name: s.Name, gaveUp: map[string]bool{}}, nil
}

// startAll runs peers beside each other; those that are not measured are idle.
func (r *run) startAll(ctx context.Context, specs []peer.Spec) (ls []*live, stop func(), err error) {
	stop = func() {
		for _, l := range ls {
			l.Stop()
		}
	}
	for _, s := range specs {
		l, err := r.start(ctx, s)
		if err != nil {
			stop()
			return nil, nil, err
		}
		ls = append(ls, l)
	}
	return ls, stop, nil
}

// rounds calls measure for each peer in turns. Who is first changes, as the first one finds a
// colder machine. A peer that fails is left out from then on.
func (r *run) rounds(ctx context.Context, ls []*live, measure func(context.Context, *live) error) error {
	var failed []error
	out := map[*live]bool{}
	for round := range r.o.Rounds {
		for i := range ls {
			l := ls[(i+round)%len(ls)]
			if out[l] {
				continue
			}
			r.say("round %d of %d: %s", round+1, r.o.Rounds, l.name)
			if err := r.hole.fill(); err != nil {
				return err
			}
			if err := measure(ctx, l); err != nil {
				err = fmt.Errorf("%s: %w\n%s", l.name, err, l.Said())
				if ctx.Err() != nil {
					return err
				}
				r.say("%v", err)
				failed = append(failed, err)
				out[l] = true
			}
		}
	}
	return errors.Join(failed...)
}

// pageCache are the settings of a topic that is answered from the page cache. klite has one way
// only, the others take Kafka's names.
func (l *live) pageCache() map[string]string {
	if l.name == peer.Klite {
		return nil
	}
	return peer.PageCache()
}

// followed is the same for a topic that is read while it is written: the null broker has to be told.
func (l *live) followed() map[string]string {
	if l.name == peer.Null {
		return map[string]string{null.Queue: "true"}
	}
	return l.pageCache()
}

// steps runs a peer's part of a round. A step that fails is left out from then on, the others go on.
//
// Errors: a step of Belfry's failed; ctx.
func (r *run) steps(ctx context.Context, l *live, all []step) error {
	var failed []error
	for _, s := range all {
		if !r.wants(s.section) || l.gaveUp[s.name] {
			continue
		}
		if err := r.hole.fill(); err != nil {
			return err
		}
		err := s.run(ctx, l)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %s: %w\n%s", l.name, s.name, err, l.Said())
		if ctx.Err() != nil {
			return err
		}
		r.failed(l, s.name, err)
		if l.name == peer.Belfry {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// failed tells that a peer goes on without a step.
func (r *run) failed(l *live, step string, err error) {
	l.gaveUp[step] = true
	r.say("%v", err)
	first, _, _ := strings.Cut(err.Error(), "\n")
	r.res.remark("not measured: %s", first)
}

// newTopic makes a topic; drop removes it and waits until its files are gone and the disk is quiet.
func (r *run) newTopic(ctx context.Context, l *live, partitions int, settings map[string]string) (topic string, drop func(context.Context) error, err error) {
	r.seq++
	topic = fmt.Sprintf("bench-%d", r.seq)
	_, before := l.Files()
	if err := l.Create(ctx, topic, partitions, settings); err != nil {
		return "", nil, err
	}
	return topic, func(ctx context.Context) error {
		if err := l.Delete(ctx, topic); err != nil {
			return err
		}
		return l.quiet(ctx, before, dropTime+time.Duration(partitions)*dropTimeEach)
	}, nil
}

// dropTime and dropTimeEach are the longest that is waited for a topic's files to go: at least,
// and more for each partition.
const (
	dropTime     = 3 * time.Second
	dropTimeEach = 5 * time.Millisecond
)

// quiet waits until a peer's files take no more than they did. What does not go away goes to the
// disk before the next measurement; klite has one log for all topics, so there nothing goes.
func (l *live) quiet(ctx context.Context, before int64, patience time.Duration) error {
	const slack, look = 64 << 20, 20 * time.Millisecond
	for begin := time.Now(); l.name != peer.Klite && l.name != peer.Null && time.Since(begin) < patience; {
		if _, now := l.Files(); now <= before+slack {
			break
		}
		if err := sleep(ctx, look); err != nil {
			return err
		}
	}
	return l.settle()
}

// settle waits until the disk has what the peer has written.
func (l *live) settle() error {
	large, _ := l.Files()
	return limit.Settle(large)
}

// on runs something on a topic of its own.
func (r *run) on(ctx context.Context, l *live, settings map[string]string, do func(topic string) error) error {
	topic, drop, err := r.newTopic(ctx, l, r.o.Partitions, settings)
	if err != nil {
		return err
	}
	return errors.Join(do(topic), drop(ctx))
}

// peak samples a peer's memory until stop is called, which gives the largest value.
func (l *live) peak() (stop func() float64) {
	const every = 20 * time.Millisecond
	end := make(chan struct{})
	var most float64
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			most = max(most, l.Memory("VmRSS"))
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() float64 {
		close(end)
		done.Wait()
		return most
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
