package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/rules"
)

const (
	// sendTimeout bounds one attempt.
	sendTimeout = 30 * time.Second
	// grace is what an attempt under way gets when the process stops.
	grace = 5 * time.Second
	// firstPause and longestPause bound the back-off.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
)

// outlet is one integration of one receiver with its queue: Alertmanager's
// notifier on the one side, the sender on the other.
type outlet struct {
	engine   *Engine
	receiver string
	kind     string // "webhook", "email", "sms", …
	index    int    // within its kind
	sender   amnotify.Notifier
	resolved bool           // tell of the end too
	least    rules.Severity // tell of nothing below; empty = everything
	pace     *pace          // nil = as fast as it goes
	queue    *queue
	log      *slog.Logger
}

var _ amnotify.Notifier = (*outlet)(nil)

// SendResolved says whether the end of alarms is told.
func (o *outlet) SendResolved() bool { return o.resolved }

func (o *outlet) integration() amnotify.Integration {
	return amnotify.NewIntegration(o, o, o.kind, o.index, o.receiver)
}

// Notify hands a message to the queue. Alertmanager believes it told then.
func (o *outlet) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	told := slices.DeleteFunc(slices.Clone(alerts), func(a *alert.Alert) bool { return !o.wants(a) || o.saidOver(a) })
	if len(told) == 0 {
		return false, nil
	}
	m, err := o.message(ctx, told)
	if err != nil {
		return false, err
	}
	safe, fresh := o.queue.put(m)
	if !fresh {
		return false, nil // it was told before a restart
	}
	o.queue.journal.await(ctx, safe)
	return false, nil
}

// wants applies what rule and outlet leave out.
func (o *outlet) wants(a *alert.Alert) bool {
	change := rules.OnAlarm
	if a.Resolved() {
		change = rules.OnOK
	}
	if known, ok := o.engine.knownAlarm(a.Fingerprint()); ok && !slices.Contains(known.NotifyOn, change) {
		return false
	}
	return o.least == "" || rules.Severity(a.Labels["severity"]).AtLeast(o.least)
}

// saidOver tells of an alarm that ended, and is to be told as firing only so that its end makes
// sense, whether people know of the end already: from an earlier life, or from another node.
func (o *outlet) saidOver(a *alert.Alert) bool {
	known, ok := o.engine.knownAlarm(a.Fingerprint())
	if !ok || known.Ended.IsZero() || a.Resolved() {
		return false
	}
	over := resolved(known, time.Now())
	return o.queue.told(o.key([]*alert.Alert{over}, over.EndsAt, 0))
}

func (o *outlet) message(ctx context.Context, alerts []*alert.Alert) (*message, error) {
	now, ok := amnotify.Now(ctx)
	groupKey, ok2 := amnotify.GroupKey(ctx)
	repeat, ok3 := amnotify.RepeatInterval(ctx)
	if !ok || !ok2 || !ok3 {
		return nil, errors.New("BUG: a message without time, group or repeat interval")
	}
	groupLabels, _ := amnotify.GroupLabels(ctx)
	groupLabels = shownLabels(groupLabels)
	routeLabels, _ := amnotify.RouteLabels(ctx)
	reason, _ := amnotify.NotificationReason(ctx)
	m := &message{
		Key: o.key(alerts, now, repeat), Created: time.Now(), Receiver: o.receiver,
		GroupKey: groupKey, GroupLabels: groupLabels, RouteLabels: routeLabels, Reason: int(reason), Repeat: repeat,
	}
	m.Firing, _ = amnotify.FiringAlerts(ctx)
	m.Resolved, _ = amnotify.ResolvedAlerts(ctx)
	for _, a := range alerts {
		copied := a.Alert
		copied.Labels = shownLabels(a.Labels)
		if known, ok := o.engine.knownAlarm(a.Fingerprint()); ok && known.Wide {
			m.Wide = true
		}
		m.Alerts = append(m.Alerts, &copied)
	}
	return m, nil
}

// shownLabels leaves out what is only between the engine and Alertmanager.
func shownLabels(all model.LabelSet) model.LabelSet {
	shown := maps.Clone(all)
	delete(shown, firedLabel)
	return shown
}

