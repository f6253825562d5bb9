package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/group"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Replicas finds the partitions that this broker holds.
type Replicas interface {
	Partition(topic.Partition) (*replica.Partition, error)
}

// Controller changes the cluster. Each method returns after the change is
// committed and visible to this node's rooms, or with *controller.Refusal.
type Controller interface {
	CreateTopics(ctx context.Context, ts []controller.NewTopic, validateOnly bool) []controller.Created
	DeleteTopics(ctx context.Context, ids []topic.ID) []error
	CreatePartitions(ctx context.Context, gs []controller.Growth, validateOnly bool) []error
	AlterConfigs(ctx context.Context, as []controller.Alter, validateOnly bool) []error
	UpdateFeatures(ctx context.Context, us []controller.FeatureUpdate, validateOnly bool) []error
	ElectLeaders(ctx context.Context, ps []topic.Partition, unclean bool) []error
	Reassign(ctx context.Context, rs []controller.Reassignment, fixedFactor bool) []error
	UnregisterBroker(ctx context.Context, id metadata.BrokerID) error
	AlterQuotas(ctx context.Context, as []controller.QuotaAlter, validateOnly bool) []error
	ProducerIDs(ctx context.Context) (first int64, n int, err error)
	// What brokers ask for.
	RegisterBroker(ctx context.Context, r controller.Registration) (epoch int64, err error)
	Heartbeat(ctx context.Context, h controller.Heartbeat) (controller.Pulse, error)
	AlterISR(ctx context.Context, from metadata.BrokerID, epoch int64, changes []controller.ISRChange) ([]controller.ISRChanged, error)
}

