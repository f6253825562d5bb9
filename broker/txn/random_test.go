package txn

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// TestRandomLife lets producers do whatever they can think of, in any order, with a journal
// that stalls and fails, markers that are held up and a coordinator that is killed. After
// each step the stage's invariants hold; each request is answered once, but for those that a
// kill cut off; an epoch is given to one producer; a transaction's markers all say the same,
// and of one that was acknowledged as committed or aborted every partition gets its own.
func TestRandomLife(t *testing.T) {
	lives, steps := 300, 300
	if testing.Short() {
		lives = 50
	}
	for seed := range uint64(lives) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLife(t, seed)
			for range steps {
				l.step()
				l.check()
			}
			l.journal("go")
			l.markers = "go"
			for _, m := range l.sent {
				m.done(m.parts)
			}
			l.sent = nil
			l.advance(time.Hour)
			l.check()
			if l.open != 0 {
				t.Errorf("%d requests were never answered", l.open)
			}
			l.audit()
		})
	}
}

// given is an epoch of a producer ID.
type given struct {
	producer int64
	epoch    int16
}

// life is producers that know what they were told last, and sometimes lie.
type life struct {
	*stage
	rand      *rand.Rand
	producers [5]client
	open      int // requests without an answer
	era       int // kills so far

	owner map[given]int                      // who was given it
	added map[given]map[topic.Partition]bool // acknowledged
	acked map[given]bool                     // ends that were acknowledged: true is commit
	said  map[given]bool                     // markers that were sent
	wrote map[given]map[topic.Partition]bool // markers that were written
}

type client struct {
	id string
	given
	parts map[topic.Partition]bool // of the transaction
}

func newLife(t *testing.T, seed uint64) *life {
	l := &life{
		stage: newStage(t), rand: rand.New(rand.NewPCG(seed, 815)),
		owner: make(map[given]int), added: make(map[given]map[topic.Partition]bool), acked: make(map[given]bool),
		said: make(map[given]bool), wrote: make(map[given]map[topic.Partition]bool),
	}
	for i := range l.producers {
		l.producers[i] = client{id: fmt.Sprint("id", i/2), given: given{-1, -1}}
	}
	l.settings.expiry = 10 * time.Minute
	l.marked = func(m record.Marker, parts []topic.Partition) {
		at := given{m.ProducerID, m.ProducerEpoch}
		if before, ok := l.said[at]; ok && before != m.Commit {
			t.Fatalf("producer %d epoch %d has markers of both kinds", at.producer, at.epoch)
		}
		l.said[at] = m.Commit
	}
	l.written = func(m record.Marker, parts []topic.Partition) {
		note(l.wrote, given{m.ProducerID, m.ProducerEpoch}, parts...)
	}
	return l
}

func note(in map[given]map[topic.Partition]bool, at given, parts ...topic.Partition) {
	if in[at] == nil {
		in[at] = make(map[topic.Partition]bool)
	}
	for _, p := range parts {
		in[at][p] = true
	}
}

func (l *life) chance(percent int) bool { return l.rand.IntN(100) < percent }

// asked counts a request; the func it gives counts its answer.
func (l *life) asked() func() {
	l.open++
	era, answered := l.era, false
	return func() {
		l.t.Helper()
		if answered {
			l.t.Fatal("a request was answered twice")
		}
		if era != l.era {
			l.t.Fatal("a dead coordinator answered")
		}
		answered = true
		l.open--
	}
}

func (l *life) step() {
	i := l.rand.IntN(len(l.producers))
	c := &l.producers[i]
	switch n := l.rand.IntN(100); {
	case n < 15:
		l.init(i, c)
	case n < 45:
		l.add(c)
	case n < 65:
		l.end(c)
	case n < 80:
		l.advance(time.Duration(l.rand.IntN(200)) * time.Millisecond)
	case n < 82:
		l.advance(time.Minute)
	case n < 83 && l.markers != "fail":
		l.advance(time.Hour)
	case n < 90:
		l.journal([]string{"hold", "go", "go", "fail"}[l.rand.IntN(4)])
	case n < 94:
		l.markers = []string{"go", "go", "hold", "fail"}[l.rand.IntN(4)]
	case n < 98:
		if len(l.sent) > 0 {
			m := l.sent[0]
			l.sent = l.sent[1:]
			m.done(m.parts[:l.rand.IntN(len(m.parts)+1)])
		}
	default:
		l.open, l.era = 0, l.era+1
		l.restart()
	}
}

func (l *life) init(i int, c *client) {
	r := initRequest{timeout: 30_000, producer: -1, epoch: -1, fresh: -1}
	if l.chance(30) {
		r.producer, r.epoch = c.producer, c.epoch
	}
	answered := l.asked()
	var ask func(r initRequest)
	ask = func(r initRequest) {
		l.do(func(s *shard) {
			s.initProducer(c.id, r, func(a change) {
				if a.needID {
					l.nextID++
					r.fresh = l.nextID
					ask(r)
					return
				}
				answered()
				if a.code != none {
					return
				}
				g := given{a.producer, a.epoch}
				if before, ok := l.owner[g]; ok && (before != i || r.producer < 0) {
					l.t.Fatalf("producer %d epoch %d is given to %d and to %d", g.producer, g.epoch, before, i)
				}
				l.owner[g] = i
				c.given, c.parts = g, nil
			})
		})
	}
	ask(r)
}

func (l *life) add(c *client) {
	g := c.given
	p := topic.Partition{Topic: "t", Partition: int32(l.rand.IntN(4))}
	answered := l.asked()
	l.do(func(s *shard) {
		s.add(c.id, g.producer, g.epoch, []topic.Partition{p}, 2, func(code code) {
			answered()
			if code == none {
				note(l.added, g, p)
			}
		})
	})
}

func (l *life) end(c *client) {
	g := c.given
	r := endRequest{producer: g.producer, epoch: g.epoch, commit: l.chance(70), version: 2, fresh: -1}
	answered := l.asked()
	l.do(func(s *shard) {
		s.end(c.id, r, func(a change) {
			if a.needID {
				l.t.Fatal("epochs cannot be exhausted here")
			}
			answered()
			if a.code != none {
				return
			}
			if before, ok := l.acked[g]; ok && before != r.commit {
				l.t.Fatalf("the transaction of producer %d epoch %d is acknowledged as committed and as aborted", g.producer, g.epoch)
			}
			l.acked[g] = r.commit
			if c.given == g {
				c.given = given{a.producer, a.epoch}
				l.owner[c.given] = l.owner[g]
			}
		})
	})
}

// audit compares what was acknowledged with the markers.
func (l *life) audit() {
	for g, commit := range l.acked {
		at := given{g.producer, g.epoch + 1}
		if len(l.added[g]) > 0 && l.said[at] != commit {
			l.t.Errorf("the transaction of producer %d epoch %d: acknowledged commit=%v, its markers say %v", g.producer, g.epoch, commit, l.said[at])
		}
		for p := range l.added[g] {
			if !l.wrote[at][p] {
				l.t.Errorf("%s has no marker of producer %d epoch %d", p, at.producer, at.epoch)
			}
		}
	}
}
