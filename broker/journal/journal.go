// Package journal runs one internal partition as the log of a state machine, on the broker
// that leads it: it replays what is committed, then appends and tells when that is
// committed. Coordinators of groups and of transactions share it.
//
// It knows records, not what they mean, and holds no state of the machine. A machine
// changes by committed records only, in the order of their offsets, while loading and while
// running alike.
//
// Invariants: the machine saw exactly the records below the high watermark, in order, when
// a done is called with nil (R31); each Append is answered once; nothing is appended before
// everything committed was replayed (R30).
//
// Around it, Host runs a shard of such a machine – it brings it the time, keeps its requests
// apart and begins anew when the log could not be read – and Hosts has one for each partition
// of an internal topic that this broker leads.
//
// Road in: New, Run, Append; NewHosts, Lead, Do. Road out: the partition under it (Log), the
// Machine.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

// Refusals; compare with errors.Is.
var (
	// ErrNotLoaded says that the journal is still replaying, or has stopped.
	ErrNotLoaded = errors.New("the journal is not loaded")
	// ErrTooLarge says that an entry's records do not fit in one batch.
	ErrTooLarge = errors.New("the entry is larger than the largest batch")
	// ErrStopped says that the journal was unloaded before the entry was committed.
	ErrStopped = errors.New("the journal was stopped")
	// ErrBusy says that too much waits to be written.
	ErrBusy = errors.New("too many entries wait to be written")
)

// Machine is the state machine whose log the journal is. Its methods are called by the
// journal's one goroutine.
type Machine interface {
	// Replay takes one committed record; r is valid until it returns. The batch tells whose
	// transaction it belongs to, if any. An error ends the loading or the journal: what the
	// machine does not know it skips without an error.
	Replay(batch record.Header, r record.Record) error
	// ReplayMarker takes the end of a producer's transaction.
	ReplayMarker(m record.Marker) error
	// Loaded says that everything committed before was replayed; from now on Append works.
	Loaded()
}

// Entry is records that are written together or not at all.
type Entry struct {
	Records  []record.Record // key and value count; offset and time are given by the journal
	Producer *Producer       // whose transaction the records belong to; nil: they stand by themselves
	// Marker is written instead of records: it ends a producer's transaction in this partition.
	Marker *record.Marker
	// Done is called once: with nil after the machine replayed the records, else with why
	// they may not be there. It is called by the journal's goroutine, which it must not
	// block.
	Done func(error)
}

// Producer is who writes records in a transaction.
type Producer struct {
	ID    int64
	Epoch int16
}

// alone tells that an entry needs a batch of its own: its header says more than that there are records.
func (e *Entry) alone() bool { return e.Producer != nil || e.Marker != nil }

// Log is the partition under a journal. OverReplica makes one.
type Log interface {
	// CheckLeader fails when this broker does not lead in that epoch any more.
	CheckLeader(e record.Epoch) error
	// Settled gives the committed end, or an error until all of earlier epochs is committed.
	Settled() (record.Offset, error)
	// Start and Committed bound what can be read.
	Start() record.Offset
	Committed() record.Offset
	// Read gives whole batches below Committed from the one that holds that offset on, about max bytes.
	Read(from record.Offset, max int) ([]byte, error)
	// Append writes one batch with acks=all, in that leader epoch or not at all, and gives the offset after it.
	Append(e record.Epoch, batch []byte) (record.Offset, error)
	// Watch calls wake after Committed, leadership or state changed. wake does not block.
	Watch(wake func()) (unwatch func())
}

// Limits of what a journal holds.
const (
	readSize = 1 << 20 // bytes read at once while loading
	// batchSize is where a batch of several entries ends. Why not max.message.bytes: a
	// batch is read whole.
	batchSize = 1 << 20
	// entryBytes bounds one entry. It is the product's largest message; max.message.bytes
	// is for what clients send and does not count here.
	entryBytes = 10 << 20
	// queueEntries and queueBytes bound what waits to be written. Why so much: it is the
	// commits of one disk stall, and the client's own requests in flight bound it first.
	queueEntries = 1 << 16
	queueBytes   = 64 << 20
)

// Journal is one partition's log in one leader epoch.
type Journal struct {
	log     Log
	epoch   record.Epoch
	machine Machine
	logger  *slog.Logger
	now     func() time.Time

	kick chan struct{} // capacity 1: "look again" is one message however often it is said

	mu struct {
		sync.Mutex
		loaded  bool
		queue   []Entry
		entries int // in queue, being appended and waiting for the high watermark
		bytes   int
	}

	// The rest belongs to Run's goroutine.
	builder *record.Builder
	pending []appended
}

