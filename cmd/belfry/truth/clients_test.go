package truth

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/metric"
)

// wires counts what goes over clients' connections, at the socket.
type wires struct {
	open    atomic.Int64
	in, out atomic.Int64 // bytes to and from the broker
}

// dial makes a connection that is counted until it is closed.
func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.open.Add(1)
	return &counted{Conn: c, w: w}, nil
}

type counted struct {
	net.Conn
	w    *wires
	once sync.Once
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.w.out.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.w.in.Add(int64(n))
	return n, err
}

func (c *counted) Close() error {
	c.once.Do(func() { c.w.open.Add(-1) })
	return c.Conn.Close()
}

// stopwatch is the clients' own timing of their requests, by API key.
type stopwatch struct {
	mu  sync.Mutex
	all map[int16]timing
}

type timing struct {
	n            int
	sum, longest float64 // ms
}

// OnBrokerE2E notes one request.
func (s *stopwatch) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := float64(e.DurationE2E()) / float64(time.Millisecond)
	t := s.all[key]
	s.all[key] = timing{t.n + 1, t.sum + ms, max(t.longest, ms)}
}

func (s *stopwatch) of(key int16) timing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[key]
}

type tp struct {
	topic     string
	partition int32
}

// ledger is what clients produced, deleted and committed.
type ledger struct {
	t             *testing.T
	plain, public string // addresses
	wires, pub    *wires // of all connections, and of those to the public listener
	times         *stopwatch
	client        *kgo.Client
	admin         *kadm.Client

	start, end map[tp]int64
	commits    map[string]map[tp]int64
}

func open(t *testing.T, plain, public string) *ledger {
	l := &ledger{t: t, plain: plain, public: public, wires: &wires{}, pub: &wires{}, times: &stopwatch{all: map[int16]timing{}},
		start: map[tp]int64{}, end: map[tp]int64{}, commits: map[string]map[tp]int64{}}
	l.client = l.connect(kgo.NoCompression())
	l.admin = kadm.NewClient(l.client)
	return l
}

// connect makes a client of the plain listener that is closed with the test.
func (l *ledger) connect(codec kgo.CompressionCodec, o ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	base := []kgo.Opt{kgo.SeedBrokers(l.plain), kgo.Dialer(l.wires.dial), kgo.WithHooks(l.times), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.FetchMaxWait(300 * time.Millisecond), kgo.DisableClientMetrics()}
	c, err := kgo.NewClient(append(base, o...)...)
	l.must(err)
	l.t.Cleanup(c.Close)
	return c
}

func (l *ledger) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledger) create(topic string, partitions int32) {
	l.t.Helper()
	_, err := l.admin.CreateTopic(l.t.Context(), partitions, 1, nil, topic)
	l.must(err)
	for p := range partitions {
		l.start[tp{topic, p}], l.end[tp{topic, p}] = 0, 0
	}
}

// produce sends n records of a text that codecs can shorten.
func (l *ledger) produce(c *kgo.Client, topic string, partition int32, n int) {
	l.t.Helper()
	var all []*kgo.Record
	for i := range n {
		all = append(all, &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, "%0400d", i)})
	}
	l.must(c.ProduceSync(l.t.Context(), all...).FirstErr())
	l.end[tp{topic, partition}] += int64(n)
}

func (l *ledger) commit(group, topic string, partition int32, offset int64) {
	l.t.Helper()
	var o kadm.Offsets
	o.AddOffset(topic, partition, offset, -1)
	l.must(l.admin.CommitAllOffsets(l.t.Context(), group, o))
	l.committed(group, tp{topic, partition}, offset)
}

func (l *ledger) committed(group string, p tp, offset int64) {
	if l.commits[group] == nil {
		l.commits[group] = map[tp]int64{}
	}
	l.commits[group][p] = offset
}

func (l *ledger) deleteBefore(topic string, partition int32, offset int64) {
	l.t.Helper()
	_, err := l.admin.DeleteRecords(l.t.Context(), kadm.Offsets{topic: {partition: {Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1}}})
	l.must(err)
	l.start[tp{topic, partition}] = offset
}

