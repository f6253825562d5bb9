package ledger

import "sync"

// Shared is a Reading that the members of a group add to.
type Shared struct {
	mu sync.Mutex
	r  *Reading
}

// ShareMembers begins a reading by a group.
func (l *Ledger) ShareMembers(who string) *Shared { return &Shared{r: l.Share(who)} }

// Who names the group.
func (s *Shared) Who() string { return s.r.Who }

// Count gives how many messages the members were given.
func (s *Shared) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Count()
}

// Next gives, by partition, the offset behind the highest that a member was given.
func (s *Shared) Next() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.r.Next...)
}

// Take is the message that a member is given next.
func (s *Shared) Take(partition int32, offset int64, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.r.Take(partition, offset, value)
}
