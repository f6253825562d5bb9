package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startLimit is the longest that a peer may take to its first answer, with logs to check first.
const startLimit = 5 * time.Minute

// Process is a running peer.
type Process struct {
	Spec     Spec
	Addr     string        // HOST:PORT of its clients
	Second   string        // HOST:PORT of its metrics, where it has such
	Profiles string        // HOST:PORT where BelfryProfiled takes profiles
	Dir      string        // everything it writes
	Started  time.Duration // from exec to the first answer

	argv []string
	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
}

// Start prepares and starts a peer in a folder of its own below root, and waits for its first answer.
//
// Errors: it cannot be prepared, ends, or does not answer in time; ctx. They carry the end of
// what the peer said.
func Start(ctx context.Context, s Spec, root string) (*Process, error) {
	dir, err := os.MkdirTemp(root, "peer-")
	if err != nil {
		return nil, err
	}
	p := &Process{Spec: s, Dir: dir}
	if err = p.prepare(ctx); err == nil {
		err = p.Launch(ctx)
	}
	if err != nil {
		said := p.Said()
		p.Stop()
		return nil, fmt.Errorf("cannot start %s: %w\n%s", s.Name, err, said)
	}
	return p, nil
}

func (p *Process) prepare(ctx context.Context) error {
	a, err := p.reserve(steadyAddresses())
	if err == nil {
		p.argv, err = p.Spec.prepare(ctx, p.Dir, a)
	}
	return err
}

// reserve gives the process its addresses.
func (p *Process) reserve(free func() (string, error)) (a addresses, err error) {
	for _, addr := range []*string{&a.client, &a.second, &a.profiles, &a.controller} {
		if *addr, err = free(); err != nil {
			return a, err
		}
	}
	p.Addr, p.Second, p.Profiles = a.client, a.second, a.profiles
	return a, nil
}

// Launch starts the program over the data that is there and sets Started once it has answered.
// Requires: it is not running.
func (p *Process) Launch(ctx context.Context) error {
	out, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the process has its own
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, out, out
	cmd.SysProcAttr = ownGroup()
	begin := time.Now()
	runtime.LockOSThread() // Why: the parent-death signal is bound to the thread that starts the child
	err = cmd.Start()
	runtime.UnlockOSThread()
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	p.cmd, p.gone = cmd, gone
	go func() {
		defer close(gone)
		_ = cmd.Wait() // it is killed; how it ended says nothing
	}()
	if err := p.answer(ctx); err != nil {
		return err
	}
	p.Started = time.Since(begin)
	return nil
}

// answer waits for the first answer.
func (p *Process) answer(ctx context.Context) error {
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := p.Spec.speaks(p.Addr)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.gone:
			return errors.New("it has ended")
		case <-deadline.C:
			return fmt.Errorf("no answer at %s within %v: %w", p.Addr, startLimit, err)
		case <-tick.C:
		}
	}
}

// Kill ends the process at once, as kill -9 does; its data stay.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.gone
}

// endLimit is the longest that a process may take to end when it is asked to.
const endLimit = 2 * time.Minute

// Terminate asks the process to end (SIGTERM) and waits until it has; its data stay.
//
// Errors: it does not end in time; ctx.
func (p *Process) Terminate(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("cannot ask %s to end: %w", p.Spec.Name, err)
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(endLimit):
		return fmt.Errorf("%s did not end within %v", p.Spec.Name, endLimit)
	}
}

// Stop ends the process and removes its folder. It may be called more than once.
func (p *Process) Stop() {
	p.Kill()
	_ = os.RemoveAll(p.Dir) // a temporary folder
}

func (p *Process) log() string { return filepath.Join(p.Dir, "output") }

// Said gives the end of what the process wrote to its standard output and error.
func (p *Process) Said() string {
	b, err := os.ReadFile(p.log())
	if err != nil {
		return ""
	}
	const most = 4000
	return string(b[max(0, len(b)-most):])
}

// Memory gives a field of the process's status in MiB; 0 where the system does not tell.
// VmRSS is what ps and top show: heap, stacks and the pages of the program and of mapped files
// that are in use, without the page cache, which belongs to the machine.
func (p *Process) Memory(field string) float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	return statusMiB(string(b), field)
}

// Proportional gives the process's memory in MiB; 0 where the system does not tell. It is PSS:
// as VmRSS, but of pages that several processes share each has its part, so that the sum over the
// nodes of a cluster counts the program itself once.
func (p *Process) Proportional() float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/smaps_rollup")
	if err != nil {
		return 0
	}
	return statusMiB(string(b), "Pss")
}

func statusMiB(status, field string) float64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kb float64
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}

// CPU gives the processor time that the process has used, in user and system mode; 0 where
// the system does not tell.
func (p *Process) CPU() time.Duration { return CPU(p.cmd.Process.Pid) }

// CPU gives the processor time of any process.
func CPU(pid int) time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	return statCPU(string(b))
}

func statCPU(stat string) time.Duration {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // Why: the name may hold blanks and brackets
	const user, system, tick = 11, 12, time.Second / 100                // Source: proc(5); a tick is 10 ms on every Linux
	if len(fields) <= system {
		return 0
	}
	var sum time.Duration
	for _, f := range fields[user : system+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// worthwhile is the size from which a file is among those that Files lists.
const worthwhile = 1 << 20

// Files gives the large files below the peer's folder, and how many bytes all its files hold.
// Why only large ones: thousands of partitions have tens of thousands of files with next to nothing.
func (p *Process) Files() (large []string, bytes int64) {
	_ = filepath.WalkDir(p.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // Why no error: files go away while we look
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		held := s.Blocks * 512 // Why not its size: index files are larger than what they hold
		bytes += held
		if held >= worthwhile {
			large = append(large, path)
		}
		return nil
	})
	return large, bytes
}

// Segments gives those of the large files that hold messages of topics which are there.
func (p *Process) Segments() []string {
	large, _ := p.Files()
	return slices.DeleteFunc(large, func(path string) bool {
		return !strings.HasSuffix(path, ".log") || strings.Contains(path, "delete")
	})
}
