package null

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// queueBytes is what a queue holds that its reader has not taken. Then its producers wait.
const queueBytes = 256 << 20

// queues are the topics whose messages are handed on.
type queues struct {
	mu     sync.Mutex
	topics map[string]*queue
}

func (q *queues) create(topic string, partitions int) {
	t := &queue{parts: make([]part, partitions), arrived: make(chan struct{})}
	t.room.L = &t.mu
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.topics == nil {
		q.topics = map[string]*queue{}
	}
	q.topics[topic] = t
}

func (q *queues) drop(topic string) {
	if t := q.topic(topic); t != nil {
		t.close()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.topics, topic)
}

// topic gives nil for one that is no queue.
func (q *queues) topic(name string) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.topics[name]
}

// queue is a topic with one reader.
type queue struct {
	mu      sync.Mutex
	room    sync.Cond // the reader has taken something
	parts   []part
	bytes   int
	arrived chan struct{} // closed when something comes
	closed  bool
}

type part struct {
	batches []batch
	next    int64    // offset
	free    [][]byte // of batches that the reader has
}

// batch is a message set with the offset that it is sent with instead of its first eight bytes.
type batch struct {
	base int64
	rest []byte
}

func (b batch) end() int64 {
	const lastOffsetDelta = 23 - 8 // Source: Kafka's message format 2
	return b.base + int64(binary.BigEndian.Uint32(b.rest[lastOffsetDelta:])) + 1
}

// add copies a checked batch and gives its offset. It waits while the queue is full.
func (q *queue) add(partition int32, records []byte) int64 {
	q.mu.Lock()
	for q.bytes > queueBytes && !q.closed {
		q.room.Wait()
	}
	p := &q.parts[partition]
	var buf []byte
	if n := len(p.free); n > 0 {
		buf, p.free = p.free[n-1], p.free[:n-1]
	}
	q.mu.Unlock()
	buf = append(buf[:0], records[8:]...)
	q.mu.Lock()
	defer q.mu.Unlock()
	b := batch{p.next, buf}
	p.batches, p.next = append(p.batches, b), b.end()
	q.bytes += len(records)
	close(q.arrived)
	q.arrived = make(chan struct{})
	return b.base
}

// take gives batches from an offset on, at least one if there is any, and the end. What is before
// the offset has arrived at the reader and is forgotten.
func (q *queue) take(partition int32, offset int64, most int) (bs []batch, end int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &q.parts[partition]
	n := 0
	for n < len(p.batches) && p.batches[n].end() <= offset {
		q.bytes -= 8 + len(p.batches[n].rest)
		p.free = append(p.free, p.batches[n].rest)
		n++
	}
	if n > 0 {
		p.batches = append(p.batches[:0], p.batches[n:]...)
		q.room.Broadcast()
	}
	for _, b := range p.batches {
		if most -= 8 + len(b.rest); most < 0 && len(bs) > 0 {
			break
		}
		bs = append(bs, b)
	}
	return bs, p.next
}

func (q *queue) end(partition int32) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.parts[partition].next
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.room.Broadcast()
}

// has tells whether there is something for a fetch, or gives a channel that is closed when something comes.
func (q *queue) has(t kmsg.FetchRequestTopic) (bool, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range t.Partitions {
		if q.parts[p.Partition].next > p.FetchOffset {
			return true, nil
		}
	}
	return false, q.arrived
}

// waits gives what to wait for before a fetch is answered; nil: nothing.
func (q *queues) waits(f *kmsg.FetchRequest) func(context.Context) {
	if len(f.Topics) != 1 {
		return nil
	}
	t := q.topic(f.Topics[0].Topic)
	if t == nil {
		return nil
	}
	if some, _ := t.has(f.Topics[0]); some {
		return nil
	}
	return func(ctx context.Context) {
		over := time.NewTimer(time.Duration(f.MaxWaitMillis) * time.Millisecond)
		defer over.Stop()
		for {
			some, arrived := t.has(f.Topics[0])
			if some {
				return
			}
			select {
			case <-arrived:
			case <-over.C:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}
