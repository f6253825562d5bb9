package stats

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
)

// Reading is what the counters said at one moment. Counters grow from one
// reading to the next as long as the process lives; a topic that was deleted and
// made again starts at 0.
type Reading struct {
	BytesIn, BytesOut, MessagesIn uint64 // of all topics that ever were

	Topics    []TopicReading    // by name
	Requests  []RequestReading  // by API key
	Listeners []ListenerReading // by name

	Replication ReplicationReading

	Flushes, FlushErrors uint64
	FlushTime            time.Duration
	DeletedBytes         map[string]uint64 // by reason
	Corruptions          map[string]uint64 // by place
	Dirs                 map[string]bool   // online, by path
	DirFailures          map[string]string // why a directory is offline, by path
	Spoiled              []SpoiledReplica  // by topic and partition
	Refetched            uint64            // damaged replicas that were begun anew
}

// TopicReading is one topic's counters.
type TopicReading struct {
	Name                                      string
	BytesIn, BytesOut, MessagesIn             uint64
	ProduceRequests, FetchRequests            uint64
	FailedProduce, FailedFetch, RejectedBytes uint64
}

// RequestReading is what one Kafka API answered.
type RequestReading struct {
	Key               int16 // −1: keys that nobody knows
	API               string
	Count, Failed     uint64
	Local, Total      time.Duration // summed over all requests
	BytesIn, BytesOut uint64
}

// ListenerReading is one listener's counters.
type ListenerReading struct {
	Name              string
	Public            bool
	Connections       int64 // open now
	Accepted, Refused uint64
	BytesIn, BytesOut uint64
}

// Request gives the reading of one API; the zero value when it was never asked.
func (r Reading) Request(key int16) RequestReading {
	for _, q := range r.Requests {
		if q.Key == key {
			return q
		}
	}
	return RequestReading{Key: key}
}

// Read gives all numbers as they are now. Not one moment for all: a request that
// is being counted may be in one number and not yet in another.
func (b *Broker) Read() Reading {
	if b == nil {
		return Reading{}
	}
	r := Reading{
		BytesIn:     b.sums.bytesIn.Get(),
		BytesOut:    b.sums.bytesOut.Get(),
		MessagesIn:  b.sums.messagesIn.Get(),
		Flushes:     uint64(b.sums.flushes.Load()),
		FlushErrors: b.sums.flushErrors.Get(),
		FlushTime:   time.Duration(b.sums.flushNanos.Load()),
		Requests:    b.readRequests(),
		Replication: b.replication.read(),
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for name, t := range b.mu.topics {
		r.Topics = append(r.Topics, t.read(name))
	}
	for name, l := range b.mu.listeners {
		r.Listeners = append(r.Listeners, l.read(name))
	}
	slices.SortFunc(r.Topics, func(x, y TopicReading) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(r.Listeners, func(x, y ListenerReading) int { return strings.Compare(x.Name, y.Name) })
	r.DeletedBytes = values(b.mu.deleted)
	r.Corruptions = values(b.mu.damaged)
	r.Dirs, r.DirFailures = maps.Clone(b.mu.dirs), maps.Clone(b.mu.why)
	r.Spoiled, r.Refetched = slices.Collect(maps.Values(b.mu.spoiled)), b.mu.refetched
	slices.SortFunc(r.Spoiled, func(x, y SpoiledReplica) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	return r
}

func (b *Broker) readRequests() []RequestReading {
	var all []RequestReading
	for i := range b.apis {
		a := b.apis[i].Load()
		if a == nil {
			continue
		}
		key := int16(i)
		if i > maxAPIKey {
			key = -1
		}
		all = append(all, RequestReading{
			Key: key, API: a.name,
			Count: uint64(a.count.Load()), Failed: uint64(a.failed.Load()),
			Local: time.Duration(a.localNano.Load()), Total: time.Duration(a.totalNanos.Load()),
			BytesIn: a.bytesIn.Get(), BytesOut: a.bytesOut.Get(),
		})
	}
	return all
}

func (t *Topic) read(name string) TopicReading {
	return TopicReading{
		Name:    name,
		BytesIn: t.own.bytesIn.Get(), BytesOut: t.own.bytesOut.Get(), MessagesIn: t.own.messagesIn.Get(),
		ProduceRequests: t.own.produce.Get(), FetchRequests: t.own.fetch.Get(),
		FailedProduce: t.own.failedProduce.Get(), FailedFetch: t.own.failedFetch.Get(),
		RejectedBytes: t.own.rejected.Get(),
	}
}

func (l *Listener) read(name string) ListenerReading {
	return ListenerReading{
		Name: name, Public: l.public,
		Connections: int64(l.own.open.Get()),
		Accepted:    l.own.accepted.Get(), Refused: l.own.refused.Get(),
		BytesIn: l.own.bytesReceived.Get(), BytesOut: l.own.bytesSent.Get(),
	}
}

func values(m map[string]*vm.Counter) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for k, c := range m {
		out[k] = c.Get()
	}
	return out
}
