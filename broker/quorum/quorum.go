package quorum

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walsegment "github.com/hashicorp/raft-wal/segment"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// DirName is what a broker calls this room's directory in its data directory.
const DirName = "__cluster_metadata"

// Names within Options.Dir.
const (
	lockName      = "lock"
	stateName     = "state"
	logName       = "log"
	snapshotsName = "snapshots"
)

// Errors of Propose and Run; compare with errors.Is.
var (
	// ErrDiskFull: the batch was not written because there is no room. Nothing
	// happened; it can be proposed again when there is.
	ErrDiskFull = errors.New("the disk of the metadata log is full")
	// ErrFailed: the disk failed or holds damage; this node takes no changes
	// until it is restarted. Whether the batch survives is not known.
	ErrFailed = errors.New("the metadata log has failed")
	// ErrClosed: the node is shutting down. Whether the batch survives is not known.
	ErrClosed = errors.New("the metadata log is closed")
	// ErrRefused: the batch does not fit the image it met. Nothing happened.
	ErrRefused = errors.New("the change does not fit the cluster's present state")
	// ErrNoLeader: no voter leads, or leadership was lost on the way; then whether
	// the batch survives is not known.
	ErrNoLeader = errors.New("no voter leads the metadata log")
	// ErrTooLarge: the batch is longer than a log entry may be.
	ErrTooLarge = errors.New("the change is too large for one metadata batch")
)

// NotLeaderError says that another node takes changes.
type NotLeaderError struct{ Leader metadata.BrokerID }

// Error implements error.
func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("node %d leads the metadata log, not this one", e.Leader)
}

// Transport carries raft's messages between nodes.
type Transport = raft.Transport

// Voter is one of the nodes that decide.
type Voter struct {
	Node    metadata.BrokerID
	Address string // what Transport understands
}

// Options of a Quorum.
type Options struct {
	Dir       string            // this room's own directory; made if it is not there
	Node      metadata.BrokerID // this node
	ClusterID string            // given to a new cluster; an old one must have the same. Empty: take what is there, else a new one
	// MustExist refuses a directory without a cluster instead of beginning a new one,
	// however often it is tried: message logs were found beside it (R25).
	MustExist bool
	Logger    *slog.Logger
	Now       func() time.Time // nil: time.Now

	// Network leads to the other nodes of the cluster. Nil: this node is alone, unless
	// Transport is given.
	Network *Network
	// Voters of a new cluster, this node among them; an old one knows its own. Only
	// without Network. Empty: this node alone.
	Voters []Voter
	// Transport between the voters, for tests. Nil: over Network, or in memory for one voter.
	Transport Transport
	// Heartbeat is how long a follower waits for its leader before it stands for
	// election. 0: 1 s.
	Heartbeat time.Duration
	// Stall is how long a write to the log may take until a leader lets another voter
	// lead (R16). 0: 5 s. A voter whose write takes StallEnd fails. 0: 30 s.
	Stall, StallEnd time.Duration

	alone bool // nobody can be reached
	// SnapshotEvery is how many entries are written from one snapshot to the next. 0: 4096.
	SnapshotEvery uint64
	// SnapshotCheck is how often that is looked at. 0: 30 s.
	SnapshotCheck time.Duration
}

// Defaults of Options.
const (
	defaultHeartbeat     = time.Second
	defaultStall         = 5 * time.Second
	defaultStallEnd      = 30 * time.Second
	defaultSnapshotEvery = 4096
	defaultSnapshotCheck = 30 * time.Second
)

