package broker

import (
	"fmt"
	"net"
	"strconv"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// Announce has the cluster told, with this node's registration, where another service of the
// node listens, HOST:PORT, so that its like on other nodes finds it: see Announced. Clients are not
// told. Requires: Run was not called yet; name is none of a listener's.
func (b *Broker) Announce(name, address string) error {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("cannot announce %s: %w", name, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("cannot announce %s at %q: %w", name, address, err)
	}
	b.announced = append(b.announced, metadata.Endpoint{Listener: name, Host: host, Port: int32(port), Security: plaintext})
	return nil
}

// Announced gives where a service of the other nodes listens, HOST:PORT each, those of brokers that are
// in service first; none before this node knows the cluster.
func (b *Broker) Announced(name string) []string {
	r := b.running()
	if r == nil || r.quorum == nil {
		return nil
	}
	var first, last []string
	for _, other := range r.quorum.Image().Brokers() {
		for _, e := range other.Endpoints {
			switch at := net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))); {
			case e.Listener != name || other.ID == b.node:
			case other.Fenced:
				last = append(last, at)
			default:
				first = append(first, at)
			}
		}
	}
	return append(first, last...)
}

// Between gives the host at which this node listens to other brokers; false when it is alone.
func (b *Broker) Between() (host string, clustered bool) {
	for _, a := range b.listen {
		if a.name == b.between {
			return a.host, b.membership != nil
		}
	}
	return "", b.membership != nil
}
