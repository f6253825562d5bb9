package controller

import (
	"context"
	"sync"
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

// lookUntied is how often brokers are looked at that hold no connection to this node:
// they have not found the new controller yet, or are gone.
const lookUntied = 500 * time.Millisecond

// lookAtUntied looks at every broker in service that holds no connection to this node.
func (c *Controller) lookAtUntied(ctx context.Context, looks *looks) {
	for _, b := range c.quorum.Image().Brokers() {
		if b.Fenced || b.ID == c.o.Node {
			continue
		}
		if _, tied := c.watch.lives(c.o.Now(), b.ID); !tied {
			looks.begin(ctx, registrant{b.ID, b.Epoch})
		}
	}
}

// looks are the looks at brokers that are under way, one at a time for each.
type looks struct {
	controller *Controller
	wg         sync.WaitGroup
	mu         struct {
		sync.Mutex
		at map[registrant]bool
	}
}

func newLooks(c *Controller) *looks {
	l := &looks{controller: c}
	l.mu.at = make(map[registrant]bool)
	return l
}

func (l *looks) begin(ctx context.Context, r registrant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.at[r] || l.controller.o.Gone == nil {
		return
	}
	l.mu.at[r] = true
	l.wg.Go(func() {
		l.controller.look(ctx, r)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.mu.at, r)
	})
}

func (l *looks) wait() { l.wg.Wait() }

// look takes a broker out of service whose connection ended and whose process is gone.
// Why not when its session ends: a process that dies closes its connections at once, and
// nobody can write to what it leads until then.
func (c *Controller) look(ctx context.Context, r registrant) {
	b := c.quorum.Image().Broker(r.id)
	if b == nil || b.Epoch != r.epoch || b.Fenced {
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
