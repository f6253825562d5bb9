package null

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// records is a batch of a size with as many records; only its head counts here.
func records(n, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b[23:], uint32(n-1))
	return b
}

func fetchOf(topic string, offset int64) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.MaxWaitMillis = 500
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset = offset
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

// TestQueue hands batches on in order, each until the reader asks for what follows it.
func TestQueue(t *testing.T) {
	var qs queues
	qs.create("q", 1)
	q := qs.topic("q")
	if first, second := q.add(0, records(3, 100)), q.add(0, records(2, 200)); first != 0 || second != 3 || q.end(0) != 5 {
		t.Errorf("offsets %d, %d, end %d", first, second, q.end(0))
	}
	for _, c := range []struct {
		offset int64
		most   int
		bases  []int64
	}{{0, 1000, []int64{0, 3}}, {0, 10, []int64{0}}, {2, 150, []int64{0}}, {3, 1000, []int64{3}}, {0, 1000, []int64{3}}, {5, 1000, nil}} {
		bs, end := q.take(0, c.offset, c.most)
		if end != 5 || len(bs) != len(c.bases) {
			t.Fatalf("from %d: %d batches, end %d", c.offset, len(bs), end)
		}
		for i, b := range bs {
			if b.base != c.bases[i] {
				t.Errorf("from %d: offset %d, want %d", c.offset, b.base, c.bases[i])
			}
		}
	}
	if q.bytes != 0 {
		t.Errorf("%d bytes are held that the reader has", q.bytes)
	}
	if qs.waits(fetchOf("other", 0)) != nil || qs.waits(fetchOf("q", 4)) != nil || qs.waits(fetchOf("q", 5)) == nil {
		t.Error("waits for the wrong things")
	}
}

// TestQueueWaits has a reader wait for a producer, and a producer for a reader.
func TestQueueWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var qs queues
		qs.create("q", 1)
		q := qs.topic("q")
		came := false
		go func() {
			qs.waits(fetchOf("q", 0))(t.Context())
			came = true
		}()
		synctest.Wait()
		if came {
			t.Fatal("the reader did not wait")
		}
		var sent int64
		go func() {
			for range 3 {
				q.add(0, records(1, queueBytes/2+1))
				sent++
			}
		}()
		synctest.Wait()
		if !came || sent != 2 {
			t.Fatalf("the reader came: %t, %d batches were sent", came, sent)
		}
		q.take(0, 1, 1)
		synctest.Wait()
		if sent != 3 {
			t.Error("the producer did not go on")
		}
		go q.add(0, records(1, 100))
		synctest.Wait()
		qs.drop("q") // ends who waits
		if qs.topic("q") != nil {
			t.Error("it is still there")
		}
	})
}
