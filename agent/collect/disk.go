package collect

import (
	"context"
	"fmt"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
	"github.com/belfry-mq/belfry/agent/volume"
)

// DiskOptions say which disk.
type DiskOptions struct {
	Broker string   // the broker on this host
	Dirs   []string // its data directories
	// Capacity gives the storage capacity in bytes; 0: what the file system has. Nil: 0.
	Capacity func() int64
}

// Disk reads how full the data disk is and how long it takes to answer.
type Disk struct {
	o       DiskOptions
	devices devices
	before  map[string]ioTimes
}

// NewDisk makes the collector.
func NewDisk(o DiskOptions) *Disk {
	if o.Capacity == nil {
		o.Capacity = func() int64 { return 0 }
	}
	return &Disk{o: o}
}

// Name is "disk".
func (d *Disk) Name() string { return "disk" }

// Collect gives usage, and awaits where the kernel keeps statistics of the device.
func (d *Disk) Collect(context.Context, sampler.Period) ([]metric.Sample, error) {
	var s sheet
	labels := brokerLabels(d.o.Broker)
	now := d.devices.times(d.o.Dirs)
	before := d.before
	d.before = now
	read, write := awaits(before, now)
	s.addIf(read.ok, metric.BrokerDiskReadAwait, read.ms, labels)
	s.addIf(write.ok, metric.BrokerDiskWriteAwait, write.ms, labels)

	used, total, percent, err := volume.Usage(d.o.Dirs, d.o.Capacity())
	if err != nil {
		return s.samples, fmt.Errorf("cannot tell how full the data disk is: %w", err)
	}
	s.add(metric.BrokerDiskUsage, percent, labels)
	s.add(metric.DiskUsedBytes, float64(used), labels)
	s.add(metric.DiskCapacityBytes, float64(total), labels)
	return s.samples, nil
}

// await is a mean time; not ok when there was no I/O.
type await struct {
	ms float64
	ok bool
}

// awaits gives the mean time of a read and of a write between two readings, over
// all devices that are in both: time grown by operations grown.
func awaits(before, now map[string]ioTimes) (read, write await) {
	var reads, readMS, writes, writeMS uint64
	for name, b := range now {
		a, ok := before[name]
		if !ok {
			continue
		}
		if b.reads > a.reads && b.readMS >= a.readMS { // else idle, or begun anew
			reads, readMS = reads+b.reads-a.reads, readMS+b.readMS-a.readMS
		}
		if b.writes > a.writes && b.writeMS >= a.writeMS {
			writes, writeMS = writes+b.writes-a.writes, writeMS+b.writeMS-a.writeMS
		}
	}
	if reads > 0 {
		read = await{float64(readMS) / float64(reads), true}
	}
	if writes > 0 {
		write = await{float64(writeMS) / float64(writes), true}
	}
	return read, write
}
