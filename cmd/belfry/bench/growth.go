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

// growthPoint measures one point with all its rounds: to make thousands of partitions takes long.
func (r *run) growthPoint(ctx context.Context, ls []*live, g growth) error {
	// Why spread: a producer that fills one batch after the other would hardly notice how many partitions there are.
	partitions, clients, spread := g.n, 1, true
	if g.what == "connections" {
		partitions, clients, spread = r.o.Partitions, g.n, false
	}
	topics := map[*live]string{}
	for _, l := range ls {
		topic, drop, err := r.newTopic(ctx, l, partitions, l.pageCache())
		if err != nil {
			return err
		}
		defer func() {
			if err := drop(); err != nil {
				r.say("%s: %v", l.name, err)
			}
		}()
		topics[l] = topic
	}
	d := max(r.o.Time/growthShare, 100*time.Millisecond)
	return r.rounds(ctx, ls, func(ctx context.Context, l *live) error {
		a, err := l.Produce(ctx, load.Produce{Topic: topics[l], Size: 1000, For: d, Clients: clients, Spread: spread})
		if err != nil {
			return err
		}
		r.res.note(g.id("rate"), l.name, a.Rate())
		if err := l.settle(); err != nil {
			return err
		}
		ts, err := l.Answer(ctx, load.Pace{Topic: topics[l], Size: 1000, Rate: growthRate, For: d, Clients: clients, Spread: spread})
		if err != nil {
			return err
		}
		r.res.note(g.id("p99"), l.name, ts.Quantile(0.99))
		return nil
	})
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
