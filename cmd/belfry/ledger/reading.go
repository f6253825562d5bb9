package ledger

import "slices"

// Reading is what one reader was given so far: from each partition one message after the other.
// Not safe for concurrent use.
type Reading struct {
	Who  string  // for findings
	Next []int64 // by partition: the offset that comes next

	l        *Ledger
	whole    bool
	shared   bool
	produced map[string]*readBack
	read     int
}

// stamp is the idempotent producer that a broker knows a batch by.
type stamp struct {
	id    int64
	epoch int16
}

// unknown is the stamp of what somebody read who does not tell it.
var unknown = stamp{-1, -1}

// readBack is what was read of one producer.
type readBack struct {
	numbers bitmap
	last    []int         // by partition: the highest number, -1 for none
	stamps  map[int]stamp // by number, of a producer that renews its epoch
	renewed int           // messages met again under another epoch
}

// Read begins a reading of each partition from its beginning, for which duplicates and order count, too.
func (l *Ledger) Read(who string) *Reading {
	return &Reading{Who: who, Next: make([]int64, l.Partitions), l: l, whole: true, produced: map[string]*readBack{}}
}

// Share begins what the members of a group read together: a partition's next reader goes on where the one before it
// had committed, so messages may come again, and none may be left out.
func (l *Ledger) Share(who string) *Reading {
	r := l.Read(who)
	r.whole, r.shared = false, true
	return r
}

// Count gives how many messages the reader was given.
func (r *Reading) Count() int { return r.read }

// Skip says that what lies before an offset was deleted by right.
func (r *Reading) Skip(partition int32, offset int64) {
	r.Next[partition] = max(r.Next[partition], offset)
}

// Take is the message that the reader is given next.
func (r *Reading) Take(partition int32, offset int64, value []byte) {
	r.take(partition, offset, value, unknown)
}

func (r *Reading) take(partition int32, offset int64, value []byte, by stamp) {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.read++
	next := r.Next[partition]
	if offset > next {
		r.gapLocked(partition, next, offset)
	}
	if offset < next && !r.shared {
		r.l.findLocked(Repeated, "%s: partition %d goes from offset %d back to %d", r.Who, partition, next, offset)
	}
	r.Next[partition] = max(next, offset+1)
	name, i, err := r.l.parse(value)
	if err != nil {
		r.l.findLocked(Damaged, "%s: partition %d holds at offset %d %v", r.Who, partition, offset, err)
		return
	}
	if b := r.l.mu.aborted[name]; b != nil && b.has(i) {
		r.l.findLocked(Aborted, "%s: partition %d offset %d: number %d of %s", r.Who, partition, offset, i, name)
	}
	if !r.l.stateLocked(partition, offset, name, i, false) || !r.whole {
		return
	}
	r.orderLocked(partition, offset, name, i, by)
}

// gapLocked judges offsets between two messages.
func (r *Reading) gapLocked(partition int32, from, to int64) {
	slots := r.l.mu.slots[partition]
	for o := from; o < min(to, int64(len(slots))); o++ {
		if e := slots[o]; e != 0 {
			kind := Skipped
			if r.whole && e&ackedBit != 0 {
				kind = Lost
			}
			r.l.findLocked(kind, "%s: partition %d goes from offset %d to %d; offset %d holds number %d of %s (%s)",
				r.Who, partition, from, to, o, e.number(), r.l.mu.names[e.producer()], how(e&ackedBit != 0))
			return
		}
	}
	if !r.l.Holes {
		r.l.findLocked(Skipped, "%s: partition %d goes from offset %d to %d", r.Who, partition, from, to)
	}
}

func (r *Reading) orderLocked(partition int32, offset int64, name string, i int, by stamp) {
	back := r.produced[name]
	if back == nil {
		back = &readBack{last: slices.Repeat([]int{-1}, len(r.Next)), stamps: map[int]stamp{}}
		r.produced[name] = back
	}
	there := back.numbers.add(i)
	switch r.l.mu.strength[name] {
	case Exact:
	case Renewed:
		before := back.stamps[i]
		back.stamps[i] = by
		if there && before != by {
			back.renewed++ // no broker can know that it is the same
			return
		}
		if there && by == unknown {
			return // this reader cannot tell
		}
	default:
		return
	}
	if there {
		r.l.findLocked(Duplicate, "%s: number %d of %s stands in the log twice, once in partition %d at offset %d by producer %d of epoch %d",
			r.Who, i, name, partition, offset, by.id, by.epoch)
	} else if last := back.last[partition]; i <= last {
		r.l.findLocked(Reordered, "%s: partition %d offset %d: number %d of %s stands behind number %d", r.Who, partition, offset, i, name, last)
	}
	back.last[partition] = max(back.last[partition], i)
}

// Renewed gives how many messages stand in the log again under another epoch of their producer, as the last reading met
// them that has ended.
func (l *Ledger) Renewed() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.mu.back {
		n += b.renewed
	}
	return n
}

// End says that the reader has been given all up to these ends of the partitions. What was acknowledged or read
// before and lies behind them is lost.
//
// It gives how many acknowledged messages of weak producers the reader did not meet.
func (r *Reading) End(ends []int64) (weakLost int) {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	for p, end := range ends {
		slots := r.l.mu.slots[p]
		if next := r.Next[p]; next < end {
			r.gapLocked(int32(p), next, end)
		}
		gone := 0
		first := int64(-1)
		for o := end; o < int64(len(slots)); o++ {
			if slots[o] != 0 {
				if gone == 0 {
					first = o
				}
				gone++
			}
		}
		if gone > 0 {
			e := slots[first]
			r.l.findLocked(Lost, "%s: partition %d ends at offset %d; %d messages behind it are lost, the first at offset %d: number %d of %s (%s)",
				r.Who, p, end, gone, first, e.number(), r.l.mu.names[e.producer()], how(e&ackedBit != 0))
		}
	}
	r.tornLocked()
	for name, acked := range r.l.mu.nowhere {
		for i := range len(*acked) * 64 {
			if b := r.produced[name]; acked.has(i) && (b == nil || !b.numbers.has(i)) {
				r.l.findLocked(Lost, "%s: number %d of %s, which was acknowledged without an offset, is nowhere", r.Who, i, name)
			}
		}
	}
	r.l.mu.back = r.produced
	for name, acked := range r.l.mu.weak {
		var back bitmap
		if b := r.produced[name]; b != nil {
			back = b.numbers
		}
		for i := range len(*acked) * 64 {
			if acked.has(i) && !back.has(i) {
				weakLost++
			}
		}
	}
	return weakLost
}
