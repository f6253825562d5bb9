package quorum

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// longReplay is how long a start may take before a snapshot is made to shorten the next one.
const longReplay = 500 * time.Millisecond

// Run takes part in elections and applies the log until ctx ends; then it
// returns nil. It is called once.
//
// Errors: ErrFailed with its cause, only after ctx ended: a node whose metadata
// log failed goes on serving what it knows.
func (q *Quorum) Run(ctx context.Context) error {
	q.mu.Lock()
	again := q.mu.running
	q.mu.running = true
	q.mu.Unlock()
	if again {
		panic("BUG: Run twice")
	}
	defer close(q.done)
	q.began = time.Now()
	if q.door != nil && !q.member {
		panic("BUG: Run before Enter")
	}
	notify := make(chan bool, 1)
	transport := q.connect()
	// Why aside: the library writes the term first, and store holds a write that fails.
	started := make(chan launch, 1)
	go func() {
		r, err := raft.NewRaft(q.config(notify), q.machine, q.store, q.store, q.snaps, transport)
		started <- launch{r, err}
	}()
	select {
	case s := <-started:
		if s.err != nil {
			return errors.Join(fmt.Errorf("cannot start the metadata log in %q: %w", q.o.Dir, s.err), q.letGo())
		}
		q.serve(ctx, s.raft, notify)
		err := errors.Join(q.letGo(), q.shutDown(s.raft))
		close(q.ended)
		q.watching.Wait()
		q.calls.Wait()
		return errors.Join(q.failedErr(), err)
	case <-ctx.Done():
		err := q.letGo()
		if s := <-started; s.err == nil {
			err = errors.Join(err, q.shutDown(s.raft))
		}
		return errors.Join(q.failedErr(), err)
	}
}

// launch is what became of raft.NewRaft.
type launch struct {
	raft *raft.Raft
	err  error
}

// serve takes proposals until ctx ends.
func (q *Quorum) serve(ctx context.Context, r *raft.Raft, notify <-chan bool) {
	q.mu.Lock()
	q.mu.raft = r
	q.mu.Unlock()
	q.meter.Load().raft.Store(r)
	if q.alone(r) {
		q.meter.Load().standForElection()
	}
	q.watching.Go(func() { q.watch(r, notify) })
	q.watching.Go(func() { q.standFirst(ctx, r) })
	q.watching.Go(func() { q.renewAddress(ctx) })
	q.watching.Go(func() { q.watchStalls(ctx, r) })
	<-ctx.Done()
	q.setLeading(false)
	q.mu.Lock()
	q.mu.raft = nil // no new calls
	q.mu.Unlock()
	if r.State() == raft.Leader && !q.lastVoter(r) {
		// Why not waited for longer: the others elect one by themselves soon enough.
		if err := q.answer(r.LeadershipTransfer()); err != nil {
			q.o.Logger.Info("could not let another node lead the metadata log", "err", err)
		}
	}
	// Why for a moment: what lies in raft's queues when it is shut down is never answered, and
	// whoever asked would wait for ever.
	q.asked.wait(q.o.Heartbeat)
}

// letGo lets calls go that store holds. Invariant: the transport is shut before,
// so that no vote leaves this node that its disk does not remember.
func (q *Quorum) letGo() error {
	err := q.meter.Load().Close()
	close(q.store.closing)
	return err
}

// shutDown ends raft. It gives a write up that hangs: raft would wait for it.
func (q *Quorum) shutDown(r *raft.Raft) error {
	over := make(chan error, 1)
	go func() { over <- r.Shutdown().Error() }()
	for {
		select {
		case err := <-over:
			return err
		case <-time.After(stallPause):
		}
		if q.store.writing() >= q.o.Stall {
			q.store.give(fmt.Errorf("cannot append to the metadata log in %q: %w", q.o.Dir, errStalled))
		}
	}
}

// transportTime is how long a message between members may take. A snapshot gets as
// much for each 256 KiB of it.
const transportTime = 5 * time.Second

// pooledConnections is how many idle connections to each member are kept: one for
// heartbeats, one for entries, one for the rest.
const pooledConnections = 3

// connect makes the transport that raft uses.
func (q *Quorum) connect() raft.Transport {
	inner := q.o.Transport
	if inner == nil {
		inner = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: q.door, MaxPool: pooledConnections, Timeout: transportTime,
			MaxRPCsInFlight: 1, // no pipeline, see meter
			Logger:          newBridge(q.o.Logger),
		})
	}
	m := newMeter(inner, &q.o, q.store.end)
	q.meter.Store(m)
	return m
}

