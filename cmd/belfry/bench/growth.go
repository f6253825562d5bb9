package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/chart"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// growthRate is how many messages a second are sent when the times of the curves are measured.
const growthRate = 5_000

// growthShare is the part of a measurement's time that a point of a curve gets: there are many.
const growthShare = 2

// growthLimit is the longest that a round of a point, or making its topic, may take: a peer that cannot keep up with so
// many must not hold up the rest.
const growthLimit = 4 * time.Minute

// growthPatience is how long the rounds of a point may take before the rest of them is left out.
const growthPatience = 150 * time.Second

// growth measures how throughput and answer times change with partitions and connections.
func (r *run) growth(ctx context.Context) error {
	ls, stop, err := r.startAll(ctx, r.only(peer.Belfry, peer.Kafka))
	if err != nil {
		return err
	}
	defer stop()
	for _, l := range ls {
		if _, err := r.warmUp(ctx, l); err != nil {
			return err
		}
	}
	r.readAhead()
	var failed []error
	for _, g := range growths(r.o) {
		r.say("%d %s", g.n, g.what)
		if err := r.growthPoint(ctx, ls, g); err != nil {
			failed = append(failed, fmt.Errorf("%d %s: %w", g.n, g.what, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// usualReadAhead is Linux's default in KiB.
const usualReadAhead = 128

// readAhead says where the machine reads so far ahead that it counts.
// Source: a kernel profile of Kafka 4.3.1 with 5 000 partitions and 8 192 KiB: nine tenths of its time were page faults
// in index files, filling read-ahead pages with zeros; a node of ours maps nothing.
func (r *run) readAhead() {
	if kib := r.res.Machine.ReadAhead; kib > usualReadAhead {
		r.res.remark("many partitions: the disk's read-ahead is %d KiB (Linux's default: %d): each touch of one of Kafka's memory-mapped index files (two a partition, 10 MiB each, sparse) reads so much, and those of thousands of partitions drive each other out of the page cache; Kafka's figures with many partitions are better where it is small", kib, usualReadAhead)
	}
}

// growthPoint measures one point with all its rounds: to make thousands of partitions takes long.
func (r *run) growthPoint(ctx context.Context, ls []*live, g growth) error {
	steps := func(ctx context.Context, l *live, run func(context.Context) error) error {
		return r.steps(ctx, l, []step{{sectionGrowth, fmt.Sprint(g.n, " ", g.what), func(ctx context.Context, _ *live) error {
			ctx, cancel := context.WithTimeoutCause(ctx, growthLimit, errors.New("it took longer than "+growthLimit.String()))
			defer cancel()
			return run(ctx)
		}}})
	}
	topics, drops := map[*live]string{}, map[*live]func(context.Context) error{}
	defer func() {
		for l, drop := range drops {
			if err := drop(ctx); err != nil {
				r.say("%s: %v", l.name, err)
			}
		}
	}()
	for _, l := range ls {
		begin := time.Now()
		err := steps(ctx, l, func(ctx context.Context) (err error) {
			topics[l], drops[l], err = r.growthTopic(ctx, l, g)
			return err
		})
		if err != nil {
			return err
		}
		r.say("%s: topic made and warm in %v", l.name, time.Since(begin).Round(time.Millisecond))
	}
	begin := time.Now()
	return r.rounds(ctx, ls, func(ctx context.Context, l *live) error {
		if time.Since(begin) > growthPatience {
			r.res.remark("%d %s: not all rounds, as they took longer than %v", g.n, g.what, growthPatience)
			return nil
		}
		return steps(ctx, l, func(ctx context.Context) error { return r.growthRound(ctx, l, g, topics[l]) })
	})
}

// growthWarm is how many bytes each partition gets before it is measured: more than a broker
// writes before the first entries of its indexes. Why: Kafka maps its indexes, and the first touch
// of each has the system read ahead in it, which takes long with thousands.
const growthWarm = 12_000

func (r *run) growthTopic(ctx context.Context, l *live, g growth) (topic string, drop func(context.Context) error, err error) {
	if topic, drop, err = r.newTopic(ctx, l, g.partitions(r.o), l.pageCache()); err != nil {
		return "", func(context.Context) error { return nil }, err
	}
	p := g.load(r.o)
	p.Topic, p.Clients, p.Bytes = topic, 1, int64(g.partitions(r.o)*growthWarm)
	if _, err = l.Produce(ctx, p); err == nil {
		err = l.settle()
	}
	return topic, drop, err
}

func (r *run) growthRound(ctx context.Context, l *live, g growth, topic string) error {
	p := g.load(r.o)
	p.Topic = topic
	a, err := l.Produce(ctx, p)
	if err != nil {
		return err
	}
	r.res.note(g.id("rate"), l.name, a.Rate())
	if err := l.settle(); err != nil {
		return err
	}
	ts, err := l.Answer(ctx, load.Pace{Topic: topic, Size: 1000, Rate: growthRate, For: p.For, Clients: p.Clients, Spread: p.Spread})
	if err != nil {
		return err
	}
	r.res.note(g.id("p99"), l.name, ts.Quantile(0.99))
	return nil
}

// writeCurves draws what growth found.
func (r *run) writeCurves(out io.Writer) error {
	panels := []chart.Panel{}
	for _, what := range []string{"partitions", "connections"} {
		for _, of := range []struct{ id, title, unit string }{{"rate", "throughput", mbs}, {"p99", "answer time, p99", ms}} {
			p := chart.Panel{Title: of.title + " by " + what, Unit: of.unit, Across: what}
			for _, name := range []string{peer.Belfry, peer.Kafka} {
				c := chart.Curve{Name: name}
				for _, g := range growths(r.o) {
					if m := r.res.line(g.id(of.id)); g.what == what && m != nil && len(m.Values[name]) > 0 {
						c.Points = append(c.Points, chart.Point{X: float64(g.n), Y: m.Medians[name]})
					}
				}
				p.Curves = append(p.Curves, c)
			}
			panels = append(panels, p)
		}
	}
	return chart.Write(out, panels)
}
