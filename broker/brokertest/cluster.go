package brokertest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/belfry-mq/belfry/broker/brokertest/port"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// Cluster is several brokers under test that form one cluster; Brokers[i] has node ID i+1.
type Cluster struct {
	Brokers []*Broker
}

// StartCluster starts so many brokers, all of them first controllers, and waits until all
// are ready. Options hold for each.
func StartCluster(t testing.TB, n int, options ...Option) *Cluster {
	t.Helper()
	c := &Cluster{}
	voters := make([]string, n)
	for i := range voters {
		voters[i] = fmt.Sprintf("%d@%s", i+1, port.Addr(t))
	}
	for i := range n {
		c.Brokers = append(c.Brokers, prepare(t, append([]Option{Set(map[string]string{
			"node.id": fmt.Sprint(i + 1), "controller.quorum.voters": strings.Join(voters, ","),
		})}, options...)...))
	}
	var starts sync.WaitGroup
	errs := make([]error, n)
	for i, b := range c.Brokers {
		starts.Go(func() { errs[i] = b.run() })
	}
	starts.Wait()
	// Why all at once: the last two of three could not take leave of a controller.
	t.Cleanup(c.Stop)
	for i, err := range errs {
		if err != nil {
			t.Fatalf("broker %d: %v", i+1, err)
		}
	}
	return c
}

// Stop ends all brokers without waiting for each other.
func (c *Cluster) Stop() {
	var stops sync.WaitGroup
	for _, b := range c.Brokers {
		stops.Go(b.Kill)
	}
	stops.Wait()
}

// Addrs gives the addresses for clients.
func (c *Cluster) Addrs() (addrs []string) {
	for _, b := range c.Brokers {
		addrs = append(addrs, b.Addr())
	}
	return addrs
}

// Broker gives a broker by its node ID.
func (c *Cluster) Broker(id metadata.BrokerID) *Broker { return c.Brokers[id-1] }

// Racks puts each broker of a cluster into a rack of its own: "rack-1" for node 1.
func Racks() Option {
	return func(b *Broker) { b.settings["broker.rack"] = "rack-" + b.settings["node.id"] }
}
