package balance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Names of the settings that limit replication: rates of brokers in bytes a second, and lists
// of topics that name the replicas for which the rates hold. Source: KIP-73.
const (
	LeaderRate       = "leader.replication.throttled.rate"
	FollowerRate     = "follower.replication.throttled.rate"
	LeaderReplicas   = "leader.replication.throttled.replicas"
	FollowerReplicas = "follower.replication.throttled.replicas"
)

// everyReplica in a list is all replicas of the topic.
const everyReplica = "*"

// Lists are the limited replicas of one topic as they stand in its settings: PARTITION:BROKER
// with commas between, * for all, or nothing.
type Lists struct{ Leaders, Followers string }

// Limited gives the lists that limit the copying of moves, by topic: as leaders those that
// have the data, as followers those that get it.
func Limited(ms []Move) map[string]Lists {
	out := map[string]Lists{}
	for _, m := range ms {
		if len(m.Adds()) > 0 {
			out[m.Topic] = out[m.Topic].With(Lists{entries(m.Number, m.From), entries(m.Number, m.Adds())})
		}
	}
	return out
}

func entries(partition int32, brokers []int32) string {
	var all []string
	for _, b := range brokers {
		all = append(all, fmt.Sprintf("%d:%d", partition, b))
	}
	return strings.Join(all, ",")
}

// With gives both lists with what more has beside.
func (l Lists) With(more Lists) Lists {
	return Lists{union(l.Leaders, more.Leaders), union(l.Followers, more.Followers)}
}

func union(a, b string) string {
	if a == everyReplica || b == everyReplica {
		return everyReplica
	}
	var all []string
	for _, entry := range strings.Split(a+","+b, ",") {
		if entry = strings.TrimSpace(entry); entry != "" && !slices.Contains(all, entry) {
			all = append(all, entry)
		}
	}
	return strings.Join(all, ",")
}

// Participants gives the brokers that send or get copies.
func Participants(ms []Move) []int32 {
	all := map[int32]bool{}
	for _, m := range ms {
		if len(m.Adds()) == 0 {
			continue
		}
		for _, b := range slices.Concat(m.From, m.To) {
			all[b] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Leftover is what moves that are over have left in the settings.
type Leftover struct {
	Leaders, Followers []string // topics whose list names replicas of no move
	Rates              bool     // no list is left for which the rates of brokers would hold
}

// Leftovers finds it. Moving tells whether a partition of a topic is being moved. A list that
// names single replicas is a move's; * is a wish of the user's that stays, and the rates with it.
func Leftovers(now map[string]Lists, moving func(topic string) bool) Leftover {
	l := Leftover{Rates: true}
	for _, topic := range slices.Sorted(maps.Keys(now)) {
		look := func(list string, over *[]string) {
			switch {
			case list == "":
			case list == everyReplica || moving(topic):
				l.Rates = false
			default:
				*over = append(*over, topic)
			}
		}
		look(now[topic].Leaders, &l.Leaders)
		look(now[topic].Followers, &l.Followers)
	}
	return l
}

// Pace tells how fast moves go, by what was left at several times.
type Pace struct{ seen []seen }

type seen struct {
	left int64
	at   time.Time
}

// paceOver is the time over which a pace is taken. Why not since the beginning: what goes on
// beside the moves changes.
const paceOver = 30 * time.Second

// See notes how many bytes are left now.
func (p *Pace) See(left int64, at time.Time) {
	p.seen = append(p.seen, seen{left, at})
	for len(p.seen) > 2 && at.Sub(p.seen[1].at) >= paceOver {
		p.seen = p.seen[1:]
	}
}

// Rate gives bytes a second; 0 while nothing is known or nothing is done.
func (p *Pace) Rate() float64 {
	if len(p.seen) < 2 {
		return 0
	}
	first, last := p.seen[0], p.seen[len(p.seen)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 {
		return 0
	}
	// Why no less than nothing: what producers write meanwhile is to be copied too.
	return max(0, float64(first.left-last.left)/took)
}

// Rest gives how long what is left takes at this pace; ok is false if that is not known.
func (p *Pace) Rest() (d time.Duration, ok bool) {
	rate := p.Rate()
	if rate <= 0 {
		return 0, false
	}
	seconds := float64(p.seen[len(p.seen)-1].left) / rate
	const most = 1000 * 24 * time.Hour
	if seconds > most.Seconds() {
		return most, true
	}
	return time.Duration(seconds * float64(time.Second)), true
}
