package replica

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

var (
	simSeeds = flag.Int("sim.seeds", 24, "clusters that the simulation plays through")
	simFirst = flag.Uint64("sim.first", 1, "seed of the first one")
	simSteps = flag.Int("sim.steps", 150, "steps in the life of each")
	simTrace = flag.Bool("sim.trace", false, "print what happened, also when nothing went wrong")
)

// TestSimulation plays clusters of three brokers through faults – requests and answers lost
// and late, partitions of the network, leaders moved, processes killed, power lost, bytes
// changed on disk – and
// checks after every step what must always hold (see judge), and at the end, when everything
// is whole again, that nothing acknowledged is lost and all replicas are the same.
func TestSimulation(t *testing.T) {
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			verdict, trace := simulate(t, seed, flaws{})
			if verdict != nil {
				t.Errorf("%v\n%s", verdict, strings.Join(trace[max(0, len(trace)-120):], "\n"))
			} else if *simTrace {
				t.Log(strings.Join(trace, "\n"))
			}
		})
	}
}

// TestSimulationSeesFlaws proves that the simulation is worth something: each rule, broken on
// purpose, is noticed.
func TestSimulationSeesFlaws(t *testing.T) {
	for name, fl := range map[string]flaws{
		"truncation to the high watermark":            {cutToHW: true},
		"no fencing by leader epoch":                  {unfenced: true},
		"high watermark by the committed set alone":   {committedOnly: true},
		"acknowledging before the disk has it":        {early: true},
		"rolling back what may have been done":        {rashRollBack: true},
		"joining the in-sync set from anywhere":       {anyJoins: true},
		"not looking at the followers' broker epochs": {zombies: true},
		"beginning anew while it is counted on":       {forgetful: true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			const most = 1500
			for seed := range uint64(most) {
				if verdict, _ := simulate(t, seed+1, fl); verdict != nil {
					t.Logf("seen with seed %d: %v", seed+1, verdict)
					return
				}
			}
			t.Errorf("not seen in %d clusters", most)
		})
	}
}

// simulate plays one cluster through. Half of the seeds acknowledge what is on disk, the others
// what is in the page cache: there power is lost by one broker at a time only.
func simulate(t *testing.T, seed uint64, fl flaws) (verdict error, trace []string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, seed/4%2 == 1, fl)
		j := newJudge(w)
		for _, n := range w.nodes {
			n.start()
		}
		for step := 0; step < *simSteps && verdict == nil; step++ {
			w.step()
			synctest.Wait()
			verdict = j.look()
		}
		if verdict == nil {
			verdict = w.heal(j)
		}
		for _, n := range w.nodes {
			if set, _ := n.now(); set != nil {
				n.kill(false)
			}
		}
		w.wg.Wait()
		if verdict == nil && len(w.mu.acked) == 0 {
			verdict = fmt.Errorf("nothing was acknowledged in a whole life")
		}
		w.say("acknowledged %d of %d", len(w.mu.acked), w.mu.sent)
		trace = w.mu.trace
	})
	return verdict, trace
}

// Things that happen in a step, and how often of a hundred in each kind of life.
const (
	doProduce = iota
	doMove
	doCut
	doJoin
	doWeather
	doKill
	doPower
	doBlackout
	doStory
	doSpoil
	doStart
)

var lives = [4][11]int{
	{56, 8, 6, 8, 4, 5, 4, 1, 0, 4, 4},
	{41, 20, 5, 10, 4, 2, 8, 1, 1, 4, 4}, // leaders move all the time
	{42, 8, 20, 14, 4, 3, 2, 1, 1, 3, 2}, // the network breaks all the time
	{47, 5, 3, 5, 2, 3, 8, 8, 11, 3, 5},  // power fails, and worse
}

// step does one thing and lets some time pass.
func (w *world) step() {
	n := w.nodes[w.roll(len(w.nodes))]
	x, what := w.roll(100), 0
	for _, often := range lives[w.seed%4] {
		if x -= often; x < 0 {
			break
		}
		what++
	}
	switch what {
	case doProduce:
		for range 1 + w.roll(4) {
			w.produce(w.roll(w.parts))
		}
	case doMove:
		w.control.move(w.roll(w.parts), metadata.BrokerID(1+w.roll(3)))
	case doCut:
		w.cutOff(n)
	case doJoin:
		w.join()
	case doWeather:
		w.weather()
	case doKill:
		if set, _ := n.now(); set != nil {
			n.kill(false)
			if w.roll(2) == 0 {
				n.start()
			}
		}
	case doPower:
		if w.mayLosePower(n) {
			n.kill(true)
			if w.roll(3) > 0 {
				n.start()
			}
		}
	case doBlackout:
		if w.flush && w.healed() {
			w.blackout()
		}
	case doStory:
		w.story()
	case doSpoil:
		w.spoil(n, w.roll(w.parts))
	default:
		w.startAll()
	}
	w.control.expire()
	limit := 30 * time.Millisecond
	if w.roll(6) == 0 {
		limit = 2 * time.Second
	}
	sleep(w.ctx, time.Duration(w.roll(int(limit))))
}

