package truth

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// reading is what the test itself sees of the machine, by ways of its own: the kernel's text
// files and statfs.
type reading struct {
	at, done         time.Time // begun and over
	load             float64   // a processor
	busy, whole      float64   // processor time, in whatever unit
	memory, disk     float64   // %
	in, out          float64   // bytes over interfaces that lead out
	outward          bool      // there is one
	device           bool      // the kernel keeps statistics of the data disk
	reads, readMS    float64
	writes, writeMS  float64
	resident, peakKB float64 // of the node's process
}

func read(pid int, dir string) (reading, error) {
	r := reading{at: time.Now()}
	text := map[string]string{}
	for _, name := range []string{"loadavg", "stat", "meminfo", "net/dev", "diskstats", fmt.Sprintf("%d/status", pid)} {
		b, err := os.ReadFile("/proc/" + name)
		if err != nil && name != "diskstats" {
			return r, fmt.Errorf("cannot read the machine: %w", err)
		}
		text[name] = string(b)
	}
	cores := 0
	for line := range strings.Lines(text["stat"]) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[0], "cpu") && f[0] != "cpu" {
			cores++
		}
		if f[0] == "cpu" {
			for i := 1; i <= 8 && i < len(f); i++ { // user nice system idle iowait irq softirq steal
				r.whole += float(f[i])
				if i != 4 && i != 5 {
					r.busy += float(f[i])
				}
			}
		}
	}
	r.load = float(strings.Fields(text["loadavg"])[0]) / float64(cores)
	r.processorOfGroup(cores)
	total := keyed(text["meminfo"], "MemTotal:") * 1024
	r.memory = (total - keyed(text["meminfo"], "MemAvailable:")*1024) * 100 / total
	r.memoryOfGroup(total)
	r.resident = keyed(text[fmt.Sprintf("%d/status", pid)], "VmRSS:")
	r.peakKB = keyed(text[fmt.Sprintf("%d/status", pid)], "VmHWM:")
	r.network(text["net/dev"])
	err := r.data(dir, text["diskstats"])
	r.done = time.Now()
	return r, err
}

func float(s string) float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// keyed gives the number behind a key at the beginning of a line.
func keyed(text, key string) float64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			return float(f[1])
		}
	}
	return math.NaN()
}

// group gives the control group's directories for a controller, up to the root.
func group(controller string) []string {
	b, err := os.ReadFile("/proc/self/cgroup") // the node's is the test's
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		base := "/sys/fs/cgroup/" + controller
		switch {
		case len(f) < 3:
			continue
		case f[0] == "0":
			base = "/sys/fs/cgroup"
		case !slices.Contains(strings.Split(f[1], ","), controller):
			continue
		}
		for p := f[2]; ; p = filepath.Dir(p) {
			dirs = append(dirs, filepath.Join(base, p))
			if p == "/" {
				break
			}
		}
	}
	return dirs
}

func content(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// processorOfGroup replaces the machine's processor time when a quota gives the node less.
func (r *reading) processorOfGroup(cores int) {
	tightest, used := float64(cores), math.NaN()
	for _, dir := range group("cpu") {
		f := strings.Fields(content(dir + "/cpu.max")) // version 2: quota and period
		if len(f) != 2 {
			f = []string{content(dir + "/cpu.cfs_quota_us"), content(dir + "/cpu.cfs_period_us")}
		}
		if n := float(f[0]) / float(f[1]); n > 0 && n < tightest {
			tightest = n
		}
		if v := keyed(content(dir+"/cpu.stat"), "usage_usec"); math.IsNaN(used) && v > 0 {
			used = v / 1e6
		}
	}
	for _, dir := range group("cpuacct") {
		if v := float(content(dir + "/cpuacct.usage")); math.IsNaN(used) && v > 0 {
			used = v / 1e9
		}
	}
	if tightest < float64(cores) && !math.IsNaN(used) {
		r.busy, r.whole = used, float64(r.at.UnixNano())/1e9*tightest
	}
}

// memoryOfGroup replaces the machine's memory when a limit gives the node less.
func (r *reading) memoryOfGroup(total float64) {
	for _, dir := range group("memory") {
		for _, names := range [][3]string{{"memory.max", "memory.current", "inactive_file"}, {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}} {
			limit := float(content(dir + "/" + names[0]))
			if limit > 0 && limit < total {
				total = limit
				idle := keyed(content(dir+"/memory.stat"), names[2])
				r.memory = min(100, (float(content(dir+"/"+names[1]))-idle)*100/limit)
			}
		}
	}
}

// network sums the interfaces with a device behind them; where there is none, all but lo.
func (r *reading) network(text string) {
	for _, physical := range []bool{true, false} {
		for line := range strings.Lines(text) {
			name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
			f := strings.Fields(rest)
			if !ok || len(f) < 9 || name == "lo" {
				continue
			}
			if _, err := os.Stat("/sys/class/net/" + name + "/device"); physical && err != nil {
				continue
			}
			r.in, r.out, r.outward = r.in+float(f[0]), r.out+float(f[8]), true
		}
		if r.outward {
			return
		}
	}
}

// data reads the disk below the data directory.
func (r *reading) data(dir, diskstats string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("cannot measure %q: %w", dir, err)
	}
	used := float64(s.Blocks - s.Bfree)
	r.disk = used * 100 / (used + float64(s.Bavail))
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return fmt.Errorf("cannot measure %q: %w", dir, err)
	}
	dev := uint64(stat.Dev)
	major, minor := strconv.FormatUint(dev>>8&0xfff, 10), strconv.FormatUint(dev&0xff|dev>>12&0xfff00, 10)
	for line := range strings.Lines(diskstats) {
		if f := strings.Fields(line); len(f) > 10 && f[0] == major && f[1] == minor {
			r.device = true
			r.reads, r.readMS, r.writes, r.writeMS = float(f[3]), float(f[6]), float(f[7]), float(f[10])
		}
	}
	return nil
}

