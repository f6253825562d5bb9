package group

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// member is one member of a group.
type member struct {
	id       string
	instance *string // KIP-345: the name of a static member
	client   Client
	joined   int // order among the members; the first one leads

	session, rebalance time.Duration
	protocols          []protocol
	assignment         []byte

	join  func(*kmsg.JoinGroupResponse) // waits for the rebalance; nil: does not
	sync  func(*kmsg.SyncGroupResponse) // waits for the assignment
	fresh bool                          // has never been through a rebalance
	owing bool                          // was told the generation and has not synced yet

	expiry alarm
}

// protocol is one way of assigning that a member knows, with what it says under it.
type protocol struct {
	name     string
	metadata []byte
}

func newProtocols(ps []kmsg.JoinGroupRequestProtocol) []protocol {
	out := make([]protocol, 0, len(ps))
	for _, p := range ps {
		out = append(out, protocol{strings.Clone(p.Name), bytes.Clone(p.Metadata)})
	}
	return out
}

// metadata gives what the member says under a protocol.
func (m *member) metadata(name string) []byte {
	for _, p := range m.protocols {
		if p.name == name {
			return p.metadata
		}
	}
	return nil
}

func (m *member) supports(name string) bool {
	return slices.ContainsFunc(m.protocols, func(p protocol) bool { return p.name == name })
}

// says tells whether the member's protocols are those that it joined with.
func (m *member) says(ps []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a protocol, b kmsg.JoinGroupRequestProtocol) bool {
		return a.name == b.Name && bytes.Equal(a.metadata, b.Metadata)
	})
}

// subscribedTopics reads the topics out of what a consumer says under its protocol; false
// when it cannot be read. By hand, because it comes from clients and only the first part
// matters.
// Source: Kafka, ConsumerProtocolSubscription.
func subscribedTopics(b []byte) ([]string, bool) {
	next := func(n int) []byte {
		if n < 0 || n > len(b) {
			b = nil
			return nil
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	number := func(bytes int) int {
		n := 0
		field := next(bytes)
		if field == nil {
			return -1
		}
		for _, c := range field {
			n = n<<8 | int(c)
		}
		return n
	}
	if version := number(2); version < 0 || version >= 1<<15 {
		return nil, false
	}
	count := number(4)
	if count < 0 || count > len(b)/2 {
		return nil, false
	}
	topics := make([]string, 0, count)
	for range count {
		name := next(number(2))
		if name == nil {
			return nil, false
		}
		topics = append(topics, string(name))
	}
	return topics, true
}
