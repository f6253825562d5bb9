package alarm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// member is the evaluator of one node of a cluster.
type member struct {
	*Evaluator
	store   *memory
	told    *sink
	speaker Speaker
	through time.Time
	hangs   chan struct{} // what the others are told leaves when this is closed; nil: at once
	others  []*member
}

func clusterRules() (*rules.Set, error) {
	list, err := rules.Parse("t", []byte(`rules: [{name: dead, metric: broker_alive, condition: "== 0"}, {name: disk, metric: broker_disk_usage, condition: "> 80 %"}]`), nil)
	if err != nil {
		return nil, err
	}
	return rules.Check(list, testEnv())
}

// begin opens the evaluator, as a process that starts does.
func (m *member) begin(t *testing.T, node string) {
	t.Helper()
	var err error
	m.told = &sink{}
	m.Evaluator, err = Open(Config{
		Store: m.store, Load: clusterRules, Fallback: clusterRules, Unit: Units(),
		Peers: Peers{
			Node: node, Speaker: func() Speaker { return m.speaker }, ToldThrough: func() time.Time { return m.through },
			Tell: func(b []byte) <-chan struct{} {
				for _, o := range m.others {
					if err := o.Merge(b); err != nil {
						t.Error(err)
					}
				}
				if m.hangs != nil {
					return m.hangs
				}
				sent := make(chan struct{})
				close(sent)
				return sent
			},
		},
	}, m.told, m.told, quiet)
	if err != nil {
		t.Fatal(err)
	}
}

// look is a snapshot in which broker 2 is alive, or not; only who speaks has that.
func look(minute int, alive float64, speaks bool) *metric.Snapshot {
	s := disk(minute, 10)
	if speaks {
		s.Samples = append(s.Samples, metric.Sample{ID: metric.BrokerAlive, Labels: metric.Labels("kafka_broker", "2"), Value: alive})
	}
	s.Samples, _ = metric.Arrange(s.Samples)
	return s
}

// TestEvaluatorsOfACluster: what one node told fires on with the next, as the same alarm, also if that was started
// anew in between, and ends as the same.
func TestEvaluatorsOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &member{store: &memory{}, speaker: Here}, &member{store: &memory{}, speaker: Elsewhere}
		one.others = []*member{two}
		one.begin(t, "1")
		two.begin(t, "2")
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan error, 2)
		go func() { over <- one.Run(ctx) }()
		go func(e *Evaluator) { over <- e.Run(ctx) }(two.Evaluator)
		one.Receive(ctx, look(1, 0, true))
		two.Receive(ctx, look(1, 0, false))
		if len(one.told.firing) != 1 || len(two.told.firing) != 0 {
			t.Fatalf("%d and %d alarms fire", len(one.told.firing), len(two.told.firing))
		}
		was := one.told.firing[0]
		if all := two.Elsewhere(); len(all) != 1 || all[0].Key() != was.Key() || !was.Wide {
			t.Errorf("the other node knows of %v", all)
		}
		if one.Elsewhere() != nil {
			t.Error("who speaks shows what it heard")
		}
		synctest.Wait()
		stop() // both end; the first one for good
		for range 2 {
			if err := <-over; err != nil {
				t.Error(err)
			}
		}

		two.begin(t, "2")
		two.speaker = Unsettled
		two.Receive(t.Context(), look(2, 0, true))
		if len(two.told.firing) != 0 {
			t.Error("it found an alarm by itself before it could hear of it")
		}
		two.speaker = Here
		two.Receive(t.Context(), look(3, 0, true))
		if len(two.told.firing) != 1 || !two.told.firing[0].Fired.Equal(was.Fired) {
			t.Fatalf("after taking over: %v, want one that fires since %v", two.told.firing, was.Fired)
		}
		two.Receive(t.Context(), look(4, 1, true))
		if len(two.told.firing) != 0 || len(two.told.ended) != 1 || !two.told.ended[0].Fired.Equal(was.Fired) || two.told.ended[0].Moved {
			t.Errorf("it ended as %v", two.told.ended)
		}
		if got := two.told.names(); got != "alarmsTakenOver alarmOK" {
			t.Errorf("audit: %s", got)
		}
	})
}

// TestOnlyEndsThatMayBeOwedAreHandedOver: what has reached all receivers is nobody else's business.
func TestOnlyEndsThatMayBeOwedAreHandedOver(t *testing.T) {
	one, two := &member{store: &memory{}, speaker: Here}, &member{store: &memory{}, speaker: Elsewhere}
	one.others = []*member{two}
	one.begin(t, "1")
	two.begin(t, "2")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody writes the state: nothing waits for that
	for minute, alive := range []float64{0, 1, 0, 1} {
		if minute == 3 {
			one.through = look(2, 0, true).End
		}
		one.Receive(ctx, look(minute, alive, true))
	}
	two.speaker = Here
	two.Receive(ctx, look(5, 1, true))
	if len(one.told.ended) != 2 || len(two.told.ended) != 1 || !two.told.ended[0].Ended.Equal(one.told.ended[1].Ended) {
		t.Errorf("the first knows of %d ends, the other of %d", len(one.told.ended), len(two.told.ended))
	}
}

// TestNodesThatDoNotAnswerSilenceNothing: a change waits a second for them.
func TestNodesThatDoNotAnswerSilenceNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &member{store: &memory{}, speaker: Here, hangs: make(chan struct{})}
		one.begin(t, "1")
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- one.Run(ctx) }()
		begin := time.Now()
		one.Receive(ctx, look(1, 0, true))
		if took := time.Since(begin); took != tellWait || len(one.told.firing) != 1 {
			t.Errorf("told of %d alarms after %v, want 1 after %v", len(one.told.firing), took, tellWait)
		}
		begin = time.Now()
		one.Receive(ctx, look(2, 0, true)) // nothing changed
		if took := time.Since(begin); took != 0 {
			t.Errorf("waited %v for nothing", took)
		}
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestAlarmsOfStrangersAreRefused(t *testing.T) {
	one := &member{store: &memory{}, speaker: Here}
	one.begin(t, "1")
	if err := one.Merge([]byte("{")); err == nil {
		t.Error("nonsense was taken")
	}
	if err := one.Merge([]byte(`{"seq":3,"tracks":[null]}`)); err != nil {
		t.Error(err)
	}
	if one.Share() == nil {
		t.Error("what was heard is not told on")
	}
}
