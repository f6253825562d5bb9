package controller

import (
	"context"
	"errors"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// Run watches over the brokers while this node is the active controller, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		leads, changed := c.quorum.Leading()
		if leads {
			c.lead(ctx, changed)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// lead is one term as the active controller: it ends when changed is closed.
func (c *Controller) lead(ctx context.Context, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	img := c.quorum.Image()
	c.watch.start(c.o.Now(), img.Brokers())
	defer c.watch.stop()
	// Why first: the controller before may have ended half-way.
	c.say("cannot put partitions in order", c.tidy(ctx, func(*metadata.Partition) bool { return true }))
	balance := time.NewTicker(time.Duration(c.o.Settings.Int("leader.imbalance.check.interval.seconds")) * time.Second)
	defer balance.Stop()
	elect := time.NewTicker(c.watch.timeout)
	defer elect.Stop()
	look := time.NewTicker(c.lookEvery())
	defer look.Stop()
	last := c.o.Now()
	looks := newLooks(c)
	defer looks.wait()
	defer cancel() // before that
	untied := time.NewTicker(lookUntied)
	defer untied.Stop()
	// Why at once: a controller that died most likely led partitions too.
	c.lookAtUntied(ctx, looks)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			return
		case <-look.C:
			now := c.o.Now()
			// Why: a process that stood still has heard nobody, whoever lives.
			if late := now.Sub(last) - c.lookEvery(); late > c.lookEvery() {
				c.watch.extend(late)
			}
			last = now
			c.fenceSilent(ctx)
		case <-elect.C: // where a setting allows it from now on
			c.say("cannot elect leaders", c.tidy(ctx, leaderless))
		case r := <-c.lost:
			looks.begin(ctx, r)
		case <-untied.C:
			c.lookAtUntied(ctx, looks)
		case <-balance.C:
			if c.now().Bool("auto.leader.rebalance.enable") {
				c.say("cannot give partitions back to their preferred leaders", c.balance(ctx))
			}
		}
	}
}

// lookEvery is how often sessions are looked at.
func (c *Controller) lookEvery() time.Duration { return max(time.Millisecond, c.watch.timeout/32) }

// now gives the node's settings of now.
func (c *Controller) now() *config.Values {
	return (&decision{img: c.quorum.Image(), node: c.o.Node, file: c.o.Settings}).settings()
}

// say logs what the controller wished to do by itself and could not; it is tried again.
func (c *Controller) say(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		c.o.Logger.Warn(what, "err", err)
	}
}

func leaderless(p *metadata.Partition) bool { return p.Leader == metadata.NoBroker }

// tidy settles the partitions that are touched as the brokers are now. Where there is
// one broker, all is as it left it.
func (c *Controller) tidy(ctx context.Context, touched func(*metadata.Partition) bool) error {
	if len(c.quorum.Image().Brokers()) < 2 {
		return nil
	}
	d, end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.settled(ctx, d.settleWhere(asNow, touched))
	return err
}

// fenceSilent takes those out of service that were not heard for a session.
func (c *Controller) fenceSilent(ctx context.Context) {
	for _, id := range c.watch.expired(c.o.Now()) {
		b := c.quorum.Image().Broker(id)
		if b == nil || b.Fenced || id == c.o.Node {
			continue // Why not this node: it hears itself, and it would be the one to say otherwise
		}
		if within, _ := c.watch.lives(c.o.Now(), id); within {
			continue
		}
		c.o.Logger.Warn("a broker is silent and taken out of service", "broker", int(id), "for", c.watch.timeout)
		c.say("cannot take a silent broker out of service", c.FenceBroker(ctx, id, b.Epoch))
	}
}

// maxElections is how many partitions go back to their preferred leaders at a time.
const maxElections = 1000

// balance has preferred replicas lead where a broker leads too few of the partitions
// that prefer it.
func (c *Controller) balance(ctx context.Context) error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	wishes := d.balance(int(d.settings().Int("leader.imbalance.per.broker.percentage")))
	_, err = c.settled(ctx, wishes[:min(len(wishes), maxElections)])
	return err
}

func (d *decision) balance(percentage int) (wishes []wish) {
	preferred, elsewhere := make(map[metadata.BrokerID]int), make(map[metadata.BrokerID]int)
	for _, t := range d.img.Topics() {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			preferred[p.Replicas[0]]++
			if p.Leader != p.Replicas[0] {
				elsewhere[p.Replicas[0]]++
			}
		}
	}
	for _, t := range d.img.Topics() {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			first := p.Replicas[0]
			if p.Leader == first || elsewhere[first]*100 <= percentage*preferred[first] {
				continue
			}
			s := d.situation(t, int32(n), asNow)
			s.prefer = true
			if next, changed := settle(*p, p.ISR, s); changed && next.Leader == first {
				wishes = append(wishes, wish{records: []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: int32(n), State: next}}})
			}
		}
	}
	return wishes
}
