// Package stats is what the broker says about itself.
package stats

import "time"

// Counter only grows; Add never waits.
type Counter interface{ Add(int) }

// Gauge moves both ways.
type Gauge interface {
	Add(float64)
	Set(float64)
}

// Broker is the whole of it; safe for concurrent use.
type Broker struct{}

// New makes an empty set.
func New() *Broker { panic("BUG: unbuilt") }

// Topic gives the numbers of one topic, made on first use. Callers keep the pointer (one map look-up a partition's life, none a request).
func (b *Broker) Topic(name string) *Topic { panic("BUG: unbuilt") }

// DropTopic forgets a deleted topic: its series vanish.
func (b *Broker) DropTopic(name string) { panic("BUG: unbuilt") }

// Topic counts one topic's client traffic (replication is not in it).
type Topic struct {
	BytesIn, BytesOut, MessagesIn  Counter // as sent on the wire, batches compressed
	ProduceRequests, FetchRequests Counter
	FailedProduce, FailedFetch     Counter
	RejectedBytes                  Counter
}

// Request notes one answered request: its API key, its error code (0 none), queue+work+wait time.
func (b *Broker) Request(key int16, code int16, bytesIn, bytesOut int, local, total time.Duration) {
	panic("BUG: unbuilt")
}

// Listener gives the numbers of one listener ("PLAINTEXT", public or not).
func (b *Broker) Listener(name string, public bool) *Listener { panic("BUG: unbuilt") }

// Listener counts a listener's connections and bytes.
type Listener struct {
	Connections       Gauge
	Accepted, Refused Counter
	BytesIn, BytesOut Counter // all bytes on the socket
}

// Disk notes: flush times, bytes written, log directory state, recovery, deleted bytes by reason.
func (b *Broker) Flush(d time.Duration, err error)    { panic("BUG: unbuilt") }
func (b *Broker) DeletedBytes(reason string, n int64) { panic("BUG: unbuilt") } // "retention", "capacity", "topic"
func (b *Broker) DirOnline(dir string, online bool)   { panic("BUG: unbuilt") }
func (b *Broker) Corruption(where string)             { panic("BUG: unbuilt") }
