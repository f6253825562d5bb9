// Package notify tells people about alarms: webhook, e-mail, SMS and whatever
// else Alertmanager can reach. It is the only room that knows Alertmanager,
// which does grouping, routing, silences, inhibition and repetition here.
//
// Between Alertmanager and each receiver stands a durable queue of our own.
// Alertmanager hands a message to the queue, which has it on the disk before
// Alertmanager notes it as told; a sender a queue delivers in order, with
// back-off. So one receiver that hangs delays no other, and what could not be
// delivered is waiting, or dead and visible, never gone.
//
// # Once each
//
// Every message has a key, made of the receiver, of what it says (which alarms,
// when they began and ended) and of which repetition it is. A queue takes a key
// once and remembers keys for a week. That is what makes restarts harmless: after
// one, everything that fires or ended lately is simply put again, and what the
// queue knows is dropped. A message that was handed over but whose delivery was
// not noted when the process died is delivered again, with the same key (header
// Idempotency-Key of a webhook, Message-Id of a mail): at least once.
//
// The nodes of a cluster tell each other what they delivered about the cluster, see
// note: whoever has to tell of an alarm after another node died does so unless that
// one was heard to have told. What it had not delivered is told by the next.
//
// Invariant: an alarm that the evaluator reported as firing or ended is told to
// each receiver that its rule and routes name, unless it is muted.
//
// Road in: Sync. Road out: the receivers.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/checkpoint"
)

// Engine tells about alarms. Sync may be called before and during Run.
type Engine struct {
	opts  Options
	log   *slog.Logger
	conf  *config.Config
	route *dispatch.Route
	tmpl  *template.Template

	registry *prometheus.Registry // of what lives as long as the engine
	running  *prometheus.Registry // of what lives as long as Run; replaced under mu
	events   eventrecorder.Recorder
	nflog    *nflog.Log
	silences *silence.Silences
	outlets  map[string][]*outlet // receiver name → where its messages go

	nflogFile, silenceFile, markFile *checkpoint.File

	wake  chan struct{} // capacity 1: "there is something to apply"
	dirty chan struct{} // capacity 1: "the notification log changed"

	mu struct {
		sync.Mutex
		firing  []alarm.Alarm
		ended   []alarm.Alarm
		told    bool                               // Sync was called at least once
		through time.Time                          // see ToldThrough
		known   map[model.Fingerprint]*alarm.Alarm // what the stages look up
		put     time.Time                          // of the last put
	}

	// The rest belongs to Run.
	live  map[model.Fingerprint]*alert.Alert // put as firing in this life
	over  map[string]handled                 // ends that were handled, by alarm and end
	later []laterEnd
	mark  time.Time // ends before this were told in an earlier life
	slow  time.Duration
}

var _ alarm.Notifier = (*Engine)(nil)

// laterEnd is an alarm that ended unseen: told as firing, to be ended when that
// has gone through.
type laterEnd struct {
	at    time.Time
	alarm alarm.Alarm
}

// handled notes an end that was put, and when.
type handled struct{ ended, at time.Time }

// savedMark is what the engine itself remembers over a restart.
type savedMark struct {
	EndedThrough time.Time `json:"ended_through"`
}

// Open reads the configuration and the state of the last run; nothing is sent
// before Run.
//
// Errors: a configuration that is not right, with file and reason; a state
// directory that cannot be used.
func Open(opts Options, log *slog.Logger) (*Engine, error) {
	opts = opts.withDefaults()
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open notification state %q: %w", opts.Dir, err)
	}
	e := &Engine{
		opts: opts, log: log, registry: prometheus.NewRegistry(), running: prometheus.NewRegistry(), events: eventrecorder.NopRecorder(),
		nflogFile:   checkpoint.New(filepath.Join(opts.Dir, "nflog"), "nflog"),
		silenceFile: checkpoint.New(filepath.Join(opts.Dir, "silences"), "silences"),
		markFile:    checkpoint.New(filepath.Join(opts.Dir, "mark"), "mark"),
		wake:        make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
	e.mu.known = map[model.Fingerprint]*alarm.Alarm{}
	if err := e.configure(); err != nil {
		return nil, err
	}
	if err := e.loadState(); err != nil {
		return nil, err
	}
	return e, nil
}