// standFirst has the first of the founders stand for election as soon as the others can
// hear it. Why: nobody leads a cluster that has just formed, and a time-out would be
// waited for in vain.
func (q *Quorum) standFirst(ctx context.Context, r *raft.Raft) {
	founders := foundersConfiguration(q.ident.founders).Servers
	if !q.fresh || q.ident.founders == "" || founders[0].ID != q.self() {
		return
	}
	for _, f := range founders[1:] {
		_, at := splitAddress(f.Address)
		for r.LastIndex() == 1 {
			reply, err := q.door.ask(at, q.greetMember(f.ID), askTime)
			if err == nil && reply.Later == "" {
				break
			}
			if pause(ctx, followPause) != nil {
				return
			}
		}
	}
	if r.LastIndex() == 1 && r.State() == raft.Follower {
		q.meter.Load().standForElection()
	}
}

// alone tells whether this node is the only voter.
func (q *Quorum) alone(r *raft.Raft) bool {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	all := voters(f.Configuration().Servers)
	return len(all) == 1 && all[0].ID == q.self()
}

// commitTimeout is how often at least a member is told how far the log is committed,
// and how soon one that did not answer is tried again. What is new is told at once, see push.
const commitTimeout = 100 * time.Millisecond

func (q *Quorum) config(notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = q.self()
	c.HeartbeatTimeout = q.o.Heartbeat
	c.ElectionTimeout = q.o.Heartbeat
	c.LeaderLeaseTimeout = q.o.Heartbeat / 2
	c.CommitTimeout = commitTimeout
	c.ShutdownOnRemove = false // a node that loses its vote goes on following
	c.NotifyCh = notify
	c.BatchApplyCh = true
	c.SnapshotInterval = q.o.SnapshotCheck
	c.SnapshotThreshold = q.o.SnapshotEvery
	c.TrailingLogs = q.o.SnapshotEvery // for followers that were away
	c.NoSnapshotRestoreOnStart = true  // Open did
	c.NoLegacyTelemetry = true
	c.Logger = newBridge(q.o.Logger)
	return c
}

// followPause is how often a node that follows looks whether it has caught up.
const followPause = 10 * time.Millisecond

// watch follows this node's leadership. A leader leads for Propose only after
// it applied everything that was committed before its term.
func (q *Quorum) watch(r *raft.Raft, notify <-chan bool) {
	var aside sync.WaitGroup // what raft must not wait for
	defer aside.Wait()
	look := time.NewTicker(followPause)
	defer look.Stop()
	caughtUp := q.caughtUp
	for {
		select {
		case <-q.ended:
			return
		case <-caughtUp:
			look.Stop()
			caughtUp = nil
		case <-look.C:
			if q.followed(r) {
				q.machine.catchUp()
			}
		case <-q.store.bulk.much:
			aside.Go(func() {
				if err := q.shrink(r); err != nil && !errors.Is(err, ErrClosed) {
					q.o.Logger.Warn("cannot shorten the metadata log now", "err", err)
				}
			})
		case leads := <-notify:
			term := q.setLeading(false)
			if !leads {
				q.o.Logger.Info("this node no longer leads the metadata log")
				continue
			}
			// Why aside: raft waits for this loop while it changes its mind.
			aside.Go(func() { q.ascend(r, term) })
		}
	}
}

// ascend makes this node the leader that takes changes, if leadership does not change
// again before it has applied everything.
func (q *Quorum) ascend(r *raft.Raft, term uint64) {
	q.mu.Lock()
	stops := q.mu.raft == nil
	q.mu.Unlock()
	if stops {
		return
	}
	if err := q.takeOver(r); err != nil {
		q.o.Logger.Info("leadership of the metadata log was lost at once", "err", err)
		return
	}
	if q.lead(term) {
		q.o.Logger.Info("this node leads the metadata log", "index", q.Image().Index())
	}
}

// followed tells whether a follower has applied what its leader told it to be
// committed. Why not raft's applied index: it counts what the state machine was
// given, not what it did.
func (q *Quorum) followed(r *raft.Raft) bool {
	told := q.meter.Load().told.Load()
	if told == 0 || q.Leader() == metadata.NoBroker || r.State() != raft.Follower || r.AppliedIndex() < told {
		return false
	}
	for index := told; index > q.machine.folded.Load(); index-- {
		var entry raft.Log
		if err := q.store.GetLog(index, &entry); err != nil {
			return true // a snapshot holds it, and raft waits for that to be restored
		}
		if entry.Type == raft.LogCommand {
			return false
		}
	}
	return true
}