// appended is one batch in the log that waits for the high watermark.
type appended struct {
	header  record.Header
	entries []Entry
	bytes   int
}

// Options of a Journal.
type Options struct {
	Log     Log
	Epoch   record.Epoch // this broker's leader epoch; the journal ends with it
	Machine Machine
	Logger  *slog.Logger
	Now     func() time.Time
}

// New wires a journal and starts nothing.
func New(o Options) *Journal {
	return &Journal{
		log: o.Log, epoch: o.Epoch, machine: o.Machine, logger: o.Logger, now: o.Now,
		kick:    make(chan struct{}, 1),
		builder: record.NewBuilder(record.None),
	}
}

// Append takes an entry of at least one record, or of a marker, to be written; entries are written in the order in which they came,
// many in one batch when they come faster than the disk answers.
//
// Errors: ErrNotLoaded, ErrTooLarge, ErrBusy; then Done is not called.
func (j *Journal) Append(e Entry) error {
	size := entrySize(e)
	if size > entryBytes {
		return ErrTooLarge
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case !j.mu.loaded:
		return ErrNotLoaded
	case j.mu.entries >= queueEntries || j.mu.bytes+size > queueBytes:
		return ErrBusy
	}
	j.mu.queue = append(j.mu.queue, e)
	j.mu.entries++
	j.mu.bytes += size
	j.wake()
	return nil
}

// entrySize is at least what the entry takes in a batch alone.
func entrySize(e Entry) int {
	const recordOverhead = 32 // lengths, deltas, header count: varints at their longest
	n := record.HeaderSize
	for _, r := range e.Records {
		n += recordOverhead + len(r.Key) + len(r.Value)
	}
	return n
}

func (j *Journal) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// Run replays, then writes, until ctx ends or the leadership does. Whoever waits then is
// told why; the machine's state is worth nothing any more.
//
// Errors: the leadership's end (replica's refusals); a log that cannot be read; a record
// that the machine refuses. Nil when ctx ended it.
func (j *Journal) Run(ctx context.Context) error {
	unwatch := j.log.Watch(j.wake)
	defer unwatch()
	err := j.load(ctx)
	if err == nil && ctx.Err() == nil {
		j.mu.Lock()
		j.mu.loaded = true
		j.mu.Unlock()
		j.machine.Loaded()
		err = j.write(ctx)
	}
	j.fail(err)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// pause waits for the next reason to look again.
func (j *Journal) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-j.kick:
	}
}

// load replays everything that is committed once the log of earlier epochs is (R5, R30).
func (j *Journal) load(ctx context.Context) error {
	began := j.now()
	var end record.Offset
	for {
		if err := j.log.CheckLeader(j.epoch); err != nil {
			return err
		}
		var err error
		if end, err = j.log.Settled(); err == nil {
			break
		}
		if j.pause(ctx); ctx.Err() != nil {
			return nil
		}
	}
	records := 0
	at := j.log.Start()
	for at < end && ctx.Err() == nil {
		if err := j.log.CheckLeader(j.epoch); err != nil {
			return err
		}
		b, err := j.log.Read(at, readSize)
		if err != nil {
			return fmt.Errorf("cannot read the log at offset %d: %w", at, err)
		}
		next, n, err := j.replayAll(b, at)
		if err != nil {
			return err
		}
		records += n
		if next <= at {
			return fmt.Errorf("cannot read the log at offset %d: no batch below %d", at, end)
		}
		at = next
	}
	j.logger.Debug("journal loaded", "end", int64(end), "records", records, "took", j.now().Sub(began))
	return nil
}

// replayAll replays the records of whole batches from an offset on and gives the next offset.
func (j *Journal) replayAll(b []byte, from record.Offset) (next record.Offset, n int, err error) {
	next = from
	for len(b) > 0 {
		h, err := record.Verify(b)
		if err != nil {
			return next, n, fmt.Errorf("cannot read the batch after offset %d: %w", next, err)
		}
		if err := j.replay(b[:h.Size()], h, from); err != nil {
			return next, n, err
		}
		b, next, n = b[h.Size():], h.Last()+1, n+int(h.Count)
	}
	return next, n, nil
}

