package replica

import (
	"container/heap"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// Append takes checked, back-to-back batches into the log of the partition that this
// broker leads; b is changed in place (offsets, epoch) and not kept. It does not wait: see
// Acked.
//
// Errors: ErrNotLeader, ErrUnknownPartition; with acks -1 ErrNotEnoughReplicas while the
// in-sync set is smaller than min.insync.replicas; what storage.Log.Append refuses.
// Blocks: for the write into the page cache, and for a change of leadership under way.
func (p *Partition) Append(b []byte, acks int16, now time.Time) (storage.Appended, error) {
	return p.AppendIn(-1, b, acks, now)
}

// AppendIn is Append for a writer that knows the log up to the beginning of one leader
// epoch, and must not write behind the back of the next one's (a journal).
//
// Errors: as Append; ErrFencedEpoch and ErrUnknownEpoch when the epoch is another one.
func (p *Partition) AppendIn(in record.Epoch, b []byte, acks int16, now time.Time) (storage.Appended, error) {
	return p.append(in, b, acks, storage.Append{Now: now.UnixMilli()})
}

// AppendVerified is Append for clients, whose batches begin a transaction only with the
// ticket for it.
//
// Errors: as Append; storage.ErrInvalidTxnState without a valid ticket.
func (p *Partition) AppendVerified(b []byte, acks int16, now time.Time, t storage.Ticket) (storage.Appended, error) {
	return p.append(-1, b, acks, storage.Append{Now: now.UnixMilli(), Verify: true, Ticket: t})
}

// Ticket tells whether a client's batch, given by its header, begins a transaction here, and
// gives what AppendVerified wants to see once the transaction's coordinator agreed (KIP-890).
func (p *Partition) Ticket(h record.Header, now time.Time) (t storage.Ticket, begins bool) {
	return p.log.Ticket(h, now.UnixMilli())
}

// AppendMarker ends a producer's transaction in this partition, as its coordinator says.
// version is the transaction's protocol (transaction.version), 0 if it is not known. The
// marker counts when Await with acks -1 is done.
//
// Errors: as Append with acks -1; storage.ErrInvalidProducerEpoch, storage.ErrCoordinatorFenced.
func (p *Partition) AppendMarker(m record.Marker, version int8, now time.Time) (storage.Appended, error) {
	ms := now.UnixMilli()
	return p.append(-1, m.Batch(ms), -1, storage.Append{Now: ms, TxnVersion: version, Marker: true})
}

// append puts b into the log in one leader epoch, -1 any. Of a it fills in what the role says.
func (p *Partition) append(in record.Epoch, b []byte, acks int16, a storage.Append) (storage.Appended, error) {
	p.role.RLock()
	defer p.role.RUnlock()

	p.mu.Lock()
	if err := p.checkLeaderLocked(in); err != nil {
		p.mu.Unlock()
		return storage.Appended{}, err
	}
	epoch, enough := p.mu.epoch, p.mu.lead.enough()
	p.mu.Unlock()
	switch {
	case acks == -1 && !enough:
		return storage.Appended{}, ErrNotEnoughReplicas
	case acks != -1 && p.cluster.isolated(p.now):
		return storage.Appended{}, ErrNotLeader
	}
	a.Epoch, a.Assign = epoch, true
	a.LogAppendTime = p.settings.Load().rules.LogAppendTime
	got, err := p.log.Append(b, a)
	if err == nil {
		p.appended()
	}
	return got, err
}

// Acked calls done exactly once, perhaps before it returns, when the records below end may
// be acknowledged: acks 0 at once; acks 1 when this replica's log holds them as durably as
// the topic asks for (on disk, with flush.messages=1: R17); acks -1 when the high watermark
// has passed them (R4).
//
// Errors given to done: ErrTimeout, ErrNotLeader, ErrNotEnoughAfterAppend,
// ErrUnknownPartition (deleted meanwhile), storage.ErrOffline. With any of them the records
// may or may not survive. done must not block and must not append: it may run inside
// somebody else's append.
func (p *Partition) Acked(end record.Offset, acks int16, timeout time.Duration, done func(error)) {
	p.Await(new(Wait), end, acks, timeout, ackFunc(done))
}

// Await is Acked with the memory that it takes. Requires: w is not in use.
func (p *Partition) Await(w *Wait, end record.Offset, acks int16, timeout time.Duration, done Acker) {
	w.waiter.late = false
	if acks == 0 {
		done.Acked(nil)
		return
	}
	p.mu.Lock()
	err := p.checkLeaderLocked(-1)
	reached := record.Offset(-1)
	heapOf := &p.mu.waitDisk
	if err == nil && (acks == 1 || p.flaws.hasty) {
		reached = p.log.Durable()
	} else if err == nil {
		reached, heapOf = p.HighWatermark(), &p.mu.waitHW
	}
	switch {
	case err != nil || reached >= end:
	case acks != 1 && !p.mu.lead.enough():
		err = ErrNotEnoughAfterAppend
	case timeout <= 0:
		err = ErrTimeout
	default:
		w.waiter = waiter{partition: p, end: end, deadline: p.now().Add(timeout), done: done}
		heap.Push(heapOf, &w.waiter)
		p.deadlines.add(&w.waiter)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	done.Acked(err)
}

// Fetched is one read.
type Fetched struct {
	Slice                               storage.Slice // Len 0: nothing; Release always
	HighWatermark, LastStable, LogStart record.Offset
	// Diverged: the follower's log parts from this one before its offset; here EndEpoch ends
	// at EndOffset.
	Diverged  bool
	EndEpoch  record.Epoch
	EndOffset record.Offset
	// Of a follower's read.
	Settled bool // the follower is in sync and has everything: there is nothing to do for it until the next move
	Held    bool // nothing was read because of the leader's limit; see LimitWait
	counted bool // the slice counts for the leader's limit; see Unsent
	// Aborted is, of a read of committed records, every aborted transaction that has records
	// in the slice (R29).
	Aborted []storage.Aborted
}

// Read reads for a consumer: whole batches below the high watermark, or below the last
// stable offset with committed; nothing, not an error, when from lies between that and the
// log's end.
//
// Errors: storage.ErrOffsetOutOfRange and the refusals of CheckLeader; the marks in Fetched
// are right also with ErrOffsetOutOfRange.
func (p *Partition) Read(from record.Offset, max int, minOne, committed bool) (Fetched, error) {
	if err := p.CheckLeader(-1); err != nil {
		return Fetched{}, err
	}
	return p.read(from, max, minOne, committed)
}

func (p *Partition) read(from record.Offset, max int, minOne, committed bool) (Fetched, error) {
	high := p.HighWatermark()
	f := Fetched{HighWatermark: high, LastStable: p.log.LastStable(high), LogStart: p.LogStart()}
	limit := high
	if committed && !p.flaws.undecided {
		limit = f.LastStable
	}
	if from < f.LogStart || from > p.End() {
		return f, storage.ErrOffsetOutOfRange
	}
	if from >= limit {
		return f, nil
	}
	var err error
	if committed {
		f.Slice, f.Aborted, err = p.log.ReadCommitted(from, max, limit, minOne)
	} else {
		f.Slice, err = p.log.Read(from, max, limit, minOne)
	}
	return f, err
}

// Readable gives how many bytes a read from there, of this replica whatever its role, could
// give, over all segments, up to max, without reading them; an offset that cannot be read
// counts as max, so that its reader looks and is told why.
func (p *Partition) Readable(from record.Offset, max int, committed bool) int {
	limit := p.limit(committed)
	switch {
	case p.ended() != nil, from < p.LogStart(), from > p.End():
		return max
	case from >= limit:
		return 0
	}
	return p.log.Bytes(from, limit, max)
}

// Latest is what ListOffsets calls latest: the high watermark, or the last stable offset
// with committed, and the leader epoch.
//
// Errors: ErrOffsetNotAvailable until everything older than this epoch is committed (R5);
// the refusals of CheckLeader.
func (p *Partition) Latest(committed bool) (record.Offset, record.Epoch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkLeaderLocked(-1); err != nil {
		return -1, -1, err
	}
	if !p.mu.lead.settled() {
		return -1, -1, ErrOffsetNotAvailable
	}
	return p.limit(committed), p.mu.epoch, nil
}

// DeleteBefore is DeleteRecords: everything below o is gone for good; -1 means the high
// watermark. done gets the new low watermark, the smallest log start of all replicas.
//
// Errors given to done: storage.ErrOffsetOutOfRange above the high watermark; the refusals
// of CheckLeader; storage's.
func (p *Partition) DeleteBefore(o record.Offset, done func(record.Offset, error)) {
	if err := p.CheckLeader(-1); err != nil {
		done(-1, err)
		return
	}
	hw := p.HighWatermark()
	if o == -1 {
		o = hw
	}
	if o < 0 || o > hw {
		done(-1, storage.ErrOffsetOutOfRange)
		return
	}
	start, err := p.log.DeleteBefore(o)
	if err != nil {
		done(-1, err)
		return
	}
	p.mu.Lock()
	wake := p.mu.watchers.all()
	low := start
	if p.mu.lead != nil {
		low = p.mu.lead.lowStart(start)
	}
	if low < o && len(p.mu.deletes) < maxDeletes {
		p.mu.deletes = append(p.mu.deletes, deletion{o, done})
		done = nil
	}
	p.mu.Unlock()
	wakeAll(wake)
	p.appended() // the followers hear of it by their fetch
	switch {
	case done == nil:
	case low < o:
		done(-1, ErrTimeout)
	default:
		done(low, nil)
	}
}

// maxDeletes is how many deletions of a partition wait for its followers at a time.
const maxDeletes = 100

// deletion is a DeleteBefore that waits until no replica has what it deletes.
type deletion struct {
	o    record.Offset
	done func(record.Offset, error)
}

func refuseAll(ds []deletion, err error) {
	for _, d := range ds {
		d.done(-1, err)
	}
}

// deleted answers the deletions that every replica has made.
func (p *Partition) deleted() {
	p.mu.Lock()
	if p.mu.lead == nil {
		p.mu.Unlock()
		return
	}
	low := p.mu.lead.lowStart(p.log.Start())
	var made, rest []deletion
	for _, d := range p.mu.deletes {
		if d.o <= low {
			made = append(made, d)
		} else {
			rest = append(rest, d)
		}
	}
	p.mu.deletes = rest
	p.mu.Unlock()
	for _, d := range made {
		d.done(low, nil)
	}
}
