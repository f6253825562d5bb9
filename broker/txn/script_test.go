package txn

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/broker/journal"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// TestScripts plays testdata/*.txt. Each file has its own shard; every command is a method of
// script.
func TestScripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", func(t *testing.T, text string) string {
		s := &script{stage: newStage(t)}
		s.print = func(format string, args ...any) { fmt.Fprintf(&s.printed, format+"\n", args...) }
		s.stage.say = s.print
		return golden.Blocks(text, func(command string) string {
			s.printed.Reset()
			s.line(command)
			s.check()
			return s.printed.String()
		})
	})
}

// stage is a shard with everything around it made up: a clock that stands still, a journal
// that commits at once, when told to, or never, brokers that write markers at once, when
// told to, or never, IDs that count.
type stage struct {
	t        *testing.T
	say      func(string, ...any)
	shard    *shard
	now      time.Time
	settings limits
	tv       int16
	nextID   int64

	committed []record.Record
	waiting   []journal.Entry
	held      bool
	markers   string                                 // "go", "hold", "fail"
	marked    func(record.Marker, []topic.Partition) // told of markers that are sent
	written   func(record.Marker, []topic.Partition) // ... and written
	sent      []sent
}

type sent struct {
	parts []topic.Partition
	done  func([]topic.Partition)
}

func newStage(t *testing.T) *stage {
	nobody := func(record.Marker, []topic.Partition) {}
	st := &stage{
		marked: nobody, written: nobody,
		t: t, say: func(string, ...any) {}, now: time.UnixMilli(1_000_000_000_000), tv: 2, nextID: 1000, markers: "go",
		settings: limits{maxTimeout: 15 * time.Minute, abortInterval: 10 * time.Second, expiry: 7 * 24 * time.Hour, removeEvery: time.Hour},
	}
	st.restart()
	return st
}

var errJournal = errors.New("the journal is gone")

func (st *stage) empty() *shard {
	s := newShard()
	s.now, s.epoch, s.logger = st.now, 5, slog.New(slog.DiscardHandler)
	s.limits = func() limits { return st.settings }
	s.level = func() int16 { return st.tv }
	s.append = func(e journal.Entry) error {
		if st.shard != s {
			return errJournal
		}
		st.waiting = append(st.waiting, e)
		return nil
	}
	s.reenter = func(f func(*shard)) { st.do(f) }
	s.send = func(m record.Marker, version int8, parts []topic.Partition, done func([]topic.Partition)) {
		kind := "abort"
		if m.Commit {
			kind = "commit"
		}
		st.say("markers: %s %d/%d by coordinator %d version %d in %s", kind, m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, version, names2(parts))
		st.marked(m, parts)
		tell := done
		done = func(parts []topic.Partition) {
			st.written(m, parts)
			tell(parts)
		}
		switch st.markers {
		case "go":
			done(parts)
		case "fail":
			done(nil)
		default:
			st.sent = append(st.sent, sent{parts, done})
		}
	}
	return s
}

func names2(ps []topic.Partition) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return strings.Join(out, " ")
}

// do runs a request and whatever it sets going.
func (st *stage) do(f func(*shard)) {
	st.shard.Enter(st.now)
	f(st.shard)
	st.settle()
}

func (st *stage) settle() {
	for {
		for _, f := range st.shard.Take() {
			f()
		}
		if st.held || len(st.waiting) == 0 {
			return
		}
		e := st.waiting[0]
		st.waiting = st.waiting[1:]
		for _, r := range e.Records {
			st.committed = append(st.committed, r)
			if err := st.shard.Replay(record.Header{}, r); err != nil {
				st.t.Fatal(err)
			}
		}
		e.Done(nil)
	}
}

func (st *stage) advance(d time.Duration) {
	end := st.now.Add(d)
	for {
		next, ok := st.shard.Next()
		if !ok || next.After(end) {
			break
		}
		if next.After(st.now) {
			st.now = next
		}
		st.do((*shard).Ring)
	}
	st.now = end
}

