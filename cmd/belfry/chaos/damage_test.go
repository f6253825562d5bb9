package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

// damageFaults are what becomes of bytes that a node has kept: nobody is ever given them, nothing that others hold, too,
// is lost, and the node has the log again as the others have it.
//
// A node checks what it has not read since it began. What rots later, where it looked already, its scrubber finds; until
// then a client that looks at the check sum, as all do by default, refuses it. So here most damage comes to be while
// the node is away.
func damageFaults() []fault {
	return []fault{
		{"a flipped bit in a leader's log", func(w *world) {
			d := w.damageable(w.leads)
			w.node(d.id).Kill()
			w.flip(d, 0)
			w.node(d.id).Restart()
			w.leadsAgain(d)
			w.damaged(d)
		}},
		{"a flipped bit in a follower's log", func(w *world) {
			d := w.damageable(w.follows)
			w.node(d.id).Kill()
			w.flip(d, 0)
			w.pause(w.between(0, 8*time.Second))
			w.node(d.id).Restart()
			w.damaged(d)
		}},
		{"a flipped bit under a node that runs", func(w *world) {
			d := w.damageable(w.anyRole)
			w.flip(d, record.HeaderSize) // what no check sum covers only the node itself could find
			w.refused(d)
			w.node(d.id).Kill()
			w.node(d.id).Restart()
			w.damaged(d)
		}},
		{"a truncated file under a node that runs", func(w *world) {
			d := w.damageable(w.anyRole)
			w.truncate(d)
			w.refused(d)
			w.node(d.id).Kill()
			w.node(d.id).Restart()
			w.damaged(d)
		}},
		{"a truncated file of one that is killed", func(w *world) {
			d := w.damageable(w.anyRole)
			w.node(d.id).Kill()
			w.truncate(d)
			w.pause(w.between(0, 8*time.Second))
			w.node(d.id).Restart()
			w.damaged(d)
		}},
		{"a truncated file of one that was stopped cleanly", func(w *world) {
			d := w.damageable(w.anyRole)
			w.node(d.id).Stop()
			w.truncate(d)
			w.node(d.id).Restart()
			w.damaged(d)
		}},
	}
}

// victim is a file of a partition's log on one node, which it does not write any more.
type victim struct {
	id, partition int
	file          string
	size          int64
	upTo          int    // bytes of the log up to the file's end
	was           string // what was done to it
}

func (w *world) anyRole(int, int) bool { return true }
func (w *world) leads(id, partition int) bool {
	return w.leader(w.ledgers[0].Topic, int32(partition)) == id
}
func (w *world) follows(id, partition int) bool {
	leader := w.leader(w.ledgers[0].Topic, int32(partition))
	return leader != 0 && leader != id
}

// damageable picks a closed segment of a replica with that role, once there is one.
func (w *world) damageable(fits func(id, partition int) bool) (d *victim) {
	w.t.Helper()
	w.eventually("a segment is closed", func() string {
		var why string
		d, why = w.closedSegment(fits)
		return why
	})
	return d
}

func (w *world) closedSegment(fits func(id, partition int) bool) (d *victim, why string) {
	for _, p := range w.rnd.Perm(partitions) {
		for _, id := range w.ids() {
			if !fits(id, p) {
				continue
			}
			_, segments, err := segmentsOf(w.node(id).Dir, w.ledgers[0].Topic, p)
			if err != nil || len(segments) < 2 {
				continue
			}
			d := &victim{id: id, partition: p}
			for _, file := range segments[:1+w.rnd.IntN(len(segments)-1)] {
				info, err := os.Stat(file)
				if err != nil {
					return nil, err.Error()
				}
				d.file, d.size, d.upTo = file, info.Size(), d.upTo+int(info.Size())
			}
			if d.size > 0 {
				return d, ""
			}
		}
	}
	return nil, "each has only one"
}

// flip changes one bit of a batch, behind so many bytes of it.
func (w *world) flip(d *victim, behind int) {
	w.t.Helper()
	b, err := os.ReadFile(d.file)
	if err != nil {
		w.t.Fatal(err)
	}
	var at int
	for pos := 0; pos < len(b); { // one of all such bytes, each as likely
		h, err := record.ReadHeader(b[pos:])
		if err != nil {
			w.t.Fatalf("cannot read %s: %v", d.file, err)
		}
		end := pos + h.Size()
		if pick := behind + w.rnd.IntN(h.Size()-behind); w.rnd.IntN(end) < h.Size() {
			at = pos + pick
		}
		pos = end
	}
	f, err := os.OpenFile(d.file, os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{b[at] ^ 1<<w.rnd.IntN(8)}, int64(at))
	if err = errors.Join(err, f.Close()); err != nil {
		w.t.Fatal(err)
	}
	d.was = fmt.Sprintf("byte %d of %s was changed", at, filepath.Base(d.file))
}

// truncate cuts off some end.
func (w *world) truncate(d *victim) {
	w.t.Helper()
	at := w.rnd.Int64N(d.size)
	if err := os.Truncate(d.file, at); err != nil {
		w.t.Fatal(err)
	}
	d.was = fmt.Sprintf("%s was cut to %d bytes", filepath.Base(d.file), at)
}

// damaged has everything read after that, and waits until the damaged replica is as the others are: the node fetches
// it again by itself.
func (w *world) damaged(d *victim) {
	w.t.Helper()
	w.say("on node %d, of partition %d, %s", d.id, d.partition, d.was)
	ctx, cancel := context.WithTimeout(w.t.Context(), healLimit())
	defer cancel()
	w.ledgers[0].ReadOnce(ctx, w.Seeds(), "reader of all after "+d.was)
	w.eventually(fmt.Sprintf("node %d has partition %d as the others have it", d.id, d.partition), func() string {
		mine, err := logOf(w.node(d.id).Dir, w.ledgers[0].Topic, d.partition)
		if err != nil {
			return err.Error()
		}
		theirs, err := logOf(w.node(w.others(d.id)[0]).Dir, w.ledgers[0].Topic, d.partition)
		if err != nil {
			return err.Error()
		}
		if len(mine) < d.upTo || len(theirs) < d.upTo || !bytes.Equal(mine[:d.upTo], theirs[:d.upTo]) {
			return fmt.Sprintf("of %d bytes: %s", d.upTo, difference(mine[:min(len(mine), d.upTo)], theirs[:min(len(theirs), d.upTo)]))
		}
		return ""
	})
}

// refused has everything read while a node may not know yet: a client that looks at check sums is given what is right,
// or nothing.
func (w *world) refused(d *victim) {
	w.t.Helper()
	w.say("on node %d, of partition %d, %s", d.id, d.partition, d.was)
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	if err := w.ledgers[0].TryReadOnce(ctx, w.Seeds(), "reader of what can be read after "+d.was); err != nil {
		w.say("a client refuses it: %v", err)
	}
}

// leadsAgain waits until a node that was started leads the partition again, or does not by right.
func (w *world) leadsAgain(d *victim) {
	end := time.Now().Add(20 * time.Second)
	for time.Now().Before(end) && !w.leads(d.id, d.partition) {
		w.pause(200 * time.Millisecond)
	}
}