// around gives what the test read while a page's samples were taken: they are at most a
// period and a deadline old.
func around(p *page, all []reading) []reading {
	var near []reading
	for _, r := range all {
		if age := p.from.Sub(r.at); age > -poll && age < 2500*time.Millisecond {
			near = append(near, r)
		}
	}
	return near
}

// within compares a share with what the test read at about the same time.
func (v *verdict) within(id metric.ID, r run, readings []reading, tolerance float64, of func(reading) float64) {
	v.t.Helper()
	compared := 0
	for _, p := range r.pages {
		near := around(p, readings)
		got, ok := p.value(id, "")
		if !ok || len(near) < 2 {
			continue
		}
		low, high := of(near[0]), of(near[0])
		for _, x := range near {
			low, high = min(low, of(x)), max(high, of(x))
		}
		if got < low-tolerance || got > high+tolerance {
			v.t.Errorf("%s is %v in period %d, the machine itself says %v to %v", id, got, p.tick, low, high)
		}
		compared++
	}
	v.compared(id, compared > 0, "no period in which the test could read the machine as well")
}

// load must be one of the values that the kernel gave: it makes a new one each 5 s.
func (v *verdict) load(r run, readings []reading) {
	v.t.Helper()
	compared := 0
	for _, p := range r.pages {
		near := around(p, readings)
		got, ok := p.value(metric.BrokerCPUCoreLoad, "")
		wide := len(near) < 2
		for i := 1; i < len(near); i++ {
			wide = wide || near[i].at.Sub(near[i-1].at) > 2*time.Second
		}
		if !ok || wide {
			continue
		}
		if !slices.ContainsFunc(near, func(x reading) bool { return math.Abs(x.load-got) < 1e-9 }) {
			v.t.Errorf("broker_cpu_core_load is %v in period %d, the kernel gave %v to %v", got, p.tick, near[0].load, near[len(near)-1].load)
		}
		compared++
	}
	v.compared(metric.BrokerCPUCoreLoad, compared > 0, "no period in which the test could read the load as well")
}

// tickOf gives the moment at which a page's samples began to be taken: ticks lie on whole
// periods of the wall clock, and a page comes out within the period after.
func tickOf(p *page) time.Time { return p.from.Truncate(period) }

// bracket gives what the test read just before and just after the time that pages describe,
// and just after its begin and just before its end: whatever only grows grew by no more than
// the one and by no less than the other.
func bracket(begin, end *page, all []reading) (outer, inner [2]reading) {
	before := func(at time.Time) reading {
		best := all[0]
		for _, x := range all {
			if x.done.Before(at) {
				best = x
			}
		}
		return best
	}
	after := func(at time.Time) reading {
		for _, x := range all {
			if x.at.After(at) {
				return x
			}
		}
		return all[len(all)-1]
	}
	return [2]reading{before(tickOf(begin)), after(end.from)}, [2]reading{after(begin.from), before(tickOf(end))}
}

