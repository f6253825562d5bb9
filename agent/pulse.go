package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/collect"
)

// pulse asks the cluster again and again whether it is alive, with a connection of
// its own and far more patience than a collector has: a pass that is late because
// the machine is busy says nothing about the broker, a probe that is not answered
// for the whole grace does.
type pulse struct {
	cluster cluster.Options
	grace   time.Duration
	roll    atomic.Pointer[collect.Roll]
}

// probes is how many fit into the grace.
const probes = 10

// last gives the latest answer; the zero Roll before the first, and always of a nil
// pulse.
func (p *pulse) last() collect.Roll {
	if p == nil {
		return collect.Roll{}
	}
	if r := p.roll.Load(); r != nil {
		return *r
	}
	return collect.Roll{}
}

// Run asks until ctx ends.
func (p *pulse) Run(ctx context.Context) error {
	o := p.cluster
	o.RequestTimeout = p.grace
	client, err := cluster.Open(o)
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(p.grace / probes)
	defer tick.Stop()
	for {
		p.ask(ctx, client)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ask makes one probe. What does not answer is known by the age of the answer before.
func (p *pulse) ask(ctx context.Context, client *cluster.Client) {
	ctx, cancel := context.WithTimeout(ctx, p.grace)
	defer cancel()
	brokers, err := client.Brokers(ctx)
	if err != nil {
		return
	}
	r := &collect.Roll{At: time.Now()}
	for _, b := range brokers {
		r.Listed = append(r.Listed, b.ID)
	}
	p.roll.Store(r)
}
