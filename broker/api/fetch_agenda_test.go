package api

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

// follower is a session of one, with a clock.
type follower struct {
	t     *testing.T
	now   time.Time
	c     *fetchSessions
	s     *fetchSession
	epoch int32
}

const sweepTime = time.Second

func newFollower(t *testing.T, partitions int32) (*follower, *fetchCall, []wanted) {
	f := &follower{t: t, now: time.Unix(1000, 0), epoch: 1}
	f.c = newFetchSessions(func() time.Time { return f.now })
	var wants []wanted
	for p := range partitions {
		wants = append(wants, want("a", p, 0))
	}
	f.s = f.c.create(wants, false, 10, newAgenda(4*sweepTime))
	call := new(fetchCall)
	return f, call, f.s.more(call, f.now)
}

// next is a request that names some partitions; it gives what it has to look at.
func (f *follower) next(named ...wanted) (*fetchCall, []wanted) {
	f.t.Helper()
	call := new(fetchCall)
	wants, err := f.c.next(f.s, call, f.epoch, false, named, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.epoch++
	return call, wants
}

// tracked gives what the session knows of a partition.
func (f *follower) tracked(p int32) *tracked {
	return f.s.index[keyOf(want("a", p, 0))].Value.(*tracked)
}

func numbers(ws []wanted) string {
	var out []string
	for _, w := range ws {
		out = append(out, fmt.Sprint(w.name.Partition))
	}
	return strings.Join(out, " ")
}

// settled is what is found of partitions for which there is nothing to do.
func settled(ws []wanted, high record.Offset) (rs []result) {
	for _, w := range ws {
		r := at(w, high)
		r.got.Settled = true
		rs = append(rs, r)
	}
	return rs
}

func looks(t *testing.T, when string, got []wanted, want string) {
	t.Helper()
	if numbers(got) != want {
		t.Errorf("%s: looks at %q, want %q", when, numbers(got), want)
	}
}

func TestAgenda(t *testing.T) {
	f, call, all := newFollower(t, 5)
	looks(t, "the first request", all, "0 1 2 3 4")
	results := settled(all, 7)
	results[3].got.Settled = false // it is not in sync
	if shown := f.s.settleAll(results, true, call); len(shown) != 5 {
		t.Errorf("the first answer shows %d partitions", len(shown))
	}
	call, wants := f.next()
	looks(t, "who is not in sync", wants, "3")
	f.s.settleAll(settled(wants, 7), false, call)
	call, wants = f.next()
	looks(t, "when all are settled", wants, "")

	// While it waits: a quiet move is seen with the next look, a loud one wakes.
	f.tracked(1).Moved(false)
	select {
	case <-f.s.agenda.wake: // of before
	default:
	}
	f.tracked(1).Moved(false)
	if len(f.s.agenda.wake) != 0 {
		t.Error("a quiet move wakes")
	}
	f.tracked(1).Moved(true)
	f.tracked(4).Moved(true)
	if len(f.s.agenda.wake) != 1 {
		t.Error("a loud move does not wake")
	}
	wants = f.s.more(call, f.now)
	looks(t, "what moved", wants, "1 4")
	f.tracked(4).Moved(true)
	looks(t, "what it has in its hands", f.s.more(call, f.now), "")
	results = settled(wants, 8)
	results[1].got.HighWatermark, results[1].got.LastStable = 7, 7
	looks(t, "of what there is news", f.s.rest(results, call), "1")
	f.tracked(4).Moved(true)
	looks(t, "what it had let go", f.s.more(call, f.now), "4")

	// A later request gets what the one that waited had.
	later, wants := f.next(want("a", 2, 9))
	looks(t, "what was named", wants, "2")
	f.s.giveBack([]*tracked{f.tracked(1), f.tracked(4), f.tracked(2)}, call)
	looks(t, "what was given back", f.s.more(later, f.now), "1 4")
}

func TestAgendaLooksAtEachInTime(t *testing.T) {
	const partitions = 1000
	f, call, all := newFollower(t, partitions)
	f.s.settleAll(settled(all, 7), true, call)
	last := map[int32]time.Time{}
	for p := range int32(partitions) {
		last[p] = f.now
	}
	most := 0
	for range 200 {
		f.now = f.now.Add(sweepTime / 20)
		call, wants := f.next()
		most = max(most, len(wants))
		for _, w := range wants {
			last[w.name.Partition] = f.now
		}
		f.s.settleAll(settled(wants, 7), false, call)
		for p, at := range last {
			if f.now.Sub(at) > 2*sweepTime {
				t.Fatalf("partition %d was not looked at for %v", p, f.now.Sub(at))
			}
		}
	}
	if most > partitions/4 {
		t.Errorf("one request looks at %d of %d partitions that stand still", most, partitions)
	}
}

// TestAgendaLosesNothing moves partitions at random, from several requests at a time: what has
// moved since it was settled is on the agenda or in the hands of a request.
func TestAgendaLosesNothing(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		const partitions = 6
		f, call, wants := newFollower(t, partitions)
		ends := [partitions]record.Offset{} // of the log
		hands := map[*fetchCall][]wanted{call: wants}
		open := []*fetchCall{call} // requests that are not answered
		finish := func(n int, sent bool) {
			call := open[n]
			var rs []result
			var ts []*tracked
			for _, w := range hands[call] {
				r := at(w, ends[w.name.Partition])
				r.got.Settled = w.offset == ends[w.name.Partition]
				rs, ts = append(rs, r), append(ts, w.of)
			}
			if sent {
				f.s.settleAll(rs, false, call)
			} else {
				f.s.giveBack(ts, call)
			}
			delete(hands, call)
			open = slices.Delete(open, n, n+1)
		}
		for range 200 {
			p := rnd.Int32N(partitions)
			switch what := rnd.IntN(5); {
			case what == 0:
				ends[p]++
				f.tracked(p).Moved(true)
			case what == 1 || len(open) == 0:
				next, wants := f.next(want("a", p, ends[p]))
				hands[next], open = wants, append(open, next)
			case what == 2:
				c := open[rnd.IntN(len(open))]
				hands[c] = append(hands[c], f.s.more(c, f.now)...)
			default:
				finish(rnd.IntN(len(open)), what == 3)
			}
			for p := range int32(partitions) {
				tr := f.tracked(p)
				held := tr.in != nil && slices.ContainsFunc(hands[tr.in], func(w wanted) bool { return w.of == tr })
				on := slices.Contains(f.s.agenda.mu.due, tr)
				if settled := tr.told && tr.high == ends[p] && tr.want.offset == ends[p]; !settled && !on && !held {
					t.Fatalf("seed %d: partition %d has news (log end %d, named at %d, told %v %d) and is nobody's", seed, p, ends[p], tr.want.offset, tr.told, tr.high)
				}
			}
		}
	}
}
