package roll

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/outage"
)

// Cluster is asked how it stands, and to give partitions back to their preferred leaders.
type Cluster interface {
	Standing(ctx context.Context) (*cluster.Standing, error)
	// Prefer has the first replica of each partition lead. That one cannot any more, or
	// does so already, is no error.
	Prefer(ctx context.Context, places []cluster.Place) error
}

// Options of a restart; all but Accept are required.
type Options struct {
	Cluster Cluster
	// Restart has one broker restarted, or started if it is down. It may return before
	// that is done.
	Restart func(ctx context.Context, m cluster.Member) error
	File    string        // keeps the progress; it is removed at the end
	Out     io.Writer     // gets a line for each step
	Limit   time.Duration // of each wait: until a broker is safe to stop, and until it is back
	Accept  []outage.Kind // reasons against a stop that do not count
}

// rolling is one Run.
type rolling struct {
	o     Options
	p     progress
	began time.Time
	said  string
	cost  time.Duration // of the last look
	since time.Time     // when the present broker's restart began
}

// Run restarts every broker once. It goes on where an earlier one ended that left File.
//
// Errors: ctx's; a broker that is not safe to stop, or not back, within the limit; what
// Restart says. Each names the broker and what is amiss; the rest of the cluster is as it was.
func Run(ctx context.Context, o Options) error {
	r := &rolling{o: o, began: time.Now()}
	s, err := o.Cluster.Standing(ctx)
	if err != nil {
		return err
	}
	var resumed bool
	if r.p, resumed, err = readProgress(o.File, s.ClusterID); err != nil {
		return err
	}
	if resumed {
		r.say("goes on with what was begun at %s, done: %s (delete %s to begin anew)", r.p.Began.Format(time.RFC3339), numbers(r.p.Done), o.File)
	}
	r.say("to be restarted, in this order: %s", numbers(order(s, r.p)))
	for {
		left := order(s, r.p)
		if len(left) == 0 {
			break
		}
		if err := r.one(ctx, s, left[0]); err != nil {
			return fmt.Errorf("%w\nRestarted are: %s. The same command goes on from here", err, numbers(r.p.Done))
		}
		err := r.wait(ctx, "the cluster does not answer", func(now *cluster.Standing) string {
			s = now
			return ""
		})
		if err != nil {
			return err
		}
	}
	r.say("all brokers were restarted: %s", numbers(r.p.Done))
	if err := os.Remove(o.File); err != nil {
		return fmt.Errorf("cannot remove the progress of the restart: %w", err)
	}
	return nil
}

// say prints a line with the time since the beginning, once.
func (r *rolling) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text == r.said {
		return
	}
	r.said = text
	fmt.Fprintf(r.o.Out, "%7.1f s  %s\n", time.Since(r.began).Seconds(), text)
}

// one restarts a broker and waits until all is as before.
func (r *rolling) one(ctx context.Context, s *cluster.Standing, id int32) error {
	r.since = time.Now()
	b := r.p.Current
	if b == nil || !b.restarted(s) { // else an earlier Run did it, and only the wait is left
		var err error
		if b, err = r.begin(ctx, s, id); err != nil {
			return err
		}
	}
	err := r.wait(ctx, fmt.Sprintf("broker %d is not back", id), func(s *cluster.Standing) string {
		b.see(s)
		why := b.lacking(s, r.o.Accept)
		if why != "" {
			r.say("broker %d: waiting, %s", id, why)
		}
		return why
	})
	if err != nil {
		return err
	}
	r.say("broker %d: back and in sync after %.1f s", id, time.Since(r.since).Seconds())
	if err := r.prefer(ctx); err != nil {
		return err
	}
	r.p.Done, r.p.Current = append(r.p.Done, id), nil
	return r.p.write(r.o.File)
}

// begin waits until the broker is safe to stop and has it restarted.
func (r *rolling) begin(ctx context.Context, s *cluster.Standing, id int32) (*begun, error) {
	err := r.wait(ctx, fmt.Sprintf("broker %d is not safe to stop", id), func(now *cluster.Standing) string {
		s = now
		v := outage.Judge(s, id).Accepting(r.o.Accept)
		if !v.Safe {
			r.say("broker %d: not safe to stop, waiting: %s", id, reasons(v))
		}
		return reasons(v)
	})
	if err != nil {
		return nil, err
	}
	m, _ := s.Member(id)
	b := &begun{Broker: id, Epoch: m.Epoch}
	b.see(s)
	r.p.Current = b
	if err := r.p.write(r.o.File); err != nil {
		return nil, err
	}
	r.say("broker %d at %s: safe to stop, restarting", id, m.Host)
	r.since = time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.o.Limit)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- r.o.Restart(ctx, m) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-over:
			if err != nil {
				return nil, fmt.Errorf("cannot restart broker %d: %w", id, err)
			}
			return b, nil
		case <-tick.C:
			// Why: a cluster that tells of no epochs shows a restart only while it lasts.
			if b.Epoch < 0 && !b.gone {
				if s, err := r.look(ctx); err == nil {
					b.see(s)
				}
			}
		}
	}
}

// preferTries is how often the cluster is asked to have preferred replicas lead: one that
// is electing another controller passes over the wish.
const preferTries = 20

// prefer gives partitions back to their preferred leaders. That this cannot be had is
// told, and no error: the cluster does it by itself sooner or later.
func (r *rolling) prefer(ctx context.Context) error {
	wished := 0
	var last error
	for range preferTries {
		s, err := r.look(ctx)
		switch {
		case err != nil:
			last = err
		case len(outage.Astray(s)) == 0 && wished > 0:
			r.say("%s led by the preferred replicas again", partitions(wished))
			return nil
		case len(outage.Astray(s)) == 0:
			return nil
		default:
			places := outage.Astray(s)
			wished = max(wished, len(places))
			last = r.o.Cluster.Prefer(ctx, places)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	r.say("not all partitions are led by their preferred replicas again (%v); the cluster goes on trying by itself", last)
	return nil
}

func partitions(n int) string {
	if n == 1 {
		return "1 partition is"
	}
	return fmt.Sprintf("%d partitions are", n)
}

// lookEvery is how often the cluster is asked, at most. Of a large one, whose answers take
// long, the questions take a quarter of the time.
const lookEvery = 100 * time.Millisecond

func (r *rolling) look(ctx context.Context) (*cluster.Standing, error) {
	from := time.Now()
	defer func() { r.cost = time.Since(from) }()
	return r.o.Cluster.Standing(ctx)
}

// wait asks until amiss gives "".
//
// Errors: ctx's; the limit, with what is amiss.
func (r *rolling) wait(ctx context.Context, what string, amiss func(*cluster.Standing) string) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.Limit)
	defer cancel()
	last := "the cluster was not asked"
	for {
		s, err := r.look(ctx)
		if err == nil {
			if last = amiss(s); last == "" {
				return nil
			}
		} else if ctx.Err() == nil {
			last = err.Error()
			r.say("the cluster does not answer: %v", err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return fmt.Errorf("%s within %v: %s", what, r.o.Limit, last)
			}
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(max(lookEvery, 3*r.cost)):
		}
	}
}
