package alarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/agent/audit"
	"github.com/belfry-mq/belfry/agent/checkpoint"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

const (
	// saveWait is how long a change waits for the disk before it is handed on
	// all the same: an alarm that comes is worth more than one that is on disk.
	saveWait = 5 * time.Second
	// tellWait is how long a change waits for the other nodes, for the same reason.
	tellWait = time.Second
	// saveRetry is the pause after a write that failed.
	saveRetry = 5 * time.Second
)

// Notifier learns which alarms there are. It is called after every snapshot and
// every change of rules, with everything that fires and what ended within the
// last day; both may hold what it was told before. It must not block for long
// and must not keep the slices.
type Notifier interface {
	Sync(firing, ended []Alarm)
}

// Recorder keeps events; it must not block.
type Recorder interface {
	Record(e audit.Event)
}

// Store keeps the state; checkpoint.File is one.
type Store interface {
	Load() ([]byte, error)
	Save(payload []byte) error
	SetAside() error
}

var _ Store = (*checkpoint.File)(nil)

// Config says where rules come from and where the state goes.
type Config struct {
	Store       Store                        // the state file
	Load        func() (*rules.Set, error)   // reads built-in and user rules; called again and again
	Fallback    func() (*rules.Set, error)   // reads the built-in rules alone: in force while Load fails at the start
	Unit        func(metricID string) string // unit of a metric, for texts
	Peers       Peers                        // the other nodes' evaluators
	ReloadEvery time.Duration                // pause between looks at the rule files; default 5 s
}

// Evaluator moves the alarms of one node.
type Evaluator struct {
	cfg    Config
	notify Notifier
	audit  Recorder
	log    *slog.Logger
	saver  saver

	mu struct {
		sync.Mutex
		core      *core
		rulesErr  string // why the rule files in force are not those on the disk
		failures  uint64 // reloads that were refused
		evaluated uint64
		missed    uint64
		last      time.Time // end of the last snapshot
	}
}

