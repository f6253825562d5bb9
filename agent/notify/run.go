package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/agent/checkpoint"
)

const (
	snapshotEvery = time.Minute     // of notification log, silences and mark
	snapshotAfter = time.Second     // of the notification log after it changed
	alertGC       = 5 * time.Minute // alerts that are over leave the memory
	groupGC       = 30 * time.Second
)

// Run tells about alarms until ctx ends; then it finishes what is being sent, for
// a few seconds at most, and keeps the rest for the next run. It may be called
// again after it returned.
func (e *Engine) Run(ctx context.Context) error {
	e.begin()
	// Order of the end: no new messages, then no senders, then no journals.
	journalCtx, stopJournals := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJournals()
	var journals, senders sync.WaitGroup
	for _, outlets := range e.outlets {
		for _, o := range outlets {
			journals.Go(func() { o.queue.journal.run(journalCtx) })
			senders.Go(func() { o.run(ctx) })
		}
	}
	defer journals.Wait()
	defer stopJournals()
	defer e.closeIdle()
	defer senders.Wait()

	alerts, err := mem.NewAlerts(context.WithoutCancel(ctx), alertGC, 0, nil, e.log, e.events, e.running, featurecontrol.NoopFlags{})
	if err != nil {
		return fmt.Errorf("cannot start notification: %w", err)
	}
	defer alerts.Close()
	stop := e.startPipeline(alerts)
	defer stop()
	return e.loop(ctx, alerts)
}

// begin forgets what only holds while Alertmanager's memory lasts, and gives its
// parts a fresh registry, because they register their metrics when they are made.
func (e *Engine) begin() {
	e.live, e.over, e.later = map[model.Fingerprint]*alert.Alert{}, map[string]handled{}, nil
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = prometheus.NewRegistry()
}

// closeIdle lets go of connections that were kept for the next message.
func (e *Engine) closeIdle() {
	for _, outlets := range e.outlets {
		for _, o := range outlets {
			switch sender := o.sender.(type) {
			case *hook:
				sender.client.CloseIdleConnections()
			case *texter:
				sender.client.CloseIdleConnections()
			}
		}
	}
}

// startPipeline wires Alertmanager. Its peer stays a nil interface, which would only
// make nodes wait for each other: each alarm is told by one node, and who takes over
// has heard what the one before told, see note.
func (e *Engine) startPipeline(alerts *mem.Alerts) (stop func()) {
	var peer amnotify.Peer
	wait := func() time.Duration { return 0 }
	groups := marker.NewGroupMarker()
	inhibitor := inhibit.NewInhibitor(alerts, e.conf.InhibitRules, e.log, e.events)
	receivers := map[string][]amnotify.Integration{}
	for name, outlets := range e.outlets {
		receivers[name] = []amnotify.Integration{}
		for _, o := range outlets {
			receivers[name] = append(receivers[name], o.integration())
		}
	}
	builder := amnotify.NewPipelineBuilder(e.running, featurecontrol.NoopFlags{}, e.events)
	pipeline := builder.New(receivers, wait, inhibitor, silence.NewSilencer(e.silences, e.log, e.events),
		timeinterval.NewIntervener(intervals(e.conf)), groups, &watchedLog{log: e.nflog, dirty: e.dirty}, peer)
	timeout := func(d time.Duration) time.Duration { return max(d, amnotify.MinTimeout) }
	dispatcher := dispatch.NewDispatcher(alerts, e.route, &ruleStage{engine: e, next: pipeline}, groups, timeout, groupGC,
		nil, e.log, e.events, dispatch.NewDispatcherMetrics(false, e.running, featurecontrol.NoopFlags{}), e.tmpl)

	var wg sync.WaitGroup
	wg.Go(inhibitor.Run)
	inhibitor.WaitForLoading()
	wg.Go(func() { dispatcher.Run(time.Now()) })
	dispatcher.WaitForLoading()
	return func() {
		dispatcher.Stop()
		inhibitor.Stop()
		wg.Wait()
	}
}

// watchedLog tells when the notification log changed.
type watchedLog struct {
	log   *nflog.Log
	dirty chan struct{}
}

var _ amnotify.NotificationLog = (*watchedLog)(nil)

// Log notes what was handed to a queue.
func (w *watchedLog) Log(r *nflogpb.Receiver, gkey string, firing, resolved []uint64, store *nflog.Store, expiry time.Duration) error {
	err := w.log.Log(r, gkey, firing, resolved, store, expiry)
	poke(w.dirty)
	return err
}

// Query finds what was noted.
func (w *watchedLog) Query(params ...nflog.QueryParam) ([]*nflogpb.Entry, error) {
	return w.log.Query(params...)
}

func (e *Engine) loop(ctx context.Context, alerts *mem.Alerts) error {
	every := time.NewTicker(snapshotEvery)
	defer every.Stop()
	var soon, later <-chan time.Time
	poke(e.wake)
	for {
		select {
		case <-ctx.Done():
			e.snapshot(time.Now())
			return nil
		case <-e.dirty:
			if soon == nil {
				soon = time.After(snapshotAfter)
			}
			continue
		case <-soon:
			soon = nil
			e.save(e.nflogFile, e.nflog.Snapshot)
			continue
		case <-every.C:
			e.snapshot(time.Now())
			continue
		case <-e.wake:
		case <-later:
		}
		now := time.Now()
		if err := e.apply(ctx, alerts, now); err != nil {
			return fmt.Errorf("cannot put alarms: %w", err)
		}
		e.setThrough(e.endedThrough(now))
		later = nil
		if len(e.later) > 0 {
			later = time.After(time.Until(e.later[0].at))
		}
	}
}

// snapshot brings to the disk what is not in the queues.
func (e *Engine) snapshot(now time.Time) {
	if _, err := e.nflog.GC(); err != nil {
		e.log.Warn("cannot clean the notification log", "error", err)
	}
	if _, err := e.silences.GC(); err != nil {
		e.log.Warn("cannot clean silences", "error", err)
	}
	e.save(e.nflogFile, e.nflog.Snapshot)
	e.save(e.silenceFile, e.silences.Snapshot)
	mark := savedMark{EndedThrough: e.endedThrough(now)}
	e.save(e.markFile, func(w io.Writer) (int64, error) {
		b, err := json.Marshal(mark)
		if err != nil {
			panic(fmt.Sprintf("BUG: mark cannot be encoded: %v", err))
		}
		n, err := w.Write(b)
		return int64(n), err
	})
}

// save writes one snapshot. A disk that is full costs nothing but a possible
// repetition of work after a crash; the next minute tries again.
func (e *Engine) save(f *checkpoint.File, snapshot func(io.Writer) (int64, error)) {
	var b bytes.Buffer
	_, err := snapshot(&b)
	if err == nil {
		err = f.Save(b.Bytes())
	}
	if err != nil {
		e.log.Warn("notification state not saved", "error", err)
	}
}
