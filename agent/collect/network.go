package collect

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/shirou/gopsutil/v3/net"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

// Network reads all bytes that came to the node and went from it.
type Network struct {
	id   string
	root string // "" but in tests
	read func(ctx context.Context, perInterface bool) ([]net.IOCountersStat, error)

	before map[string]traffic
	at     time.Time
}

type traffic struct{ in, out uint64 }

// NewNetwork makes the collector; id is the broker on this host.
func NewNetwork(id string) *Network { return &Network{id: id, read: net.IOCountersWithContext} }

// Name is "network".
func (n *Network) Name() string { return "network" }

// Collect gives bytes a second in and out.
func (n *Network) Collect(ctx context.Context, _ sampler.Period) ([]metric.Sample, error) {
	all, err := n.read(ctx, true)
	now := time.Now()
	if err != nil {
		n.before = nil
		return nil, fmt.Errorf("cannot read network counters: %w", err)
	}
	counters := n.outward(all)
	before, elapsed := n.before, now.Sub(n.at)
	n.before, n.at = counters, now
	if before == nil || elapsed <= 0 {
		return nil, nil
	}
	in, out, ok := moved(before, counters)
	if !ok {
		return nil, nil
	}
	var s sheet
	labels := brokerLabels(n.id)
	s.add(metric.BrokerTotalBytesInRate, float64(in)/elapsed.Seconds(), labels)
	s.add(metric.BrokerTotalBytesOutRate, float64(out)/elapsed.Seconds(), labels)
	return s.samples, nil
}

// moved sums what went over the interfaces that are in both readings; false when
// there is none. One that began anew, or came in between, has moved an unknown
// amount and is left out once.
func moved(before, now map[string]traffic) (in, out uint64, ok bool) {
	for name, b := range now {
		a, known := before[name]
		if !known || b.in < a.in || b.out < a.out {
			continue
		}
		in, out, ok = in+b.in-a.in, out+b.out-a.out, true
	}
	return in, out, ok
}

// outward picks the interfaces that lead out of the node, each byte once: those
// with a device where there is one (bridges, bonds and tunnels pass the same bytes
// again), else all but the loopback.
func (n *Network) outward(all []net.IOCountersStat) map[string]traffic {
	physical, other := map[string]traffic{}, map[string]traffic{}
	for _, c := range all {
		if c.Name == "lo" || c.Name == "lo0" {
			continue
		}
		t := traffic{in: c.BytesRecv, out: c.BytesSent}
		if _, err := os.Stat(n.root + "/sys/class/net/" + c.Name + "/device"); err == nil {
			physical[c.Name] = t
			continue
		}
		other[c.Name] = t
	}
	if len(physical) > 0 {
		return physical
	}
	return other
}
