package chaos

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
)

// diskFaults are what happens to a node's disk.
func diskFaults() []fault {
	return []fault{
		{"power cut of one", func(w *world) { w.unplugged(w.ids()[:1]) }},
		{"power cut of the controller", func(w *world) { w.unplugged([]int{w.theController()}) }},
		{"power cut of one while another is away", func(w *world) {
			ids := w.ids()
			w.node(ids[0]).Signal(syscall.SIGSTOP)
			w.pause(w.between(0, 9*time.Second))
			w.unplugged(ids[1:2], ids[0])
		}},
		{"full disk of one", func(w *world) {
			path := w.fill(w.ids()[0])
			w.pause(w.between(2*time.Second, 10*time.Second))
			w.empty(path)
		}},
		{"full disk of all", func(w *world) {
			var paths []string
			for _, id := range w.ids() {
				paths = append(paths, w.fill(id))
			}
			w.pause(w.between(2*time.Second, 5*time.Second))
			for _, path := range paths {
				w.empty(path)
			}
		}},
		{"full disk of one that is killed", func(w *world) {
			id := w.ids()[0]
			path := w.fill(id)
			w.node(id).Kill()
			w.node(id).Launch()
			w.pause(w.between(2*time.Second, 8*time.Second))
			w.empty(path)
			w.node(id).WaitReady()
		}},
		{"a slow disk of one", func(w *world) {
			id := w.ids()[0]
			if heal := w.slow(id, 64<<10<<w.rnd.IntN(5)); heal != nil {
				w.pause(w.between(3*time.Second, 15*time.Second))
				heal()
			} else {
				w.traced(id, "pwrite64,pwritev,fsync,fdatasync", "delay_enter=20000", w.between(3*time.Second, 10*time.Second))
			}
			w.backIfEnded(id)
		}},
		{"slow syncs of one", func(w *world) {
			id := w.ids()[0]
			w.traced(id, "fsync,fdatasync", "delay_enter=1500000", w.between(3*time.Second, 10*time.Second))
			w.backIfEnded(id)
		}},
		{"an error of a sync of one", func(w *world) {
			id := w.ids()[0]
			w.traced(id, "fsync,fdatasync", "error=EIO", w.between(time.Second, 4*time.Second))
			// A node whose only directory has failed ends; one that met no error goes on.
			w.node(id).Kill()
			w.node(id).Restart()
		}},
		{"an error of a write of one", func(w *world) {
			id := w.ids()[0]
			w.traced(id, "pwrite64,pwritev", "error=EIO:when=3+7", w.between(time.Second, 4*time.Second))
			w.node(id).Kill()
			w.node(id).Restart()
		}},
	}
}

// backIfEnded starts a node again that has ended: its watchdog may find that a disk hangs for too long.
func (w *world) backIfEnded(id int) {
	select {
	case <-w.node(id).Gone():
		w.say("node %d has ended: %v", id, w.node(id).ExitError())
		w.node(id).Restart()
	default:
	}
}