// Open loads the rules and the state of the last run. Rule files that are not
// right do not keep a node from starting: the built-in rules are in force then,
// and RuleError says why.
//
// Errors: none of the rule sets can be loaded; the state file cannot be read. A
// state file that is corrupt is set aside and an empty state begun, which may
// repeat notifications and is said in the log.
func Open(cfg Config, notify Notifier, record Recorder, log *slog.Logger) (*Evaluator, error) {
	cfg.ReloadEvery = cmp.Or(cfg.ReloadEvery, 5*time.Second)
	e := &Evaluator{cfg: cfg, notify: notify, audit: record, log: log}
	e.saver.init(cfg.Store, log)
	set, err := cfg.Load()
	if err != nil {
		e.refused(err)
		if set, err = cfg.Fallback(); err != nil {
			return nil, fmt.Errorf("cannot load the built-in rules: %w", err)
		}
	}
	e.mu.core = newCore(set, cfg.Unit)
	raw, err := cfg.Store.Load()
	var events []Event
	if err == nil {
		events, err = e.mu.core.restore(raw, time.Now())
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, checkpoint.ErrCorrupt):
		log.Error("alarm state set aside, notifications may be repeated", "error", err)
		if err := cfg.Store.SetAside(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	e.record(events)
	return e, nil
}

// Receive evaluates a snapshot: states move, the state is saved, then the changes
// are handed on. Blocks: for the disk, at most five seconds, and for the other nodes of
// a cluster, at most one, and only when a state changed; for the disk not at all while an
// earlier write hangs.
func (e *Evaluator) Receive(ctx context.Context, s *metric.Snapshot) {
	speaker := Here
	if e.cfg.Peers.Speaker != nil {
		speaker = e.cfg.Peers.Speaker()
	}
	told := e.toldThrough()
	var events []Event
	var from, mine *share
	e.mu.Lock()
	c := e.mu.core
	events, from = c.turn(speaker, s.End)
	events = append(events, c.evaluate(s)...)
	if speaker == Here && e.cfg.Peers.Tell != nil {
		mine = c.share(e.cfg.Peers.Node, s.End, told)
	}
	e.mu.evaluated++
	e.mu.missed += uint64(s.Missed)
	e.mu.last = s.End
	e.mu.Unlock()
	if from != nil {
		e.log.Info("alarms of the cluster taken over", "firing", len(from.Firing), "known", from.At)
		e.audit.Record(audit.Event{Time: s.End, Name: "alarmsTakenOver", Resource: "alarm", Source: "alarm",
			Response: fmt.Sprintf("%d alarms fire by what was known at %s", len(from.Firing), from.At.UTC().Format(time.RFC3339))})
	}
	e.handOn(ctx, events, mine)
}

// handOn saves and tells, mine the other nodes unless it is nil. Without events it only refreshes
// what the notifier knows.
func (e *Evaluator) handOn(ctx context.Context, events []Event, mine *share) {
	e.mu.Lock()
	payload := e.mu.core.encode()
	firing, ended := e.mu.core.firing(), slices.Clone(e.mu.core.ended)
	e.mu.Unlock()
	wait := saveWait
	if len(events) == 0 {
		wait = 0
	}
	e.saver.save(ctx, payload, wait)
	e.record(events)
	if mine != nil {
		// Why before people are told: should this node die then, the next one knows of what they heard.
		sent := e.cfg.Peers.Tell(encodeShare(mine))
		if len(events) > 0 {
			e.awaitSent(ctx, sent)
		}
	}
	e.notify.Sync(firing, ended)
}

// awaitSent waits a moment, no longer: nodes that do not answer must not silence alarms.
func (e *Evaluator) awaitSent(ctx context.Context, sent <-chan struct{}) {
	timer := time.NewTimer(tellWait)
	defer timer.Stop()
	select {
	case <-sent:
	case <-ctx.Done():
	case <-timer.C:
		e.log.Warn("other nodes were not told of a change of alarms in time, people are", "waited", tellWait)
	}
}

// Reload reads the rule files and puts them in force, or refuses all of them and
// keeps those that are.
func (e *Evaluator) Reload(ctx context.Context) error {
	set, err := e.cfg.Load()
	if err != nil {
		e.refused(err)
		return err
	}
	e.mu.Lock()
	wasErr := e.mu.rulesErr
	e.mu.rulesErr = ""
	same := sameRules(set, e.mu.core.set)
	var events []Event
	if !same {
		events = e.mu.core.replace(set, time.Now())
	}
	e.mu.Unlock()
	if same && wasErr == "" {
		return nil
	}
	e.log.Info("alarm rules loaded", "rules", len(set.All()), "active", set.Active())
	e.audit.Record(audit.Event{Name: "alarmRulesLoaded", Resource: "alarm rules", Source: "alarm",
		Response: fmt.Sprintf("%d rules, %d active", len(set.All()), set.Active())})
	e.handOn(ctx, events, nil)
	return nil
}

// refused notes why rule files were refused, once for each different reason.
func (e *Evaluator) refused(err error) {
	e.mu.Lock()
	again := e.mu.rulesErr == err.Error()
	e.mu.rulesErr = err.Error()
	if !again {
		e.mu.failures++
	}
	e.mu.Unlock()
	if again {
		return
	}
	e.log.Error("alarm rules refused, the ones before stay in force", "error", err)
	e.audit.Record(audit.Event{Name: "alarmRulesRefused", Level: audit.Warning, Resource: "alarm rules", Source: "alarm", Code: 1, Response: err.Error()})
}

func sameRules(a, b *rules.Set) bool {
	return slices.EqualFunc(a.All(), b.All(), func(x, y rules.Rule) bool {
		return x.Name == y.Name && x.Off == y.Off && x.Version() == y.Version()
	})
}

// Run looks at the rule files again and again and keeps the state on the disk.
// It returns when ctx ends, after a last write.
func (e *Evaluator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { e.saver.run(ctx) })
	tick := time.NewTicker(e.cfg.ReloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return nil
		case <-tick.C:
			// A refusal is logged, counted and shown by Reload itself.
			_ = e.Reload(ctx)
		}
	}
}

func (e *Evaluator) record(events []Event) {
	for i := range events {
		e.audit.Record(auditEvent(&events[i]))
	}
}

// auditEvent writes a change down: time, value, threshold, object, since when,
// rule version.
func auditEvent(ev *Event) audit.Event {
	a := &ev.Alarm
	level := audit.Normal
	switch {
	case a.Watchdog: // it proves the road, it reports nothing
	case ev.To == Firing && a.Severity == rules.Critical:
		level = audit.Incident
	case ev.To != OK:
		level = audit.Warning
	}
	said := fmt.Sprintf("%s → %s, value %v, %s", ev.From, ev.To, a.Value, a.Condition)
	if !a.Fired.IsZero() {
		said += ", fired " + a.Fired.UTC().Format(time.RFC3339)
	}
	if a.Reason != "" {
		said += ", because " + a.Reason
	}
	name := map[State]string{OK: "alarmOK", Firing: "alarmFiring", NoData: "alarmNoData"}[ev.To]
	return audit.Event{
		Time: ev.Time, Name: name, Level: level, Resource: "alarm", ResourceID: strings.TrimSpace(a.Rule + " " + a.Object()),
		Source: "alarm", Request: "rule version " + a.Version, Response: said,
	}
}
