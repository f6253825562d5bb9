package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/belfry-mq/belfry/broker/topic"
)

// topicInfo is what an assignor knows of a topic.
type topicInfo struct {
	id         topic.ID
	name       string
	partitions int32
}

// topics is the topics that there are, at one moment; it does not change.
type topics struct {
	version int64 // +1 whenever a topic comes, goes or grows
	byName  map[string]topicInfo
	byID    map[topic.ID]topicInfo
}

// newTopics makes the topics of now out of those of before; the version stays when nothing
// changed that matters.
func newTopics(before *topics, all []topicInfo) *topics {
	t := &topics{version: 1, byName: make(map[string]topicInfo, len(all)), byID: make(map[topic.ID]topicInfo, len(all))}
	for _, info := range all {
		t.byName[info.name], t.byID[info.id] = info, info
	}
	switch {
	case before == nil:
	case maps.Equal(before.byName, t.byName):
		return before
	default:
		t.version = before.version + 1
	}
	return t
}

// has tells whether there is a partition.
func (t *topics) has(p topic.Partition) bool {
	info, ok := t.byName[p.Topic]
	return ok && p.Partition >= 0 && p.Partition < info.partitions
}

// wish is what an assignor knows of a member.
type wish struct {
	id     string
	order  string      // static members keep their place by name
	topics []topicInfo // by ID; each once
	held   parts       // the target of before
}

func (w *wish) wants(id topic.ID) bool {
	_, ok := slices.BinarySearchFunc(w.topics, id, func(t topicInfo, id topic.ID) int { return compareIDs(t.id, id) })
	return ok
}

// assignors are the server-side assignors by name. Each gives every partition of the
// topics that somebody wants to exactly one member that wants it; ws is sorted by ID and
// what is given has an entry for each.
var assignors = map[string]func(ws []*wish) []parts{"uniform": assignUniform, "range": assignRange}

// wanted gives the topics that somebody wants, by ID, with who wants them (indexes).
func wanted(ws []*wish) (all []topicInfo, by map[topic.ID][]int) {
	by = make(map[topic.ID][]int)
	for i, w := range ws {
		for _, t := range w.topics {
			if by[t.id] == nil {
				all = append(all, t)
			}
			by[t.id] = append(by[t.id], i)
		}
	}
	slices.SortFunc(all, func(a, b topicInfo) int { return compareIDs(a.id, b.id) })
	return all, by
}

// assignRange gives each member a run of each topic's partitions; the same run of every
// topic that the same members want, so that topics with equal keys meet at one member.
func assignRange(ws []*wish) []parts {
	out := make([]parts, len(ws))
	for i := range ws {
		out[i] = make(parts)
	}
	all, by := wanted(ws)
	for _, t := range all {
		who := by[t.id]
		slices.SortFunc(who, func(a, b int) int {
			return cmp.Or(cmp.Compare(ws[a].order, ws[b].order), cmp.Compare(ws[a].id, ws[b].id))
		})
		n := int32(0)
		for i, m := range who {
			share := t.partitions / int32(len(who))
			if i < int(t.partitions)%len(who) {
				share++
			}
			for range share {
				out[m][part{t.id, n}] = 0
				n++
			}
		}
	}
	return out
}

// assignUniform shares the partitions out as evenly as the wishes allow, and moves as few
// as that needs.
func assignUniform(ws []*wish) []parts {
	u := &uniform{ws: ws, given: make([]parts, len(ws))}
	u.all, u.by = wanted(ws)
	free := u.keep()
	if u.alike() {
		u.level(free)
	} else {
		u.fill(free)
		u.balance()
	}
	return u.given
}

// uniform is one uniform assignment in the making.
type uniform struct {
	ws    []*wish
	all   []topicInfo
	by    map[topic.ID][]int
	given []parts
}

