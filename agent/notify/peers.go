package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Peers joins the notifiers of a cluster's nodes. The zero value is a node alone.
type Peers struct {
	// Tell sends part of a state to all other nodes; it does not wait. Name is one of Shared's.
	Tell func(name string, b []byte)
	// Settled is closed when the other nodes were heard, or are not waited for any longer.
	Settled <-chan struct{}
}

// Shared is a state that the nodes tell each other.
type Shared interface {
	Share() []byte
	Merge(b []byte) error
}

// Names of the states.
const (
	deliveredState = "delivered"
	silencesState  = "silences"
)

// Shared gives the states that the nodes of a cluster tell each other, by name.
func (e *Engine) Shared() map[string]Shared {
	return map[string]Shared{deliveredState: deliveries{e}, silencesState: mutes{e}}
}

// maxNotes bounds the deliveries of one queue that are told in a full exchange.
const maxNotes = 2000

// note is one delivery as the other nodes have to know it: they drop what has its key, and their
// notification log says what was told, so that repetition goes on where it was.
//
// Why of what was delivered, and not Alertmanager's own gossip of what was handed over: a node that
// dies with a full queue has told nobody, and who takes over has to.
type note struct {
	Queue    string        `json:"queue"` // RECEIVER/KIND[N], the same on all nodes
	Key      string        `json:"key"`
	At       time.Time     `json:"at"`
	Created  time.Time     `json:"created"` // when Alertmanager decided to tell
	Group    string        `json:"group"`   // Alertmanager's group key
	Firing   []uint64      `json:"firing,omitempty"`
	Resolved []uint64      `json:"resolved,omitempty"`
	Repeat   time.Duration `json:"repeat"`
}

// noteOf gives the note about a message; nil when it is only about this node, which nobody else tells of.
func noteOf(queue string, m *message, now time.Time) *note {
	if !m.Wide {
		return nil
	}
	return &note{
		Queue: queue, Key: m.Key, At: now, Created: m.Created, Group: m.GroupKey,
		Firing: m.Firing, Resolved: m.Resolved, Repeat: m.Repeat,
	}
}

// entry gives the note as an entry of the notification log.
func (n *note) entry(o *outlet) ([]byte, error) {
	keep := nflogRetention
	if n.Repeat > 0 && n.Repeat < keep/2 {
		keep = 2 * n.Repeat // as Alertmanager does
	}
	var b bytes.Buffer
	_, err := protodelim.MarshalTo(&b, &nflogpb.MeshEntry{
		Entry: &nflogpb.Entry{
			Receiver:  &nflogpb.Receiver{GroupName: o.receiver, Integration: o.kind, Idx: uint32(o.index)},
			GroupKey:  []byte(n.Group),
			Timestamp: timestamppb.New(n.Created), FiringAlerts: n.Firing, ResolvedAlerts: n.Resolved,
		},
		ExpiresAt: timestamppb.New(n.Created.Add(keep)),
	})
	return b.Bytes(), err
}

// tell sends one note to the other nodes; nil is none.
func (e *Engine) tell(n *note) {
	if n == nil || e.opts.Peers.Tell == nil {
		return
	}
	e.opts.Peers.Tell(deliveredState, encodeNotes([]*note{n}))
}

func encodeNotes(all []*note) []byte {
	b, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("BUG: deliveries cannot be encoded: %v", err))
	}
	return b
}

// deliveries is what was told about the cluster, by whichever node.
type deliveries struct{ e *Engine }

// Share gives the newest deliveries of every queue.
func (d deliveries) Share() []byte {
	var all []*note
	for _, name := range d.e.Receivers() {
		for _, o := range d.e.outlets[name] {
			all = append(all, o.queue.notes(maxNotes)...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return encodeNotes(all)
}

// Merge notes what other nodes delivered. Queues that this node does not have are not looked at:
// its receivers are others.
func (d deliveries) Merge(b []byte) error {
	var all []*note
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("cannot decode deliveries of another node: %w", err)
	}
	now := time.Now()
	for _, n := range all {
		o := d.e.outletOf(n)
		if o == nil || now.Sub(n.At) > keepKeys || !o.queue.learn(n, now) {
			continue
		}
		entry, err := n.entry(o)
		if err == nil {
			err = d.e.nflog.Merge(entry)
		}
		if err != nil {
			return fmt.Errorf("cannot note a delivery of another node: %w", err)
		}
		poke(d.e.dirty)
	}
	return nil
}

// outletOf finds where a note belongs; nil: nowhere.
func (e *Engine) outletOf(n *note) *outlet {
	if n == nil {
		return nil
	}
	for _, outlets := range e.outlets {
		for _, o := range outlets {
			if o.queue.name == n.Queue {
				return o
			}
		}
	}
	return nil
}

// mutes is the silences.
type mutes struct{ e *Engine }

// Share gives all silences.
func (q mutes) Share() []byte {
	b, err := q.e.silences.MarshalBinary()
	if err != nil {
		q.e.log.Warn("silences cannot be told to other nodes", "error", err)
		return nil
	}
	return b
}

// Merge takes another node's.
func (q mutes) Merge(b []byte) error {
	if err := q.e.silences.Merge(b); err != nil {
		return fmt.Errorf("cannot take silences of another node: %w", err)
	}
	return nil
}

// ToldThrough gives the moment before which every end of an alarm about the cluster has reached
// its receivers, for a node that takes over; zero before the first snapshot.
func (e *Engine) ToldThrough() time.Time {
	e.mu.Lock()
	through := e.mu.through
	e.mu.Unlock()
	for _, outlets := range e.outlets {
		for _, o := range outlets {
			if first := o.queue.waitsFor(); !first.IsZero() && first.Before(through) {
				through = first
			}
		}
	}
	return through
}

func (e *Engine) setThrough(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.through = t
}
