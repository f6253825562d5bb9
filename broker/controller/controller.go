// Package controller decides what should change in the cluster: which topics,
// partitions, settings, brokers and producer IDs there are.
//
// A decision is pure: it reads an image, the settings, a clock and a seed, and
// gives records or a Refusal (create.go, grow.go, alter.go, place.go, ...). Who leads a
// partition and who is in sync is decided in one place, settle.go. The Controller
// makes one decision at a time on the newest image, has its records committed, and
// returns when this node's rooms have seen them.
//
// Run watches over the brokers while this node is the active controller: sessions.go
// is who was heard of when, heartbeat.go what a heartbeat leads to, probe.go the look
// at a broker whose connection ended.
//
// It is not: the order of records (quorum), or Kafka's requests (api).
//
// Invariant: no decision is made on an image that an earlier one has not reached
// yet; so two requests never create the same topic, and limits hold.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Kafka's error codes that a Refusal may carry.
// Source: Kafka protocol, "Error Codes".
const (
	codeUnknownTopicOrPartition     int16 = 3
	codeNotController               int16 = 41
	codeFencedLeaderEpoch           int16 = 74
	codeNewLeaderElected            int16 = 106
	codeIneligibleReplica           int16 = 107
	codeDuplicateBroker             int16 = 101
	codeInconsistentClusterID       int16 = 104
	codeInvalidTopic                int16 = 17
	codeTopicAlreadyExists          int16 = 36
	codeInvalidPartitions           int16 = 37
	codeInvalidReplicationFactor    int16 = 38
	codeInvalidReplicaAssignment    int16 = 39
	codeInvalidConfig               int16 = 40
	codeInvalidRequest              int16 = 42
	codePolicyViolation             int16 = 44
	codeReassignmentInProgress      int16 = 60
	codeStaleBrokerEpoch            int16 = 77
	codePreferredLeaderNotAvailable int16 = 80
	codeEligibleLeadersNotAvailable int16 = 83
	codeElectionNotNeeded           int16 = 84
	codeNoReassignmentInProgress    int16 = 85
	codeInvalidUpdateVersion        int16 = 95
	codeUnknownTopicID              int16 = 100
	codeBrokerIDNotRegistered       int16 = 102
)

// Refusal is the client's fault; Code is a Kafka error code number (kerr). api/errors.go maps it without guessing.
type Refusal struct {
	Code    int16
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

func refuse(code int16, format string, args ...any) *Refusal {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

// Quorum orders records and knows the image.
type Quorum interface {
	// Leading tells whether this node takes changes; changed is closed when that may
	// have changed.
	Leading() (leads bool, changed <-chan struct{})
	// Propose returns when the records are committed and this node's rooms have
	// seen the image with them.
	Propose(ctx context.Context, records []metadata.Record) (index uint64, err error)
	Image() *metadata.Image
}

// Options of a Controller; all but Features, Logger and Gone are required.
type Options struct {
	Node     metadata.BrokerID
	Settings *config.Values // the node's file over the defaults; dynamic layers come from the image
	Now      func() time.Time
	Seed     uint64    // of placement; the same seed gives the same placements
	Features []Feature // that this program knows; none: no feature can be changed
	Logger   *slog.Logger
	// Gone tells that a broker's process is not there any more: its machine refuses a
	// connection. Nil: only its session's end tells.
	Gone func(context.Context, *metadata.Broker) bool
}

// Controller turns wishes into metadata records; every method returns after the
// records are committed AND applied to this node's rooms (image published).
// Its methods may be called from any goroutine.
type Controller struct {
	o      Options
	quorum Quorum
	rnd    *rand.Rand
	turn   chan struct{} // holds one token: whose turn it is to decide
	id     func() topic.ID
	watch  *sessions
	lost   chan registrant // whose last connection ended
}

// New wires a Controller; it starts nothing.
func New(o Options, q Quorum) *Controller {
	c := &Controller{o: o, quorum: q, rnd: rand.New(rand.NewPCG(o.Seed, 0)), turn: make(chan struct{}, 1), id: topic.NewID}
	if c.o.Logger == nil {
		c.o.Logger = slog.New(slog.DiscardHandler)
	}
	c.lost = make(chan registrant, maxLost)
	c.watch = newSessions(o.Settings.Duration("broker.session.timeout.ms"))
	c.turn <- struct{}{}
	return c
}

// decision is everything that a decision may look at.
type decision struct {
	img  *metadata.Image
	node metadata.BrokerID
	file *config.Values
	now  int64 // ms since 1970
	rnd  *rand.Rand
	id   func() topic.ID

	partitions int // that this request adds so far, internal topics not counted
	rules      map[topic.ID]rules
	forgot     map[place]bool                      // whose ELR this request clears
	offline    func(metadata.BrokerID, place) bool // replicas on failed disks; nil: none
}

// begin waits for the turn and looks at the newest image. Why a turn is held
// while the disk works: the next decision needs the image with this one in it.
func (c *Controller) begin(ctx context.Context) (d *decision, end func(), err error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("cannot wait for earlier metadata changes: %w", ctx.Err())
	}
	d = &decision{
		img:  c.quorum.Image(),
		node: c.o.Node,
		file: c.o.Settings,
		now:  c.o.Now().UnixMilli(),
		rnd:  c.rnd,
		id:   c.id,

		offline: c.watch.offline,
	}
	return d, func() { c.turn <- struct{}{} }, nil
}

// settings gives the node's settings of now.
func (d *decision) settings() *config.Values {
	return config.NodeValues(d.file,
		d.img.Config(metadata.Resource{Kind: metadata.BrokerResource}),
		d.ownConfig())
}

// wish is the records that one item of a request needs, or why it gets none.
type wish struct {
	records []metadata.Record
	err     error
}

// Limits of what one batch and one topic hold.
const (
	// maxBatchRecords is after how many records the wishes of one request go into
	// a further batch; one wish never spreads over two.
	maxBatchRecords = 10_000
	// maxTopicPartitions is the largest topic. Why: its creation is one batch, and
	// a batch is one log entry of bounded size.
	maxTopicPartitions = 10_000
)

// commit has the records of all wishes committed in as few batches as possible;
// a failed batch fails the wishes in it.
func (c *Controller) commit(ctx context.Context, wishes []wish) {
	for from := 0; from < len(wishes); {
		var batch []metadata.Record
		to := from
		for to < len(wishes) && (len(batch) == 0 || len(batch)+len(wishes[to].records) <= maxBatchRecords) {
			if wishes[to].err == nil {
				batch = append(batch, wishes[to].records...)
			}
			to++
		}
		if len(batch) > 0 {
			if _, err := c.quorum.Propose(ctx, batch); err != nil {
				for i := from; i < to; i++ {
					if wishes[i].err == nil && len(wishes[i].records) > 0 {
						wishes[i].err = err
					}
				}
			}
		}
		from = to
	}
}

// errorsOf gives the errors by position.
func errorsOf(wishes []wish) []error {
	errs := make([]error, len(wishes))
	for i := range wishes {
		errs[i] = wishes[i].err
	}
	return errs
}

// same gives n times one error.
func same(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