// journal holds commits back, lets them go on, or refuses those that wait.
func (st *stage) journal(what string) {
	switch what {
	case "hold":
		st.held = true
	case "go":
		st.held = false
		st.settle()
	case "fail":
		waiting := st.waiting
		st.waiting = nil
		for _, e := range waiting {
			e.Done(errJournal)
		}
		st.settle()
	}
}

// replayed gives what the log alone gives.
func (st *stage) replayed() *shard {
	s := st.empty()
	for _, r := range st.committed {
		if err := s.Replay(record.Header{}, r); err != nil {
			st.t.Fatal(err)
		}
	}
	return s
}

// restart is kill -9: nobody who waits is answered, the state comes from the log.
func (st *stage) restart() {
	st.waiting, st.sent = nil, nil
	st.shard = st.replayed()
	st.do((*shard).Loaded)
}

// check holds the invariants: what is served equals a replay, and nobody is left behind.
func (st *stage) check() {
	st.t.Helper()
	if !st.shard.live {
		return // it resigned
	}
	again := st.replayed()
	for id, t := range st.shard.ids {
		r := again.ids[id]
		switch {
		case t.producer < 0:
			if r != nil || !t.writing {
				st.t.Fatalf("%s is not stored, but there", id)
			}
			continue
		case r == nil:
			st.t.Fatalf("%s is served and not in the log", id)
		case !reflect.DeepEqual(t.value, r.value):
			st.t.Fatalf("%s is served as %+v, the log gives %+v", id, t.value, r.value)
		}
		if deciding := t.state == PrepareCommit || t.state == PrepareAbort; deciding != (t.unmarked != nil) {
			st.t.Fatalf("%s is %s with markers for %v", id, t.state, t.unmarked)
		}
		if t.unmarked != nil && len(t.unmarked) == 0 && !t.writing && !st.shard.unsent[t] {
			st.t.Fatalf("%s has all its markers and is never ended", id)
		}
		if len(t.waiting) > 0 && !t.busy() {
			st.t.Fatalf("%s is idle, and %d wait for it", id, len(t.waiting))
		}
	}
	for id := range again.ids {
		if st.shard.ids[id] == nil {
			st.t.Fatalf("%s is in the log and not served", id)
		}
	}
}

// script turns command lines into requests and answers into lines.
type script struct {
	*stage
	print   func(string, ...any)
	printed strings.Builder
	words   []string
	options map[string]string
}

func (s *script) line(line string) {
	s.words, s.options = nil, make(map[string]string)
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok {
			s.options[k] = v
		} else {
			s.words = append(s.words, w)
		}
	}
	command := map[string]func(){
		"init": s.init, "add": s.add, "verify": s.verify, "end": s.end,
		"describe": s.describe, "log": s.log, "restart": s.restart,
		"resign":  func() { s.do((*shard).Resign) },
		"level":   func() { s.tv = int16(s.number(s.words[1])) },
		"advance": func() { s.advance(s.duration(s.words[1])) },
		"markers": s.mark, "journal": func() { s.journal(s.words[1]) }, "epoch": s.epoch,
	}[s.words[0]]
	if command == nil {
		s.t.Fatalf("no command %q", s.words[0])
	}
	command()
}

func (s *script) option(name, otherwise string) string {
	if v, ok := s.options[name]; ok {
		return v
	}
	return otherwise
}

func (s *script) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// producer reads by=ID/EPOCH.
func (s *script) producer() (int64, int16) {
	id, epoch, ok := strings.Cut(s.option("by", "-1/-1"), "/")
	if !ok {
		s.t.Fatalf("no epoch in %q", s.words)
	}
	return s.number(id), int16(s.number(epoch))
}

func (s *script) parts() (ps []topic.Partition) {
	for _, w := range s.words[2:] {
		name, n, _ := strings.Cut(w, "-")
		ps = append(ps, topic.Partition{Topic: name, Partition: int32(s.number(n))})
	}
	return ps
}

