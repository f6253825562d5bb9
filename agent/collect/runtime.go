package collect

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"runtime/metrics"

	"github.com/shirou/gopsutil/v3/mem"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

// Runtime reads the heap of this process, which is the broker's.
type Runtime struct {
	id    string
	group cgroups

	heap  func() uint64
	limit func() int64 // GOMEMLIMIT; math.MaxInt64 for none
	total func(context.Context) (uint64, error)
}

// NewRuntime makes the collector; id is the broker in this process.
func NewRuntime(id string) *Runtime {
	return &Runtime{
		id:    id,
		heap:  heapInUse,
		limit: func() int64 { return debug.SetMemoryLimit(-1) },
		total: func(ctx context.Context) (uint64, error) {
			m, err := mem.VirtualMemoryWithContext(ctx)
			if err != nil {
				return 0, err
			}
			return m.Total, nil
		},
	}
}

// heapInUse gives the bytes of spans that hold objects.
func heapInUse() uint64 {
	read := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(read)
	var sum uint64
	for _, r := range read {
		if r.Value.Kind() == metrics.KindUint64 {
			sum += r.Value.Uint64()
		}
	}
	return sum
}

// Name is "runtime".
func (r *Runtime) Name() string { return "runtime" }

// Collect gives heap in use out of the memory limit: Go's own, else the control
// group's, else what the node has.
func (r *Runtime) Collect(ctx context.Context, _ sampler.Period) ([]metric.Sample, error) {
	limit, err := r.bound(ctx)
	if err != nil {
		return nil, err
	}
	var s sheet
	s.add(metric.BrokerHeapUsage, min(100, float64(r.heap())*100/limit), brokerLabels(r.id))
	return s.samples, nil
}

func (r *Runtime) bound(ctx context.Context) (float64, error) {
	if own := r.limit(); own > 0 && own < math.MaxInt64 {
		return float64(own), nil
	}
	total, err := r.total(ctx)
	if _, group, ok := r.group.memory(); ok && group > 0 && (err != nil || group < total) {
		return float64(group), nil
	}
	if err == nil && total == 0 {
		err = errors.New("the kernel tells of no memory")
	}
	return float64(total), err
}
