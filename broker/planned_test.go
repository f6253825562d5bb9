package broker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// longestPlanned is the pause that a planned stop may cost a producer here. Why so much more
// than it takes: on a machine whose processes wait for seconds for a core, elections are lost
// that have nothing to do with the stop. How long a handover takes by itself is tested on a
// clock of its own (replica, TestHandover).
const longestPlanned = 10 * time.Second

// TestPlannedStop stops each of three brokers in turn, the controller among them, while
// messages are produced with acks=all and min.insync.replicas=2: none fails, and no
// producer waits long.
func TestPlannedStop(t *testing.T) {
	c := brokertest.StartCluster(t, 3)
	all := admin(t, c.Addrs()...)
	two := "2"
	const partitions = 6
	makeTopic(t, all, partitions, 3, map[string]*string{"min.insync.replicas": &two}, "planned")
	whole := func() bool {
		ps := leaders(t, all, "planned")
		for _, p := range ps {
			if len(p.ISR) != 3 {
				return false
			}
			if p.Leader != p.Replicas[0] {
				var set kadm.TopicsSet
				set.Add("planned", p.Partition)
				if _, err := all.ElectLeaders(t.Context(), kadm.ElectPreferredReplica, set); err != nil {
					t.Log(err) // asked again
				}
				return false
			}
		}
		return len(ps) == partitions
	}
	for id := range int32(3) {
		brokertest.Eventually(t, "all are in sync and led by their preferred replicas", whole)
		meta, err := all.BrokerMetadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		victim := c.Broker(metadata.BrokerID(id + 1))
		var took time.Duration
		pause := producedMeanwhile(t, c, "planned", partitions, func() {
			began := time.Now()
			victim.Stop()
			took = time.Since(began)
		})
		t.Logf("broker %d, the controller %v: stopped in %v, the longest pause of a producer was %v", id+1, meta.Controller == id+1, took, pause)
		if pause > longestPlanned {
			t.Errorf("a producer waited %v for a planned stop of broker %d", pause, id+1)
		}
		victim.Restart(nil, nil)
	}
}

// producedMeanwhile has a producer for each partition send one message after the other while
// something is done, and gives the longest time between two acknowledgements.
func producedMeanwhile(t *testing.T, c *brokertest.Cluster, topic string, partitions int32, do func()) (longest time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := make(chan struct{}, partitions) // one for each producer's first
	for n := range partitions {
		wg.Go(func() {
			// Why a client of its own each time: one that holds a connection from before a broker's
			// last restart finds out only by a failure, and waits for that.
			cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
			if err != nil {
				t.Error(err)
				return
			}
			defer cl.Close()
			last := time.Now()
			for i := 0; ctx.Err() == nil; i++ {
				err := cl.ProduceSync(ctx, &kgo.Record{Partition: n, Value: []byte("x")}).FirstErr()
				if err != nil && ctx.Err() == nil {
					t.Errorf("partition %d: %v", n, err)
				}
				if i == 0 {
					acked <- struct{}{}
				}
				now := time.Now()
				mu.Lock()
				if i > 0 && err == nil {
					longest = max(longest, now.Sub(last))
				}
				mu.Unlock()
				last = now
			}
		})
	}
	for range partitions {
		<-acked
	}
	do()
	cancel()
	wg.Wait()
	return longest
}
