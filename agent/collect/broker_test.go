package collect

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/topic"
)

func TestBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := stats.New()
		c := NewBroker("7", broker)
		tp := broker.Topic("orders")
		tp.BytesIn.Add(1e6)
		broker.Listener("PLAINTEXT", false).BytesIn.Add(1e6)
		public := broker.Listener("PUBLIC", true)
		public.Connections.Add(2)
		broker.Listener("PLAINTEXT", false).Connections.Add(1)
		broker.DirOnline("/a", true)
		broker.DirOnline("/b", false)
		broker.DirFailed("/b", "input/output error")
		broker.Replicated(stats.Replicated{MaxBehind: 17})
		broker.Request(0, 0, 0, 0, time.Millisecond, time.Second)
		broker.Corruption("segment")
		broker.ReplicaDamaged(topic.Partition{Topic: "orders"}, "/a", "a check sum is wrong")
		broker.ReplicaRefetched()

		v, err := got(t, c)
		if err != nil || v[metric.BrokerConnections] != 3 || v[metric.OfflineLogDirs] != 1 || v[metric.LogDirFailed] != 1 || v[metric.ReplicationLag] != 17 || v[metric.Corruptions] != 1 ||
			v[metric.DamagedReplicas] != 1 || v[metric.ReplicaDamaged] != 1 || v[metric.ReplicasRefetched] != 1 {
			t.Errorf("got %v, %v", v, err)
		}
		if hasKey(v, metric.BrokerBytesInRate) || hasKey(v, metric.BrokerProduceMean) {
			t.Errorf("the first reading gives rates: %v", v)
		}

		time.Sleep(10 * time.Second)
		tp.BytesIn.Add(5000)
		tp.BytesOut.Add(2000)
		tp.MessagesIn.Add(30)
		public.BytesIn.Add(600)
		public.BytesOut.Add(300)
		broker.Request(0, 0, 0, 0, time.Millisecond, 2*time.Millisecond)
		broker.Request(0, 3, 0, 0, time.Millisecond, 4*time.Millisecond)
		broker.DropTopic("orders") // what it had still counts
		if v, err = got(t, c); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[metric.ID]float64{
			metric.BrokerBytesInRate: 500, metric.BrokerBytesOutRate: 200, metric.BrokerMessagesInRate: 3,
			metric.BrokerPublicBytesInRate: 60, metric.BrokerPublicBytesOutRate: 30, metric.BrokerProduceMean: 3,
		} {
			if v[id] != want {
				t.Errorf("%s is %v, want %v", id, v[id], want)
			}
		}
		if hasKey(v, metric.BrokerFetchMean) {
			t.Error("a mean of no requests")
		}

		time.Sleep(10 * time.Second)
		v, _ = got(t, c)
		if !hasKey(v, metric.BrokerBytesInRate) || v[metric.BrokerBytesInRate] != 0 || hasKey(v, metric.BrokerProduceMean) {
			t.Errorf("idle: %v", v)
		}
	})
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		before, now uint64
		elapsed     time.Duration
		want        float64
		ok          bool
	}{
		{0, 0, time.Second, 0, true},
		{10, 40, 3 * time.Second, 10, true},
		{40, 10, time.Second, 0, false}, // begun anew
		{1 << 63, 1<<63 + 5, 5 * time.Second, 1, true},
		{0, 10, 0, 0, false},
		{0, 10, -time.Second, 0, false},
	} {
		if got, ok := rate(c.before, c.now, c.elapsed); got != c.want || ok != c.ok {
			t.Errorf("rate(%d, %d, %v) = %v, %v", c.before, c.now, c.elapsed, got, ok)
		}
	}
	if grown(5, 8) != 3 || grown(8, 5) != 5 {
		t.Error("growth of a counter that began at 0")
	}
}

func TestHidden(t *testing.T) {
	for name, want := range map[string]bool{"_a": true, "#a": true, "a_": false, "a": false, "": false, "__consumer_offsets": true} {
		if Hidden(name) != want {
			t.Errorf("Hidden(%q) = %v", name, !want)
		}
	}
}