// fill takes what is left of a node's disk, to the last byte.
func (w *world) fill(id int) (path string) {
	w.t.Helper()
	path = filepath.Join(w.node(id).Dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	// Why allocate: a sparse file would leave the space to the node; writing gigabytes takes time and memory.
	for size, at := int64(volumeBytes), int64(0); size >= 4096; {
		if syscall.Fallocate(int(f.Fd()), 0, at, size) != nil {
			size /= 2
			continue
		}
		at += size
	}
	return path
}

func (w *world) empty(path string) {
	w.t.Helper()
	if err := os.Remove(path); err != nil {
		w.t.Error(err)
	}
}

// traced lets system calls of a node fail or take long, as strace's "inject" says.
func (w *world) traced(id int, calls, what string, d time.Duration) {
	w.t.Helper()
	cmd := exec.Command("strace", "-f", "-q", "-o", "/dev/null", "-p", strconv.Itoa(w.node(id).PID()), "-e", "trace="+calls, "-e", "inject="+calls+":"+what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatalf("cannot run strace: %v", err)
	}
	w.pause(d)
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended with the node
	_ = cmd.Wait()
}

// unplugged takes the power from nodes: what their disks were not told to keep is gone in part. Afterwards those that
// were stopped go on.
func (w *world) unplugged(ids []int, stopped ...int) {
	w.t.Helper()
	for _, id := range ids {
		w.cutPower(id)
	}
	w.pause(w.between(0, 5*time.Second))
	for _, id := range stopped {
		w.node(id).Signal(syscall.SIGCONT)
	}
	for _, id := range ids {
		w.node(id).Launch()
	}
	for _, id := range ids {
		w.node(id).WaitReady()
	}
}

// forget plays a power cut where there is no disk to lose what was not synced: it cuts each log of a node that does not
// run somewhere behind its recovery point: what lies before was synced. The file by which the node knows that it runs under the same boot as before goes, too: a machine without power
// boots anew.
func (w *world) forget(dir string) {
	w.t.Helper()
	data := filepath.Join(dir, "data")
	if err := os.Remove(filepath.Join(data, "broker-epoch")); err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	points := recoveryPoints(filepath.Join(data, "recovery-point-offset-checkpoint"))
	folders, err := filepath.Glob(filepath.Join(data, "*", "partition.metadata"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range folders {
		folder := filepath.Dir(name)
		segments, err := filepath.Glob(filepath.Join(folder, "*.log"))
		if err != nil || len(segments) == 0 || strings.Contains(folder, ".delete-") || strings.Contains(folder, ".damaged-") {
			continue
		}
		slices.Sort(segments)
		last := segments[len(segments)-1]
		b, err := os.ReadFile(last)
		if err != nil {
			w.t.Fatal(err)
		}
		kept := 0 // bytes of the newest segment that were synced
		for kept < len(b) {
			h, err := record.ReadHeader(b[kept:])
			if err != nil || int64(h.Base) >= points[filepath.Base(folder)] {
				break
			}
			kept += h.Size()
		}
		if kept >= len(b) || w.rnd.IntN(3) == 0 {
			continue
		}
		if err := os.Truncate(last, int64(kept+w.rnd.IntN(len(b)-kept))); err != nil {
			w.t.Fatal(err)
		}
	}
}

// recoveryPoints reads up to where logs were synced, by the names of their folders.
func recoveryPoints(path string) map[string]int64 {
	points := map[string]int64{}
	f, err := os.Open(path)
	if err != nil {
		return points // nothing was promised yet
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if o, err := strconv.ParseInt(text, 10, 64); ok && err == nil {
			points[name] = o
		}
	}
	return points
}

// storms are several faults at once, in no order.
func storms() []fault {
	return []fault{{"storm", func(w *world) {
		state := map[int]rune{}
		frail := w.ids()[0] // Why one only: what two have in their page caches alone is lost when both lose power
		for end := time.Now().Add(w.between(10*time.Second, 30*time.Second)); time.Now().Before(end); w.pause(w.between(0, 2*time.Second)) {
			id := w.ids()[0]
			switch k := w.rnd.IntN(10); {
			case k < 2 && state[id] == 0:
				w.node(id).Kill()
				state[id] = 'k'
			case k < 4 && state[id] == 0:
				w.node(id).Signal(syscall.SIGSTOP)
				state[id] = 's'
			case k < 6:
				w.cut(id, w.others(id)[0])
			case k == 6:
				w.heal()
			case k == 7 && state[frail] == 0:
				w.cutPower(frail)
				state[frail] = 'k'
			default:
				w.revive(id, state)
			}
		}
		w.heal()
		for _, id := range w.ids() {
			w.revive(id, state)
		}
		for _, id := range w.ids() {
			w.node(id).WaitReady()
		}
	}}}
}

// revive lets a node run again that a storm has hit.
func (w *world) revive(id int, state map[int]rune) {
	switch state[id] {
	case 'k':
		w.node(id).Launch()
	case 's':
		w.node(id).Signal(syscall.SIGCONT)
	}
	state[id] = 0
}
