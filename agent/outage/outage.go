package outage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/agent/cluster"
)

// Kind says what a Reason is about.
type Kind string

// The kinds of reasons, the gravest first.
const (
	NoBroker    Kind = "no-broker"     // the cluster has no such broker
	Unknown     Kind = "unknown"       // something could not be learnt
	Quorum      Kind = "quorum"        // the voters that are left would be no majority
	Offline     Kind = "offline"       // partitions would have no leader
	UnderMinISR Kind = "under-min-isr" // partitions would refuse produce with acks=all
	Leaderless  Kind = "leaderless"    // partitions have no leader now
	BrokerDown  Kind = "broker-down"   // another broker is down or starting
	Stopping    Kind = "stopping"      // another broker is on its way out
	NotInSync   Kind = "not-in-sync"   // replicas on other brokers are out of sync
	LogDir      Kind = "log-dir"       // log directories of other brokers have failed
	Moving      Kind = "moving"        // partitions are being moved
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{NoBroker, Unknown, Quorum, Offline, UnderMinISR, Leaderless, BrokerDown, Stopping, NotInSync, LogDir, Moving}
}

// Reason is why a broker should not be stopped.
type Reason struct {
	Kind Kind `json:"kind"`
	// Count is how many partitions, brokers or directories are concerned; Names are all of
	// them: partitions as TOPIC-NUMBER, brokers by ID.
	Count int      `json:"count"`
	What  string   `json:"what"`
	Names []string `json:"names"`
}

// shownNames is how many names a text holds.
const shownNames = 8

// String gives the reason in one line.
func (r Reason) String() string {
	names := r.Names[:min(len(r.Names), shownNames)]
	rest := ""
	if more := len(r.Names) - len(names); more > 0 {
		rest = fmt.Sprintf(" and %d more", more)
	}
	if len(names) == 0 {
		return r.What
	}
	return r.What + ": " + strings.Join(names, ", ") + rest
}

// Verdict is the answer for one broker.
type Verdict struct {
	Broker  int32    `json:"broker"`
	Safe    bool     `json:"safe"`
	Reasons []Reason `json:"reasons"` // why not; empty when it is safe
	Notes   []string `json:"notes"`   // what is worth knowing and does not count
}

// Accepting gives the verdict as it is for who takes reasons of these kinds upon himself.
func (v Verdict) Accepting(kinds []Kind) Verdict {
	v.Reasons = slices.DeleteFunc(slices.Clone(v.Reasons), func(r Reason) bool { return slices.Contains(kinds, r.Kind) })
	v.Safe = len(v.Reasons) == 0
	return v
}

// Judge says whether a broker may be stopped. One that is down already may, if the others
// do well without it.
func Judge(s *cluster.Standing, broker int32) Verdict {
	j := judging{s: s, v: Verdict{Broker: broker, Reasons: []Reason{}, Notes: []string{}}}
	if me, ok := s.Member(broker); !ok {
		j.reason(NoBroker, brokersOf(s), "there is no broker %d; there are", broker)
	} else if me.Fenced {
		j.note("broker %d is down or starting", broker)
	} else if me.Leaving {
		j.note("broker %d is stopping already", broker)
	}
	j.reason(Unknown, s.Unknown, "%s not known", plural(len(s.Unknown), "fact is", "facts are"))
	j.quorum(broker)
	j.partitions(broker)
	j.brokers(broker)
	j.disks(broker)
	moves := make([]string, len(s.Moves))
	for i, m := range s.Moves {
		moves[i] = place(m.Topic, m.Partition)
	}
	j.reason(Moving, moves, "%s being moved", plural(len(moves), "partition is", "partitions are"))
	j.settings()
	slices.SortStableFunc(j.v.Reasons, func(a, b Reason) int { return slices.Index(Kinds(), a.Kind) - slices.Index(Kinds(), b.Kind) })
	j.v.Safe = len(j.v.Reasons) == 0
	return j.v
}

// judging is a Verdict in the making.
type judging struct {
	s *cluster.Standing
	v Verdict
}

// reason adds one unless nothing is concerned.
func (j *judging) reason(kind Kind, names []string, format string, args ...any) {
	if len(names) > 0 || kind == NoBroker {
		j.v.Reasons = append(j.v.Reasons, Reason{Kind: kind, Count: len(names), What: fmt.Sprintf(format, args...), Names: names})
	}
}

func (j *judging) note(format string, args ...any) {
	j.v.Notes = append(j.v.Notes, fmt.Sprintf(format, args...))
}

// quorum looks at what is left of the voters. One that is heard and yet is on its way out,
// or was taken out of service as a broker, is not counted on.
func (j *judging) quorum(broker int32) {
	var left, gone []string
	for _, v := range j.s.Voters {
		m, isBroker := j.s.Member(v.ID)
		name := strconv.Itoa(int(v.ID))
		if v.Up && v.ID != broker && !(isBroker && (m.Fenced || m.Leaving)) {
			left = append(left, name)
		} else {
			gone = append(gone, name)
		}
	}
	all := len(j.s.Voters)
	if majority := all/2 + 1; len(left) < majority && all > 0 {
		j.reason(Quorum, gone, "only %d of %d voters on the metadata would be left, a majority is %d; gone would be", len(left), all, majority)
	}
}

