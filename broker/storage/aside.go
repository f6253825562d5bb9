package storage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// asideMark is in the name of a damaged log's folder that was set aside. No folder of a log has a dot.
const asideMark = ".damaged-"

// maxAside is how many damaged copies of one log are kept. Why a limit: a disk that spoils
// one log again and again would be full of them.
const maxAside = 3

// maxAsideKnown is how many are remembered of one log.
const maxAsideKnown = 16

// aside is a damaged log's folder that was set aside.
type aside struct {
	dir  *directory
	name string
	at   time.Time
	gone bool // it is only remembered
}

// errShort marks damage that is a lack of bytes.
var errShort = errors.New("bytes are missing")

// Damage gives why the log is quarantined, nil while it is not: its directory works, but its
// data is not what was written.
func (l *Log) Damage() error {
	if e := l.damage.Load(); e != nil {
		return *e
	}
	return nil
}

// WhyDamaged gives the kind of a damage in a few words, without offsets and paths, so that it
// can be a label.
func WhyDamaged(err error) string {
	switch {
	case errors.Is(err, ErrNameless):
		return ErrNameless.Error()
	case errors.Is(err, errShort), errors.Is(err, io.ErrUnexpectedEOF):
		return errShort.Error()
	case errors.Is(err, record.ErrCorrupt):
		return "a check sum is wrong"
	}
	return "records are not what was written"
}

// SetAside takes a damaged log out of the store and gives its folder another name, under
// which it is kept, so that Create makes the log anew. It gives that name, a path.
//
// Errors: the log is not there or not damaged; ErrOffline, ErrFull, ErrClosed.
func (s *Store) SetAside(p topic.Partition, id topic.ID) (kept string, err error) {
	s.making.Lock()
	defer s.making.Unlock()
	folder := folderName(id, p.Partition)
	s.mu.RLock()
	l, closed := s.mu.byKey[key{id, p.Partition}], s.mu.closed
	s.mu.RUnlock()
	blocked := s.blocked[folder]
	switch {
	case closed:
		return "", ErrClosed
	case l != nil && l.damage.Load() != nil:
		return s.setLogAside(l)
	case l != nil, blocked == nil:
		return "", fmt.Errorf("cannot set log %q aside: it is not damaged", p)
	case blocked.Err() != nil:
		return "", fmt.Errorf("cannot set log %q aside: %w", p, ErrOffline)
	}
	if kept, err = s.moveAside(blocked, folder); err != nil {
		return "", fmt.Errorf("cannot set log %q aside: %w", p, blocked.trouble(err))
	}
	delete(s.blocked, folder)
	return kept, nil
}

// setLogAside is SetAside for a log that is open. Requires: making.
func (s *Store) setLogAside(l *Log) (kept string, err error) {
	l.chores.Lock()
	defer l.chores.Unlock()
	l.leaving.Store(true) // before the first name changes
	l.cancelMove()
	if l.dir().Err() == nil {
		kept, err = s.moveAside(l.dir(), l.folder)
	} else {
		err = ErrOffline
	}
	if err != nil {
		l.leaving.Store(false)
		return "", l.trouble("set aside", err)
	}
	s.mu.Lock()
	delete(s.mu.byKey, key{l.id, l.name.Partition})
	if s.mu.byName[l.name] == l {
		delete(s.mu.byName, l.name)
	}
	s.mu.Unlock()
	l.dir().logs.Add(-1)
	l.markGone()
	l.close()
	return kept, nil
}

// moveAside renames a log's folder, durably, and lets the oldest copies beyond the limit go.
func (s *Store) moveAside(d *directory, folder string) (string, error) {
	now := s.env.now()
	name := folder + asideMark + strconv.FormatInt(now.Unix(), 10) + "-" + randomMark()
	if err := d.disk.Rename(folder, name); err != nil {
		return "", err
	}
	if err := d.disk.Sync("."); err != nil {
		return "", err
	}
	s.mu.Lock()
	all := append(s.mu.aside[folder], aside{dir: d, name: name, at: now})
	for i := range all[:max(0, len(all)-maxAside)] {
		s.discardLocked(&all[i])
	}
	s.mu.aside[folder] = all[max(0, len(all)-maxAsideKnown):]
	s.mu.Unlock()
	return d.path + "/" + name, nil
}

// Asides tells how often a log was set aside after a moment, as far as it is known, and when
// the last time was.
func (s *Store) Asides(p topic.Partition, id topic.ID, since time.Time) (n int, last time.Time) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.mu.aside[folderName(id, p.Partition)] {
		if a.at.After(since) {
			n++
		}
		if a.at.After(last) {
			last = a.at
		}
	}
	return n, last
}

// dropAsides lets the damaged copies of a log go, with the log itself.
func (s *Store) dropAsides(folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.mu.aside[folder] {
		s.discardLocked(&a)
	}
	delete(s.mu.aside, folder)
}

func (s *Store) discardLocked(a *aside) {
	if !a.gone {
		s.trash.add(a.dir, a.name, s.env.now())
	}
	a.gone = true
}

// parseAside reads what moveAside made.
func parseAside(name string) (folder string, at time.Time, ok bool) {
	folder, rest, ok := strings.Cut(name, asideMark)
	if _, _, isLog := parseFolder(folder); !ok || !isLog {
		return "", at, false
	}
	when, _, ok := strings.Cut(rest, "-")
	seconds, err := strconv.ParseInt(when, 10, 64)
	return folder, time.Unix(seconds, 0), ok && err == nil
}

// noteAside takes in a folder that is found at the start and was set aside.
func (s *Store) noteAside(d *directory, name string) {
	folder, at, ok := parseAside(name)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(s.mu.aside[folder], aside{dir: d, name: name, at: at})
	slices.SortFunc(all, func(a, b aside) int { return a.at.Compare(b.at) })
	s.mu.aside[folder] = all
}

// freshLines makes sure that no checkpoint of a directory says anything of a log that is
// about to be made there. Why: what is written down of one of before, which was deleted,
// moved away or set aside, would make recovery take the new one for damaged.
func (s *Store) freshLines(d *directory, folder string) error {
	d.files.Lock()
	stale := d.files.named[folder]
	d.files.Unlock()
	if !stale {
		return nil
	}
	return s.checkpoint(d, true)
}