// configure reads files and settings and makes an outlet for each integration.
func (e *Engine) configure() error {
	conf, texts, err := loadConfig(e.opts)
	if err != nil {
		return err
	}
	e.conf = conf
	if e.tmpl, err = parseTemplates(conf.Templates); err != nil {
		return err
	}
	if e.tmpl.ExternalURL, err = url.Parse(e.opts.ExternalURL); err != nil {
		return fmt.Errorf("cannot use the external URL: %w", err)
	}
	e.route = dispatch.NewRoute(conf.Route, nil)
	e.route.Walk(func(r *dispatch.Route) { e.slow = max(e.slow, r.RouteOpts.GroupInterval, r.RouteOpts.GroupWait) })
	e.outlets = map[string][]*outlet{}
	for _, receiver := range conf.Receivers {
		outlets, err := e.outletsOf(receiver, texts[receiver.Name])
		if err != nil {
			return fmt.Errorf("cannot use receiver %q: %w", receiver.Name, err)
		}
		e.outlets[receiver.Name] = outlets
	}
	return nil
}

// loadState reads what the last run knew. A file that is corrupt is set aside:
// the queues' keys keep messages from being repeated all the same.
func (e *Engine) loadState() error {
	logged, err := e.load(e.nflogFile)
	if err != nil {
		return err
	}
	e.nflog, err = nflog.New(nflog.Options{SnapshotReader: bytes.NewReader(logged), Retention: nflogRetention, Logger: e.log, Metrics: e.registry})
	if err != nil {
		return fmt.Errorf("cannot read notification log: %w", err)
	}
	silenced, err := e.load(e.silenceFile)
	if err != nil {
		return err
	}
	e.silences, err = silence.New(silence.Options{SnapshotReader: bytes.NewReader(silenced), Retention: 120 * time.Hour, Logger: e.log, Metrics: e.registry, EventRecorder: e.events})
	if err != nil {
		return fmt.Errorf("cannot read silences: %w", err)
	}
	if tell := e.opts.Peers.Tell; tell != nil {
		e.silences.SetBroadcast(func(b []byte) { tell(silencesState, b) })
	}
	marked, err := e.load(e.markFile)
	if err != nil {
		return err
	}
	var m savedMark
	if len(marked) > 0 {
		if err := json.Unmarshal(marked, &m); err != nil {
			return fmt.Errorf("cannot read %q: %w", e.markFile.Path(), err)
		}
	}
	e.mark = m.EndedThrough
	return nil
}

func (e *Engine) load(f *checkpoint.File) ([]byte, error) {
	b, err := f.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, checkpoint.ErrCorrupt):
		e.log.Error("notification state set aside", "error", err)
		return nil, f.SetAside()
	}
	return b, err
}

// Sync takes what fires and what ended lately. It does not block: Run applies it.
func (e *Engine) Sync(firing, ended []alarm.Alarm) {
	e.mu.Lock()
	e.mu.firing, e.mu.ended, e.mu.told = slices.Clone(firing), slices.Clone(ended), true
	e.mu.Unlock()
	poke(e.wake)
}

// Receivers gives the names of all receivers, sorted: what a rule may name.
func (e *Engine) Receivers() []string { return slices.Sorted(maps.Keys(e.outlets)) }

// HasReceiver says whether a rule may name this receiver.
func (e *Engine) HasReceiver(name string) bool { _, ok := e.outlets[name]; return ok }

// Gatherer gives Alertmanager's own metrics, but for those of its notification: they
// count what was handed to the queues as delivered, for each of twenty integrations,
// and so would mislead. What became of messages is in Samples.
func (e *Engine) Gatherer() prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		e.mu.Lock()
		all := prometheus.Gatherers{e.registry, e.running}
		e.mu.Unlock()
		families, err := all.Gather()
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool {
			return strings.HasPrefix(f.GetName(), "alertmanager_notification")
		}), err
	})
}

// known gives the alarm behind an alert.
func (e *Engine) knownAlarm(fp model.Fingerprint) (*alarm.Alarm, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.mu.known[fp]
	return a, ok
}

// putter is where alerts go; mem.Alerts is one.
type putter interface {
	Put(ctx context.Context, alerts ...*alert.Alert) error
}