func (j *judging) partitions(broker int32) {
	var offline, under, leaderless, behind, unknown []string
	for _, t := range j.s.Topics {
		for _, p := range t.Partitions {
			name := place(t.Name, p.ID)
			if p.Leader < 0 {
				leaderless = append(leaderless, name)
			}
			if slices.ContainsFunc(p.Replicas, func(id int32) bool { return id != broker && !slices.Contains(p.ISR, id) }) {
				behind = append(behind, name)
			}
			if !slices.Contains(p.ISR, broker) {
				continue // it has nothing that is counted on
			}
			least, known := j.least(t.Name, len(p.Replicas))
			switch rest := len(p.ISR) - 1; {
			case rest == 0:
				offline = append(offline, name)
			case !known:
				unknown = append(unknown, name)
			case rest < least:
				under = append(under, name)
			}
		}
	}
	j.reason(Offline, offline, "%s no leader, as broker %d is the only replica in sync", plural(len(offline), "partition would have", "partitions would have"), broker)
	j.reason(UnderMinISR, under, "%s below min.insync.replicas and refuse acks=all", plural(len(under), "partition would fall", "partitions would fall"))
	j.reason(Leaderless, leaderless, "%s no leader now", plural(len(leaderless), "partition has", "partitions have"))
	j.reason(NotInSync, behind, "%s a replica out of sync on another broker", plural(len(behind), "partition has", "partitions have"))
	j.reason(Unknown, unknown, "min.insync.replicas is not known of %s", plural(len(unknown), "partition", "partitions"))
}

// least gives how many replicas of a partition must stay in sync. Where the topic has no
// value of its own, the largest of any broker counts: each may come to lead. It is never
// more than there are replicas (KIP-966).
func (j *judging) least(topic string, replicas int) (n int, known bool) {
	of, known := j.s.MinInSync[topic]
	if n = of.Value; !of.Own {
		for _, m := range j.s.NodeMin {
			n = max(n, m)
		}
	}
	return max(1, min(n, replicas)), known
}

func (j *judging) brokers(broker int32) {
	var down, stopping []string
	for _, m := range j.s.Members {
		switch {
		case m.ID == broker:
		case m.Fenced:
			down = append(down, strconv.Itoa(int(m.ID)))
		case m.Leaving:
			stopping = append(stopping, strconv.Itoa(int(m.ID)))
		}
	}
	// Why from the replicas, too: a cluster may not tell of brokers that are down.
	for _, t := range j.s.Topics {
		for _, p := range t.Partitions {
			for _, id := range p.Replicas {
				name := strconv.Itoa(int(id))
				if _, there := j.s.Member(id); !there && id != broker && !slices.Contains(down, name) {
					down = append(down, name)
				}
			}
		}
	}
	j.reason(BrokerDown, down, "%s down or starting", plural(len(down), "other broker is", "other brokers are"))
	j.reason(Stopping, stopping, "%s stopping", plural(len(stopping), "other broker is", "other brokers are"))
}

func (j *judging) disks(broker int32) {
	var failed []string
	for _, d := range j.s.Failed {
		if d.Broker == broker {
			// Why no reason: its replicas there are out of sync already, and a start may be what it needs.
			j.note("log directory %s of broker %d has failed: its replicas come back only with a new start on a good disk", d.Path, broker)
			continue
		}
		failed = append(failed, fmt.Sprintf("%s of broker %d", d.Path, d.Broker))
	}
	j.reason(LogDir, failed, "%s on another broker", plural(len(failed), "log directory has failed", "log directories have failed"))
}

// settings notes brokers that disagree on what was reckoned with.
func (j *judging) settings() {
	var said []string
	values := map[int]bool{}
	for _, m := range j.s.Members {
		if n, ok := j.s.NodeMin[m.ID]; ok {
			values[n] = true
			said = append(said, fmt.Sprintf("broker %d says %d", m.ID, n))
		}
	}
	if len(values) > 1 {
		j.note("min.insync.replicas is not the same everywhere (%s): reckoned with the largest; make it the same in the nodes' files", strings.Join(said, ", "))
	}
}

func brokersOf(s *cluster.Standing) []string {
	var out []string
	for _, m := range s.Members {
		out = append(out, strconv.Itoa(int(m.ID)))
	}
	return out
}

func place(topic string, partition int32) string { return topic + "-" + strconv.Itoa(int(partition)) }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// Amiss gives what is not well in the cluster as it is, whoever is stopped or not: the
// reasons of these kinds that Judge would give for a broker without any part in it.
// Moves of partitions are no trouble by themselves.
func Amiss(s *cluster.Standing) []Reason {
	return slices.DeleteFunc(Judge(s, nobody).Reasons, func(r Reason) bool { return r.Kind == NoBroker || r.Kind == Moving })
}

// nobody is no broker's ID.
const nobody int32 = -1

// Missing gives the partitions of which a broker has a replica that is not in sync.
func Missing(s *cluster.Standing, broker int32) (names []string) {
	for _, t := range s.Topics {
		for _, p := range t.Partitions {
			if slices.Contains(p.Replicas, broker) && !slices.Contains(p.ISR, broker) {
				names = append(names, place(t.Name, p.ID))
			}
		}
	}
	return names
}

// Astray gives the partitions that the first of their replicas could lead, being in sync, and
// does not.
func Astray(s *cluster.Standing) (places []cluster.Place) {
	for _, t := range s.Topics {
		for _, p := range t.Partitions {
			if len(p.Replicas) > 0 && p.Leader != p.Replicas[0] && slices.Contains(p.ISR, p.Replicas[0]) {
				places = append(places, cluster.Place{Topic: t.Name, Partition: p.ID})
			}
		}
	}
	return places
}
