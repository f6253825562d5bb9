package replica

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/belfry-mq/belfry/broker/topic"
)

// takers is how many partitions are opened and taken up at the same time. Why: each waits
// for the disk five times, and a file system's journal commits what several wait for in one
// go. A topic of 1 000 partitions takes a tenth of the time that it takes one by one.
const takers = 16

// job is one partition on its way to what the metadata want of it.
type job struct {
	name topic.Partition
	wish wish
	was  *entry // what there is of it, nil: nothing

	now *entry // what became of it
	err error
}

// take opens what is new, tries again what could not be opened, and brings every partition's
// role and settings up to date. opened tells whether a log was opened.
func (s *Set) take(wishes map[topic.Partition]wish, kept map[topic.Partition]*entry, first bool) (next map[topic.Partition]*entry, opened bool, errs []error) {
	jobs := make([]job, 0, len(wishes))
	for name, w := range wishes {
		if e := kept[name]; e == nil || !e.lost { // what was lost was said when it was found out; nothing changes before the next start
			jobs = append(jobs, job{name: name, wish: w, was: e})
		}
	}
	var at atomic.Int64
	work := func() {
		for i := at.Add(1) - 1; i < int64(len(jobs)); i = at.Add(1) - 1 {
			s.takeOne(&jobs[i], first)
		}
	}
	var wg sync.WaitGroup
	for range min(takers, len(jobs)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	next = kept
	s.now.failed = nil
	for i := range jobs {
		j := &jobs[i]
		if j.now != j.was && !opened {
			next, opened = maps.Clone(kept), true
		}
		if j.now != j.was {
			next[j.name] = j.now
		}
		if j.err != nil {
			errs = append(errs, j.err)
			if s.now.failed == nil {
				s.now.failed = make(map[topic.Partition]bool)
			}
			s.now.failed[j.name] = true
		}
	}
	return next, opened, errs
}

func (s *Set) takeOne(j *job, first bool) {
	j.now = j.was
	if j.was != nil {
		if why := j.was.damage(); why != nil {
			if !renounced(&j.wish.state, s.o.Node, j.was.heard()) && !s.flaws.forgetful {
				if j.was.err != nil {
					j.err = fmt.Errorf("cannot open partition %q: %w", j.name, j.was.err)
				}
				return
			}
			if err := s.setAside(j.name, &j.wish, j.was, why); err != nil {
				j.err = fmt.Errorf("cannot fetch partition %q anew: %w", j.name, err)
				return
			}
			j.now = nil
		}
	}
	if j.now == nil || j.now.err != nil {
		j.now = s.open(j.name, j.wish, first)
	}
	if j.now.err != nil {
		j.err = fmt.Errorf("cannot open partition %q: %w", j.name, j.now.err)
		return
	}
	if err := s.follow(j.now.partition, j.wish); err != nil {
		j.err = fmt.Errorf("cannot take up partition %q: %w", j.name, err)
	}
}
