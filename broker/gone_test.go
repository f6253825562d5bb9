package broker

import (
	"net"
	"testing"

	"github.com/belfry-mq/belfry/broker/metadata"
)

func TestGoneMeansRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	b := &metadata.Broker{ID: 2, Endpoints: []metadata.Endpoint{{Listener: "IN", Host: "127.0.0.1", Port: int32(at.Port)}}}
	looks := gone("IN")
	// It listens but does not serve, as a process that stands still.
	if looks(t.Context(), b) {
		t.Fatal("a process that is there was taken for gone")
	}
	if gone("OTHER")(t.Context(), b) {
		t.Fatal("a broker without the listener was taken for gone")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !looks(t.Context(), b) {
		t.Fatal("nobody listens, and it was not taken for gone")
	}
}
