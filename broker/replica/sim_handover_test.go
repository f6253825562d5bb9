package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// longestHandover is how long an acks=all produce may take, on the simulation's network with
// its 0 to 4 ms for a question and its answer, once every replica knows of a new leader: a few
// fetches, and one wait of a follower that asked the new leader too early.
const longestHandover = 25 * time.Millisecond

// TestHandover moves leaderships under load and looks how long the first produce to each new
// leader takes. Time is the simulation's, so that a wait for a time-out, such as the one
// for news that a follower's fetch has, is not lost in the noise of a busy machine.
func TestHandover(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, false, flaws{})
			w.beat = 4 * time.Millisecond // a real controller's news come at once
			for _, n := range w.nodes {
				n.start()
			}
			for !w.control.full(len(w.nodes)) {
				time.Sleep(10 * time.Millisecond)
			}
			over := make(chan struct{})
			w.wg.Go(func() {
				for {
					select {
					case <-over:
						return
					case <-time.After(time.Millisecond):
						w.produce(w.roll(w.parts))
					}
				}
			})
			var longest time.Duration
			for range 100 {
				longest = max(longest, w.handover(w.roll(w.parts)))
			}
			t.Logf("seed %d: the longest of 100 took %v", seed, longest)
			if longest > longestHandover {
				t.Errorf("seed %d: a produce to a new leader took %v", seed, longest)
			}
			close(over)
			for _, n := range w.nodes {
				n.kill(false)
			}
			w.wg.Wait()
		})
	}
}

// handover moves a partition to another leader, produces to that one as soon as it leads, and
// gives the time from when every replica knew to the acknowledgement.
func (w *world) handover(part int) time.Duration {
	w.t.Helper()
	for !w.control.full(len(w.nodes)) {
		time.Sleep(time.Millisecond)
	}
	before := w.control.part(part)
	to := before.Leader%metadata.BrokerID(len(w.nodes)) + 1
	w.control.moveTo(part, to)
	var acked chan time.Time
	var knew time.Time
	for begin := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		if time.Since(begin) > time.Minute {
			w.t.Fatalf("partition %d was never acknowledged by leader %d", part, to)
		}
		all := true
		for _, n := range w.nodes {
			set, _ := n.now()
			p, err := set.Partition(nameOf(int32(part)))
			if err != nil {
				w.t.Fatal(err)
			}
			leader, epoch := p.Leader()
			all = all && leader == to && epoch > before.LeaderEpoch
			if n.id != to || acked != nil || p.CheckLeader(before.LeaderEpoch+1) != nil {
				continue
			}
			a, err := p.Append(oneBatch(w.t, "handover"), -1, time.Now())
			if err != nil {
				continue
			}
			done := make(chan time.Time, 1)
			acked = done
			p.Acked(a.Last+1, -1, time.Minute, func(err error) {
				if err == nil {
					done <- time.Now()
				}
			})
		}
		if all && knew.IsZero() {
			knew = time.Now()
		}
		select {
		case at := <-acked:
			if knew.IsZero() { // acknowledged before the last one knew
				return 0
			}
			return at.Sub(knew)
		default:
		}
	}
}
