package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

const (
	outageTopic = "bench-outage"
	// outageEvery is how often each partition is written to: what is seen of a pause is no finer.
	outageEvery = 10 * time.Millisecond
	outageSize  = 100 // bytes of a message
	// outageAround is the part of a measurement's time for which messages flow before a node is lost, and after all
	// partitions take writes again: what comes late belongs to the pause, too.
	outageAround = 2
	// outageLimit is the longest that may be waited for a cluster to take writes, or to be whole again.
	outageLimit = 2 * time.Minute
)

// kafkaTimeouts are those of Kafka's defaults that decide how long a loss goes unnoticed, for a node of ours.
// Source: Apache Kafka 4.3.1: broker.session.timeout.ms, broker.heartbeat.interval.ms, replica.lag.time.max.ms,
// controller.quorum.fetch.timeout.ms.
func kafkaTimeouts() []peer.Setting {
	return []peer.Setting{
		{Name: "broker.session.timeout.ms", Value: "9000"}, {Name: "broker.heartbeat.interval.ms", Value: "2000"},
		{Name: "replica.lag.time.max.ms", Value: "30000"}, {Name: "controller.quorum.fetch.timeout.ms", Value: "2000"},
	}
}

// equalTimeouts tells a cluster of ours with Kafka's time-outs from one with our own.
const equalTimeouts = ", time-outs as Kafka's"

// outages takes nodes away from clusters that are written to: by kill -9 and by a planned stop. What
// counts is, for each partition that the node led, the longest time from one acknowledged write to
// the next, as one and the same client sees it.
func (r *run) outages(ctx context.Context, ts []*trio) error {
	equal, err := r.startCluster(ctx, peer.BelfryCluster(r.o.Program, r.o.Version, kafkaTimeouts()...))
	if err != nil {
		return err
	}
	defer equal.Stop()
	equal.what = equalTimeouts
	if err := r.clusterWarmUp(ctx, equal); err != nil {
		return fmt.Errorf("%s: %w\n%s", equal.label(), err, equal.Said())
	}
	r.res.remark("3 nodes, no writes: for each partition that the lost node led, the longest time from one acknowledged write to the next, one every %v; p50 and longest of all partitions of %d losses; every second loss takes the active controller, too. Equal time-outs: %s, which are Kafka's defaults and all ours but the last (1 s)", outageEvery, r.o.Rounds, settingsText(kafkaTimeouts()))
	for _, t := range append(slices.Clone(ts), equal) {
		if err := t.Create(ctx, outageTopic, r.outagePartitions(), safe()); err != nil {
			return err
		}
	}
	killed := turns(ctx, r, append(slices.Clone(ts), equal), r.kill)
	if ctx.Err() != nil {
		return killed
	}
	return errors.Join(killed, turns(ctx, r, ts, r.plannedStop))
}

func settingsText(all []peer.Setting) (text string) {
	for i, s := range all {
		if i > 0 {
			text += " "
		}
		text += s.Name + "=" + s.Value
	}
	return text
}

// outagePartitions are enough for each node to lead one.
func (r *run) outagePartitions() int { return max(r.o.Partitions, peer.ClusterSize) }

func (r *run) kill(ctx context.Context, t *trio, round int) error {
	o, err := r.outage(ctx, t, round, func(p *peer.Process) error { p.Kill(); return nil })
	if err != nil {
		return err
	}
	if o.failed > 0 {
		r.res.remark("3 nodes, no writes: %d messages failed at a kill -9 of %s: %v", o.failed, t.label(), o.why)
	}
	for _, gap := range o.gaps {
		if t.name == peer.Kafka || t.what != "" {
			r.res.note(idKillP50, t.name, gap)
			r.res.note(idKillMax, t.name, gap)
		}
		if t.what == "" {
			r.res.note(idKillDefaultP50, t.name, gap)
			r.res.note(idKillDefaultMax, t.name, gap)
		}
	}
	return nil
}

func (r *run) plannedStop(ctx context.Context, t *trio, round int) error {
	o, err := r.outage(ctx, t, round, func(p *peer.Process) error { return p.Terminate(ctx) })
	if err != nil {
		return err
	}
	if o.failed > 0 {
		r.say("%s: %d messages failed: %v", t.label(), o.failed, o.why)
	}
	r.res.note(idStopFailed, t.name, float64(o.failed))
	for _, gap := range o.gaps {
		r.res.note(idStopP50, t.name, gap)
		r.res.note(idStopMax, t.name, gap)
	}
	return nil
}

// lost is what the loss of a node did.
type lost struct {
	gaps   []float64 // ms, of each partition that it led
	others []float64 // ms, of the rest
	failed int       // messages, of all partitions
	why    error     // of the first of them
}

// outage takes a node away from a whole cluster under a steady load, and brings it back. Every
// second time it is the active controller.
func (r *run) outage(ctx context.Context, t *trio, round int, end func(*peer.Process) error) (o lost, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, outageLimit, errors.New("it took longer than "+outageLimit.String()))
	defer cancel()
	v, err := t.View(outageTopic)
	if err != nil {
		return o, err
	}
	defer v.Close()
	if err := v.Whole(ctx, 0); err != nil {
		return o, err
	}
	if err := v.Prefer(ctx, 0); err != nil {
		return o, err
	}
	controller, err := v.Controller(ctx)
	if err != nil {
		return o, err
	}
	victim := controller
	if round%2 == 0 {
		victim = controller%peer.ClusterSize + 1
	}
	led, err := ledBy(ctx, v, victim)
	if err != nil {
		return o, err
	}
	node := t.Nodes[victim-1]
	if o, err = r.lose(ctx, t, led, func() error { return end(node) }); err != nil {
		return o, err
	}
	r.say("%s: node %d (controller: %d) led %v: no writes for %.0f ms, to the others for %.0f ms", t.label(), victim, controller, led, o.gaps, o.others)
	survivor := int(victim % peer.ClusterSize) // the one after it, from 0
	if err := v.Without(ctx, survivor, victim); err != nil {
		return o, err
	}
	if err := node.Launch(ctx); err != nil {
		return o, err
	}
	return o, v.Whole(ctx, survivor)
}

// ledBy gives the partitions that a broker leads.
func ledBy(ctx context.Context, v *load.View, id int32) (led []int32, err error) {
	all, err := v.Partitions(ctx, 0)
	if err != nil {
		return nil, err
	}
	for p, at := range all {
		if at.Leader == id {
			led = append(led, p)
		}
	}
	if len(led) == 0 {
		return nil, fmt.Errorf("broker %d leads nothing", id)
	}
	slices.Sort(led)
	return led, nil
}

// lose writes to all partitions while a node ends, and until all of them take writes again.
func (r *run) lose(ctx context.Context, t *trio, led []int32, end func() error) (o lost, err error) {
	p, err := t.StartPulse(ctx, outageTopic, r.outagePartitions(), outageSize, outageEvery)
	if err != nil {
		return o, err
	}
	err = sleep(ctx, r.o.Time/outageAround)
	begin := time.Now()
	if err == nil {
		err = end()
	}
	if err == nil {
		err = p.Past(ctx, time.Now())
	}
	if err == nil {
		err = sleep(ctx, r.o.Time/outageAround)
	}
	if err = errors.Join(err, p.Stop(ctx)); err != nil {
		return o, err
	}
	for partition := range int32(r.outagePartitions()) {
		gaps := &o.others
		if slices.Contains(led, partition) {
			gaps = &o.gaps
		}
		*gaps = append(*gaps, float64(p.Gap(partition, begin).Microseconds())/1000)
	}
	o.failed, o.why = p.Failed()
	return o, nil
}
