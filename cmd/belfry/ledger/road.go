package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// options of a client that never gives up while brokers come and go, and notices quickly that one has gone.
func options(seeds []string) []kgo.Opt {
	return []kgo.Opt{
		// Why AlwaysRetryEOF: a process that is killed between a connection's first request and its answer looks to
		// this client like one that wants TLS.
		kgo.SeedBrokers(seeds...), kgo.AlwaysRetryEOF(), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.DialTimeout(3 * time.Second), kgo.RequestTimeoutOverhead(4 * time.Second),
	}
}

// Client makes a client that never gives up while brokers come and go, and notices quickly that one has gone.
func Client(seeds []string, opts ...kgo.Opt) (*kgo.Client, error) {
	c, err := kgo.NewClient(append(options(seeds), opts...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client of %q: %w", seeds, err)
	}
	return c, nil
}

// Produce sends numbered messages until ctx ends, at most perSecond of them (0 = no limit); each producer numbers its
// own. They are sent once: what fails is not sent again by us, only by the client, which must never give up.
func (l *Ledger) Produce(ctx context.Context, seeds []string, name string, perSecond int, opts ...kgo.Opt) {
	c, err := Client(seeds, append([]kgo.Opt{kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(time.Millisecond),
		kgo.MaxBufferedRecords(500), kgo.ProduceRequestTimeout(4 * time.Second)}, opts...)...)
	if err != nil {
		l.Find(Refused, "%s: %v", name, err)
		return
	}
	defer c.Close()
	pace := pacer(ctx, perSecond)
	for i := 0; pace(); i++ {
		c.Produce(ctx, &kgo.Record{Topic: l.Topic, Value: l.Value(name, i)}, func(r *kgo.Record, err error) {
			switch {
			case err == nil:
				l.Note(r.Partition, r.Offset, name, i)
			case ctx.Err() == nil && l.strength(name) != Weak: // later the client ends with whatever it met last, as it is told to stop
				l.Find(Refused, "the client gave up on number %d of %s: %v", i, name, err)
			}
		})
	}
}

func (l *Ledger) strength(name string) Strength {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.strength[name]
}

// pacer gives a function that waits for the next message's turn; false: ctx has ended.
func pacer(ctx context.Context, perSecond int) func() bool {
	if perSecond == 0 {
		return func() bool { return ctx.Err() == nil }
	}
	next := time.Now()
	t := time.NewTimer(0)
	return func() bool {
		next = next.Add(time.Second / time.Duration(perSecond))
		if behind := time.Since(next); behind > time.Second {
			next = time.Now() // what was missed while nobody listened is not made good for
		}
		t.Reset(time.Until(next))
		select {
		case <-t.C:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}
}

// Follow reads all partitions from their beginning until ctx ends, without a group.
func (l *Ledger) Follow(ctx context.Context, seeds []string, who string, opts ...kgo.Opt) (read int) {
	from := map[int32]kgo.Offset{}
	for p := range l.Partitions {
		from[p] = kgo.NewOffset().At(0)
	}
	c, err := Client(seeds, append([]kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset())}, append(l.isolation(), opts...)...)...)
	if err != nil {
		l.Find(Refused, "%s: %v", who, err)
		return 0
	}
	defer c.Close()
	r := l.Read(who)
	l.poll(ctx, c, r, nil)
	return r.Count()
}

