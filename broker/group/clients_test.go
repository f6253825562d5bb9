package group_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// crowd is real consumers that come and go in one group, and what they saw.
type crowd struct {
	t    *testing.T
	addr string

	mu   sync.Mutex
	seen map[string]int
	left int // produced and not seen
}

// TestConsumersComeAndGo has members of one group, static and dynamic ones, eager and
// cooperative ones in turn, join and leave while records are produced. Each record is
// consumed, and what was consumed was committed.
func TestConsumersComeAndGo(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{
		"eager": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer(),
	} {
		t.Run(name, func(t *testing.T) {
			b := brokertest.Start(t)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			producer, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			admin := kadm.NewClient(producer)
			if _, err := admin.CreateTopic(ctx, 4, 1, nil, "t"); err != nil {
				t.Fatal(err)
			}
			c := &crowd{t: t, addr: b.Addr(), seen: make(map[string]int)}
			var consumers sync.WaitGroup
			for n := range 4 {
				consumers.Go(func() {
					for life := range 3 {
						c.consume(ctx, n, balancer, time.Duration(300+150*((n+life)%4))*time.Millisecond)
					}
				})
			}
			c.produce(ctx, producer, &consumers)
			c.consume(ctx, 1, balancer, time.Minute)
			if c.left > 0 {
				t.Errorf("%d of %d records were never consumed", c.left, len(c.seen))
			}
			lags, err := admin.Lag(ctx, "g")
			if lag := lags["g"]; err != nil || lag.Error() != nil || lag.Lag.Total() != 0 {
				t.Errorf("lag is %d, %v, %v; want 0", lag.Lag.Total(), err, lag.Error())
			}
		})
	}
}

// produce writes records until the consumers have lived their lives.
func (c *crowd) produce(ctx context.Context, client *kgo.Client, consumers *sync.WaitGroup) {
	over := make(chan struct{})
	go func() { consumers.Wait(); close(over) }()
	for i := 0; ; i++ {
		v := fmt.Sprint(i)
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: []byte(v), Value: []byte(v)}).FirstErr(); err != nil {
			c.t.Error(err)
			<-over
			return
		}
		c.mu.Lock()
		if _, early := c.seen[v]; !early {
			c.seen[v] = 0
			c.left++
		}
		c.mu.Unlock()
		select {
		case <-over:
			return
		default:
		}
	}
}

// consume is one consumer's life: until its time is up or, for a long one, until nothing is left.
func (c *crowd) consume(ctx context.Context, n int, balancer kgo.GroupBalancer, life time.Duration) {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.addr), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(50 * time.Millisecond), kgo.AutoCommitInterval(100 * time.Millisecond), kgo.AutoCommitMarks(),
	}
	if n == 1 { // also the last one to live: it takes its own place over
		options = append(options, kgo.InstanceID(fmt.Sprint("static", n)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer client.Close()
	alive, end := context.WithTimeout(ctx, life)
	defer end()
	for alive.Err() == nil && (life < time.Minute || c.unseen() > 0) {
		client.PollFetches(alive).EachRecord(func(r *kgo.Record) {
			c.see(string(r.Value))
			client.MarkCommitRecords(r)
		})
	}
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		c.t.Log("the last commit of a life was refused:", err)
	}
}

func (c *crowd) see(v string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, produced := c.seen[v]; produced && n == 0 {
		c.left--
	}
	c.seen[v]++
}

func (c *crowd) unseen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}
