// Package ledger knows what a topic must hold after faults, and says what is wrong with what it does hold.
//
// Producers send numbered messages whose content follows from their producer's name and number; the ledger takes
// down which of them were acknowledged where, and what any reader was given. Each reading is compared with all that
// was known before: a message lost, written twice, out of order, another one at an offset that was acknowledged or
// was read before, a damaged one. It is made for tens of millions of messages: one word an offset, two bits a message.
//
// The ledger itself (this file, reading.go, oracle.go) is pure: no clock, socket or process. road.go produces and reads
// by a real client, group.go as a member of a group, transact.go and copy.go send transactions. It is for tests only.
package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
)

// Kind is what is wrong.
type Kind string

// What can be wrong.
const (
	Lost      Kind = "lost"         // acknowledged, and not there
	Conflict  Kind = "inconsistent" // one offset, two messages
	Duplicate Kind = "duplicate"    // one message of an idempotent producer, two offsets
	Reordered Kind = "reordered"    // a producer's later message before an earlier one of the same partition
	Damaged   Kind = "damaged"      // nobody sent this
	Skipped   Kind = "skipped"      // a reader was not given an offset that holds a message
	Repeated  Kind = "repeated"     // a reader was given an offset again without having asked for it
	Refused   Kind = "refused"      // a client gave up
	Aborted   Kind = "aborted read" // a message of an aborted transaction was given to a reader of committed ones
	Torn      Kind = "torn"         // a committed transaction of which some messages are missing
	Rewound   Kind = "rewound"      // a group's committed offset went back
	Owned     Kind = "owned twice"  // two members of a group had one partition in one generation
	Unfenced  Kind = "unfenced"     // somebody whose time was over was obeyed
	Unread    Kind = "unreadable"   // what is there could not be read
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind Kind
	Text string
}

// Strength is what a producer was promised.
type Strength int

// Strengths of producers.
const (
	Exact   Strength = iota // idempotent, acks=all: there, once, in order
	Renewed                 // Exact once an epoch: the client sends what was not answered again under a new one; this is counted
	Loose                   // acks=all: there, perhaps twice, perhaps out of order
	Weak                    // acks=1 or 0: perhaps lost, too; the loss is counted
)

// Options of a ledger.
type Options struct {
	Topic      string
	Partitions int32
	Scale      int           // makes messages larger; 0 is 1
	Trimmed    bool          // retention or the guard may delete the oldest messages
	Holes      bool          // offsets may hold no message: markers of transactions take some
	Report     func(Finding) // is told each finding at once; called one at a time; nil = nobody
}

// Ledger of one topic. Safe for concurrent use.
type Ledger struct {
	Options

	mu struct {
		sync.Mutex
		slots    [][]entry // by partition and offset
		count    int
		names    []string // an entry holds the index
		strength map[string]Strength
		acked    map[string][]int   // acknowledgements by producer and partition
		weak     map[string]*bitmap // acknowledged numbers of weak producers
		nowhere  map[string]*bitmap // acknowledged numbers of which the producer was not told the offset
		aborted  map[string]*bitmap // numbers in transactions that are never committed
		unsure   []span
		back     map[string]*readBack // by the last reading that has ended
		found    []Finding
	}
}

// entry says which message stands at an offset: whether it was acknowledged there, the index of its producer's name
// plus 1 in the top byte, its number below. 0 is none.
type entry uint64

const (
	numberBits = 56
	ackedBit   = entry(1) << 63
	most       = 126 // producers
)

func (e entry) producer() int { return int(e&^ackedBit>>numberBits) - 1 }

func (e entry) number() int { return int(e & (1<<numberBits - 1)) }

// bitmap is a set of small numbers.
type bitmap []uint64

// add tells whether n was there already.
func (b *bitmap) add(n int) (there bool) {
	for len(*b) <= n/64 {
		*b = append(*b, 0)
	}
	word, bit := &(*b)[n/64], uint64(1)<<(n%64)
	there = *word&bit != 0
	*word |= bit
	return there
}

func (b bitmap) has(n int) bool { return n/64 < len(b) && b[n/64]&(uint64(1)<<(n%64)) != 0 }

// New gives an empty ledger.
func New(o Options) *Ledger {
	l := &Ledger{Options: o}
	l.mu.slots = make([][]entry, o.Partitions)
	l.mu.strength, l.mu.acked = map[string]Strength{}, map[string][]int{}
	l.mu.weak, l.mu.nowhere, l.mu.aborted = map[string]*bitmap{}, map[string]*bitmap{}, map[string]*bitmap{}
	return l
}

// Promise says what a producer is promised. One that is not named is Exact.
// Requires: called before the producer's first message is read.
func (l *Ledger) Promise(name string, s Strength) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.strength[name] = s
}

// Value is message i of a producer. Requires: no space in the name.
func (l *Ledger) Value(name string, i int) []byte {
	return append(fmt.Appendf(nil, "%s %d ", name, i), bytes.Repeat([]byte{letter(i)}, l.padding(i))...)
}

