package watch

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// watched is a cluster of one broker that an agent looks at from beside it.
type watched struct {
	address, broker, data string
	kill, start           func()
}

// TestAgentBesideKafka watches an Apache Kafka.
func TestAgentBesideKafka(t *testing.T) {
	t.Parallel()
	k := startKafka(t)
	watchFromBeside(t, watched{address: k.address, broker: "1", data: k.data(), kill: k.kill, start: func() { k.launch(); k.ready() }})
}

// TestAgentBesideBelfry watches a node of our own in the same way.
func TestAgentBesideBelfry(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nodetest.Options{Settings: quick(map[string]string{"node.id": "1"})})
	watchFromBeside(t, watched{address: n.Kafka, broker: "1", data: n.Dir, kill: n.Kill, start: n.Restart})
}

// watchFromBeside compares what an agent without a broker shows with what clients did, kills the broker and
// brings it back.
func watchFromBeside(t *testing.T, w watched) {
	t.Helper()
	hook, hookURL := listen(t, "webhook", "", sink.NewWebhook(nil), readHook)
	a := nodetest.Start(t, nodetest.Options{Agent: true, Settings: map[string]string{
		"agent.period": "1s", "agent.bootstrap.servers": w.address, "agent.host.broker": w.broker, "agent.host.dirs": w.data,
		"alarm.rules": write(t, "rules.yaml", quiet+backlogRule), "notify.webhook.url": hookURL,
	}})
	u := newUser(t, w.address)
	u.topic("orders", 2)
	u.topic("empty", 1)
	u.produce("orders", 0, 70, 100)
	u.produce("orders", 1, 50, 100)
	consume(t, u, w.address, "billing", "orders", 120)
	u.produce("orders", 0, 40, 100)
	u.produce("orders", 1, 50, 100)
	u.commit("idle", "orders", 1, 0)
	awaitValue(t, a, equals(100), "messages_remained", "kafka_groups", "idle", "kafka_topics", "orders", "kafka_partitions", "1")
	for _, c := range []struct {
		want   float64
		id     string
		labels []string
	}{
		{1, "broker_alive", []string{"kafka_broker", w.broker}},
		{3, "current_partitions", nil},
		{2, "current_topics", nil},
		{90 + 100, "group_msgs", nil},
		{210, "topic_messages", []string{"kafka_topics", "orders"}},
		{0, "topic_messages", []string{"kafka_topics", "empty"}},
		{110, "partition_messages", []string{"kafka_topics", "orders", "kafka_partitions", "0"}},
		{100, "produced_messages", []string{"kafka_topics", "orders", "kafka_partitions", "1"}},
		{120, "topic_messages_consumed", []string{"kafka_groups", "billing", "kafka_topics", "orders"}},
		{90, "topic_messages_remained", []string{"kafka_groups", "billing", "kafka_topics", "orders"}},
		{120, "consumer_messages_consumed", []string{"kafka_groups", "billing"}},
		{90, "consumer_messages_remained", []string{"kafka_groups", "billing"}},
		{0, "messages_consumed", []string{"kafka_groups", "idle", "kafka_topics", "orders", "kafka_partitions", "1"}},
	} {
		awaitValue(t, a, equals(c.want), c.id, c.labels...)
	}
	for _, id := range []string{"topic_data_size", "broker_data_size", "broker_disk_usage", "broker_memory_usage", "broker_cpu_core_load"} {
		p := scrape(t, a)
		if _, ok := p[id]; !ok {
			t.Errorf("%s is absent", id)
		}
	}
	// What only the broker itself counts is absent, not 0.
	for _, id := range []string{"broker_messages_in_rate", "broker_connections", "broker_produce_mean", "belfry_guard_active"} {
		if f, ok := scrape(t, a)[id]; ok {
			t.Errorf("%s is there: %v", id, f)
		}
	}

	u.produce("orders", 0, 11, 10)
	awaitAll(t, []*ear{hook}, "backlog", "group billing", false)
	if got := value(t, hook.of("backlog", "billing", false)[0]); got != "101" {
		t.Errorf("the backlog is told as %s", got)
	}
	w.kill()
	awaitAll(t, []*ear{hook}, "broker_alive", "broker "+w.broker, false)
	awaitValue(t, a, equals(0), "broker_alive", "kafka_broker", w.broker)
	if p := scrape(t, a); p["topic_messages"] != nil {
		t.Errorf("messages of a cluster that is away: %v", p["topic_messages"])
	}
	w.start()
	awaitValue(t, a, equals(1), "broker_alive", "kafka_broker", w.broker)
	awaitAll(t, []*ear{hook}, "broker_alive", "broker "+w.broker, true)
	awaitValue(t, a, equals(221), "topic_messages", "kafka_topics", "orders")
	a.Stop()
	if got := len(hook.of("backlog", "billing", false)); got != 1 {
		t.Errorf("the backlog was told %d times", got)
	}
}

// consume reads n messages as a member of a group and commits them.
func consume(t *testing.T, u *user, address, group, topic string, n int) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := u.context()
	defer cancel()
	var got []*kgo.Record
	for len(got) < n {
		f := c.PollRecords(ctx, n-len(got))
		if err := f.Err(); err != nil {
			t.Fatalf("cannot consume %s: %v", topic, err)
		}
		got = append(got, f.Records()...)
	}
	if err := c.CommitRecords(ctx, got...); err != nil {
		t.Fatal(fmt.Errorf("cannot commit: %w", err))
	}
}
