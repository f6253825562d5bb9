package collect

import (
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
)

// leastGrace is the shortest time in which a broker that does not answer is called
// offline. Why: a machine that is busy makes a broker slow for seconds, and Kafka
// itself gives a broker 9 s before it takes it for dead.
const leastGrace = 10 * time.Second

// Grace is how long nothing may answer before a broker is called offline, with
// samples once a period.
func Grace(period time.Duration) time.Duration { return max(2*period, leastGrace) }

// Roll is which brokers the cluster listed, and when.
type Roll struct {
	At     time.Time // with a monotonic reading; zero: never
	Listed []int32
}

// life knows which brokers are alive. It makes no request itself: passes and
// probes tell it.
//
// Three things make a broker offline: the cluster answers and does not list it (its
// controller has waited for the broker's session already), nobody listens at the only
// broker's port, or nobody has answered for the grace. A single answer that is late or
// missing does not.
//
// The broker in this process is offline only when the grace is over, whatever is
// listed: it lists itself, and does so late when it has just begun.
type life struct {
	grace time.Duration
	known map[int32]time.Time // brokers ever seen, and when they were listed last
	at    time.Time           // of the latest roll
	over  time.Time           // what was listed before says nothing any more
	own   int32               // in this process; −1: none
}

func newLife(grace time.Duration) life {
	return life{grace: grace, known: map[int32]time.Time{}, own: -1}
}

// beside tells that this broker is in this process and begins now.
func (l *life) beside(id int32, now time.Time) {
	l.own = id
	l.known[id] = now
}

// remember takes brokers that an earlier process knew: they are offline until they are listed.
func (l *life) remember(ids []int32) {
	for _, id := range ids {
		l.known[id] = time.Time{}
	}
}

// forget drops what was only remembered: such a broker may be gone for good.
func (l *life) forget() {
	for id, listed := range l.known {
		if listed.IsZero() && id != l.own {
			delete(l.known, id)
		}
	}
}

// called takes a roll. An older one than the latest, or one that lists nobody, says
// nothing: a broker that has just begun may answer before it knows any other.
func (l *life) called(r Roll) {
	if len(r.Listed) == 0 || r.At.Before(l.at) || r.At.Before(l.over) {
		return
	}
	l.at = r.At
	for _, id := range r.Listed {
		l.known[id] = r.At
	}
}

// saw takes the roll of a pass, and remembers every broker that is to exist: one
// that was never alive is still reported, as offline.
func (l *life) saw(state *cluster.State) {
	r := Roll{At: state.Committed}
	for _, b := range state.Brokers {
		r.Listed = append(r.Listed, b.ID)
	}
	l.called(r)
	for _, t := range state.Topics {
		for _, p := range t.Partitions {
			for _, id := range p.Replicas {
				if _, ok := l.known[id]; !ok {
					l.known[id] = time.Time{}
				}
			}
		}
	}
}

// ended tells that what was known is over: every broker is offline until it is listed again.
func (l *life) ended(now time.Time) {
	l.at, l.over = time.Time{}, now
	for id := range l.known {
		l.known[id] = time.Time{}
	}
}

// current tells whether the latest roll is still to be believed.
func (l *life) current(now time.Time) bool { return !l.at.IsZero() && now.Sub(l.at) < l.grace }

func (l *life) alive(id int32, now time.Time) bool {
	listed := l.known[id]
	if id == l.own {
		return now.Sub(listed) < l.grace
	}
	return l.current(now) && listed.Equal(l.at) // of the latest roll
}