// takeOver applies everything before this node's term, and names a new cluster.
func (q *Quorum) takeOver(r *raft.Raft) error {
	if err := q.answer(r.Barrier(0)); err != nil {
		return err
	}
	// Why before it leads: whoever joins must find it.
	if err := q.correctAddress(r); err != nil {
		return err
	}
	q.machine.catchUp()
	if q.alone(r) && time.Since(q.began) > longReplay {
		q.store.bulk.snapshot()
	}
	if q.Image().ClusterID() != "" {
		return nil
	}
	id := q.ClusterID()
	if id == "" {
		id = topic.NewID().String()
	}
	named := &metadata.ClusterNamed{ID: id, Created: q.o.Now().UnixMilli()}
	return q.answer(r.Apply(metadata.AppendBatch(nil, []metadata.Record{named}), 0))
}

// answer waits for what raft says. Why for its end too: what lies in raft's queues
// then is never answered, and Run would wait for it for ever.
func (q *Quorum) answer(f raft.Future) error {
	said := make(chan error, 1)
	q.asked.begin()
	go func() {
		defer q.asked.end()
		said <- f.Error()
	}()
	select {
	case err := <-said:
		return err
	case <-q.ended:
	}
	select {
	case err := <-said:
		return err
	default:
		return raft.ErrRaftShutdown
	}
}

// setLeading notes a change of leadership and gives its number.
func (q *Quorum) setLeading(leading bool) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.term++
	if q.mu.leading != leading {
		q.mu.leading, q.mu.since = leading, q.o.Now()
		if leading {
			q.mu.reigns++
		}
		close(q.mu.changed)
		q.mu.changed = make(chan struct{})
	}
	return q.mu.term
}

// lead makes this node leading if leadership did not change since term.
func (q *Quorum) lead(term uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.term != term || q.mu.leading {
		return false
	}
	q.mu.leading, q.mu.since = true, q.o.Now()
	q.mu.reigns++
	close(q.mu.changed)
	q.mu.changed = make(chan struct{})
	return true
}

// Leading tells whether this node takes changes. The channel is closed when that
// may have changed.
func (q *Quorum) Leading() (leads bool, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.leading, q.mu.changed
}

// LedSince gives when this node began to lead; without meaning while it does not.
func (q *Quorum) LedSince() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.since
}

// Reigns counts how often this node began to lead in this process' life.
func (q *Quorum) Reigns() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.reigns
}

// Confirm asks the voters whether they still follow this node. When a majority does,
// nobody else had been elected when Confirm was called.
//
// Errors: NotLeaderError, ErrNoLeader, ErrClosed, ErrFailed; ctx's: not known.
func (q *Quorum) Confirm(ctx context.Context) error {
	return q.change(ctx, func(r *raft.Raft) raft.Future { return r.VerifyLeader() })
}

// WaitLeading blocks until this node leads and has applied the whole log.
//
// Errors: ctx's; ErrFailed; ErrClosed when Run has returned.
func (q *Quorum) WaitLeading(ctx context.Context) error {
	for {
		leads, changed := q.Leading()
		if leads {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-q.failed:
			return q.failedErr()
		case <-q.done:
			return ErrClosed
		}
	}
}

// WaitCaughtUp blocks until a leader is known – this node or another one – and this
// node has applied, and shown to every subscriber, all that was committed when the
// leader was first heard.
//
// Errors: ctx's; ErrFailed; ErrClosed when Run has returned.
func (q *Quorum) WaitCaughtUp(ctx context.Context) error {
	select {
	case <-q.caughtUp:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-q.failed:
		return q.failedErr()
	case <-q.done:
		return ErrClosed
	}
}

// Waiting says what a node waits for that has not caught up.
func (q *Quorum) Waiting() string {
	s, ok := q.Status()
	if !ok {
		return "waiting for the metadata log to start"
	}
	if s.Leader != metadata.NoBroker {
		return fmt.Sprintf("waiting for the metadata log from node %d, which leads it", s.Leader)
	}
	var all, silent []string
	for _, v := range s.Voters {
		all = append(all, strconv.Itoa(int(v.Node)))
		if v.Node != q.o.Node && q.meter.Load().isLost(v.Node) {
			silent = append(silent, strconv.Itoa(int(v.Node)))
		}
	}
	switch {
	case len(all) == 0:
		return "waiting for a leader of the metadata log to find this node"
	case len(silent) == 0:
		return "waiting for the voters " + strings.Join(all, ", ") + " to elect a leader of the metadata log"
	}
	return "waiting for a majority of the voters " + strings.Join(all, ", ") + "; no answer from " + strings.Join(silent, ", ")
}

// Failure gives why Failed is closed; nil while it is not.
func (q *Quorum) Failure() error { return q.failedErr() }

// Leader is the node that takes changes, as far as this node knows; NoBroker if
// it knows none.
func (q *Quorum) Leader() metadata.BrokerID {
	q.mu.Lock()
	r := q.mu.raft
	q.mu.Unlock()
	if r == nil {
		return metadata.NoBroker
	}
	_, id := r.LeaderWithID()
	return nodeOf(id)
}
