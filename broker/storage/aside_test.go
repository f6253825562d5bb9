package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// spoil changes a byte in, or with cut takes the end from, the nth segment of a log.
func spoil(t *testing.T, l *Log, n int, cut bool) {
	t.Helper()
	s := (*l.view.Load())[n]
	h := must(s.take())
	defer h.Release()
	if cut {
		if err := h.Truncate(s.size.Load() - 40); err != nil {
			t.Fatal(err)
		}
		return
	}
	b := make([]byte, 1)
	must(h.ReadAt(b, 100))
	must(h.WriteAt([]byte{b[0] ^ 4}, 100))
}

// TestSetAside: a damaged log, however the damage was found, is kept under another name, and
// a new one takes its place, over restarts and a loss of power.
func TestSetAside(t *testing.T) {
	for _, how := range []string{"read, check sum", "read, cut", "start, cut", "start, nameless"} {
		t.Run(how, func(t *testing.T) {
			memory := disk.NewMemory(0)
			s := mustOpen(t, options(memory))
			l := mustCreate(t, s, smallCf)
			for range 40 {
				mustAppend(t, l, batch(3, 1))
			}
			settle(t, s, l)
			why := ErrNameless.Error()
			switch how {
			case "read, check sum", "read, cut":
				spoil(t, l, 1, how == "read, cut")
				if _, err := l.Read((*l.view.Load())[1].base, 1<<20, l.End(), true); !errors.Is(err, ErrOffline) {
					t.Fatalf("damage is given out: %v", err)
				}
				why = WhyDamaged(l.Damage())
			case "start, cut":
				spoil(t, l, len(*l.view.Load())-1, true)
				memory = memory.Crash(1)
				s = mustOpen(t, options(memory))
				l = s.Log(testTP)
				why = WhyDamaged(l.Damage())
			case "start, nameless":
				if err := l.writeAtomic(partitionFile, []byte("nothing of sense")); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = mustOpen(t, options(memory))
				if _, err := s.Create(testTP, testID, smallCf); !errors.Is(err, ErrNameless) || !errors.Is(err, ErrOffline) {
					t.Fatalf("a log without a name is covered up: %v", err)
				}
			}
			if want := map[string]string{"read, check sum": "a check sum is wrong", "start, nameless": "partition.metadata is damaged"}[how]; why != want && (want != "" || why != "bytes are missing") {
				t.Errorf("it says %q, want %q", why, want)
			}
			kept, err := s.SetAside(testTP, testID)
			if err != nil {
				t.Fatal(err)
			}
			if s.Log(testTP) != nil {
				t.Error("the damaged log is still served")
			}
			content := must(disk.ReadFile(s.dirs[0].disk, strings.TrimPrefix(kept, "/data/")+"/00000000000000000000.log"))
			if !strings.Contains(kept, ".damaged-") || len(content) < 800 {
				t.Errorf("the damaged files are in %q with %d bytes", kept, len(content))
			}
			for range 3 {
				l = mustCreate(t, s, smallCf)
				if l.Err() != nil {
					t.Fatalf("the new log is offline: %v", l.Err())
				}
				mustAppend(t, l, batch(1, 1))
				if err := l.Flush(); err != nil {
					t.Fatal(err)
				}
				memory = memory.Crash(7)
				s = mustOpen(t, options(memory))
			}
			if l = s.Log(testTP); l.Start() != 0 || l.End() != 3 || l.Err() != nil {
				t.Errorf("the new log is [%d, %d), %v", l.Start(), l.End(), l.Err())
			}
			if n, last := s.Asides(testTP, testID, time.Now().Add(-time.Minute)); n != 1 || time.Since(last) > time.Minute {
				t.Errorf("%d copies are known after a restart, the last one of %v", n, last)
			}
			if n, _ := s.Asides(testTP, testID, time.Now().Add(time.Minute)); n != 0 {
				t.Errorf("%d copies of the future", n)
			}
			// With the log its damaged copies go.
			if err := s.Delete(testTP, testID); err != nil {
				t.Fatal(err)
			}
			s.trash.empty(time.Now().Add(time.Hour))
			if left := folders(t, memory, "/data"); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			_ = s.Close()
		})
	}
}

