package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// attendance is this broker's standing with the active controller: it registers, says
// every few seconds that it lives, and takes its leave (KIP-631). Where the controller
// is this node itself, nothing goes over the network.
type attendance struct {
	o     attendanceOptions
	epoch atomic.Int64  // of the registration; controller.NoEpoch before
	stop  atomic.Bool   // it wishes to stop
	hurry chan struct{} // capacity 1: a heartbeat is wished now
}

// attendanceOptions are what an attendance needs; all are required.
type attendanceOptions struct {
	me       metadata.Broker
	cluster  string
	previous int64
	every    time.Duration // between heartbeats
	look     time.Duration // after which it sees that another node is the controller
	session  time.Duration
	nobody   time.Duration // after which a cluster without a controller is not waited for on the way out
	road     road
	news     *publisher
	offline  func() []controller.Replica
	damaged  func() []controller.DamagedReplica
	// heard is told when the controller answered a heartbeat: when that was sent.
	heard func(sent time.Time)
	step  func(string)
	log   *slog.Logger
	now   func() time.Time
}

// road leads to the active controller, wherever it is.
type road interface {
	Register(ctx context.Context, r controller.Registration) (epoch int64, err error)
	Heartbeat(ctx context.Context, h controller.Heartbeat) (controller.Pulse, error)
	// Controller is who is asked next; metadata.NoBroker: nobody is known.
	Controller() metadata.BrokerID
}

func newAttendance(o attendanceOptions) *attendance {
	a := &attendance{o: o, hurry: make(chan struct{}, 1)}
	a.epoch.Store(controller.NoEpoch)
	return a
}

// retryAfter is how long it waits when the controller could not be asked; peers that
// cannot be reached make it wait longer by themselves.
const retryAfter = 20 * time.Millisecond

// register makes this start of the node known to the cluster, and waits until this node
// has seen that (R10).
//
// Errors: the cluster refuses it for good; ctx's.
func (a *attendance) register(ctx context.Context) error {
	began := a.o.now()
	for {
		epoch, err := a.o.road.Register(ctx, controller.Registration{Broker: a.o.me, ClusterID: a.o.cluster, Previous: a.o.previous})
		if err == nil {
			a.epoch.Store(epoch)
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Why two sessions: who was killed and comes back elsewhere is taken for another
		// process until its session ends.
		if final(err) || duplicate(err) && a.o.now().Sub(began) > 2*a.o.session {
			return fmt.Errorf("cannot register broker %d: %w", a.o.me.ID, err)
		}
		a.o.step("waiting to be registered: " + err.Error())
		if err := pause(ctx, retryAfter); err != nil {
			return err
		}
	}
	epoch := a.epoch.Load()
	return a.o.news.arrives(ctx, func(img *metadata.Image) bool {
		b := img.Broker(a.o.me.ID)
		return b != nil && b.Epoch >= epoch
	})
}

func codeOf(err error) int16 {
	var r *controller.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return 0
}

// final tells of a refusal that asking again does not change.
func final(err error) bool {
	switch codeOf(err) {
	case kerr.InvalidRequest.Code, kerr.InconsistentClusterID.Code, kerr.UnsupportedVersion.Code:
		return true
	}
	return false
}

func duplicate(err error) bool { return codeOf(err) == kerr.DuplicateBrokerRegistration.Code }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve has the controller put this broker into service, and waits until this node has
// acted on that.
func (a *attendance) serve(ctx context.Context) error {
	for {
		if b := a.o.news.Image().Broker(a.o.me.ID); b != nil && b.Epoch == a.epoch.Load() && !b.Fenced {
			return nil
		}
		pulse, err := a.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			a.o.step("waiting to be put into service: " + err.Error())
		case pulse.Fenced:
			a.o.step("waiting to be put into service")
		default:
			return a.o.news.passes(ctx, func(img *metadata.Image) bool {
				b := img.Broker(a.o.me.ID)
				return b != nil && !b.Fenced
			})
		}
		if err := pause(ctx, retryAfter); err != nil {
			return err
		}
	}
}

// errReplaced says that another process has this broker's ID now.
var errReplaced = errors.New("another process has registered as this broker since")

// run sends heartbeats until ctx ends.
//
// Errors: another process took this broker's place.
func (a *attendance) run(ctx context.Context) error {
	look := time.NewTicker(a.o.look)
	defer look.Stop()
	var next time.Time
	asked, told := a.o.road.Controller(), uint64(0)
	for {
		now, img := a.o.now(), a.o.news.Image()
		if to := a.o.road.Controller(); !now.Before(next) || to != asked || img.Index() != told && othersWait(img) {
			asked, told = to, img.Index()
			next = now.Add(a.o.every)
			if _, err := a.beat(ctx); err != nil && ctx.Err() == nil {
				a.o.log.Debug("the controller did not take a heartbeat", "controller", int(asked), "err", err)
				next = now.Add(min(a.o.every, 10*retryAfter))
			}
			if b := a.o.news.Image().Broker(a.o.me.ID); b != nil && b.Epoch > a.epoch.Load() {
				return fmt.Errorf("cannot go on as broker %d: %w", a.o.me.ID, errReplaced)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.hurry:
			next = time.Time{}
		case <-look.C:
		}
	}
}

// othersWait tells that a broker wishes to stop: the controller lets it go when all
// others have said that they know.
func othersWait(img *metadata.Image) bool {
	return slices.ContainsFunc(img.Brokers(), func(b *metadata.Broker) bool { return b.Leaving && !b.Fenced })
}

// soon wishes a heartbeat now.
func (a *attendance) soon() {
	select {
	case a.hurry <- struct{}{}:
	default:
	}
}

// beat sends one heartbeat.
func (a *attendance) beat(ctx context.Context) (controller.Pulse, error) {
	ctx, cancel := context.WithTimeout(ctx, a.o.session/2)
	defer cancel()
	sent := a.o.now()
	pulse, err := a.o.road.Heartbeat(ctx, controller.Heartbeat{
		ID: a.o.me.ID, Epoch: a.epoch.Load(), Seen: a.o.news.Image().Index(), Shutdown: a.stop.Load(), Offline: a.o.offline(), Damaged: a.o.damaged(),
	})
	if err == nil && !pulse.Fenced {
		a.o.heard(sent)
	}
	return pulse, err
}

// leave has others lead what this broker leads, and waits until they know (R14), for
// as long as ctx allows.
func (a *attendance) leave(ctx context.Context) error {
	a.stop.Store(true)
	led := a.o.now()
	for {
		pulse, err := a.beat(ctx)
		if err == nil && pulse.MayStop {
			return nil
		}
		// Why: where a whole cluster stops, the last nodes have nobody to take their leave of.
		if a.o.road.Controller() != metadata.NoBroker {
			led = a.o.now()
		} else if a.o.now().Sub(led) > a.o.nobody {
			return errors.Join(errors.New("the cluster has no active controller any more"), err)
		}
		if waited := pause(ctx, retryAfter); waited != nil {
			return errors.Join(waited, err)
		}
	}
}

// alone tells that there is no other broker that could take anything over.
func (a *attendance) alone() bool {
	return len(a.o.news.Image().Brokers()) < 2
}