// keep lets each member keep what it holds and still wants, and gives what is left, in order.
func (u *uniform) keep() (free []part) {
	taken := make(parts)
	sizes := make(map[topic.ID]int32, len(u.all))
	for _, t := range u.all {
		sizes[t.id] = t.partitions
	}
	for i, w := range u.ws {
		u.given[i] = make(parts)
		for at := range w.held {
			_, twice := taken[at]
			if twice || at.n < 0 || at.n >= sizes[at.topic] || !w.wants(at.topic) {
				continue
			}
			taken[at] = 0
			u.given[i][at] = 0
		}
	}
	for _, t := range u.all {
		for n := range t.partitions {
			if _, ok := taken[part{t.id, n}]; !ok {
				free = append(free, part{t.id, n})
			}
		}
	}
	return free
}

// alike tells whether all members want the same.
func (u *uniform) alike() bool {
	for _, t := range u.all {
		if len(u.by[t.id]) != len(u.ws) {
			return false
		}
	}
	return true
}

// level shares among members that all want the same: who holds too much gives the rest
// back, those that hold most may keep one more.
func (u *uniform) level(free []part) {
	total := len(free)
	order := make([]int, len(u.ws))
	for i := range u.ws {
		order[i] = i
		total += len(u.given[i])
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(u.given[b]), len(u.given[a])) })
	quota := make([]int, len(u.ws))
	for rank, i := range order {
		quota[i] = total / len(u.ws)
		if rank < total%len(u.ws) {
			quota[i]++
		}
		for _, at := range slices.SortedFunc(maps.Keys(u.given[i]), compareParts)[min(quota[i], len(u.given[i])):] {
			delete(u.given[i], at)
			free = append(free, at)
		}
	}
	slices.SortFunc(free, compareParts)
	for i := 0; len(free) > 0; i = (i + 1) % len(u.ws) {
		if len(u.given[i]) < quota[i] {
			u.given[i][free[0]] = 0
			free = free[1:]
		}
	}
}

// fill gives each free partition to who wants it and holds least; what few want goes first.
func (u *uniform) fill(free []part) {
	slices.SortStableFunc(free, func(a, b part) int { return cmp.Compare(len(u.by[a.topic]), len(u.by[b.topic])) })
	for _, at := range free {
		who := u.by[at.topic]
		least := who[0]
		for _, i := range who[1:] {
			if len(u.given[i]) < len(u.given[least]) {
				least = i
			}
		}
		u.given[least][at] = 0
	}
}

// balanceWork bounds the links that balance follows. Why: a group with thousands of
// different wishes is shared out well enough before the last partition is level.
const balanceWork = 2_000_000

// balance moves partitions, along a chain of members if need be, from a member to one that
// holds at least two less, until there is none.
func (u *uniform) balance() {
	work := balanceWork
	for moved := true; moved && work > 0; {
		moved = false
		order := make([]int, len(u.ws))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(u.given[b]), len(u.given[a])) })
		for _, i := range order {
			for u.relieve(i, &work) {
				moved = true
			}
		}
	}
}

// relieve takes one partition off a member if somebody who holds two less can be reached:
// over topics that a member holds something of to the others that want them.
func (u *uniform) relieve(from int, work *int) bool {
	type step struct {
		from int
		at   part
	}
	reached := map[int]step{from: {from: -1}}
	seen := make(map[topic.ID]bool)
	for queue := []int{from}; len(queue) > 0 && *work > 0; queue = queue[1:] {
		i := queue[0]
		for _, at := range slices.SortedFunc(maps.Keys(u.given[i]), compareParts) {
			*work--
			if seen[at.topic] {
				continue
			}
			seen[at.topic] = true
			for _, to := range u.by[at.topic] {
				*work--
				if _, ok := reached[to]; ok {
					continue
				}
				reached[to] = step{i, at}
				if len(u.given[to])+2 > len(u.given[from]) {
					queue = append(queue, to)
					continue
				}
				for s := reached[to]; s.from >= 0; to, s = s.from, reached[s.from] {
					delete(u.given[s.from], s.at)
					u.given[to][s.at] = 0
				}
				return true
			}
		}
	}
	return false
}