// machine compares everything that the machine itself can tell.
func (v *verdict) machine(r run, readings []reading) {
	v.t.Helper()
	v.load(r, readings)
	v.within(metric.BrokerMemoryUsage, r, readings, 4, func(x reading) float64 { return x.memory })
	v.within(metric.BrokerDiskUsage, r, readings, 1, func(x reading) float64 { return x.disk })
	outer, inner := bracket(r.pages[0], r.pages[len(r.pages)-1], readings)
	v.processor(r, outer)
	v.heap(r, outer)
	v.wire(r, outer, inner)
	v.awaits(r, readings)
}

func (v *verdict) processor(r run, outer [2]reading) {
	v.t.Helper()
	var used, time float64
	for _, p := range r.pages {
		if u, ok := p.value(metric.BrokerCPUUsage, ""); ok {
			used, time = used+u*p.elapsed, time+p.elapsed
		}
	}
	want := min(100, (outer[1].busy-outer[0].busy)*100/(outer[1].whole-outer[0].whole))
	if got := used / time; math.Abs(got-want) > 20 || math.IsNaN(got) {
		v.t.Errorf("broker_cpu_usage is %v %% on average, the kernel says %v %%", got, want)
	}
	v.compared(metric.BrokerCPUUsage, time > 0, "absent")
}

// heap lies in what the process ever had in memory.
func (v *verdict) heap(r run, outer [2]reading) {
	v.t.Helper()
	for _, percent := range r.values(metric.BrokerHeapUsage) {
		if bytes := percent / 100 * memoryLimit; bytes < 1<<19 || bytes > outer[1].peakKB*1024 {
			v.t.Errorf("broker_heap_usage is %v %% of GOMEMLIMIT, %v bytes; the process had at most %v kB in memory", percent, bytes, outer[1].peakKB)
		}
	}
	v.compared(metric.BrokerHeapUsage, len(r.values(metric.BrokerHeapUsage)) > 0, "absent")
}

// wire compares all network bytes of the node. Loopback leads nowhere and is not in them.
func (v *verdict) wire(r run, outer, inner [2]reading) {
	v.t.Helper()
	for _, c := range []struct {
		id metric.ID
		of func(reading) float64
	}{
		{metric.BrokerTotalBytesInRate, func(x reading) float64 { return x.in }},
		{metric.BrokerTotalBytesOutRate, func(x reading) float64 { return x.out }},
	} {
		there := len(r.values(c.id)) > 0
		v.compared(c.id, there == outer[0].outward, fmt.Sprintf("there is %v, an interface that leads out is there %v", there, outer[0].outward))
		most, least := c.of(outer[1])-c.of(outer[0]), c.of(inner[1])-c.of(inner[0])
		if got := r.moved(c.id, ""); there && r.whole == "" && (got > most*1.25+64<<10 || got < least*.75-64<<10) {
			v.t.Errorf("%s adds up to %v bytes, the kernel says %v to %v", c.id, got, least, most)
		}
	}
}

// awaits compares the mean times of the data disk's I/O; without I/O there is none.
func (v *verdict) awaits(r run, readings []reading) {
	v.t.Helper()
	for _, c := range []struct {
		id      metric.ID
		ops, ms func(reading) float64
	}{
		{metric.BrokerDiskReadAwait, func(x reading) float64 { return x.reads }, func(x reading) float64 { return x.readMS }},
		{metric.BrokerDiskWriteAwait, func(x reading) float64 { return x.writes }, func(x reading) float64 { return x.writeMS }},
	} {
		compared := 0
		for i, p := range r.pages[1:] {
			outer, inner := bracket(r.pages[i], p, readings)
			if !outer[0].device {
				continue
			}
			got, ok := p.value(c.id, "")
			most, least := c.ops(outer[1])-c.ops(outer[0]), max(c.ops(inner[1])-c.ops(inner[0]), 0)
			mostMS, leastMS := c.ms(outer[1])-c.ms(outer[0]), max(c.ms(inner[1])-c.ms(inner[0]), 0)
			compared++
			if ok && (most == 0 || got < leastMS/most-1 || least > 0 && got > mostMS/least+1) || !ok && least > 0 && r.whole == "" {
				v.t.Errorf("%s is %v (%v) in period %d; the kernel counted %v to %v operations of %v to %v ms", c.id, got, ok, p.tick, least, most, leastMS, mostMS)
			}
		}
		if !readings[0].device {
			v.t.Logf("%s: the kernel keeps no statistics of the device of the test's directory", c.id)
			compared++
		}
		v.compared(c.id, compared > 0, "no period to compare")
	}
}
