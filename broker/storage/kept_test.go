package storage

import (
	"testing"

	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// TestKeptOrTorn changes what lies above the recovery point, and opens the log as after a
// loss of power and as after the death of the process alone. The first leaves writes torn in
// any way, the second one that stopped half-way and nothing else.
func TestKeptOrTorn(t *testing.T) {
	for name, c := range map[string]struct {
		kept, cut, committed bool
		damaged              bool
	}{
		"a wrong byte after power was lost":                {},
		"a lack of bytes after power was lost":             {cut: true},
		"committed bytes lack after power was lost":        {cut: true, committed: true},
		"a wrong byte after the process died":              {kept: true, damaged: true},
		"half a write after the process died":              {kept: true, cut: true},
		"committed bytes lack after the process died":      {kept: true, cut: true, committed: true, damaged: true},
		"a committed byte is wrong after the process died": {kept: true, committed: true, damaged: true},
	} {
		t.Run(name, func(t *testing.T) {
			memory := disk.NewMemory(0)
			s := mustOpen(t, options(memory))
			l := mustCreate(t, s, smallCf)
			for range 10 {
				mustAppend(t, l, batch(1, 1))
			}
			if c.committed {
				l.SetHighWatermark(10)
			}
			l.mu.Lock()
			l.mu.floor = 0 // the recovery point stays where it is
			l.mu.Unlock()
			if err := s.checkpoint(s.dirs[0], false); err != nil {
				t.Fatal(err)
			}
			spoil(t, l, len(*l.view.Load())-1, c.cut)
			o := options(memory.Crash(1))
			o.Kept = c.kept
			s = mustOpen(t, o)
			l = s.Log(testTP)
			if damaged := l.Damage() != nil; damaged != c.damaged {
				t.Errorf("damaged %v: %v", damaged, l.Damage())
			}
			if !c.damaged && l.End() >= 10 {
				t.Errorf("it ends at %d", l.End())
			}
			_ = s.Close()
		})
	}
}
