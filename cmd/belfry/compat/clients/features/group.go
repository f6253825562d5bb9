package features

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Share is what one member of a group has: the client's callbacks write it, the scenario reads it.
type Share struct {
	mu struct {
		sync.Mutex
		parts []int32
		lost  int
	}
}

// Add takes partitions in.
func (s *Share) Add(parts ...int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.parts = append(s.mu.parts, parts...)
	slices.Sort(s.mu.parts)
	s.mu.parts = slices.Compact(s.mu.parts)
}

// Remove gives partitions up.
func (s *Share) Remove(parts ...int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.parts = slices.DeleteFunc(s.mu.parts, func(p int32) bool {
		gone := slices.Contains(parts, p)
		if gone {
			s.mu.lost++
		}
		return gone
	})
}

// Parts gives the partitions of now.
func (s *Share) Parts() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.parts)
}

// lost counts every partition that was ever given up.
func (s *Share) lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.lost
}

// Member is one running consumer of a group.
type Member struct {
	Share *Share
	Leave func() error // leaves the group and waits until everything of it has ended
}

// Group is how a client does what the scenario asks.
type Group struct {
	// Join starts a member; seen is told the key of each message.
	Join func(ctx context.Context, name string, seen func(key string)) (Member, error)
	// Send produces the keys, message i into partition i modulo 4.
	Send func(ctx context.Context, keys []string) error
	// Cooperative: the first member keeps the partitions that do not move.
	Cooperative bool
	// Static: the second member comes back under its name within the session and nothing moves.
	Static bool
}

// ledger is who received what; a key that comes twice is a fault.
type ledger struct {
	mu struct {
		sync.Mutex
		by    map[string]string
		twice []string
	}
}

func (l *ledger) seen(member string) func(key string) {
	return func(key string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.mu.by[key]; ok {
			l.mu.twice = append(l.mu.twice, key)
		}
		l.mu.by[key] = member
	}
}

// counts gives the messages of the first member and of both.
func (l *ledger) counts() (one, both int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.mu.by {
		if m == "one" {
			one++
		}
	}
	return one, len(l.mu.by)
}

// twice gives the keys that came more than once.
func (l *ledger) twice() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.twice)
}

// scenario is a run of GroupOfTwo.
type scenario struct {
	Group
	ledger   ledger
	one, two Member
	sent     int
}

// GroupOfTwo lets two members share the 4 partitions of a topic: the first has all, the second takes
// half, each message arrives once, and the first has all again after the second has left.
func GroupOfTwo(ctx context.Context, g Group) (err error) {
	s := &scenario{Group: g}
	s.ledger.mu.by = map[string]string{}
	if s.one, err = s.join(ctx, "one"); err != nil {
		return err
	}
	defer func() {
		if e := s.one.Leave(); err == nil {
			err = e
		}
	}()
	if err := s.await(ctx, patience, 4, 0); err != nil {
		return err
	}
	if err := s.round(ctx, "alone", 40); err != nil {
		return err
	}
	if err := s.together(ctx); err != nil {
		return err
	}
	// Why two sessions: nobody says that a static member is gone for good.
	if err := s.await(ctx, patience, 4, 0); err != nil {
		return fmt.Errorf("after the second has left: %w", err)
	}
	if err := s.round(ctx, "left", s.first()+40); err != nil {
		return err
	}
	return EqualAll(s.ledger.twice(), nil, "messages that came twice")
}

// join starts a member; it can be told to leave more than once.
func (s *scenario) join(ctx context.Context, name string) (Member, error) {
	m, err := s.Join(ctx, name, s.ledger.seen(name))
	if err != nil {
		return Member{Share: &Share{}, Leave: func() error { return nil }}, fmt.Errorf("cannot join as member %q: %w", name, err)
	}
	m.Leave = sync.OnceValue(m.Leave)
	return m, nil
}

func (s *scenario) first() int {
	one, _ := s.ledger.counts()
	return one
}

// together is the middle part, where there are two members.
func (s *scenario) together(ctx context.Context) (err error) {
	if s.two, err = s.join(ctx, "two"); err != nil {
		return err
	}
	defer func() {
		if e := s.two.Leave(); err == nil {
			err = e
		}
		s.two = Member{}
	}()
	if err := s.await(ctx, patience, 2, 2); err != nil {
		return err
	}
	if s.Cooperative {
		if err := Equal(s.one.Share.lost(), 2, "partitions given up by the first member"); err != nil {
			return err
		}
	}
	if err := s.round(ctx, "shared", 60); err != nil {
		return err
	}
	if s.Static {
		return s.comeBack(ctx)
	}
	return nil
}

// comeBack restarts the second member within its session.
func (s *scenario) comeBack(ctx context.Context) (err error) {
	lost, had := s.one.Share.lost(), s.two.Share.Parts()
	if err := s.two.Leave(); err != nil {
		return err
	}
	if s.two, err = s.join(ctx, "two"); err != nil {
		return err
	}
	if err := s.await(ctx, patience, 2, 2); err != nil {
		return err
	}
	if err := EqualAll(s.two.Share.Parts(), had, "partitions of the static member that came back"); err != nil {
		return err
	}
	if err := Equal(s.one.Share.lost(), lost, "partitions that the first member gave up meanwhile"); err != nil {
		return err
	}
	return s.round(ctx, "back", 80)
}

// await waits until the members have so many partitions.
func (s *scenario) await(ctx context.Context, limit time.Duration, one, two int) error {
	shares := func() (a, b []int32) {
		a = s.one.Share.Parts()
		if s.two.Share != nil {
			b = s.two.Share.Parts()
		}
		return a, b
	}
	err := Until(ctx, limit, func() string {
		a, b := shares()
		return fmt.Sprintf("%d and %d partitions, have %v and %v", one, two, a, b)
	}, func() bool {
		a, b := shares()
		return len(a) == one && len(b) == two
	})
	if err != nil {
		return err
	}
	a, b := shares()
	all := append(a, b...)
	slices.Sort(all)
	return EqualAll(all, []int32{0, 1, 2, 3}, "partitions of the members")
}

// round sends 40 messages and waits for them; first is what the first member has then.
func (s *scenario) round(ctx context.Context, name string, first int) error {
	keys := make([]string, 40)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s-%d", name, i)
	}
	if err := s.Send(ctx, keys); err != nil {
		return fmt.Errorf("cannot send the messages %q: %w", name, err)
	}
	s.sent += len(keys)
	err := Until(ctx, patience, func() string {
		_, both := s.ledger.counts()
		return fmt.Sprintf("%d of %d messages, in the round %q", both, s.sent, name)
	}, func() bool {
		_, both := s.ledger.counts()
		return both >= s.sent
	})
	if err != nil {
		return err
	}
	one, _ := s.ledger.counts()
	return Equal(one, first, "messages of the first member after the round "+name)
}