// key makes the idempotency key: what is said, to whom, and for the how many-th
// time. It is the same after a restart, whatever Alertmanager remembers.
func (o *outlet) key(alerts []*alert.Alert, now time.Time, repeat time.Duration) string {
	lines := []string{o.queue.name}
	for _, a := range alerts {
		line := fmt.Sprintf("%s %d", a.Fingerprint(), a.StartsAt.UnixNano())
		if a.Resolved() {
			line += fmt.Sprintf(" over %d", a.EndsAt.UnixNano())
		} else if repeat > 0 {
			last := now
			if known, ok := o.engine.knownAlarm(a.Fingerprint()); ok && !known.Ended.IsZero() && known.Ended.Before(now) {
				last = known.Ended // it was not repeated after that
			}
			line += fmt.Sprintf(" repeat %d", last.Sub(a.StartsAt)/repeat)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines[1:])
	h := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(h[:16])
}

// run delivers until ctx ends.
func (o *outlet) run(ctx context.Context) {
	pause := time.Duration(0)
	for {
		m := o.queue.first()
		if m == nil {
			pause = 0
			if !sleep(ctx, o.queue.wake, time.Hour) {
				return
			}
			continue
		}
		if again, ok := o.awaitPeers(ctx, m); !ok {
			return
		} else if again {
			continue
		}
		if !o.waitSafe(ctx, m) || !sleep(ctx, nil, max(pause, o.pace.wait(time.Now()))) {
			return
		}
		o.pace.take(time.Now())
		again, err := o.attempt(ctx, m)
		now := time.Now()
		switch {
		case err == nil:
			o.engine.tell(o.queue.finish(m, now))
			pause = 0
			continue
		case ctx.Err() != nil && again:
			return // cut off by the end; the next run tries again
		}
		o.queue.fail(err, now)
		age := now.Sub(m.Created)
		switch {
		case !again:
			o.queue.giveUp(m.Key, err, now)
			pause = 0
		case age > o.engine.opts.MaxAge:
			o.queue.giveUp(m.Key, fmt.Errorf("undelivered for %v: %w", age.Round(time.Second), err), now)
			pause = 0
		default:
			o.log.Warn("notification failed, will be tried again", "queue", o.queue.name, "error", err)
			pause = backOff(pause)
		}
	}
}

// awaitPeers lets a message that an earlier life of this node left wait until the other nodes were
// heard: one of them may have told it since. Again means that it waited, and the queue may be
// another one; not ok that ctx ended.
func (o *outlet) awaitPeers(ctx context.Context, m *message) (again, ok bool) {
	settled := o.engine.opts.Peers.Settled
	if settled == nil || !m.Wide || m.safe != nil {
		return false, true
	}
	select {
	case <-settled:
		return false, true
	default:
	}
	select {
	case <-settled:
		return true, true
	case <-ctx.Done():
		return true, false
	}
}

// waitSafe lets a message reach the disk before it is sent, so that no crash
// between both makes it be sent twice; a disk that hangs is not waited for.
func (o *outlet) waitSafe(ctx context.Context, m *message) bool {
	if m.safe != nil {
		o.queue.journal.await(ctx, m.safe)
	}
	return ctx.Err() == nil
}

// attempt delivers one message. The end of ctx leaves it a moment to finish, so
// that a stop does not make a message that went out look as if it had not.
func (o *outlet) attempt(ctx context.Context, m *message) (again bool, err error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { sleep(limited, nil, grace); cancel() })()
	alerts := make([]*alert.Alert, len(m.Alerts))
	var firing, over []uint64
	for i, a := range m.Alerts {
		alerts[i] = &alert.Alert{Alert: *a, UpdatedAt: m.Created}
		if alerts[i].Resolved() {
			over = append(over, uint64(i))
		} else {
			firing = append(firing, uint64(i))
		}
	}
	send := amnotify.WithReceiverName(limited, m.Receiver)
	send = amnotify.WithGroupKey(send, m.GroupKey)
	send = amnotify.WithGroupLabels(send, m.GroupLabels)
	send = amnotify.WithRouteLabels(send, m.RouteLabels)
	send = amnotify.WithNow(send, m.Created)
	send = amnotify.WithNotificationReason(send, amnotify.NotifyReason(m.Reason))
	send = amnotify.WithFiringAlerts(send, firing)
	send = amnotify.WithResolvedAlerts(send, over)
	send = context.WithValue(send, keyName{}, m.Key)
	return o.sender.Notify(send, alerts...)
}

// keyName is where a sender finds the idempotency key.
type keyName struct{}

func keyOf(ctx context.Context) string {
	key, ok := ctx.Value(keyName{}).(string)
	if !ok {
		panic("BUG: a sender without an idempotency key")
	}
	return key
}

// backOff doubles the pause, spread by a fifth so that receivers that came back
// are not hit by all queues at once.
func backOff(pause time.Duration) time.Duration {
	next := min(max(2*pause, firstPause), longestPause)
	return next - time.Duration(rand.Int64N(int64(next)/5+1))
}

// sleep waits, or until poked; false when ctx ended.
func sleep(ctx context.Context, poked <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-poked:
	case <-timer.C:
	}
	return true
}
