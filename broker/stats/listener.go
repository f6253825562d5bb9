package stats

import vm "github.com/VictoriaMetrics/metrics"

// Listener counts a listener's connections and bytes.
type Listener struct {
	Connections       Gauge
	Accepted, Refused Counter
	BytesIn, BytesOut Counter // all bytes on the socket

	public bool
	own    struct {
		open                     *vm.Gauge
		accepted, refused        *vm.Counter
		bytesReceived, bytesSent *vm.Counter
	}
}

// Listener gives the numbers of one listener ("PLAINTEXT", public or not).
//
// A listener that was known under the name before is given again, so that its
// counters go on when it is closed and opened; public then says what it is now.
// A nil Broker gives a Listener that counts nothing.
func (b *Broker) Listener(name string, public bool) *Listener {
	if b == nil {
		return &Listener{Connections: noGauge{}, Accepted: nothing{}, Refused: nothing{}, BytesIn: nothing{}, BytesOut: nothing{}}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.mu.listeners[name]
	if l == nil {
		l = b.newListener(name)
		b.mu.listeners[name] = l
	}
	l.public = public
	return l
}

func (b *Broker) newListener(name string) *Listener {
	l := &Listener{}
	l.own.open = b.set.NewGauge(series("belfry_connections", labelListener, name), nil)
	l.own.accepted = b.set.NewCounter(series("belfry_connections_accepted_total", labelListener, name))
	l.own.refused = b.set.NewCounter(series("belfry_connections_refused_total", labelListener, name))
	l.own.bytesReceived = b.set.NewCounter(series("belfry_listener_in_bytes_total", labelListener, name))
	l.own.bytesSent = b.set.NewCounter(series("belfry_listener_out_bytes_total", labelListener, name))
	l.Connections = l.own.open
	l.Accepted, l.Refused = count{l.own.accepted}, count{l.own.refused}
	l.BytesIn, l.BytesOut = count{l.own.bytesReceived}, count{l.own.bytesSent}
	return l
}
