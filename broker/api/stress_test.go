package api_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// TestEverythingAtOnce produces and consumes while topics come and go, settings
// change and the node restarts: what was acknowledged is read once and in order.
func TestEverythingAtOnce(t *testing.T) {
	node := brokertest.Start(t)
	create(t, dial(t, node), "busy", 3, nil)
	const producers, records = 4, 400
	var work sync.WaitGroup
	for p := range producers {
		cl := dial(t, node, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond))
		work.Go(func() {
			for i := range records {
				r := &kgo.Record{Topic: "busy", Partition: int32(p % 3), Key: fmt.Append(nil, p), Value: fmt.Append(nil, i)}
				cl.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Errorf("producer %d, record %d: %v", p, i, err)
					}
				})
				if i%50 == 0 {
					if err := cl.Flush(within(t)); err != nil {
						t.Error(err)
					}
				}
			}
			if err := cl.Flush(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	work.Go(func() {
		adm := kadm.NewClient(dial(t, node))
		for i := range 10 {
			name := fmt.Sprintf("passing-%d", i)
			value := fmt.Sprint(1000 + i)
			if _, err := adm.CreateTopic(within(t), 2, 1, nil, name); err != nil {
				t.Error(err)
			}
			if _, err := adm.AlterTopicConfigs(within(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.bytes", Value: &value}}, name); err != nil {
				t.Error(err)
			}
			if _, err := adm.DeleteTopic(within(t), name); err != nil {
				t.Error(err)
			}
		}
	})
	reader := dial(t, node, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("busy"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(50*time.Millisecond))
	got := drain(t, reader, producers*records/4)
	work.Wait()
	node.Restart(node.ForgetCleanShutdown, nil)
	got = append(got, drain(t, reader, producers*records-len(got))...)
	next := map[string]int{}
	for _, r := range got {
		if want := next[string(r.Key)]; string(r.Value) != fmt.Sprint(want) {
			t.Fatalf("producer %s: record %s where %d was to come", r.Key, r.Value, want)
		}
		next[string(r.Key)]++
	}
	if lines := node.Errors(); len(lines) > 0 {
		t.Errorf("the node logs errors: %q", lines)
	}
}

// A fetch that waits learns at once that its topic is gone.
func TestFetchOfDeletedTopic(t *testing.T) {
	node := brokertest.Start(t)
	reader, admin := dialRaw(t, node.Addr()), dialRaw(t, node.Addr())
	makeTopic(admin, "gone", nil)
	for _, version := range []int16{11, 12} {
		req := fetchOf(version, time.Hour, 1, 0, "gone")
		reader.send(req)
		del := kmsg.NewPtrDeleteTopicsRequest()
		del.TopicNames = []string{"gone"}
		code(t, admin.ask(del).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode, nil)
		_, body, err := reader.frame()
		if err != nil {
			t.Fatal(err)
		}
		// Either sends the client to the metadata, where the topic is no more.
		got := reader.decode(req, body).(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode
		if got != kerr.UnknownTopicOrPartition.Code && got != kerr.NotLeaderForPartition.Code {
			t.Errorf("code %v", kerr.ErrorForCode(got))
		}
		makeTopic(admin, "gone", nil)
	}
}
