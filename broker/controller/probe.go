package controller

import (
	"context"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// registrant names one registration of a broker.
type registrant struct {
	id    metadata.BrokerID
	epoch int64
}

// maxLost is how many brokers whose connection ended wait to be looked at. One more is
// taken out of service when its session ends.
const maxLost = 128

// probeTimeout bounds a look at one broker.
const probeTimeout = 3 * time.Second

// tie watches the connection by which a broker is heard.
func (c *Controller) tie(h Heartbeat) {
	if h.Tie == nil || !c.watch.tie(h.ID, h.Epoch, h.Tie) {
		return
	}
	context.AfterFunc(h.Tie, func() {
		if !c.watch.untie(h.ID, h.Epoch, h.Tie) {
			return
		}
		select {
		case c.lost <- registrant{h.ID, h.Epoch}:
		default:
		}
	})
}

// look takes a broker out of service whose connection ended and whose process is gone.
// Why not when its session ends: a process that dies closes its connections at once, and
// nobody can write to what it leads until then.
func (c *Controller) look(ctx context.Context, r registrant) {
	b := c.quorum.Image().Broker(r.id)
	if c.o.Gone == nil || b == nil || b.Epoch != r.epoch || b.Fenced {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if !c.o.Gone(ctx, b) {
		return
	}
	if _, tied := c.watch.lives(c.o.Now(), r.id); tied {
		return
	}
	c.o.Logger.Warn("a broker's process is gone; it is taken out of service", "broker", int(r.id))
	c.say("cannot take a broker that is gone out of service", c.FenceBroker(ctx, r.id, r.epoch))
}