func named(c code) string {
	if c == none {
		return "ok"
	}
	return kerr.TypedErrorForCode(c).Message
}

// init ID [by=ID/EPOCH] [timeout=D]
func (s *script) init() {
	id := s.words[1]
	producer, epoch := s.producer()
	timeout := int32(s.duration(s.option("timeout", "60s")).Milliseconds())
	var ask func(fresh int64)
	ask = func(fresh int64) {
		s.do(func(sh *shard) {
			sh.initProducer(id, initRequest{timeout: timeout, producer: producer, epoch: epoch, fresh: fresh}, func(c change) {
				if c.needID {
					s.nextID++
					ask(s.nextID)
					return
				}
				s.print("init %s: %d/%d %s", id, c.producer, c.epoch, named(c.code))
			})
		})
	}
	ask(-1)
}

// add ID by=ID/EPOCH [v=1] TOPIC-PARTITION...
func (s *script) add() {
	id, parts := s.words[1], s.parts()
	producer, epoch := s.producer()
	s.do(func(sh *shard) {
		sh.add(id, producer, epoch, parts, int16(s.number(s.option("v", "2"))), func(c code) { s.print("add %s: %s", id, named(c)) })
	})
}

// verify ID by=ID/EPOCH TOPIC-PARTITION...
func (s *script) verify() {
	producer, epoch := s.producer()
	s.do(func(sh *shard) {
		why, of := sh.verify(s.words[1], producer, epoch, s.parts())
		if why != none {
			s.print("verify %s: %s", s.words[1], named(why))
		}
		for _, p := range slices.SortedFunc(maps.Keys(of), byName) {
			s.print("verify %s: %s %s", s.words[1], p, named(of[p]))
		}
	})
}

// end ID commit|abort by=ID/EPOCH [v=1]
func (s *script) end() {
	id := s.words[1]
	producer, epoch := s.producer()
	r := endRequest{producer: producer, epoch: epoch, commit: s.words[2] == "commit", version: int16(s.number(s.option("v", "2"))), fresh: -1}
	var ask func(r endRequest)
	ask = func(r endRequest) {
		s.do(func(sh *shard) {
			sh.end(id, r, func(c change) {
				if c.needID {
					s.nextID++
					r.fresh = s.nextID
					ask(r)
					return
				}
				s.print("end %s: %d/%d %s", id, c.producer, c.epoch, named(c.code))
			})
		})
	}
	ask(r)
}

// markers go|hold|fail, or one of: the oldest that are held are written; "first": only into
// the first partition.
func (s *script) mark() {
	switch how := s.words[1]; how {
	case "go", "hold", "fail":
		s.markers = how
	default:
		m := s.sent[0]
		s.sent = s.sent[1:]
		if how == "first" {
			m.parts = m.parts[:1]
		}
		m.done(m.parts)
	}
}

// epoch ID N puts an ID where it would be after that many epochs.
func (s *script) epoch() {
	t := s.shard.ids[s.words[1]]
	v := t.value
	v.epoch, v.state, v.version, v.parts, v.started = int16(s.number(s.words[2])), Empty, 0, nil, -1
	s.do(func(sh *shard) { sh.write(t, &v, -1, func(code) {}) })
}

func (s *script) describe() {
	for _, t := range s.shard.inOrder(maps.Values(s.shard.ids)) {
		d := t.describe()
		s.print("%s: %s %d/%d timeout %v [%s]", d.ID, d.State, d.Producer, d.Epoch, d.Timeout, names2(d.Parts))
	}
}

// log prints what a replay of the log gives.
func (s *script) log() {
	sh := s.replayed()
	for _, t := range sh.inOrder(maps.Values(sh.ids)) {
		s.print("%s: %s %d/%d was %d next %d version %d [%s]", t.id, t.state, t.producer, t.epoch, t.previous, t.next, t.version, names2(t.parts))
	}
}