func (o *Options) complete() error {
	if o.Dir == "" || o.Logger == nil || o.Node < 0 {
		return fmt.Errorf("cannot open metadata: directory %q, node %d and a logger must be given", o.Dir, o.Node)
	}
	if o.Network != nil {
		if err := checkAddress(o.Network.Address); err != nil {
			return fmt.Errorf("cannot open metadata in %q: %w", o.Dir, err)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Voters) == 0 {
		o.Voters = []Voter{{o.Node, strconv.Itoa(int(o.Node))}}
	}
	if o.Transport == nil && o.Network == nil {
		if len(o.Voters) > 1 {
			return fmt.Errorf("cannot open metadata in %q: %d voters need a transport", o.Dir, len(o.Voters))
		}
		o.alone = true
		_, o.Transport = raft.NewInmemTransport(raft.ServerAddress(o.Voters[0].Address))
	}
	o.Heartbeat = cmp.Or(o.Heartbeat, defaultHeartbeat)
	o.Stall, o.StallEnd = cmp.Or(o.Stall, defaultStall), cmp.Or(o.StallEnd, defaultStallEnd)
	o.SnapshotEvery = cmp.Or(o.SnapshotEvery, defaultSnapshotEvery)
	o.SnapshotCheck = cmp.Or(o.SnapshotCheck, defaultSnapshotCheck)
	return nil
}

// Quorum is this node's part in the order of metadata.
type Quorum struct {
	o       Options
	lock    *os.File
	state   *state
	files   *files
	wal     *wal.WAL
	store   *store
	snaps   *snapshots
	machine *machine
	found   *found // what Open read
	door    *door  // nil without Network
	meter   atomic.Pointer[meter]

	changing sync.Mutex // one change of members at a time

	// Who this node is; guarded by mu. member: it has a place in a cluster.
	ident  member
	member bool

	fresh    bool      // Open made a new cluster
	began    time.Time // Run did
	img      atomic.Pointer[metadata.Image]
	caughtUp chan struct{} // closed after the first image was published
	failed   chan struct{} // closed at the first failure
	failure  atomic.Pointer[error]
	done     chan struct{} // closed when Run returns
	ended    chan struct{} // closed when raft is over
	calls    sync.WaitGroup
	asked    unanswered
	watching sync.WaitGroup

	mu struct {
		sync.Mutex
		raft    *raft.Raft    // nil before Run and after it
		running bool          // Run was called
		leading bool          // and has applied everything before its term
		since   time.Time     // when leading changed last
		reigns  uint64        // times that leading began
		term    uint64        // counts leadership changes seen
		changed chan struct{} // closed and replaced when leading changes
		subs    []func(old, new *metadata.Image)
	}
}

// Open reads and checks what is on disk and starts a new cluster if nothing is.
// It starts nothing. Close must be called.
//
// Errors: the directory is in use, damaged, of another node or cluster, or
// written by a newer program; the text names file and remedy.
func Open(o Options) (*Quorum, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	q := &Quorum{o: o, caughtUp: make(chan struct{}), failed: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{})}
	q.mu.changed = make(chan struct{})
	if err := q.open(); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

func (q *Quorum) open() (err error) {
	dir := q.o.Dir
	if err := makeDir(dir); err != nil {
		return err
	}
	if q.lock, err = lockDir(filepath.Join(dir, lockName)); err != nil {
		return err
	}
	if err := checkNew(dir); err != nil {
		return err
	}
	if q.state, err = openState(filepath.Join(dir, stateName)); err != nil {
		return err
	}
	if q.files, err = openFiles(filepath.Join(dir, logName), q.o.Logger); err != nil {
		return err
	}
	if q.snaps, err = openSnapshots(filepath.Join(dir, snapshotsName), q.o.Logger); err != nil {
		return err
	}
	q.wal, err = wal.Open(q.files.dir,
		wal.WithMetaStore(q.state),
		wal.WithSegmentFiler(walsegment.NewFiler(q.files.dir, q.files)),
		wal.WithSegmentSize(segmentLimit),
		wal.WithLogger(newBridge(q.o.Logger)))
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("cannot open the metadata log in %q: %w: %w; free some space and start again", q.files.dir, ErrDiskFull, err)
	}
	if err != nil {
		return fmt.Errorf("cannot open the metadata log in %q: %w; %s", q.files.dir, err, remedy)
	}
	q.store = newStore(q.wal, q.state, q.snaps, q.fail)
	f, err := inspect(dir, q.snaps, q.wal, q.state)
	if err != nil {
		return err
	}
	q.found = f
	if err := q.identify(); err != nil {
		return err
	}
	q.machine = &machine{quorum: q, image: f.image, newest: f.image}
	q.machine.folded.Store(f.snapshotIndex())
	q.img.Store(metadata.Empty())
	return nil
}