// apply puts what Sync was told, all in one put: an alert that inhibits another
// must not end an instant before it.
func (e *Engine) apply(ctx context.Context, to putter, now time.Time) error {
	e.mu.Lock()
	firing, ended, told := e.mu.firing, e.mu.ended, e.mu.told
	e.mu.Unlock()
	if !told {
		return nil // before the first snapshot nobody knows what fires
	}
	known := map[model.Fingerprint]*alarm.Alarm{}
	live := map[model.Fingerprint]*alert.Alert{}
	puts := map[model.Fingerprint]*alert.Alert{}
	for i := range firing {
		a := toAlert(&firing[i], now)
		known[a.Fingerprint()], live[a.Fingerprint()] = &firing[i], a
	}
	for _, a := range e.unhandled(ended, now) {
		fp := labelsOf(a).Fingerprint()
		if !a.Moved {
			known[fp], puts[fp] = a, e.end(a, now)
		} else if e.live[fp] != nil {
			known[fp], puts[fp] = a, resolved(a, now) // which the stage keeps to itself
		}
	}
	for _, l := range e.due(now) {
		fp := labelsOf(&l.alarm).Fingerprint()
		known[fp], puts[fp] = &l.alarm, resolved(&l.alarm, now)
	}
	for fp, was := range e.live {
		if live[fp] == nil && puts[fp] == nil {
			// Why: what nobody reports any more must not be repeated for ever.
			gone := *was
			gone.EndsAt, gone.UpdatedAt = now, now
			puts[fp] = &gone
		}
	}
	maps.Copy(puts, live)
	e.live = live
	e.remember(known, now)
	if len(puts) == 0 {
		return nil
	}
	return to.Put(ctx, slices.Collect(maps.Values(puts))...)
}

// due takes the ends out whose time has come.
func (e *Engine) due(now time.Time) []laterEnd {
	var due, rest []laterEnd
	for _, l := range e.later {
		if l.at.After(now) {
			rest = append(rest, l)
		} else {
			due = append(due, l)
		}
	}
	e.later = rest
	return due
}

// remember makes alarms known to the stages, also those whose end is on its way.
func (e *Engine) remember(known map[model.Fingerprint]*alarm.Alarm, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for fp, a := range e.mu.known {
		if known[fp] != nil {
			continue
		}
		if a.Ended.IsZero() { // it vanished: remembered from now on as ended
			vanished := *a
			vanished.Ended = now
			a = &vanished
		}
		if now.Sub(a.Ended) < 2*e.slow+time.Hour {
			known[fp] = a
		}
	}
	e.mu.known, e.mu.put = known, time.Now()
}

// unhandled gives the ends that have not been handled, and notes them as handled.
func (e *Engine) unhandled(ended []alarm.Alarm, now time.Time) []*alarm.Alarm {
	var out []*alarm.Alarm
	for i := range ended {
		a := &ended[i]
		key := a.Key() + a.Ended.String()
		if _, done := e.over[key]; done || a.Ended.Before(e.mark) {
			continue
		}
		e.over[key] = handled{ended: a.Ended, at: now}
		out = append(out, a)
	}
	return out
}

// end gives the put for an alarm that ended. One that this process has not told
// as firing is told first and ended when that has gone through; if an earlier
// process did tell, the queues know the key and nothing is repeated.
func (e *Engine) end(a *alarm.Alarm, now time.Time) *alert.Alert {
	if e.live[labelsOf(a).Fingerprint()] != nil {
		return resolved(a, now)
	}
	e.later = append(e.later, laterEnd{at: now.Add(e.slow + time.Second), alarm: *a})
	return toAlert(a, now)
}

// endedThrough gives the moment before which every end has reached the queues.
// It stays well behind: what is handled twice costs a look at a key, what is
// handled never is lost.
func (e *Engine) endedThrough(now time.Time) time.Time {
	mark := now.Add(-10 * time.Minute)
	earlier := func(t time.Time) {
		if t.Before(mark) {
			mark = t
		}
	}
	for key, h := range e.over {
		switch age := now.Sub(h.at); {
		case age < 2*e.slow+time.Minute:
			earlier(h.ended) // it may still wait for its group
		case age > 25*time.Hour:
			delete(e.over, key) // the evaluator no longer tells of it
		}
	}
	for _, l := range e.later {
		earlier(l.alarm.Ended)
	}
	return mark
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
