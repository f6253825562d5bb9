package promtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
	"github.com/belfry-mq/belfry/dashboards"
	"github.com/belfry-mq/belfry/dashboards/promtest"
)

// The load of a node whose boards are looked at.
const (
	topicName = "orders"
	groupName = "billing"
	settle    = 90 * time.Second
)

// firingRule is an alarm that is there while the node is, so that the boards about alarms have one.
const firingRule = `rules:
  - name: node_is_there
    summary: The node is there
    metric: belfry_agent_up
    condition: "== 1"
    severity: minor
`

// TestBoardsOfARealNode runs a node under load, a Prometheus that scrapes it, and every query of every board.
func TestBoardsOfARealNode(t *testing.T) {
	t.Parallel()
	hook := sink.NewWebhook(nil)
	hookURL, err := hook.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	t.Cleanup(func() { cancel(); parts.Wait() })
	parts.Go(func() { _ = hook.Run(ctx) }) // what it takes is nothing to this test

	always := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(always, []byte(firingRule), 0o600); err != nil {
		t.Fatal(err)
	}
	node := nodetest.Start(t, nodetest.Options{Settings: map[string]string{
		"agent.period": "1s", "offsets.topic.num.partitions": "1", "notify.webhook.url": hookURL, "alarm.rules": always,
	}})
	work(t, ctx, &parts, node.Kafka)
	p := promtest.Start(t, node.Metrics, time.Second)
	p.AwaitScrapes(t, 10, settle)
	id := p.Await(t, `broker_alive`, settle)[0].Labels["kafka_instance_id"]
	if id == "" {
		t.Fatal("broker_alive has no kafka_instance_id")
	}
	filled := dashboards.Values{Instance: regexp.QuoteMeta(id), Broker: ".+", Topic: ".+", Group: ".+", Interval: "30s"}
	waiting := map[string]dashboards.Query{}
	for _, q := range dashboards.Queries(filled) {
		if q.Absent == "" {
			waiting[q.String()] = q
		} else if _, err := p.Query(q.Expr); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
	// A figure may need some periods of load to be there; each has to come, and all of them within the time.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for limit := time.After(settle); len(waiting) > 0; {
		for name, q := range waiting {
			switch ok, err := p.Answers(q.Expr); {
			case err != nil:
				t.Fatalf("%s: %v", q, err)
			case ok:
				delete(waiting, name)
			}
		}
		select {
		case <-tick.C:
		case <-limit:
			for _, q := range waiting {
				t.Errorf("%s: nothing", q)
			}
			return
		}
	}
}

// work loads a node until ctx ends: a producer, a consumer that is slower, and requests that fail.
func work(t *testing.T, ctx context.Context, parts *sync.WaitGroup, address string) {
	t.Helper()
	producer := client(t, address, kgo.DefaultProduceTopic(topicName))
	if _, err := kadm.NewClient(producer).CreateTopic(ctx, 3, 1, nil, topicName); err != nil {
		t.Fatal(err)
	}
	consumer := client(t, address, kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(topicName), kgo.AutoCommitInterval(time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	value := make([]byte, 1<<10)
	parts.Go(func() {
		every(ctx, 50*time.Millisecond, func() {
			for i := range 50 {
				producer.Produce(ctx, &kgo.Record{Key: fmt.Append(nil, i), Value: value}, nil)
			}
		})
	})
	parts.Go(func() {
		every(ctx, 50*time.Millisecond, func() {
			within, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			consumer.PollRecords(within, 20)
		})
	})
	parts.Go(func() {
		every(ctx, time.Second, func() {
			resp, err := kadm.NewClient(producer).DeleteTopics(ctx, "no-such-topic")
			if err == nil && !errors.Is(resp["no-such-topic"].Err, kerr.UnknownTopicOrPartition) {
				t.Errorf("deletion of a topic that is not there: %v", resp["no-such-topic"].Err)
			}
		})
	})
}

func client(t *testing.T, address string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(address))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// TestProvisioning checks that the files are what Grafana's provisioning takes: whole dashboards without an ID.
func TestProvisioning(t *testing.T) {
	for _, name := range []string{"instance.json", "broker.json", "topic.json", "group.json", "alarms.json"} {
		f, err := dashboards.FS().Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var board map[string]any
		err = json.NewDecoder(f).Decode(&board)
		if _, has := board["id"]; err != nil || has || board["uid"] == nil || board["panels"] == nil {
			t.Errorf("%s: %v, id %v, uid %v", name, err, has, board["uid"])
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
