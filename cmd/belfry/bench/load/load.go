// Package load is the client side of the measurements: it produces, consumes and measures times
// with franz-go, at full speed or at a fixed rate, and holds idle connections.
//
// It does not know whom it talks to. Nothing is retried into the figures: a message that fails
// fails the measurement.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka is a Kafka-compatible broker at an address, or a cluster.
type Kafka struct {
	Addr     string
	Others   []string // addresses of a cluster's other brokers
	Replicas int      // of each partition of the topics that are made; 0 = 1
}

// Amount is how much went through in how long.
type Amount struct {
	Bytes int64 // of values, uncompressed
	Took  time.Duration
}

// Rate gives MB/s.
func (a Amount) Rate() float64 { return float64(a.Bytes) / 1e6 / a.Took.Seconds() }

// Gigabytes gives the amount in GB.
func (a Amount) Gigabytes() float64 { return float64(a.Bytes) / 1e9 }

// Times are sorted.
type Times []time.Duration

// Quantile gives the q-quantile in milliseconds, 0 of nothing.
func (t Times) Quantile(q float64) float64 {
	if len(t) == 0 {
		return 0
	}
	return float64(t[min(int(q*float64(len(t))), len(t)-1)].Microseconds()) / 1000
}

// pause is how soon a client asks again after its n-th failure. Why so soon at first: the default
// of a quarter of a second would be measured instead of the broker. Why later later: a broker that
// makes thousands of partitions must not be busy with answers that it is not ready.
func pause(n int) time.Duration { return min(5*time.Millisecond<<min(n, 10), 250*time.Millisecond) }

func (k Kafka) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(append([]string{k.Addr}, k.Others...)...), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(pause),
	}, opts...)...)
}

// Create makes a topic and waits until each partition answers.
func (k Kafka) Create(ctx context.Context, topic string, partitions int, settings map[string]string) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	defer c.Close()
	configs := map[string]*string{}
	for name, v := range settings {
		configs[name] = &v
	}
	a := kadm.NewClient(c)
	a.SetTimeoutMillis(60_000)
	if _, err := a.CreateTopic(ctx, int32(partitions), int16(max(k.Replicas, 1)), configs, topic); err != nil {
		return fmt.Errorf("cannot create topic %q: %w", topic, err)
	}
	_, err = k.await(ctx, a, topic)
	return err
}

// Await waits until every partition of a topic tells its end and gives their sum in messages.
func (k Kafka) Await(ctx context.Context, topic string) (int64, error) {
	c, err := k.client()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return k.await(ctx, kadm.NewClient(c), topic)
}

// awaitLimit is the longest that partitions may take to be there.
const awaitLimit = 5 * time.Minute

func (k Kafka) await(ctx context.Context, a *kadm.Client, topic string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, awaitLimit)
	defer cancel()
	// Why steps of a quarter: the time until a broker is ready is measured this way.
	for wait := 5 * time.Millisecond; ; wait = min(wait*5/4, 250*time.Millisecond) {
		ends, err := a.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err == nil && len(ends[topic]) > 0 {
			var sum int64
			ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
			return sum, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("cannot find the ends of topic %q: %w (%w)", topic, context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// Delete removes a topic.
func (k Kafka) Delete(ctx context.Context, topic string) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("cannot delete topic %q: %w", topic, err)
	}
	return nil
}

// Commit has groups commit offset 0 of all partitions of their topics.
func (k Kafka) Commit(ctx context.Context, group string, partitions int, topics ...string) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	defer c.Close()
	var all kadm.Offsets
	for _, t := range topics {
		for p := range partitions {
			all.AddOffset(t, int32(p), 0, -1)
		}
	}
	for n := 0; ; n++ {
		err := kadm.NewClient(c).CommitAllOffsets(ctx, group, all)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !retriable(err) {
			return fmt.Errorf("cannot commit for group %q: %w", group, err)
		}
		time.Sleep(pause(n))
	}
}

// Values gives messages of n bytes that look like lines of a log: words and numbers, none
// like the other. lz4 brings them to about half.
func Values(n int) [][]byte {
	words := []string{"request", "response", "user", "order", "created", "updated", "status", "duration", "info", "warn", "connection", "timeout", "from", "to", "payment", "stock"}
	r := rand.New(rand.NewPCG(1, 2)) // Why fixed seeds: every peer and round gets the same
	vs := make([][]byte, 1024)
	for i := range vs {
		b := make([]byte, 0, n+64)
		for len(b) < n {
			b = fmt.Appendf(b, "%s=%x %s ", words[r.IntN(len(words))], r.Uint64N(1<<28), words[r.IntN(len(words))])
		}
		vs[i] = b[:n]
	}
	return vs
}

func sorted(ts []time.Duration) Times {
	slices.Sort(ts)
	return ts
}

// errNothing says that a consumer waited in vain.
var errNothing = errors.New("cannot consume: nothing came for half a minute")