func (j *Journal) replay(batch []byte, h record.Header, from record.Offset) error {
	if h.Control() {
		if h.Last() < from {
			return nil
		}
		m, ok, err := record.ReadMarker(batch)
		if err == nil && ok {
			err = j.machine.ReplayMarker(m)
		}
		if err != nil {
			return fmt.Errorf("cannot replay the marker at offset %d: %w", h.Base, err)
		}
		return nil
	}
	return record.Each(batch, func(r record.Record) error {
		if r.Offset < from {
			return nil
		}
		if err := j.machine.Replay(h, r); err != nil {
			return fmt.Errorf("cannot replay the record at offset %d: %w", r.Offset, err)
		}
		return nil
	})
}

// write appends what is queued and commits what the high watermark has passed, until ctx or
// the leadership ends.
func (j *Journal) write(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := j.log.CheckLeader(j.epoch); err != nil {
			return err
		}
		j.appendQueue()
		if err := j.commit(j.log.Committed()); err != nil {
			return err
		}
		j.pause(ctx)
	}
	return nil
}

// appendQueue puts the queued entries into as few batches as fit.
func (j *Journal) appendQueue() {
	j.mu.Lock()
	queue := j.mu.queue
	j.mu.queue = nil
	j.mu.Unlock()
	for len(queue) > 0 {
		n, size := 0, 0
		for n < len(queue) {
			more := entrySize(queue[n])
			if n > 0 && (size+more > batchSize || queue[n].alone() || queue[n-1].alone()) {
				break
			}
			n, size = n+1, size+more
		}
		j.appendBatch(queue[:n], size)
		queue = queue[n:]
	}
}

func (j *Journal) appendBatch(entries []Entry, size int) {
	batch := j.batch(entries)
	end, err := j.log.Append(j.epoch, batch)
	if err != nil {
		j.answered(size, len(entries))
		for _, e := range entries {
			e.Done(err)
		}
		return
	}
	h, err := record.ReadHeader(batch)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	h.Base = end - record.Offset(h.Count)
	j.pending = append(j.pending, appended{header: h, entries: entries, bytes: size})
}

// batch builds the batch of entries.
func (j *Journal) batch(entries []Entry) []byte {
	now := j.now().UnixMilli()
	if m := entries[0].Marker; m != nil {
		return m.Batch(now)
	}
	header := &j.builder.Header
	if p := entries[0].Producer; p != nil {
		header.ProducerID, header.ProducerEpoch, header.Attributes = p.ID, p.Epoch, record.TransactionalBit
	}
	for _, e := range entries {
		for _, r := range e.Records {
			r.Timestamp = now
			j.builder.Add(r)
		}
	}
	batch, err := j.builder.Build()
	if err != nil {
		panic("BUG: " + err.Error())
	}
	header.Base, header.ProducerID, header.ProducerEpoch, header.Attributes = 0, -1, -1, 0
	return batch
}

// commit replays into the machine, and answers, what lies below the high watermark.
func (j *Journal) commit(hw record.Offset) error {
	for len(j.pending) > 0 && j.pending[0].header.Last() < hw {
		a := j.pending[0]
		at := a.header.Base
		for i, e := range a.entries {
			if e.Marker != nil {
				if err := j.machine.ReplayMarker(*e.Marker); err != nil {
					j.pending[0].entries = a.entries[i:]
					return fmt.Errorf("cannot replay the marker at offset %d: %w", at, err)
				}
			}
			for _, r := range e.Records {
				r.Offset, r.Timestamp = at, a.header.MaxTimestamp
				if err := j.machine.Replay(a.header, r); err != nil {
					j.pending[0].entries = a.entries[i:]
					return fmt.Errorf("cannot replay the record at offset %d: %w", at, err)
				}
				at++
			}
			e.Done(nil)
		}
		j.pending[0] = appended{}
		j.pending = j.pending[1:]
		j.answered(a.bytes, len(a.entries))
	}
	return nil
}

// answered gives back what entries took of the journal's room.
func (j *Journal) answered(size, entries int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.bytes -= size
	j.mu.entries -= entries
}

// fail tells everybody who waits that it is over.
func (j *Journal) fail(err error) {
	if err == nil {
		err = ErrStopped
	}
	j.mu.Lock()
	j.mu.loaded = false
	queue := j.mu.queue
	j.mu.queue = nil
	j.mu.Unlock()
	for _, a := range j.pending {
		for _, e := range a.entries {
			e.Done(err)
		}
	}
	j.pending = nil
	for _, e := range queue {
		e.Done(err)
	}
}