func TestSetAsideOnlyWhatIsDamaged(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l := mustCreate(t, s, smallCf)
	mustAppend(t, l, batch(1, 1))
	if _, err := s.SetAside(testTP, testID); err == nil || s.Log(testTP) != l {
		t.Fatalf("a good log is set aside (%v)", err)
	}
	mustAppend(t, l, batch(1, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetAside(testTP, testID); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed store gives %v", err)
	}
}

// TestAsidesAreBounded spoils one log again and again.
func TestAsidesAreBounded(t *testing.T) {
	memory := disk.NewMemory(0)
	now := time.Now()
	o := options(memory)
	o.Now = func() time.Time { return now }
	s := mustOpen(t, o)
	var kept []string
	for range 6 {
		l := mustCreate(t, s, smallCf)
		for range 40 {
			mustAppend(t, l, batch(3, 1))
		}
		settle(t, s, l)
		spoil(t, l, 1, false)
		_, _ = l.Read((*l.view.Load())[1].base, 1<<20, l.End(), true)
		kept = append(kept, must(s.SetAside(testTP, testID)))
		now = now.Add(time.Minute)
	}
	s.trash.empty(now.Add(time.Hour))
	left := folders(t, memory, "/data")
	for i := range left {
		left[i] = "/data/" + left[i]
	}
	slices.Sort(left)
	if want := kept[len(kept)-maxAside:]; !slices.Equal(left, want) {
		t.Errorf("kept are %q, want %q", left, want)
	}
	if n, last := s.Asides(testTP, testID, now.Add(-time.Hour)); n != 6 || !last.Equal(now.Add(-time.Minute)) {
		t.Errorf("%d are remembered, the last one of %v", n, last)
	}
	_ = s.Close()
}

// TestSetAsideMeetsPowerLoss loses power at every write of setting a log aside and making it
// anew. What is there afterwards is the damaged log or the new one, and never a good log that
// is taken for damaged.
func TestSetAsideMeetsPowerLoss(t *testing.T) {
	for at := 1; at < 60; at++ {
		memory := disk.NewMemory(0)
		s := mustOpen(t, options(memory))
		l := mustCreate(t, s, smallCf)
		for range 40 {
			mustAppend(t, l, batch(3, 1))
		}
		settle(t, s, l)
		old := content(t, l)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		n, out := 0, errors.New("no power")
		armed := false
		fs := disk.NewFaulty(memory, func(disk.Op) *disk.Fault {
			if armed {
				n++
			}
			if n >= at {
				return &disk.Fault{Err: out}
			}
			return nil
		})
		s = mustOpen(t, options(fs))
		l = mustCreate(t, s, smallCf)
		l.quarantine(fmt.Errorf("as if: %w", errShort))
		armed = true
		if _, err := s.SetAside(testTP, testID); err == nil {
			if l, err = s.Create(testTP, testID, smallCf); err == nil {
				if _, err = l.Append(batch(1, 1), Append{Assign: true, Epoch: 1}); err == nil {
					_ = l.Flush()
				}
			}
		}
		done := n < at
		s = mustOpen(t, options(memory.Crash(uint64(at))))
		l = mustCreate(t, s, smallCf)
		if l.Err() != nil {
			t.Fatalf("power lost at %d: the log is damaged: %v", at, l.Err())
		}
		// Of the old log, which was good in truth, all is there; of the new one what was synced.
		if got := content(t, l); len(got) > 100 && !bytes.Equal(got, old) || done && l.End() != 1 {
			t.Fatalf("power lost at %d (done %v): the log is [%d, %d) with %d bytes", at, done, l.Start(), l.End(), len(got))
		}
		_ = s.Close()
		if done {
			return
		}
	}
	t.Fatal("setting aside takes more writes than were tried")
}

// TestLogMadeAgainIsNotTakenForDamaged: a replica that was moved away and comes back finds
// the checkpoints saying something of the log of before.
func TestLogMadeAgainIsNotTakenForDamaged(t *testing.T) {
	memory := disk.NewMemory(0)
	s := mustOpen(t, options(memory))
	l := mustCreate(t, s, smallCf)
	for range 40 {
		mustAppend(t, l, batch(3, 1))
	}
	settle(t, s, l)
	if err := s.Delete(testTP, testID); err != nil {
		t.Fatal(err)
	}
	l = mustCreate(t, s, smallCf)
	mustAppend(t, l, batch(1, 1))
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, options(memory.Crash(3)))
	if l = mustCreate(t, s, smallCf); l.Err() != nil || l.End() != 1 {
		t.Fatalf("the log ends at %d, %v", l.End(), l.Err())
	}
	_ = s.Close()
}
