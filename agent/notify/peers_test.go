package notify

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/silence/silencepb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/belfry-mq/belfry/agent/alarm"
)

// pair is the options of two nodes of a cluster with one webhook: each is told what the other
// tells, as long as it is there.
func pair(t *testing.T, hook *httpSink) (one, two Options, join func(one, two *Engine)) {
	var mu sync.Mutex
	var engines [2]*Engine
	var telling sync.WaitGroup
	t.Cleanup(telling.Wait)
	options := func(other int) Options {
		o := Options{Dir: t.TempDir(), Period: 100 * time.Millisecond, Webhook: Webhook{URL: Secret(hook.URL)}}
		o.Peers.Tell = func(name string, b []byte) {
			b = bytes.Clone(b)
			telling.Go(func() {
				mu.Lock()
				e := engines[other]
				mu.Unlock()
				if e == nil {
					return
				}
				if err := e.Shared()[name].Merge(b); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		return o
	}
	return options(1), options(0), func(one, two *Engine) {
		mu.Lock()
		defer mu.Unlock()
		engines = [2]*Engine{one, two}
	}
}

// wideAlarm is one about the cluster: whichever node speaks tells it.
func wideAlarm(fired time.Time) alarm.Alarm {
	a := diskAlarm(fired)
	a.Rule, a.Metric, a.Wide = "offline_partitions", "belfry_offline_partitions", true
	return a
}

func said(hook *httpSink) string {
	firing, over := 0, 0
	for _, m := range hook.taken() {
		firing += strings.Count(m.body, `"status":"firing","labels"`)
		over += strings.Count(m.body, `"status":"resolved","labels"`)
	}
	return fmt.Sprintf("%d firing, %d over", firing, over)
}

func expect(t *testing.T, hook *httpSink, what, want string) {
	t.Helper()
	eventually(t, what+": "+want, func() bool { return said(hook) == want })
	settled()
	if got := said(hook); got != want {
		t.Fatalf("%s: %s, want %s", what, got, want)
	}
}

// TestAnotherNodeGoesOn: one tells of an alarm and dies; the other does not tell it again, and tells its end.
func TestAnotherNodeGoesOn(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	first, second, join := pair(t, hook)
	one, stopOne := start(t, first)
	two, _ := start(t, second)
	join(one, two)
	a, b := wideAlarm(time.Now().Add(-time.Second)), wideAlarm(time.Now().Add(-time.Second))
	b.Rule = "behind"
	one.Sync([]alarm.Alarm{a, b}, nil)
	expect(t, hook, "the first node tells", "2 firing, 0 over")
	stopOne()
	join(nil, two)
	gap := over(b, time.Now(), 0) // it ended before the other one looked
	for range 3 {
		two.Sync([]alarm.Alarm{a}, []alarm.Alarm{gap})
		settledBriefly()
	}
	expect(t, hook, "the other goes on", "2 firing, 1 over")
	two.Sync(nil, []alarm.Alarm{gap, over(a, time.Now(), 0)})
	expect(t, hook, "it tells the end", "2 firing, 2 over")
}

// TestAnotherNodeKnowsWhatIsOver: what the first told as over is not told by the other, however often it might
// have been repeated meanwhile.
func TestAnotherNodeKnowsWhatIsOver(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	first, second, join := pair(t, hook)
	one, stopOne := start(t, first)
	two, _ := start(t, second)
	join(one, two)
	a := wideAlarm(time.Now())
	a.Repeat = 2 * time.Second
	one.Sync([]alarm.Alarm{a}, nil)
	expect(t, hook, "the first node tells", "1 firing, 0 over")
	ended := over(a, time.Now(), 0)
	one.Sync(nil, []alarm.Alarm{ended})
	expect(t, hook, "and its end", "1 firing, 1 over")
	stopOne()
	join(nil, two)
	eventually(t, "a repetition would be due", func() bool { return time.Since(a.Fired) > 3*a.Repeat/2 })
	two.Sync(nil, []alarm.Alarm{ended})
	settled()
	settled()
	expect(t, hook, "the other has nothing to say", "1 firing, 1 over")
}

// TestAnotherNodeTellsWhatWasOwed: one dies with its message undelivered, the other delivers it, and the first one,
// back again, hears of that before it tries.
func TestAnotherNodeTellsWhatWasOwed(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	hook.set(http.StatusServiceUnavailable, "", nil)
	first, second, join := pair(t, hook)
	one, stopOne := start(t, first)
	two, _ := start(t, second)
	join(one, two)
	a := wideAlarm(time.Now())
	one.Sync([]alarm.Alarm{a}, nil)
	eventually(t, "the first node tries", func() bool { return hook.tried() > 0 })
	owed := one.outlets[defaultReceiver][0].queue.first().Key
	if through := one.ToldThrough(); through.After(a.Fired) {
		t.Errorf("told through %v, though an alarm of %v waits", through, a.Fired)
	}
	stopOne()
	join(nil, two)
	hook.set(http.StatusOK, "", nil)
	two.Sync([]alarm.Alarm{a}, nil)
	expect(t, hook, "the other tells", "1 firing, 0 over")
	if key := hook.taken()[0].header.Get("Idempotency-Key"); key != owed {
		t.Errorf("the same message has key %s on one node, %s on the other", owed, key)
	}
	settle := make(chan struct{})
	first.Peers.Settled = settle
	again, _ := start(t, first)
	settledBriefly()
	if err := again.Shared()[deliveredState].Merge(two.Shared()[deliveredState].Share()); err != nil {
		t.Fatal(err)
	}
	close(settle)
	expect(t, hook, "the first one is back", "1 firing, 0 over")
	if s := again.Status(); s[0].Waiting != 0 {
		t.Errorf("%d messages wait", s[0].Waiting)
	}
}

// TestWhatIsOnlyAboutANodeStaysThere: nobody else tells of it, so nobody else has to know.
func TestWhatIsOnlyAboutANodeStaysThere(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	first, _, _ := pair(t, hook)
	first.Peers.Tell = func(name string, _ []byte) { t.Errorf("%s was told", name) }
	one, _ := start(t, first)
	one.Sync([]alarm.Alarm{diskAlarm(time.Now())}, nil)
	expect(t, hook, "the node tells", "1 firing, 0 over")
	if b := one.Shared()[deliveredState].Share(); b != nil {
		t.Errorf("shared: %s", b)
	}
}

// TestASilenceHoldsOnEveryNode: it is set on one and mutes the other.
func TestASilenceHoldsOnEveryNode(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	first, second, join := pair(t, hook)
	one, _ := start(t, first)
	two, _ := start(t, second)
	join(one, two)
	now := time.Now()
	err := one.silences.Set(t.Context(), &silencepb.Silence{
		StartsAt: timestamppb.New(now), EndsAt: timestamppb.New(now.Add(time.Hour)), CreatedBy: "test",
		MatcherSets: []*silencepb.MatcherSet{{Matchers: []*silencepb.Matcher{{Type: silencepb.Matcher_EQUAL, Name: "alertname", Pattern: "offline_partitions"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := wideAlarm(now)
	b.Rule = "behind"
	two.Sync([]alarm.Alarm{wideAlarm(now), b}, nil)
	expect(t, hook, "only what is not silenced", "1 firing, 0 over")
}

func TestDeliveriesOfStrangersAreRefused(t *testing.T) {
	t.Parallel()
	hook := newHTTPSink(t)
	o, _, _ := pair(t, hook)
	e, _ := start(t, o)
	if err := e.Shared()[deliveredState].Merge([]byte("{")); err == nil {
		t.Error("nonsense was taken")
	}
	if err := e.Shared()[silencesState].Merge([]byte{1}); err == nil {
		t.Error("nonsense was taken")
	}
	for _, harmless := range []string{"[null]", `[{"queue":"nobody/webhook[0]","key":"k","at":"2026-01-01T00:00:00Z"}]`} {
		if err := e.Shared()[deliveredState].Merge([]byte(harmless)); err != nil {
			t.Errorf("%s: %v", harmless, err)
		}
	}
}
