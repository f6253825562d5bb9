package collect

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

// Process reads what this process takes of the limits that the kernel set it.
type Process struct {
	id    string
	files func() (int, error)
	limit func() (uint64, error)
}

// NewProcess makes the collector; id is the broker in this process.
func NewProcess(id string) *Process {
	return &Process{id: id, files: openFiles, limit: fileLimit}
}

// Name is "process".
func (p *Process) Name() string { return "process" }

// Collect gives the share of file descriptors in use: a broker that has none left
// can neither accept a client nor roll a segment.
func (p *Process) Collect(context.Context, sampler.Period) ([]metric.Sample, error) {
	open, err := p.files()
	if err != nil {
		return nil, fmt.Errorf("cannot count open files: %w", err)
	}
	limit, err := p.limit()
	if err != nil {
		return nil, fmt.Errorf("cannot read limit of open files: %w", err)
	}
	if limit == 0 {
		return nil, nil
	}
	var s sheet
	s.add(metric.OpenFilesUsage, min(100, float64(open)*100/float64(limit)), brokerLabels(p.id))
	return s.samples, nil
}

// openFiles counts descriptors without holding all their names at once. A kernel since
// 6.2 tells their number as the directory's size, which costs nothing.
func openFiles() (int, error) {
	if info, err := os.Stat("/proc/self/fd"); err == nil && info.Size() > 0 {
		return int(info.Size()), nil
	}
	dir, err := os.Open("/proc/self/fd")
	if os.IsNotExist(err) {
		dir, err = os.Open("/dev/fd")
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	n := -1 // the directory itself
	for {
		names, err := dir.Readdirnames(256)
		n += len(names)
		if err != nil || len(names) == 0 {
			return n, nil
		}
	}
}

func fileLimit() (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	return l.Cur, nil
}
