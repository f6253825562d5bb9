package roll

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/outage"
)

// order gives the brokers that are still to be restarted: the one that was begun first, then
// those that are down, as no other is safe to stop before they are back, the active
// controller last, the others by ID.
func order(s *cluster.Standing, p progress) (ids []int32) {
	place := map[int32]int{}
	for _, m := range s.Members {
		switch {
		case slices.Contains(p.Done, m.ID):
			continue
		case p.Current != nil && p.Current.Broker == m.ID:
			place[m.ID] = 0
		case m.Fenced:
			place[m.ID] = 1
		case m.ID == s.Controller:
			place[m.ID] = 3
		default:
			place[m.ID] = 2
		}
		ids = append(ids, m.ID)
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return place[a] - place[b] })
	return ids
}

// begun is a broker that was, or is about to be, restarted.
type begun struct {
	Broker int32 `json:"broker"`
	Epoch  int64 `json:"epoch"` // of its registration before; −1: the cluster does not tell
	gone   bool  // it was seen to be down since
}

// restarted tells whether a broker has registered anew.
func (b *begun) restarted(s *cluster.Standing) bool {
	m, ok := s.Member(b.Broker)
	if !ok || m.Fenced {
		return false
	}
	if b.Epoch < 0 || m.Epoch < 0 {
		return b.gone
	}
	return m.Epoch != b.Epoch
}

// see notes that the broker is down.
func (b *begun) see(s *cluster.Standing) {
	if m, ok := s.Member(b.Broker); !ok || m.Fenced {
		b.gone = true
	}
}

// lacking says what is still waited for until a restarted broker is back; "" when it is.
func (b *begun) lacking(s *cluster.Standing, accept []outage.Kind) string {
	m, ok := s.Member(b.Broker)
	switch {
	case !ok || m.Fenced:
		return "it is not in service"
	case m.Leaving:
		return "it is stopping"
	case !b.restarted(s):
		return "it was not seen to restart"
	}
	if missing := outage.Missing(s, b.Broker); len(missing) > 0 {
		return fmt.Sprintf("%d of its replicas are not in sync yet: %s", len(missing), some(missing))
	}
	var why []string
	for _, r := range outage.Amiss(s) {
		if !slices.Contains(accept, r.Kind) {
			why = append(why, r.String())
		}
	}
	return strings.Join(why, "; ")
}

// shownNames is how many names a line holds.
const shownNames = 5

func some(names []string) string {
	text := strings.Join(names[:min(len(names), shownNames)], ", ")
	if more := len(names) - shownNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func numbers(ids []int32) string {
	if len(ids) == 0 {
		return "none"
	}
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(int(id))
	}
	return strings.Join(words, ", ")
}

func reasons(v outage.Verdict) string {
	lines := make([]string, len(v.Reasons))
	for i, r := range v.Reasons {
		lines[i] = r.String()
	}
	return strings.Join(lines, "; ")
}
