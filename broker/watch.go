package broker

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quorum"
)

// InProcess is the address of the broker in this process for DialAddress.
const InProcess = "in-process:0"

// DialAddress connects to a broker by an address that this one's metadata names. What
// names this broker itself, or is InProcess, stays within the process, see Dial; any
// other goes over the network.
func (b *Broker) DialAddress(ctx context.Context, address string) (net.Conn, error) {
	if address == InProcess || b.hasAddress(address) {
		return b.inside.dial(ctx)
	}
	return peer.Dial(ctx, address)
}

// hasAddress tells whether clients reach this broker at an address.
func (b *Broker) hasAddress(address string) bool {
	r := b.running()
	if r == nil || r.quorum == nil {
		return false
	}
	me := r.quorum.Image().Broker(b.node)
	if me == nil {
		return false
	}
	for _, e := range me.Endpoints {
		if net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) == address {
			return true
		}
	}
	return false
}

// Rule is who speaks for the cluster in one period.
type Rule int

// Who speaks.
const (
	NobodyRules Rule = iota // nobody that a majority confirms, as far as this node can tell
	ThisRules               // this node, confirmed by a majority of the voters
	OtherRules              // another node, which said so itself
)

// Bounds of the question who rules.
const (
	askWhoRules  = time.Second           // for one answer
	lookWhoRules = 50 * time.Millisecond // between looks while nobody is known
)

// Rules tells who is the active controller in the moment of the call, from which at
// most one node hears ThisRules.
//
// A leader of the metadata log asks the voters whether they still follow it: a majority
// that does has elected nobody else before the call. Who knows of another leader asks
// that one; if it does not answer, because it died or hangs, the question stays open
// until an election has settled it. A node that was elected only after since, while it
// was late itself, does not rule: the one before it may have.
//
// What is left open: two may both hear ThisRules for one moment if the first is
// confirmed, is cut off from this node only, and loses an election within the time that
// ctx leaves; or if their clocks differ by more than an election takes.
//
// Blocks: until it is settled or ctx ends, which gives NobodyRules.
func (b *Broker) Rules(ctx context.Context, since time.Time) Rule {
	r := b.running()
	if r == nil || r.quorum == nil || r.peers == nil {
		return NobodyRules
	}
	if b.membership == nil {
		return ThisRules
	}
	open := false // the question was open, so that who is elected now may take it up
	for {
		if leads, _ := r.quorum.Leading(); leads {
			if began := r.quorum.LedSince(); !open && began.After(since) {
				return NobodyRules
			}
			if confirm(ctx, r.quorum) == nil {
				return ThisRules
			}
		} else if to := r.quorum.Leader(); to != metadata.NoBroker && to != b.node && saysItLeads(ctx, r.peers, to) {
			return OtherRules
		}
		open = true
		select {
		case <-time.After(lookWhoRules):
		case <-ctx.Done():
			return NobodyRules
		}
	}
}

func confirm(ctx context.Context, q *quorum.Quorum) error {
	ctx, cancel := context.WithTimeout(ctx, askWhoRules)
	defer cancel()
	return q.Confirm(ctx)
}

func saysItLeads(ctx context.Context, peers *peer.Client, to metadata.BrokerID) bool {
	ctx, cancel := context.WithTimeout(ctx, askWhoRules)
	defer cancel()
	leads, err := peers.Leads(ctx, to)
	return err == nil && leads
}

// Reigns counts how often this node became the active controller since it started.
func (b *Broker) Reigns() uint64 {
	if r := b.running(); r != nil && r.quorum != nil {
		return r.quorum.Reigns()
	}
	return 0
}
