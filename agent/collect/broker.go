package collect

import (
	"context"
	"strconv"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
	"github.com/belfry-mq/belfry/broker/stats"
)

// Kafka's keys of the two APIs that have a documented mean.
const (
	keyProduce int16 = 0
	keyFetch   int16 = 1
)

// Statistics is the broker in this process.
type Statistics interface {
	Read() stats.Reading
	Traffic() stats.Traffic
}

// Broker reads what the broker in this process counts.
type Broker struct {
	id     string
	source Statistics

	before stats.Reading
	at     time.Time // zero: no reading before
}

// NewBroker makes the collector of the broker with this ID.
func NewBroker(id string, source Statistics) *Broker { return &Broker{id: id, source: source} }

// Name is "broker".
func (b *Broker) Name() string { return "broker" }

// Collect gives the rates since the reading before, and the state of now.
func (b *Broker) Collect(context.Context, sampler.Period) ([]metric.Sample, error) {
	now, reading := time.Now(), b.source.Read()
	before, elapsed, primed := b.before, now.Sub(b.at), !b.at.IsZero()
	b.before, b.at = reading, now
	out := brokerState(b.id, reading)
	if primed {
		out = append(out, brokerRates(b.id, before, reading, elapsed)...)
	}
	return out, nil
}

// brokerState needs one reading.
func brokerState(id string, r stats.Reading) []metric.Sample {
	var s sheet
	labels := brokerLabels(id)
	var open int64
	for _, l := range r.Listeners {
		open += l.Connections
	}
	s.add(metric.BrokerConnections, float64(max(open, 0)), labels)
	offline := 0
	for dir, online := range r.Dirs {
		s.add(metric.LogDirOnline, number(online), metric.Labels(metric.LabelBroker, id, metric.LabelDir, dir))
		if !online {
			offline++
			s.add(metric.LogDirFailed, 1, metric.Labels(metric.LabelBroker, id, metric.LabelDir, dir, metric.LabelWhy, r.DirFailures[dir]))
		}
	}
	s.addIf(len(r.Dirs) > 0, metric.OfflineLogDirs, float64(offline), labels)
	s.add(metric.DamagedReplicas, float64(len(r.Spoiled)), labels)
	for _, p := range r.Spoiled {
		s.add(metric.ReplicaDamaged, 1, metric.Labels(metric.LabelBroker, id, metric.LabelTopic, p.Topic,
			metric.LabelPartition, strconv.Itoa(int(p.Partition)), metric.LabelDir, p.Dir, metric.LabelWhy, p.Why))
	}
	s.add(metric.ReplicasRefetched, float64(r.Refetched), labels)
	s.add(metric.ReplicationLag, float64(r.Replication.Now.MaxBehind), labels)
	for where, n := range r.Corruptions {
		s.add(metric.Corruptions, float64(n), metric.Labels(metric.LabelBroker, id, metric.LabelWhere, where))
	}
	return s.samples
}

// brokerRates needs two.
func brokerRates(id string, before, now stats.Reading, elapsed time.Duration) []metric.Sample {
	var s sheet
	labels := brokerLabels(id)
	perSecond := func(id metric.ID, before, now uint64) {
		v, ok := rate(before, now, elapsed)
		s.addIf(ok, id, v, labels)
	}
	perSecond(metric.BrokerMessagesInRate, before.MessagesIn, now.MessagesIn)
	perSecond(metric.BrokerBytesInRate, before.BytesIn, now.BytesIn)
	perSecond(metric.BrokerBytesOutRate, before.BytesOut, now.BytesOut)
	in0, out0 := publicBytes(before)
	in1, out1 := publicBytes(now)
	perSecond(metric.BrokerPublicBytesInRate, in0, in1)
	perSecond(metric.BrokerPublicBytesOutRate, out0, out1)
	mean := func(id metric.ID, key int16) {
		v, ok := meanTime(before.Request(key), now.Request(key))
		s.addIf(ok, id, v, labels)
	}
	mean(metric.BrokerProduceMean, keyProduce)
	mean(metric.BrokerFetchMean, keyFetch)
	return s.samples
}

// publicBytes sums the public listeners. A node without one has moved 0 bytes on
// public listeners: that is known, not missing.
func publicBytes(r stats.Reading) (in, out uint64) {
	for _, l := range r.Listeners {
		if l.Public {
			in, out = in+l.BytesIn, out+l.BytesOut
		}
	}
	return in, out
}

// meanTime gives the mean of the requests answered between two readings in
// milliseconds; false when there was none.
func meanTime(before, now stats.RequestReading) (float64, bool) {
	if now.Count <= before.Count || now.Total < before.Total {
		return 0, false
	}
	n := float64(now.Count - before.Count)
	return float64(now.Total-before.Total) / float64(time.Millisecond) / n, true
}
