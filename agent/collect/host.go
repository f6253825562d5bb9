package collect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

// Host reads processor, load and memory of the node. Where the process is held to
// less than the machine has, the node is what it is held to.
type Host struct {
	id    string
	group cgroups

	times  func(context.Context) (cpu.TimesStat, error)
	load   func(context.Context) (float64, error)
	cores  func(context.Context) (int, error)
	memory func(context.Context) (*mem.VirtualMemoryStat, error)

	before     processorTime
	beforeHave bool
}

// NewHost makes the collector; id is the broker on this host.
func NewHost(id string) *Host {
	return &Host{
		id:    id,
		times: allTimes,
		load: func(ctx context.Context) (float64, error) {
			avg, err := load.AvgWithContext(ctx)
			if err != nil {
				return 0, err
			}
			return avg.Load1, nil
		},
		cores:  func(ctx context.Context) (int, error) { return cpu.CountsWithContext(ctx, true) },
		memory: mem.VirtualMemoryWithContext,
	}
}

func allTimes(ctx context.Context) (cpu.TimesStat, error) {
	all, err := cpu.TimesWithContext(ctx, false)
	if err != nil {
		return cpu.TimesStat{}, err
	}
	if len(all) == 0 {
		return cpu.TimesStat{}, errors.New("the kernel gives none")
	}
	return all[0], nil
}

// Name is "host".
func (h *Host) Name() string { return "host" }

// Collect gives what can be read; the error tells of the rest.
func (h *Host) Collect(ctx context.Context, _ sampler.Period) ([]metric.Sample, error) {
	var s sheet
	labels := brokerLabels(h.id)
	var trouble []error
	note := func(what string, err error) bool {
		if err != nil {
			trouble = append(trouble, fmt.Errorf("cannot read %s: %w", what, err))
		}
		return err == nil
	}
	// The load is the whole machine's even inside a container, and so must be what
	// it is divided by.
	one, err := h.load(ctx)
	if cores, err2 := h.cores(ctx); note("load", err) && note("number of processors", err2) && cores > 0 {
		s.add(metric.BrokerCPUCoreLoad, one/float64(cores), labels)
	}
	now, err := h.processor(ctx)
	if note("processor times", err) {
		share, ok := now.share(h.before)
		s.addIf(h.beforeHave && ok, metric.BrokerCPUUsage, share, labels)
	}
	h.before, h.beforeHave = now, err == nil
	share, err := h.memoryShare(ctx)
	if note("memory", err) {
		s.add(metric.BrokerMemoryUsage, share, labels)
	}
	return s.samples, errors.Join(trouble...)
}

// processorTime is how much processor time was used, out of how much there was.
type processorTime struct {
	used, total float64 // seconds since some beginning
	limited     bool    // by a quota: the beginning is another one
	at          time.Time
	processors  float64 // with a quota only
}

func (h *Host) processor(ctx context.Context) (processorTime, error) {
	if n, ok := h.group.processors(); ok && h.tighter(ctx, n) {
		if used, ok := h.group.cpuTime(); ok {
			return processorTime{used: used.Seconds(), limited: true, at: time.Now(), processors: n}, nil
		}
	}
	t, err := h.times(ctx)
	if err != nil {
		return processorTime{}, err
	}
	// Guest time is in user time already. Waiting for a disk is not work.
	busy := t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal
	return processorTime{used: busy, total: busy + t.Idle + t.Iowait}, nil
}

// tighter tells whether a quota of n processors is less than the machine has.
func (h *Host) tighter(ctx context.Context, n float64) bool {
	cores, err := h.cores(ctx)
	return err != nil || n < float64(cores)
}

// share gives the used part of the time since before in percent; false when that
// cannot be told.
func (p processorTime) share(before processorTime) (float64, bool) {
	used, total := p.used-before.used, p.total-before.total
	if p.limited {
		total = p.at.Sub(before.at).Seconds() * p.processors
	}
	if p.limited != before.limited || used < 0 || total <= 0 {
		return 0, false
	}
	return min(100, used*100/total), true
}

// memoryShare gives the memory in use in percent: what is not available, as the
// kernel reckons it, out of what there is.
func (h *Host) memoryShare(ctx context.Context) (float64, error) {
	whole, err := h.memory(ctx)
	if err == nil && whole.Total == 0 {
		err = errors.New("the kernel tells of none")
	}
	used, limit, limited := h.group.memory()
	if limited && limit > 0 && (err != nil || limit < whole.Total) {
		return min(100, float64(used)*100/float64(limit)), nil
	}
	if err != nil {
		return 0, err
	}
	return float64(whole.Total-min(whole.Available, whole.Total)) * 100 / float64(whole.Total), nil
}
