package truth

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/brokertest/port"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// wide is the period of the test below: long enough for an election and a busy machine.
const wide = 4 * time.Second

// trio is a cluster of three processes.
type trio struct {
	t     *testing.T
	nodes []*nodetest.Node
}

// startTrio starts one; more gives each node's settings beside those that all have, and may be nil.
func startTrio(t *testing.T, more func(id int) map[string]string) *trio {
	c := newTrio(t, more)
	c.start()
	return c
}

// newTrio prepares one without starting it.
func newTrio(t *testing.T, more func(id int) map[string]string) *trio {
	c := &trio{t: t}
	var voters []string
	for id := range 3 {
		voters = append(voters, fmt.Sprintf("%d@%s", id, port.Addr(t)))
	}
	for id := range 3 {
		settings := map[string]string{
			"node.id": strconv.Itoa(id), "controller.quorum.voters": strings.Join(voters, ","), "agent.period": wide.String(),
			"default.replication.factor": "3", "broker.heartbeat.interval.ms": "500", "broker.session.timeout.ms": "3000",
			"controller.quorum.fetch.timeout.ms": "300",
		}
		if more != nil {
			maps.Copy(settings, more(id))
		}
		c.nodes = append(c.nodes, nodetest.New(t, nodetest.Options{Settings: settings}))
	}
	return c
}

func (c *trio) start() {
	for _, n := range c.nodes {
		n.Launch()
	}
	for _, n := range c.nodes {
		n.WaitReady()
	}
}

func (c *trio) client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	var seeds []string
	for _, n := range c.nodes {
		seeds = append(seeds, n.Kafka)
	}
	k, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(50*time.Millisecond))...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(k.Close)
	return k
}

// period waits until most of a period has passed since its beginning, and gives the pages of
// the nodes that answer then, by ID.
func (c *trio) period() map[int]*page {
	c.t.Helper()
	now := time.Now()
	at := now.Truncate(wide).Add(wide * 7 / 8)
	if at.Before(now) {
		at = at.Add(wide)
	}
	timer := time.NewTimer(time.Until(at)) // not to synchronise: this is when a monitor scrapes
	<-timer.C
	pages := map[int]*page{}
	for id, n := range c.nodes {
		code, body := n.HTTP("/metrics")
		if code != 200 {
			continue
		}
		p, err := parse(body)
		if err != nil {
			c.t.Fatal(err)
		}
		pages[id] = p
	}
	return pages
}

// speakers gives the nodes that emit the series of the whole cluster.
func speakers(pages map[int]*page) (ids []int) {
	for id := range 3 {
		if p := pages[id]; p != nil && len(p.series(metric.CurrentTopics)) > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestClusterSpeaksOnce kills whoever emits the series of the cluster, twice, and looks at
// every period: exactly one node emits each, but for the one in which the kill fell, when it
// is one or none.
func TestClusterSpeaksOnce(t *testing.T) {
	c := startTrio(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	admin := kadm.NewClient(c.client())
	if _, err := admin.CreateTopic(ctx, 6, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	producer := c.client(kgo.DefaultProduceTopic("orders"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	record := bytes.Repeat([]byte("x"), 1000)
	ended := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				producer.Produce(ctx, &kgo.Record{Value: record}, nil)
			case <-stop:
				return
			}
		}
	}()
	defer func() { close(stop); <-ended }()

	c.period() // the first may have begun before all were there
	c.period()
	rates := 0
	one := func(what string) int {
		t.Helper()
		pages := c.period()
		ids := speakers(pages)
		if len(ids) != 1 {
			t.Fatalf("%s: nodes %v emit the series of the cluster", what, ids)
		}
		p := pages[ids[0]]
		if v, ok := p.series(metric.TopicBytesInRate)[onOrders]; ok {
			rates++
			if v < 20_000 || v > 150_000 { // 100 records of 1 kB a second over three leaders; fewer on a busy machine
				t.Errorf("%s: topic_bytes_in_rate is %g", what, v)
			}
		}
		for id, other := range pages {
			if (id == ids[0]) != (len(other.families[string(metric.BrokerAlive)].GetMetric()) == 3) {
				t.Errorf("%s: node %d has %d series broker_alive", what, id, len(other.families[string(metric.BrokerAlive)].GetMetric()))
			}
		}
		return ids[0]
	}
	for range 2 {
		one("all are there")
	}
	speaker := one("all are there")
	if rates == 0 {
		t.Error("topic_bytes_in_rate was never there")
	}
	for round := range 2 {
		c.nodes[speaker].Kill()
		if ids := speakers(c.period()); len(ids) > 1 {
			t.Fatalf("kill %d: nodes %v emit the series of the cluster", round, ids)
		} else {
			t.Logf("kill %d of node %d: in that very period emits %v", round, speaker, ids)
		}
		rates = 0
		next := one("the emitter was killed")
		if next == speaker {
			t.Fatalf("node %d emits and is dead", next)
		}
		for range 2 {
			if now := one("after a kill"); now != next {
				t.Errorf("node %d emits after node %d", now, next)
			}
		}
		if rates == 0 {
			t.Error("no topic_bytes_in_rate after a kill")
		}
		c.nodes[speaker].Launch()
		c.nodes[speaker].WaitReady()
		speaker = next
	}
}

const onOrders = metric.LabelTopic + "=orders"
