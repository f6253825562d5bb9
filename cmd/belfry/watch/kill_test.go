package watch

import (
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/belfry-mq/belfry/broker/brokertest/port"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// killed is a node with the three receivers of the simple settings.
type killed struct {
	*nodetest.Node
	t       *testing.T
	readers []*ear
	user    *user
}

func startKilled(t *testing.T, settings map[string]string) *killed {
	t.Helper()
	all := quick(map[string]string{"alarm.rules": write(t, "rules.yaml", quiet+backlogRule)})
	maps.Copy(all, settings)
	k := &killed{t: t, Node: nodetest.Start(t, nodetest.Options{Settings: all})}
	k.connect()
	return k
}

func (k *killed) connect() { k.user = newUser(k.t, k.Kafka) }

func (k *killed) topic(name string) {
	k.t.Helper()
	k.user.topic(name, 1)
	k.user.produce(name, 0, 101, 10)
}

// again kills the node, for whatever it is at, and starts it anew.
func (k *killed) again() {
	k.t.Helper()
	k.Kill()
	k.Restart()
	k.connect()
}

// simple are the settings for webhook, mailbox and gateway.
func simple(t *testing.T, c credentials, hookURL, mailAddr, smsURL string) map[string]string {
	return map[string]string{
		"notify.webhook.url": hookURL, "notify.sms.config": gateways(t, smsURL, "default"),
		"notify.email.to": "ops@example.org", "notify.email.from": "belfry@example.org", "notify.email.smarthost": mailAddr,
		"notify.email.username": "belfry", "notify.email.password": "s3cret", "notify.email.ca": c.ca,
	}
}

// receivers are the queues that the simple settings make.
var receivers = []string{"default/webhook", "default/email", "default/sms"}

// noted waits until the node has noted n deliveries to each receiver.
func (k *killed) noted(n float64) {
	k.t.Helper()
	for _, r := range receivers {
		awaitValue(k.t, k.Node, atLeast(n), "belfry_notifications_total", "receiver", r)
	}
}

// TestKilledBeforeAndAfter kills a node while its messages wait for receivers that are not there, and again when
// they have been told: nothing is lost, nothing is said twice.
func TestKilledBeforeAndAfter(t *testing.T) {
	t.Parallel()
	c := newCredentials(t)
	hookAt, mailAt, smsAt := port.Addr(t), port.Addr(t), port.Addr(t)
	k := startKilled(t, simple(t, c, "http://"+hookAt+"/alarms", mailAt, "http://"+smsAt+"/messages"))
	k.topic("orders")
	k.user.commit("before", "orders", 0, 0)
	for _, r := range receivers {
		awaitValue(t, k.Node, equals(1), "belfry_notifications_waiting", "receiver", r)
	}
	k.Kill()
	hook, _ := listen(t, "webhook", hookAt, sink.NewWebhook(nil), readHook)
	mail, _ := listen(t, "mailbox", mailAt, c.mailbox(), readMail)
	sms, _ := listen(t, "SMS", smsAt, sink.NewSMS(), readSMS)
	k.readers = []*ear{hook, mail, sms}
	k.Restart()
	k.connect()
	awaitAll(t, k.readers, "backlog", "before", false)
	k.noted(1)

	k.again() // told and noted
	k.user.commit("after", "orders", 0, 0)
	awaitAll(t, k.readers, "backlog", "after", false)
	k.noted(1)

	k.user.commit("before", "orders", 0, 101)
	k.user.commit("after", "orders", 0, 101)
	awaitValue(t, k.Node, equals(0), "group_msgs") // the evaluator sees it, the end is being told
	k.again()
	awaitAll(t, k.readers, "backlog", "before", true)
	awaitAll(t, k.readers, "backlog", "after", true)
	// A last alarm is the proof that whatever the node still had to say has been said.
	k.user.commit("last", "orders", 0, 0)
	awaitAll(t, k.readers, "backlog", "last", false)
	k.Stop()
	for _, r := range k.readers {
		for _, group := range []string{"before", "after", "last"} {
			once(t, r, group, false)
		}
		for _, group := range []string{"before", "after"} {
			atMostTwice(t, r, group, true) // the kill came as they were on their way
		}
	}
}

// once fails the test unless a reader heard of a group's backlog exactly once.
func once(t *testing.T, r *ear, group string, over bool) {
	t.Helper()
	if got := r.of("backlog", group, over); len(got) != 1 {
		t.Errorf("%s heard of %s (over: %v) %d times", r.name, group, over, len(got))
	}
}

// atMostTwice allows for a message that had arrived when the node was killed before it could note that: then it
// comes again, and says by its key that it is the same.
func atMostTwice(t *testing.T, r *ear, group string, over bool) {
	t.Helper()
	got := r.of("backlog", group, over)
	t.Logf("%s heard of %s (over: %v) %d times", r.name, group, over, len(got))
	if len(got) == 0 || len(got) > 2 || got[0].key == "" || got[0].key != got[len(got)-1].key {
		t.Errorf("%s heard of %s (over: %v): %v", r.name, group, over, got)
	}
}

// TestKilledAtTheMoment kills a node in the very moment in which a receiver has its message, and while another
// one hangs. What is promised there is at least once: a message of which the node could not note that it arrived
// comes again, with the same key, so that a receiver can tell. Nothing that was noted comes again.
func TestKilledAtTheMoment(t *testing.T) {
	t.Parallel()
	var hangs atomic.Bool
	hangs.Store(true)
	reached := make(chan struct{}, 16)
	slow := sink.NewWebhook(func(int) int {
		reached <- struct{}{}
		if hangs.Load() {
			return sink.Hang
		}
		return 200
	})
	quickHook, quickURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
	late, lateURL := listen(t, "hanging", "", slow, readHook)
	k := startKilled(t, map[string]string{"notify.config": write(t, "routes.yaml", fmt.Sprintf(`route:
  receiver: both
  routes:
    - {receiver: nobody, matchers: ['watchdog="true"']}
receivers:
  - {name: both, webhook_configs: [{url: %q}, {url: %q}]}
  - {name: nobody}
`, quickURL, lateURL))})
	k.topic("orders")
	k.user.commit("moment", "orders", 0, 0)
	<-reached // it hangs now
	awaitAll(t, []*ear{quickHook}, "backlog", "moment", false)
	k.Kill()
	hangs.Store(false)
	k.Restart()
	k.connect()
	awaitAll(t, []*ear{late}, "backlog", "moment", false)
	k.user.commit("marker", "orders", 0, 0)
	awaitAll(t, []*ear{quickHook, late}, "backlog", "marker", false)
	k.user.commit("moment", "orders", 0, 101)
	awaitAll(t, []*ear{quickHook, late}, "backlog", "moment", true)
	k.Stop()
	atMostTwice(t, quickHook, "moment", false)
	once(t, quickHook, "moment", true)
	once(t, quickHook, "marker", false)
	for _, over := range []bool{false, true} {
		once(t, late, "moment", over)
	}
	once(t, late, "marker", false)
}