func (l *Ledger) poll(ctx context.Context, c *kgo.Client, own *Reading, shared *Shared) {
	for {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		r := own
		if shared != nil {
			shared.mu.Lock()
			r = shared.r
		}
		for _, e := range fetches.Errors() {
			if session := new(kgo.ErrGroupSession); !errors.As(e.Err, &session) {
				l.Find(Refused, "%s cannot read partition %d: %v", r.Who, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(r.give)
		if shared != nil {
			shared.mu.Unlock()
			c.MarkCommitRecords(fetches.Records()...)
			c.AllowRebalance()
		}
	}
}

// give takes what a client of ours reads: messages, and the markers of a ledger with holes.
func (r *Reading) give(rec *kgo.Record) {
	if rec.Attrs.IsControl() {
		r.Marker(rec.Partition, rec.Offset)
		return
	}
	r.take(rec.Partition, rec.Offset, rec.Value, stamp{rec.ProducerID, rec.ProducerEpoch})
}

// isolation is how this ledger's topic is read.
func (l *Ledger) isolation() []kgo.Opt {
	if !l.Holes {
		return nil
	}
	// Why the markers: a partition often ends with one, and a reader of all wants to know that it is there.
	return []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()}
}

// Ends gives where the partitions end now, as their leaders say: the high watermarks.
func (l *Ledger) Ends(ctx context.Context, c *kgo.Client) ([]int64, error) {
	listed, err := kadm.NewClient(c).ListEndOffsets(ctx, l.Topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list ends of %s: %w", l.Topic, err)
	}
	ends := make([]int64, l.Partitions)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// Stable tells whether no transaction is open, so that the last stable offsets are the ends; open names one that is not.
func (l *Ledger) Stable(ctx context.Context, c *kgo.Client) (open string, err error) {
	ends, err := l.Ends(ctx, c)
	if err != nil {
		return "", err
	}
	listed, err := kadm.NewClient(c).ListCommittedOffsets(ctx, l.Topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return "", fmt.Errorf("cannot list last stable offsets of %s: %w", l.Topic, err)
	}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Offset < ends[o.Partition] {
			open = fmt.Sprintf("partition %d ends at %d and is stable up to %d", o.Partition, ends[o.Partition], o.Offset)
		}
	})
	return open, nil
}

// Verify reads everything back from the beginning and compares. Nobody may produce meanwhile.
// It gives how many acknowledged messages of weak producers are gone.
//
// Errors: only when it could not read; what is wrong is a finding.
func (l *Ledger) Verify(ctx context.Context, seeds []string, who string) (weakLost int, err error) {
	r, ends, err := l.readAll(ctx, seeds, who)
	if err != nil {
		return 0, err
	}
	return r.End(ends), nil
}

// ReadOnce reads everything that is there now from the beginning and compares, while others produce. The client looks
// at no check sum: that is for the nodes to do. What cannot be read is a finding, too.
func (l *Ledger) ReadOnce(ctx context.Context, seeds []string, who string) {
	if _, _, err := l.readAll(ctx, seeds, who, kgo.DisableFetchCRCValidation()); err != nil {
		l.Find(Unread, "%s: %v", who, err)
	}
}

// TryReadOnce is ReadOnce by a client that looks at check sums; what is wrong is a finding, that something cannot be read
// an error.
func (l *Ledger) TryReadOnce(ctx context.Context, seeds []string, who string) error {
	_, _, err := l.readAll(ctx, seeds, who)
	return err
}

func (l *Ledger) readAll(ctx context.Context, seeds []string, who string, opts ...kgo.Opt) (r *Reading, ends []int64, err error) {
	from := map[int32]kgo.Offset{}
	for p := range l.Partitions {
		from[p] = kgo.NewOffset().At(0)
	}
	c, err := Client(seeds, append([]kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset())}, append(l.isolation(), opts...)...)...)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	if ends, err = l.endsInTime(ctx, c); err != nil {
		return nil, nil, err
	}
	r = l.Read(who)
	for slices.ContainsFunc(zip(r.Next, ends), func(p [2]int64) bool { return p[0] < p[1] }) {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("cannot read %s back: read up to %v of %v: %w", l.Topic, r.Next, ends, ctx.Err())
		}
		fetches.EachRecord(r.give)
		for _, e := range fetches.Errors() {
			return nil, nil, fmt.Errorf("cannot read %s back: read up to %v of %v: partition %d: %w", l.Topic, r.Next, ends, e.Partition, e.Err)
		}
	}
	return r, ends, nil
}

// endsInTime is Ends once all leaders know them: a new one says for a moment that it does not.
func (l *Ledger) endsInTime(ctx context.Context, c *kgo.Client) ([]int64, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ends, err := l.Ends(ctx, c)
		if err == nil || !kerr.IsRetriable(err) {
			return ends, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func zip(a, b []int64) [][2]int64 {
	var z [][2]int64
	for i := range a {
		z = append(z, [2]int64{a[i], b[i]})
	}
	return z
}