// blackout takes the power from everybody at once, and gives it back.
func (w *world) blackout() {
	for _, n := range w.nodes {
		if set, _ := n.now(); set != nil {
			n.halt(true)
		}
	}
	for _, n := range w.nodes {
		n.bury()
	}
	w.startAll()
}

func (w *world) startAll() {
	for _, n := range w.nodes {
		if set, _ := n.now(); set == nil {
			n.start()
		}
	}
}

// mayLosePower tells whether a node may lose what it did not sync. Where the page cache is
// trusted, only while all others have everything too.
func (w *world) mayLosePower(n *simNode) bool {
	if set, _ := n.now(); set == nil || !w.healed() {
		return false // Why healed: recovery takes what was changed for what the loss of power left
	}
	if w.flush {
		return true
	}
	return w.allHaveAll(nil)
}

// allHaveAll tells whether every node, one perhaps excepted, is up, and in sync everywhere.
func (w *world) allHaveAll(but *simNode) bool {
	for _, n := range w.nodes {
		n.mu.Lock()
		out := n.mu.inc%2 == 0 || n.mu.epoch < 0
		n.mu.Unlock()
		if out && n != but {
			return false
		}
	}
	return w.control.full(len(w.nodes))
}

// cutOff breaks some roads of a node: to the controller, to others, one way or both.
func (w *world) cutOff(n *simNode) {
	kind := w.roll(6)
	other := metadata.BrokerID(w.roll(4))
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range metadata.BrokerID(4) {
		// 0: the controller; 1: the others; 2: it does not hear; 3: all; 4: it does not hear the
		// controller; 5: one of them.
		if id == n.id || (kind == 0 || kind == 4) && id != 0 || kind == 1 && id == 0 || kind == 5 && id != other {
			continue
		}
		if kind != 2 && kind != 4 {
			w.mu.cut[[2]metadata.BrokerID{n.id, id}] = true
		}
		w.mu.cut[[2]metadata.BrokerID{id, n.id}] = true
	}
	w.mu.trace = append(w.mu.trace, fmt.Sprintf("%8.3f node %d is cut off (kind %d)", time.Since(w.began).Seconds(), n.id, kind))
}

// join makes every road whole.
func (w *world) join() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.mu.cut)
}

// weather makes the network bad or good.
func (w *world) weather() {
	kind := w.roll(3)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.lossy, w.mu.slow = 0, 0
	switch kind {
	case 1:
		w.mu.lossy = 0.2
	case 2:
		w.mu.slow = 1500 * time.Millisecond
	}
}

// heal makes everything whole and waits until the cluster is.
func (w *world) heal(j *judge) error {
	w.join()
	w.mu.Lock()
	w.mu.lossy, w.mu.slow = 0, 0
	w.mu.Unlock()
	w.startAll()
	const patience = 120
	for i := range patience {
		sleep(w.ctx, time.Second)
		w.control.expire()
		if i == 0 || i == 5 {
			w.readAll() // what is damaged is found
		}
		if i%2 == 0 {
			for part := range w.parts {
				w.produce(part)
			}
		}
		synctest.Wait()
		if err := j.look(); err != nil {
			return err
		}
		if w.control.full(len(w.nodes)) && i > 10 {
			sleep(w.ctx, 3*time.Second)
			synctest.Wait()
			return j.end()
		}
	}
	var state []string
	for part := range w.parts {
		p := w.control.part(part)
		state = append(state, fmt.Sprintf("partition %d leader %d isr %v elr %v epoch %d state %d", part, p.Leader, p.ISR, p.ELR, p.LeaderEpoch, p.PartitionEpoch))
		for _, n := range w.nodes {
			state = append(state, n.describe(part))
		}
	}
	return fmt.Errorf("%d s after everything was made whole the cluster is not: %s", patience, strings.Join(state, "\n"))
}
