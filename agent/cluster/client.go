// Package cluster is the agent's Kafka client: it looks at a whole cluster
// through the Kafka protocol, once a period, in one consistent pass.
//
// It computes nothing: what it saw is a State, plain data. It works against any
// broker that speaks the protocol of Apache Kafka 2.7 or later (older ones answer
// as far as they can), in the same process or far away.
//
// Invariant: in a State every committed offset was read before every end offset,
// so that an end offset is never behind a commit but for a truncated log.
// A part that could not be read is marked as unknown, never filled with zeros.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Options say which cluster to look at and how to reach it.
type Options struct {
	// Seeds are addresses "host:port" of some of its brokers. At least one.
	Seeds []string
	// ClientID names the agent to the brokers. Default "belfry-agent".
	ClientID string
	// TLS, if set, is used on every connection.
	TLS *tls.Config
	// SASL, if set, authenticates every connection.
	SASL sasl.Mechanism
	// Dial, if set, replaces TLS and makes the connections, for example within one process.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RequestTimeout bounds each request to a broker. Default 5 s.
	RequestTimeout time.Duration
}

// software is what the agent calls itself in ApiVersions; Belfry's brokers then hide nothing
// that they hide from clients of an instance of an older version.
const software = "belfry-agent"

// Bounds of one request: the largest frames that brokers take are far above, but
// one answer should not take long or much memory.
const (
	groupsAtOnce     = 100
	partitionsAtOnce = 2000
)

// Client looks at one cluster. Safe for concurrent use.
type Client struct {
	kafka   *kgo.Client
	admin   *kadm.Client
	timeout time.Duration
}

// Open makes a client. It connects when it is first used.
//
// Errors: no seed, a setting that the client library refuses.
func Open(o Options) (*Client, error) {
	if len(o.Seeds) == 0 {
		return nil, errors.New("cannot watch a cluster without the address of a broker")
	}
	if o.ClientID == "" {
		o.ClientID = "belfry-agent"
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 5 * time.Second
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(o.Seeds...),
		kgo.ClientID(o.ClientID),
		kgo.SoftwareNameAndVersion(software, "1"),
		kgo.DisableClientMetrics(),
		// Why: what a broker does not answer now is absent now; the next pass asks again.
		kgo.RequestRetries(2),
		kgo.RetryTimeout(o.RequestTimeout),
		kgo.RequestTimeoutOverhead(o.RequestTimeout),
		kgo.DialTimeout(o.RequestTimeout),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}
	switch {
	case o.Dial != nil:
		options = append(options, kgo.Dialer(o.Dial))
	case o.TLS != nil:
		options = append(options, kgo.DialTLSConfig(o.TLS))
	}
	if o.SASL != nil {
		options = append(options, kgo.SASL(o.SASL))
	}
	kafka, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("cannot make client of cluster %q: %w", o.Seeds, err)
	}
	return &Client{kafka: kafka, admin: kadm.NewClient(kafka), timeout: o.RequestTimeout}, nil
}

// Close ends all connections; when it returns the client's goroutines are over.
func (c *Client) Close() { c.kafka.Close() }