func letter(i int) byte { return byte('a' + i%26) }

func (l *Ledger) padding(i int) int { return max(1, l.Scale) * (200 + i%800) }

// parse gives what a message says.
func (l *Ledger) parse(value []byte) (name string, i int, err error) {
	fields := bytes.SplitN(value, []byte(" "), 3)
	if len(fields) != 3 {
		return "", 0, fmt.Errorf("%.40q, which nobody sent", value)
	}
	i, err = strconv.Atoi(string(fields[1]))
	if err != nil || len(fields[2]) != l.padding(i) || bytes.Count(fields[2], []byte{letter(i)}) < len(fields[2]) {
		return "", 0, fmt.Errorf("a damaged message %.40q", value)
	}
	return string(fields[0]), i, nil
}

// Find takes a finding down that somebody else made.
func (l *Ledger) Find(k Kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.findLocked(k, format, args...)
}

func (l *Ledger) findLocked(k Kind, format string, args ...any) {
	f := Finding{k, l.Topic + ": " + fmt.Sprintf(format, args...)}
	l.mu.found = append(l.mu.found, f)
	if l.Report != nil {
		l.Report(f)
	}
}

// Findings gives all that was found so far.
func (l *Ledger) Findings() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.found)
}

// Note takes down that number i of a producer was acknowledged at an offset; of a weak producer, only that it was
// acknowledged at all. Nobody may be given an offset that somebody else was given before: what stood there would be lost.
func (l *Ledger) Note(partition int32, offset int64, name string, i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ackedLocked(name, partition)
	if l.mu.strength[name] == Weak {
		b := l.mu.weak[name]
		if b == nil {
			b = &bitmap{}
			l.mu.weak[name] = b
		}
		b.add(i)
		return
	}
	l.stateLocked(partition, offset, name, i, true)
}

// Somewhere is Note for a producer that was not told the offset, as it was acknowledged what it sent again.
func (l *Ledger) Somewhere(partition int32, name string, i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ackedLocked(name, partition)
	b := l.mu.nowhere[name]
	if b == nil {
		b = &bitmap{}
		l.mu.nowhere[name] = b
	}
	b.add(i)
}

// Taker is Note for a producer outside this process that tells a message's number as text, and -1 for an offset that
// it was not told.
func (l *Ledger) Taker(name string) func(partition int32, offset int64, number []byte) {
	return func(partition int32, offset int64, number []byte) {
		i, err := strconv.Atoi(string(number))
		if err != nil {
			l.Find(Damaged, "%s was told of number %q", name, number)
			return
		}
		if offset < 0 {
			l.Somewhere(partition, name, i)
		} else {
			l.Note(partition, offset, name, i)
		}
	}
}

// stateLocked says that a message stands at an offset: acknowledged there, or read there.
func (l *Ledger) stateLocked(partition int32, offset int64, name string, i int, acked bool) (ok bool) {
	producer := slices.Index(l.mu.names, name)
	if producer < 0 {
		if producer = len(l.mu.names); producer == most {
			panic("BUG: too many producers in one ledger")
		}
		l.mu.names = append(l.mu.names, name)
	}
	slots := &l.mu.slots[partition]
	for int64(len(*slots)) <= offset {
		*slots = append(*slots, 0)
	}
	e := entry(producer+1)<<numberBits | entry(i)
	before := (*slots)[offset]
	if was := before &^ ackedBit; was != 0 && was != e {
		l.findLocked(Conflict, "partition %d offset %d: %s number %d of %s, and before %s number %d of %s",
			partition, offset, how(acked), i, name, how(before&ackedBit != 0), was.number(), l.mu.names[was.producer()])
		return false
	}
	if acked {
		e |= ackedBit
	}
	(*slots)[offset] = before | e
	return true
}

func how(acked bool) string {
	if acked {
		return "acknowledged"
	}
	return "read"
}

func (l *Ledger) ackedLocked(name string, partition int32) {
	l.mu.count++
	if l.mu.acked[name] == nil {
		l.mu.acked[name] = make([]int, l.Partitions)
	}
	l.mu.acked[name][partition]++
}

// Acked gives the acknowledgements of each producer so far, by partition.
func (l *Ledger) Acked() map[string][]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string][]int{}
	for name, n := range l.mu.acked {
		all[name] = slices.Clone(n)
	}
	return all
}

// Count gives the acknowledgements so far.
func (l *Ledger) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.count
}

// Tops gives, by partition, the offset behind the last acknowledged one.
func (l *Ledger) Tops() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	tops := make([]int64, len(l.mu.slots))
	for p, slots := range l.mu.slots {
		n := len(slots)
		for n > 0 && slots[n-1]&ackedBit == 0 {
			n--
		}
		tops[p] = int64(n)
	}
	return tops
}
