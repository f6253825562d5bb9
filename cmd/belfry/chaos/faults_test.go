package chaos

import (
	"strconv"
	"sync"
	"syscall"
	"time"
)

// fault harms the cluster, holds that for a while, and heals.
type fault struct {
	name string
	do   func(w *world)
}

// processFaults are what happens to a node's process.
func processFaults() []fault {
	return []fault{
		{"kill -9 of one", func(w *world) { w.killed(w.ids()[:1]) }},
		{"kill -9 of the controller", func(w *world) { w.killed([]int{w.theController()}) }},
		{"kill -9 of one, back at once", func(w *world) {
			n := w.node(w.ids()[0])
			n.Kill()
			n.Restart()
		}},
		{"kill -9 of two", func(w *world) { w.killed(w.ids()[:2]) }},
		{"kill -9 of all", func(w *world) { w.killed(w.ids()) }},
		{"kill -9 of one after the other", func(w *world) {
			for _, id := range w.ids() {
				n := w.node(id)
				n.Kill()
				w.pause(w.between(0, 3*time.Second))
				n.Restart()
			}
		}},
		{"SIGSTOP of one beyond its session", func(w *world) { w.frozen(w.ids()[:1], w.between(6*time.Second, 12*time.Second)) }},
		{"SIGSTOP of the controller beyond its session", func(w *world) {
			w.frozen([]int{w.theController()}, w.between(6*time.Second, 12*time.Second))
		}},
		{"SIGSTOP of one for a moment", func(w *world) { w.frozen(w.ids()[:1], w.between(100*time.Millisecond, 4*time.Second)) }},
		{"SIGSTOP of two", func(w *world) { w.frozen(w.ids()[:2], w.between(2*time.Second, 9*time.Second)) }},
		{"clean stop of one", func(w *world) {
			n := w.node(w.ids()[0])
			n.Stop()
			w.pause(w.between(0, 3*time.Second))
			n.Restart()
		}},
		{"clean stop of the controller", func(w *world) {
			n := w.node(w.theController())
			n.Stop()
			w.pause(w.between(0, 3*time.Second))
			n.Restart()
		}},
	}
}

// theController gives who leads the metadata now.
func (w *world) theController() (id int) {
	w.t.Helper()
	w.eventually("there is a controller", func() (why string) {
		id, why = w.controller()
		return why
	})
	return id
}

// killed kills nodes at once and starts them again.
func (w *world) killed(ids []int) {
	var ends sync.WaitGroup
	for _, id := range ids {
		ends.Go(w.node(id).Kill)
	}
	ends.Wait()
	if w.rnd.IntN(2) == 0 {
		w.pause(w.between(0, 8*time.Second))
	}
	for _, id := range ids {
		w.node(id).Launch()
		w.pause(w.between(0, time.Second))
	}
	for _, id := range ids {
		w.node(id).WaitReady()
	}
}

// frozen stops processes for a while; their connections stay.
func (w *world) frozen(ids []int, d time.Duration) {
	for _, id := range ids {
		w.node(id).Signal(syscall.SIGSTOP)
	}
	w.pause(d)
	for _, id := range ids {
		w.node(id).Signal(syscall.SIGCONT)
	}
}

// networkFaults are what happens between nodes.
func networkFaults() []fault {
	hold := func(w *world) { w.pause(w.between(2*time.Second, 15*time.Second)); w.heal() }
	leader := func(w *world) int { return max(1, w.leader(w.ledgers[0].Topic, w.rnd.Int32N(partitions))) }
	return []fault{
		{"a leader alone, clients still reach it", func(w *world) {
			id := leader(w)
			for _, o := range w.others(id) {
				w.part(id, o)
			}
			hold(w)
		}},
		{"a leader alone, nobody reaches it", func(w *world) {
			id := leader(w)
			for _, o := range append(w.others(id), clients) {
				w.part(id, o)
			}
			hold(w)
		}},
		{"the controller alone", func(w *world) {
			id := w.theController()
			for _, o := range w.others(id) {
				w.part(id, o)
			}
			hold(w)
		}},
		{"one link", func(w *world) {
			ids := w.ids()
			w.part(ids[0], ids[1])
			hold(w)
		}},
		{"everybody alone", func(w *world) {
			w.part(1, 2)
			w.part(2, 3)
			w.part(1, 3)
			hold(w)
		}},
		{"one direction of one link", func(w *world) {
			ids := w.ids()
			w.cut(ids[0], ids[1])
			hold(w)
		}},
		{"one hears nobody", func(w *world) {
			id := w.ids()[0]
			for _, o := range w.others(id) {
				w.cut(o, id)
			}
			hold(w)
		}},
		{"nobody hears one", func(w *world) {
			id := w.ids()[0]
			for _, o := range w.others(id) {
				w.cut(id, o)
			}
			hold(w)
		}},
		{"a cable that is loose", func(w *world) {
			id := w.ids()[0]
			for range 4 {
				w.run("ip", "link", "set", w.cable(id), "down")
				w.pause(w.between(50*time.Millisecond, 2*time.Second))
				w.run("ip", "link", "set", w.cable(id), "up")
				w.pause(w.between(50*time.Millisecond, 2*time.Second))
			}
		}},
		{"packets get lost", func(w *world) {
			w.run("nft", "add", "rule", "ip", "chaos", "in", "numgen", "random", "mod", "100", "<", strconv.Itoa(5+w.rnd.IntN(25)), "drop")
			hold(w)
		}},
		{"a slow cable", func(w *world) {
			id := w.ids()[0]
			w.narrow(id, 1<<w.rnd.IntN(5))
			hold(w)
			w.widen(id)
		}},
		{"one comes back over a slow cable, and the others are killed", func(w *world) {
			ids := w.ids()
			w.node(ids[0]).Kill()
			w.pause(w.between(2*time.Second, 8*time.Second))
			w.narrow(ids[0], 1) // less than what is written meanwhile: it does not catch up
			w.node(ids[0]).Restart()
			w.pause(w.between(0, 2*time.Second))
			w.killed(ids[1:])
			w.widen(ids[0])
		}},
		{"one link, and the third is killed", func(w *world) {
			ids := w.ids()
			w.part(ids[0], ids[1])
			w.pause(w.between(0, 4*time.Second))
			w.node(ids[2]).Kill()
			w.pause(w.between(0, 4*time.Second))
			w.heal()
			w.node(ids[2]).Restart()
		}},
	}
}
