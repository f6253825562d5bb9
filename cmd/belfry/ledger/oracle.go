package ledger

import (
	"fmt"
	"slices"
	"sync"
)

// Oracle judges what a group does, whatever its members read: no two members own one partition in one generation, and
// what a member was told is committed stays so. Safe for concurrent use.
//
// It is pure: no clock, socket or process.
type Oracle struct {
	l     *Ledger
	group string

	mu struct {
		sync.Mutex
		owners    []map[int32]string // by partition: generation to member
		committed []int64            // by partition: the highest offset that was acknowledged as committed; -1 none
		unsure    []map[int64]bool   // by partition: offsets of which nobody knows whether, and when, they are committed
		below     []observed         // to be judged at the end
		answers   int                // that were looked at
		late      int                // by a coordinator that was none any more
		played    int                // commits of past generations that were answered
		fenced    int                // of these, how many were refused as such
	}
}

// observed is a committed offset that was read, and what had been acknowledged before it was asked for.
type observed struct {
	partition        int32
	offset, promised int64
	where            string
}

// Oracle begins to judge a group that reads this ledger's topic.
func (l *Ledger) Oracle(group string) *Oracle {
	o := &Oracle{l: l, group: group}
	o.mu.committed = slices.Repeat([]int64{-1}, int(l.Partitions))
	o.mu.owners, o.mu.unsure = make([]map[int32]string, l.Partitions), make([]map[int64]bool, l.Partitions)
	for p := range o.mu.owners {
		o.mu.owners[p], o.mu.unsure[p] = map[int32]string{}, map[int64]bool{}
	}
	return o
}

// Group names it.
func (o *Oracle) Group() string { return o.group }

// Owns takes down what a member was assigned in a generation.
func (o *Oracle) Owns(member string, generation int32, partitions []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range partitions {
		if was := o.mu.owners[p][generation]; was != "" && was != member {
			o.l.Find(Owned, "group %s: in generation %d both %s and %s own partition %d", o.group, generation, was, member, p)
		}
		o.mu.owners[p][generation] = member
	}
}

// Committed takes down that a member was told that an offset is committed.
func (o *Oracle) Committed(partition int32, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.committed[partition] = max(o.mu.committed[partition], offset)
}

// Unsure takes down that a member tried to commit an offset and was not told what became of that: it may be committed
// at any time, even after a higher one, when the request was on its way for long.
func (o *Oracle) Unsure(partition int32, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.unsure[partition][offset] = true
}

// Promised gives, by partition, the highest offset that was acknowledged as committed so far, -1 for none.
func (o *Oracle) Promised() []int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.mu.committed)
}

// Observe takes down what the coordinator says is committed, -1 for nothing; promised is what Promised gave before it
// was asked. Where says who said it when, for the finding.
func (o *Oracle) Observe(partition int32, offset, promised int64, where string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.answers++
	again := func(b observed) bool { return b.partition == partition && b.offset == offset }
	if offset < promised && !slices.ContainsFunc(o.mu.below, again) {
		o.mu.below = append(o.mu.below, observed{partition, offset, promised, where})
	}
}

// Late takes down that a coordinator said what it knew before it was deposed, without knowing that.
func (o *Oracle) Late() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.late++
}

// Played takes down that a commit of a past generation was answered; fenced: it was refused as such.
func (o *Oracle) Played(fenced bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.played++
	if fenced {
		o.mu.fenced++
	}
}

// End judges what could not be judged before every member had been told what became of its commits. It gives how many
// offsets were looked at, and how many answers came from a coordinator that was none any more.
func (o *Oracle) End() (looked, late int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.answers == 0 && slices.Max(o.mu.committed) >= 0 {
		o.l.Find(Unread, "group %s: no coordinator ever said what is committed", o.group)
	}
	if o.mu.played > 10 && o.mu.fenced == 0 {
		o.l.Find(Unfenced, "group %s: of %d commits of past generations none was refused as such", o.group, o.mu.played)
	}
	for _, b := range o.mu.below {
		if !o.mu.unsure[b.partition][b.offset] {
			o.l.Find(Rewound, "group %s: partition %d: %d was acknowledged as committed, later %s is (%s)", o.group, b.partition, b.promised, orNothing(b.offset), b.where)
		}
	}
	o.mu.below = nil
	return o.mu.answers, o.mu.late
}

func orNothing(offset int64) string {
	if offset < 0 {
		return "nothing"
	}
	return fmt.Sprint(offset)
}