// consume lets two members of a group share topics until each partition is consumed to its
// end and committed; then they leave.
func (l *ledger) consume(group string, topics ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	var members sync.WaitGroup
	trouble := make(chan error, 2)
	for range 2 {
		c := l.connect(kgo.NoCompression(), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200*time.Millisecond), kgo.RebalanceTimeout(10*time.Second))
		members.Go(func() {
			defer c.Close()
			for !l.through(ctx, group, topics) {
				short, done := context.WithTimeout(ctx, 500*time.Millisecond)
				c.PollFetches(short)
				done()
				if err := c.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() != nil {
					trouble <- err
					return
				}
			}
		})
	}
	members.Wait()
	close(trouble)
	for err := range trouble {
		l.t.Fatalf("group %q did not come to the end: %v", group, err)
	}
	for p, end := range l.end {
		if slices.Contains(topics, p.topic) {
			l.committed(group, p, end)
		}
	}
}

// through tells whether a group has committed the end of every partition.
func (l *ledger) through(ctx context.Context, group string, topics []string) bool {
	have, err := l.admin.FetchOffsets(ctx, group)
	if err != nil {
		return ctx.Err() != nil
	}
	for p, end := range l.end {
		if o, ok := have.Lookup(p.topic, p.partition); slices.Contains(topics, p.topic) && (!ok || o.At != end) {
			return false
		}
	}
	return true
}

func (l *ledger) deleteTopic(name string) {
	l.t.Helper()
	_, err := l.admin.DeleteTopics(l.t.Context(), name)
	l.must(err)
	for _, m := range []map[tp]int64{l.start, l.end} {
		maps.DeleteFunc(m, func(p tp, _ int64) bool { return p.topic == name })
	}
	for _, m := range l.commits {
		maps.DeleteFunc(m, func(p tp, _ int64) bool { return p.topic == name })
	}
}

func (l *ledger) deleteGroup(name string) {
	l.t.Helper()
	_, err := l.admin.DeleteGroups(l.t.Context(), name)
	l.must(err)
	delete(l.commits, name)
}

// facts gives every series that follows from what clients did, and no other.
func (l *ledger) facts(internal bool) map[metric.ID]map[string]float64 {
	all := map[metric.ID]map[string]float64{}
	add := func(shown bool, id metric.ID, labels string, v float64) {
		if all[id] == nil {
			all[id] = map[string]float64{}
		}
		if shown {
			all[id][labels] += v
		}
	}
	show := func(name string) bool { return internal || name[0] != '_' && name[0] != '#' }
	topics := map[string]bool{}
	for p, end := range l.end {
		topics[p.topic] = true
		t := "kafka_topics=" + p.topic
		one := fmt.Sprintf("kafka_partitions=%d %s", p.partition, t)
		held := float64(end - l.start[p])
		add(true, metric.CurrentPartitions, "", 1)
		add(show(p.topic), metric.PartitionMessages, one, held)
		add(show(p.topic), metric.ProducedMessages, one, float64(end))
		add(show(p.topic), metric.TopicMessages, t, held)
	}
	add(true, metric.CurrentTopics, "", float64(len(topics)))
	for group, commits := range l.commits {
		for p, at := range commits {
			lag := float64(max(l.end[p]-max(at, l.start[p]), 0))
			g, t := "kafka_groups="+group, " kafka_topics="+p.topic
			one := fmt.Sprintf("%s kafka_partitions=%d%s", g, p.partition, t)
			both := show(group) && show(p.topic)
			add(true, metric.GroupMsgs, "", lag)
			add(both, metric.MessagesConsumed, one, float64(at))
			add(both, metric.MessagesRemained, one, lag)
			add(both, metric.TopicMessagesConsumed, g+t, float64(at))
			add(both, metric.TopicMessagesRemained, g+t, lag)
			add(show(group), metric.ConsumerMessagesConsumed, g, float64(at))
			add(show(group), metric.ConsumerMessagesRemained, g, lag)
		}
	}
	return all
}

// tally counts what a consumer has read so far, until the consumer is closed.
type tally struct{ n atomic.Int64 }

// count lets a consumer read.
func count(t *testing.T, c *kgo.Client) *tally {
	y := &tally{}
	over := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			y.n.Add(int64(c.PollFetches(ctx).NumRecords()))
		}
	}()
	t.Cleanup(func() { cancel(); <-over })
	return y
}
