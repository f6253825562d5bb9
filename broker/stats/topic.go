package stats

import vm "github.com/VictoriaMetrics/metrics"

// Topic counts one topic's client traffic (replication is not in it).
type Topic struct {
	BytesIn, BytesOut, MessagesIn  Counter // as sent on the wire, batches compressed
	ProduceRequests, FetchRequests Counter
	FailedProduce, FailedFetch     Counter
	RejectedBytes                  Counter

	own struct{ bytesIn, bytesOut, messagesIn, produce, fetch, failedProduce, failedFetch, rejected *vm.Counter }
}

// families of a topic's counters, in the order of TopicReading.
func topicFamilies() [8]string {
	return [8]string{
		"belfry_topic_in_bytes_total",
		"belfry_topic_out_bytes_total",
		"belfry_topic_in_messages_total",
		"belfry_topic_produce_requests_total",
		"belfry_topic_fetch_requests_total",
		"belfry_topic_failed_produce_requests_total",
		"belfry_topic_failed_fetch_requests_total",
		"belfry_topic_rejected_bytes_total",
	}
}

// Topic gives the numbers of one topic, made on first use. Callers keep the pointer (one map look-up a partition's life, none a request).
//
// What is added through a pointer that outlives DropTopic still counts in the
// broker's sums, and in nothing else. A nil Broker gives a Topic that counts
// nothing.
func (b *Broker) Topic(name string) *Topic {
	if b == nil {
		return &Topic{
			BytesIn: nothing{}, BytesOut: nothing{}, MessagesIn: nothing{},
			ProduceRequests: nothing{}, FetchRequests: nothing{},
			FailedProduce: nothing{}, FailedFetch: nothing{}, RejectedBytes: nothing{},
		}
	}
	b.mu.RLock()
	t := b.mu.topics[name]
	b.mu.RUnlock()
	if t != nil {
		return t
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.mu.topics[name]; t != nil {
		return t
	}
	t = b.newTopicLocked(name)
	b.mu.topics[name] = t
	return t
}

func (b *Broker) newTopicLocked(name string) *Topic {
	var c [8]*vm.Counter
	for i, family := range topicFamilies() {
		c[i] = b.set.NewCounter(series(family, labelTopic, name))
	}
	t := &Topic{
		BytesIn:         both{c[0], b.sums.bytesIn},
		BytesOut:        both{c[1], b.sums.bytesOut},
		MessagesIn:      both{c[2], b.sums.messagesIn},
		ProduceRequests: count{c[3]},
		FetchRequests:   count{c[4]},
		FailedProduce:   count{c[5]},
		FailedFetch:     count{c[6]},
		RejectedBytes:   count{c[7]},
	}
	t.own.bytesIn, t.own.bytesOut, t.own.messagesIn = c[0], c[1], c[2]
	t.own.produce, t.own.fetch, t.own.failedProduce = c[3], c[4], c[5]
	t.own.failedFetch, t.own.rejected = c[6], c[7]
	return t
}

// DropTopic forgets a deleted topic: its series vanish.
func (b *Broker) DropTopic(name string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.topics[name] == nil {
		return
	}
	delete(b.mu.topics, name)
	for _, family := range topicFamilies() {
		b.set.UnregisterMetric(series(family, labelTopic, name))
	}
}