// Groups coordinates consumer groups; a reply func is called once, from any goroutine.
type Groups interface {
	JoinGroup(group.Client, *kmsg.JoinGroupRequest, func(*kmsg.JoinGroupResponse))
	SyncGroup(group.Client, *kmsg.SyncGroupRequest, func(*kmsg.SyncGroupResponse))
	Heartbeat(*kmsg.HeartbeatRequest, func(*kmsg.HeartbeatResponse))
	ConsumerGroupHeartbeat(group.Client, *kmsg.ConsumerGroupHeartbeatRequest, func(*kmsg.ConsumerGroupHeartbeatResponse))
	LeaveGroup(*kmsg.LeaveGroupRequest, func(*kmsg.LeaveGroupResponse))
	OffsetCommit(*kmsg.OffsetCommitRequest, func(*kmsg.OffsetCommitResponse))
	TxnOffsetCommit(*kmsg.TxnOffsetCommitRequest, group.Verify, func(*kmsg.TxnOffsetCommitResponse))
	OffsetFetch(*kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse
	OffsetDelete(*kmsg.OffsetDeleteRequest, func(*kmsg.OffsetDeleteResponse))
	DeleteGroups(*kmsg.DeleteGroupsRequest, func(*kmsg.DeleteGroupsResponse))
	DescribeGroups(*kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse
	ConsumerGroupDescribe(*kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse
	ListGroups(*kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse
}

// TxnOffsets ends transactions in a partition of __consumer_offsets.
type TxnOffsets interface {
	// WriteMarker returns when the marker is committed and its offsets are, or are gone.
	WriteMarker(ctx context.Context, partition int32, m record.Marker) error
}

// Disks shows the log directories and what lies in them, and moves logs between them.
type Disks interface {
	Dirs() []storage.Dir
	Logs() []*storage.Log
	Move(p topic.Partition, dir string) error
}

// Quorum knows how the metadata log stands; ok is false while it does not run.
type Quorum interface {
	Status() (s quorum.Status, ok bool)
	// Leading tells whether this node is the active controller, Leader which node is, as
	// far as this one knows; metadata.NoBroker: none.
	Leading() (leads bool, changed <-chan struct{})
	Leader() metadata.BrokerID
	Members
}

// Peers asks other brokers; see peer.Client.
type Peers interface {
	Do(ctx context.Context, to metadata.BrokerID, lane string, req kmsg.Request) (kmsg.Response, error)
}

// Options of an API; all are required but Version and Peers.
type Options struct {
	Node       metadata.BrokerID
	Version    string // the instance's Kafka version ("1.1.0", "2.3.0", "2.7"); "" = the newest that is served
	File       *config.Values
	Settings   func() *config.Values  // the broker's effective settings of now
	Image      func() *metadata.Image // the newest published image
	Controller Controller
	Quorum     Quorum
	Peers      Peers // nil: there are no other brokers
	// Seen waits until the image that this node answers from stands at an index or later.
	// Required with Peers.
	Seen     func(ctx context.Context, index uint64) error
	Replicas Replicas
	Groups   Groups
	Disks    Disks

	Transactions Transactions
	TxnOffsets   TxnOffsets

	// Traffic gives what this broker has counted of its clients. Nil: nothing to tell.
	Traffic func() stats.Traffic

	Logger *slog.Logger
	Now    func() time.Time
}

// Agent is how Belfry's agent calls itself in ApiVersions.
const Agent = "belfry-agent"

// API is a wire.Handler. It owns the fetches that wait; Close ends them.
type API struct {
	node       metadata.BrokerID
	file       *config.Values
	settings   func() *config.Values
	image      func() *metadata.Image
	controller Controller
	quorum     Quorum
	replicas   Replicas
	groups     Groups
	disks      Disks

	transactions Transactions
	txnOffsets   TxnOffsets
	traffic      func() stats.Traffic
	verifying    verifying

	log *slog.Logger
	now func() time.Time

	table     table // for clients
	brokers   table // for brokers
	agents    table // for Belfry's agent
	peers     Peers
	seen      func(context.Context, uint64) error
	features  []controller.Feature
	sessions  *fetchSessions
	telemetry *telemetry
	brake     atomic.Pointer[string]
	full      fullFollowers
	refused   atomic.Int64 // produce requests

	// heavy holds a token for each batch that may be rebuilt at a time: that takes
	// memory which no client paid for with bytes of its own.
	heavy chan struct{}

	closing context.Context // ends at Close: waiting fetches answer with what there is
	close   context.CancelFunc
	mu      struct {
		sync.Mutex
		closed bool // no fetch begins to wait any more
	}
	waiting sync.WaitGroup // grows only under mu while not closed
}

var _ wire.Handler = (*API)(nil)

// New makes an API; it starts nothing.
//
// Errors: the instance version is unknown.
func New(o Options) (*API, error) {
	clients, brokers, err := tables(o.Version)
	if err != nil {
		return nil, err
	}
	features, err := Features(o.Version)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &API{
		node: o.Node, file: o.File, settings: o.Settings, image: o.Image, controller: o.Controller, quorum: o.Quorum,
		replicas: o.Replicas, groups: o.Groups, disks: o.Disks, transactions: o.Transactions, txnOffsets: o.TxnOffsets, traffic: o.Traffic, log: o.Logger, now: o.Now,
		table: clients, brokers: brokers, agents: served(), peers: o.Peers, seen: o.Seen, features: features, sessions: newFetchSessions(o.Now), telemetry: newTelemetry(o.Now),
		heavy:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		closing: ctx, close: cancel,
	}, nil
}

// Close lets every waiting fetch answer at once with what there is, and waits
// for it. Requests that come later do not wait at all.
func (a *API) Close() {
	a.mu.Lock()
	a.mu.closed = true
	a.mu.Unlock()
	a.close()
	a.waiting.Wait()
}

// later runs f in a goroutine that Close waits for; false when Close has begun.
func (a *API) later(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.mu.closed {
		a.waiting.Go(f)
	}
	return !a.mu.closed
}

// patience is how long a request for a change of the cluster waits that does not say so itself.
const patience = 30 * time.Second

// within bounds a change of the cluster by the time that the client gives it since the
// request came, and by the life of its connection.
func within(r *wire.Request, millis int32) (context.Context, context.CancelFunc) {
	return context.WithDeadline(r.Context(), r.Received.Add(time.Duration(max(1, millis))*time.Millisecond))
}

// Versions tells which versions of an API are served; wire asks before it decodes.
func (a *API) Versions(s *wire.Session, key int16) (min, max int16, ok bool) {
	row, ok := a.of(s)[key]
	return 0, row.max, ok
}

// RefuseProduce makes every client produce fail with KAFKA_STORAGE_ERROR and the
// reason as text; an empty reason takes produce again. Fetches, group work and
// management go on.
func (a *API) RefuseProduce(reason string) {
	if reason == "" {
		a.brake.Store(nil)
		return
	}
	a.brake.Store(&reason)
}

// RefusedProduce gives how many produce requests the brake has refused, wholly or in part.
func (a *API) RefusedProduce() int64 { return a.refused.Load() }

// Serve dispatches one request of a connection; see wire.Handler.
func (a *API) Serve(r *wire.Request) {
	row, ok := a.of(r.Session)[r.Key]
	if !ok || r.Version < 0 || r.Version > row.max {
		r.Drop(fmt.Errorf("cannot serve API key %d version %d: not in the table of served versions", r.Key, r.Version))
		return
	}
	if changes(r.Key) && a.elsewhere() {
		a.forward(r, row)
		return
	}
	row.handle(a, r)
}

// partition finds a partition for a client.
//
// Errors: replica.ErrUnknownPartition when there is none; replica.ErrNotLeader when it
// is another broker's, so that the client looks for it there; storage.ErrOffline.
func (a *API) partition(name topic.Partition) (*replica.Partition, error) {
	p, err := a.replicas.Partition(name)
	if errors.Is(err, replica.ErrUnknownPartition) {
		if t := a.image().Topic(name.Topic); t != nil && name.Partition >= 0 && int(name.Partition) < len(t.Partitions) {
			return nil, replica.ErrNotLeader
		}
	}
	return p, err
}

// leader tells who leads a partition, for a client that looked for it here (KIP-951).
// Part is nil where this broker holds none.
func (a *API) leader(name topic.Partition, part *replica.Partition) (metadata.BrokerID, record.Epoch) {
	if part != nil {
		return part.Leader()
	}
	if t := a.image().Topic(name.Topic); t != nil && name.Partition >= 0 && int(name.Partition) < len(t.Partitions) {
		p := &t.Partitions[name.Partition]
		return p.Leader, p.LeaderEpoch
	}
	return metadata.NoBroker, -1
}

// client says who asks, as the coordinators and tools show it.
func client(r *wire.Request) group.Client {
	c := group.Client{}
	if r.ClientID != nil {
		c.ID = *r.ClientID
	}
	if r.Session != nil && r.Session.Remote != nil {
		host, _, err := net.SplitHostPort(r.Session.Remote.String())
		if err != nil {
			host = r.Session.Remote.String()
		}
		c.Host = "/" + host
	}
	return c
}

// endpoint gives the address of a broker as the asking client reaches it: that
// of the listener it came in by.
func endpoint(b *metadata.Broker, r *wire.Request) (metadata.Endpoint, bool) {
	for _, e := range b.Endpoints {
		if e.Listener == r.Session.Listener {
			return e, true
		}
	}
	return metadata.Endpoint{}, false
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