// identify finds out who this node is, and begins a new cluster if it is alone.
func (q *Quorum) identify() error {
	ident, there, err := readMember(q.o.Dir)
	if err != nil {
		return err
	}
	if !there {
		ident = member{node: q.o.Node}
	}
	q.ident = ident
	if err := q.found.checkIdentity(&q.o, ident); err != nil {
		return err
	}
	q.fresh = q.found.last == 0 && q.found.snapshot == nil
	if others := len(q.found.configuration.Servers) > 1 || there; others && q.o.alone {
		return fmt.Errorf("cannot open metadata in %q: this node is a member of a cluster and nothing says where the other nodes find it: set controller.listener or controller.quorum.voters", q.o.Dir)
	}
	// A node that joined has a place before the leader sent it anything.
	q.member = !q.fresh || ident.cluster != "" && ident.founders == ""
	if n := q.o.Network; n != nil {
		q.door = newDoor(n, q.o.Logger)
		q.door.answer, q.door.call = q.receive, q.greetMember
		if q.member || len(n.First) > 0 || n.Join != nil {
			return nil // Enter does the rest
		}
		if there {
			return fmt.Errorf("cannot open metadata in %q: this node has begun to enter a cluster, and nothing says which: set join or controller.quorum.voters; or, if it should be a cluster of its own, empty that directory", q.o.Dir)
		}
		q.o.Voters = []Voter{{q.o.Node, string(memberAddress(serverID(q.o.Node), n.Address))}}
	}
	if q.fresh && q.o.MustExist {
		return fmt.Errorf("cannot start: message logs are there, but the cluster's metadata in %q are not: put that directory back from a backup, or start with empty log directories", q.o.Dir)
	}
	var alone raft.Configuration
	for _, v := range q.o.Voters {
		alone.Servers = append(alone.Servers, raft.Server{Suffrage: raft.Voter, ID: serverID(v.Node), Address: raft.ServerAddress(v.Address)})
	}
	q.member = true
	return q.found.bootstrap(&q.o, q.store, alone)
}

// Close gives the files back. Requires: Run has returned or was never called.
func (q *Quorum) Close() error {
	var errs []error
	if q.door != nil {
		errs = append(errs, q.door.Close())
	} else if q.o.Network != nil {
		errs = append(errs, q.o.Network.Listener.Close())
	}
	switch {
	case q.store != nil && q.wal != nil:
		files, st := q.wal, q.state
		// Why not at once then: the library would wait for the write.
		if !q.store.hangs(func() { _ = errors.Join(files.Close(), st.Close()) }) {
			errs = append(errs, files.Close(), st.Close())
		}
	case q.wal != nil:
		errs = append(errs, q.wal.Close(), q.state.Close())
	case q.state != nil:
		errs = append(errs, q.state.Close())
	}
	if q.lock != nil {
		errs = append(errs, q.lock.Close())
	}
	q.wal, q.state, q.lock = nil, nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot close metadata in %q: %w", q.o.Dir, err)
	}
	return nil
}

// Fresh tells that the directory was empty and Open began a new cluster in it. A
// broker that finds message logs beside it must refuse: its metadata is lost.
func (q *Quorum) Fresh() bool { return q.fresh }

// Image is the newest image that every subscriber has seen; the empty one until
// this node has caught up.
func (q *Quorum) Image() *metadata.Image { return q.img.Load() }

// CaughtUp is closed when this node has applied all that was committed when it
// first led, or first heard a leader; every subscriber has seen that image then.
func (q *Quorum) CaughtUp() <-chan struct{} { return q.caughtUp }

// Subscribe has f called with every new image, in commit order, one at a time.
// Several commits may come as one step. The first call comes when this node has
// caught up: from the empty image to the newest one. Requires: Run was not
// called yet; f does not call Propose.
func (q *Quorum) Subscribe(f func(old, new *metadata.Image)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.running {
		panic("BUG: Subscribe after Run")
	}
	q.mu.subs = append(q.mu.subs, f)
}

// publish shows an image to every subscriber and then to everybody.
func (q *Quorum) publish(old, new *metadata.Image) {
	q.mu.Lock()
	subs := q.mu.subs
	q.mu.Unlock()
	for _, f := range subs {
		f(old, new)
	}
	q.img.Store(new)
}

// Failed is closed when the disk or the log failed; Run then returns the error.
func (q *Quorum) Failed() <-chan struct{} { return q.failed }

// fail notes the first failure.
func (q *Quorum) fail(err error) {
	err = fmt.Errorf("%w: %w; free or replace the disk of %q and restart this node", ErrFailed, err, q.o.Dir)
	if q.failure.CompareAndSwap(nil, &err) {
		q.o.Logger.Error("the metadata log has failed; this node takes no changes until it is restarted", "dir", q.o.Dir, "err", err)
		close(q.failed)
	}
}

func (q *Quorum) failedErr() error {
	if err := q.failure.Load(); err != nil {
		return *err
	}
	return nil
}
