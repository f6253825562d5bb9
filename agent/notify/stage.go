package notify

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
)

const (
	// byRule stands in routes that say no repeat interval: the rule decides.
	// An odd number, so that nobody writes it by chance.
	byRule = 24*time.Hour + time.Nanosecond
	// once is the repeat interval of rules that repeat never.
	once = 10 * 365 * 24 * time.Hour
	// inhibitorPause is far longer than the inhibitor needs to take an alert.
	inhibitorPause = 500 * time.Millisecond
	// nflogRetention keeps what was told about an alarm that lasts long.
	nflogRetention = 400 * 24 * time.Hour
)

// ruleStage puts before Alertmanager's pipeline what a rule says about its own
// notification: repeat interval and receivers.
type ruleStage struct {
	engine *Engine
	next   amnotify.RoutingStage
}

var _ amnotify.Stage = (*ruleStage)(nil)

// Exec runs the pipeline once for each receiver. Alerts whose rule names no
// receivers go where the route says.
func (s *ruleStage) Exec(ctx context.Context, l *slog.Logger, alerts ...*alert.Alert) (context.Context, []*alert.Alert, error) {
	routed, ok := amnotify.ReceiverName(ctx)
	if !ok {
		return ctx, nil, errors.New("BUG: no receiver in the context")
	}
	if !s.engine.inhibitorSettled(ctx) {
		return ctx, nil, ctx.Err()
	}
	to := map[string][]*alert.Alert{}
	for _, a := range alerts {
		if known, ok := s.engine.knownAlarm(a.Fingerprint()); ok && known.Moved {
			continue // it goes on elsewhere
		}
		for _, name := range s.receivers(a.Fingerprint(), routed) {
			to[name] = append(to[name], a)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(to)) {
		inner := amnotify.WithReceiverName(ctx, name)
		if repeat, _ := amnotify.RepeatInterval(ctx); repeat == byRule {
			inner = amnotify.WithRepeatInterval(inner, s.repeat(to[name]))
		}
		_, _, err := s.next.Exec(inner, l, to[name]...)
		errs = append(errs, err)
	}
	return ctx, alerts, errors.Join(errs...)
}

// inhibitorSettled waits until alerts that were put have reached the inhibitor,
// which takes them from a channel of its own: an alarm that came together with
// one that inhibits it must not be told because it was looked at a little sooner.
// False when ctx ended.
func (e *Engine) inhibitorSettled(ctx context.Context) bool {
	if len(e.conf.InhibitRules) == 0 {
		return true
	}
	e.mu.Lock()
	wait := inhibitorPause - time.Since(e.mu.put)
	e.mu.Unlock()
	return sleep(ctx, nil, wait)
}

func (s *ruleStage) receivers(fp model.Fingerprint, routed string) []string {
	a, ok := s.engine.knownAlarm(fp)
	if !ok || len(a.Receivers) == 0 {
		return []string{routed}
	}
	var names []string
	for _, name := range a.Receivers {
		if s.engine.HasReceiver(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return []string{routed} // better told to somebody than to nobody
	}
	return names
}

// repeat gives the shortest interval of the alarms in a group.
func (s *ruleStage) repeat(alerts []*alert.Alert) time.Duration {
	shortest := time.Duration(once)
	for _, al := range alerts {
		if a, ok := s.engine.knownAlarm(al.Fingerprint()); ok && a.Repeat > 0 {
			shortest = min(shortest, a.Repeat)
		}
	}
	return shortest
}
