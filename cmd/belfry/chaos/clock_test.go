package chaos

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// clockFaults are wall clocks that are set while a node runs, or were when it starts. A node whose clock is back by
// more than message.timestamp.after.max.ms refuses what clients stamp by a right one; so far back none goes here.
func clockFaults() []fault {
	ahead := []time.Duration{time.Second, 30 * time.Second, 10 * time.Minute, 50 * time.Minute, 5 * time.Hour, 48 * time.Hour, 100 * time.Hour}
	back := []time.Duration{time.Second, 30 * time.Second, 10 * time.Minute, 50 * time.Minute}
	some := func(w *world) time.Duration {
		if w.rnd.IntN(2) == 0 {
			return -back[w.rnd.IntN(len(back))]
		}
		return ahead[w.rnd.IntN(len(ahead))]
	}
	return []fault{
		{"the clock of one is set", func(w *world) {
			id := w.ids()[0]
			w.setClock(id, some(w))
			w.pause(w.between(3*time.Second, 15*time.Second))
			w.setClock(id, 0)
		}},
		{"the clock of the controller is set", func(w *world) {
			id := w.theController()
			w.setClock(id, some(w))
			w.pause(w.between(3*time.Second, 15*time.Second))
			w.setClock(id, 0)
		}},
		{"the clocks of all go apart", func(w *world) {
			for _, id := range w.ids() {
				w.setClock(id, some(w))
			}
			w.pause(w.between(3*time.Second, 15*time.Second))
			for _, id := range w.ids() {
				w.setClock(id, 0)
			}
		}},
		{"one is killed and comes back with a wrong clock, and leads", func(w *world) {
			id := w.ids()[0]
			w.node(id).Kill()
			// Why not by days: a node that starts with such a clock forgets producers and messages by right.
			w.setClock(id, []time.Duration{-50 * time.Minute, -time.Minute, 10 * time.Minute, 5 * time.Hour}[w.rnd.IntN(4)])
			w.node(id).Restart()
			w.pause(w.between(6*time.Second, 15*time.Second)) // longer than until leaders are put even again
			w.node(w.others(id)[0]).Kill()
			w.pause(w.between(0, 5*time.Second))
			w.restartKilled()
			w.setClock(id, 0)
		}},
	}
}

// clockFile is where a node that was built for the tests looks for how many seconds its clock is ahead.
func (w *world) clockFile(id int) string { return filepath.Join(w.clocks, strconv.Itoa(id)) }

// setClock sets a node's wall clock by so much off the right time.
func (w *world) setClock(id int, d time.Duration) {
	w.t.Helper()
	if d != 0 {
		w.say("the clock of node %d is off by %v", id, d)
	}
	path := w.clockFile(id)
	if err := os.WriteFile(path+".new", []byte(strconv.FormatInt(int64(d/time.Second), 10)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

// restartKilled starts each node that does not run.
func (w *world) restartKilled() {
	for _, id := range w.ids() {
		select {
		case <-w.node(id).Gone():
			w.node(id).Restart()
		default:
		}
	}
}
