package broker_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/brokertest"
)

// TestAnnouncedServices: a service of a node is found by its like on the others, and no client is led there.
func TestAnnouncedServices(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick), brokertest.Before(func(b *broker.Broker) error {
		if host, clustered := b.Between(); host != "127.0.0.1" || !clustered {
			t.Errorf("node %d listens to others at %q, in a cluster: %v", b.Node(), host, clustered)
		}
		if err := b.Announce("AGENT", "nowhere"); err == nil {
			t.Error("an address without a port was taken")
		}
		return b.Announce("AGENT", fmt.Sprintf("10.0.0.%d:9310", b.Node()))
	}))
	brokertest.Eventually(t, "node 1 finds the others", func() bool {
		return slices.Equal(c.Brokers[0].Announced("AGENT"), []string{"10.0.0.2:9310", "10.0.0.3:9310"})
	})
	if at := c.Brokers[0].Announced("OTHER"); at != nil {
		t.Errorf("another service is at %v", at)
	}
	c.Brokers[1].Kill()
	brokertest.Eventually(t, "who is out of service comes last", func() bool {
		return slices.Equal(c.Brokers[0].Announced("AGENT"), []string{"10.0.0.3:9310", "10.0.0.2:9310"})
	})
	m, err := admin(t, c.Brokers[0].Addr()).Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.Brokers {
		if b.Host != "127.0.0.1" {
			t.Errorf("clients are told of broker %d at %s", b.NodeID, b.Host)
		}
	}
}
