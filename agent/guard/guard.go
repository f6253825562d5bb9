package guard

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Brake is the one thing a broker lets its watcher do to producers.
type Brake interface {
	// RefuseProduce makes produce requests fail with this text; "" ends it. Blocks: never.
	RefuseProduce(reason string)
}

// Cleaner deletes message data.
type Cleaner interface {
	// FreeOldest deletes the oldest data until bytes are freed on the disk, and says how many were. Ends when ctx ends.
	FreeOldest(ctx context.Context, bytes int64) (freed int64, err error)
}

// Auditor keeps events. Record may take its time but ends when ctx ends.
type Auditor interface {
	Record(ctx context.Context, e Event)
}

// Tasks are the background tasks that users see. Begin opens one; end closes it, nil for success.
type Tasks interface {
	Begin(name, by string, params map[string]string) (end func(error))
}

// Memory keeps over a restart whether produce was refused. Errors are reported and cost only what doc.go says.
type Memory interface {
	Load() (refusing bool, err error)
	Store(refusing bool) error
}

// Event is one thing the guard did or noticed.
type Event struct {
	At        time.Time
	Kind      Kind
	By        string // who asked for it; "guard" for its own acts
	Policy    Policy
	Percent   float64 // the last known usage
	Threshold float64
	Bytes     int64  // freed, for Deleted
	Err       string // what went wrong, if anything
	Text      string // one sentence for people
}

// Kind says what an Event is about.
type Kind string

// The kinds of events.
const (
	Deleted        Kind = "capacity_deleted"
	RefuseBegan    Kind = "capacity_refuse_began"
	RefuseEnded    Kind = "capacity_refuse_ended"
	SettingChanged Kind = "capacity_setting_changed"
	ProbeFailed    Kind = "capacity_probe_failed"
	ProbeRecovered Kind = "capacity_probe_recovered"
)

// Options are a guard's settings and what it acts through. Usage, Brake, Cleaner, Held and Logger are required.
type Options struct {
	Settings Settings
	Broker   string // value of the label kafka_broker

	// Usage looks at the disk. It may hang: the guard gives it Settings.Timeout.
	Usage func() (used, total int64, percent float64, err error)
	// Held gives the bytes of message data that the broker holds. It may hang: it is asked together with a deletion.
	Held    func() int64
	Brake   Brake
	Cleaner Cleaner

	Rejected func() int64 // produce requests refused by the brake so far; nil: no such series
	Audit    Auditor      // nil: nobody
	Tasks    Tasks        // nil: nobody
	Memory   Memory       // nil: nothing is kept
	Logger   *slog.Logger
}

// ErrProbeTimeout is why a look failed that did not come back in time.
var ErrProbeTimeout = errors.New("disk usage was not answered in time")

// Guard watches one broker's disk. Prime, then Run; everything else at any time.
type Guard struct {
	o Options

	mu struct {
		sync.Mutex
		wanted Settings
		orders []order // changes that the loop has not taken yet
	}
	nudge  chan struct{}
	status atomic.Pointer[Status]

	// The rest belongs to the loop (Prime before it, Run in it).
	settings  Settings
	machine   *Machine
	trend     Trend
	now       Status
	refuse    bool // what the brake was told last
	recalled  bool // Memory was asked
	probing   bool
	late      bool // the outstanding probe has missed its deadline
	probed    chan probe
	acting    bool
	due       bool // Prime decided on a deletion
	acted     chan act
	tell      chan func(context.Context)
	probeTook time.Duration
	trouble   string // why the last deletion freed nothing or not enough, as it was told
}

// order is a change of settings on its way to the loop.
type order struct {
	by  string
	end func(error)
}

// tellLength bounds what waits to be told (events, task ends, the memory); more is counted and dropped, newest first.
const tellLength = 64

// New checks and wires; nothing runs and the brake is not touched.
func New(o Options) (*Guard, error) {
	o.Settings = o.Settings.filled()
	if err := o.Settings.check(); err != nil {
		return nil, err
	}
	if o.Usage == nil || o.Held == nil || o.Brake == nil || o.Cleaner == nil || o.Logger == nil {
		panic("BUG: guard.Options without Usage, Held, Brake, Cleaner or Logger")
	}
	g := &Guard{
		o:        o,
		nudge:    make(chan struct{}, 1),
		settings: o.Settings,
		machine:  NewMachine(o.Settings.limits()),
		probed:   make(chan probe, 1),
		acted:    make(chan act, 1),
		tell:     make(chan func(context.Context), tellLength),
	}
	g.mu.wanted = o.Settings
	g.now = Status{Policy: o.Settings.Policy, Threshold: o.Settings.Threshold}
	g.publish()
	return g, nil
}

// SetPolicy changes the policy while running; by is who asked. It takes effect in the loop within moments and shows as a task.
func (g *Guard) SetPolicy(p Policy, by string) error {
	return g.change(by, func(s *Settings) { s.Policy = p })
}

// SetThreshold changes the threshold while running. Units: percent.
func (g *Guard) SetThreshold(percent float64, by string) error {
	return g.change(by, func(s *Settings) { s.Threshold = percent })
}

func (g *Guard) change(by string, edit func(*Settings)) error {
	g.mu.Lock()
	wanted := g.mu.wanted
	edit(&wanted)
	err := wanted.check()
	changed := err == nil && wanted != g.mu.wanted
	g.mu.Unlock()
	if !changed {
		return err
	}
	end := func(error) {}
	if g.o.Tasks != nil {
		end = g.o.Tasks.Begin("change capacity policy", by, map[string]string{
			"policy": string(wanted.Policy), "threshold": percentText(wanted.Threshold),
		})
	}
	g.mu.Lock()
	edit(&g.mu.wanted) // again: another change may have come between
	g.mu.orders = append(g.mu.orders, order{by, end})
	g.mu.Unlock()
	select {
	case g.nudge <- struct{}{}:
	default: // the loop has been told and will take all orders
	}
	return nil
}

// Status gives what the guard knew and did at its last step.
func (g *Guard) Status() Status { return *g.status.Load() }

func (g *Guard) publish() {
	s := g.now
	g.status.Store(&s)
}
