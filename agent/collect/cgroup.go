package collect

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroups reads the limits that the kernel holds this process to. A container's
// /proc shows the host's memory and processors; what the broker may use of them
// is written here.
type cgroups struct {
	root string // "" but in tests: what /proc and /sys are below of
}

// memory gives the tightest memory limit and what counts against it, both in
// bytes; false when there is no limit.
//
// Pages of files that the kernel can drop at once are not counted as used, as in
// "available" of a whole machine.
func (c cgroups) memory() (used, limit uint64, ok bool) {
	limit = math.MaxUint64
	for _, dir := range c.dirs("memory") {
		l, found := firstNumber(dir, "memory.max", "memory.limit_in_bytes")
		if !found || l >= limit || l >= math.MaxInt64/4096*4096 { // v1 writes "no limit" as a huge number
			continue
		}
		u, found := firstNumber(dir, "memory.current", "memory.usage_in_bytes")
		if !found {
			continue
		}
		idle := statNumber(dir, "memory.stat", "total_inactive_file", "inactive_file")
		used, limit, ok = u-min(idle, u), l, true
	}
	return used, limit, ok
}

// processors gives how many processors may be used; false when there is no quota.
func (c cgroups) processors() (float64, bool) {
	least, ok := math.Inf(1), false
	for _, dir := range c.dirs("cpu") {
		quota, period, found := cpuQuota(dir)
		if found && quota/period < least {
			least, ok = quota/period, true
		}
	}
	return least, ok
}

// cpuTime gives the processor time used by the group so far.
func (c cgroups) cpuTime() (time.Duration, bool) {
	for _, dir := range c.dirs("cpu") {
		if micros := statNumber(dir, "cpu.stat", "usage_usec"); micros > 0 {
			return time.Duration(micros) * time.Microsecond, true
		}
	}
	for _, dir := range c.dirs("cpuacct") {
		if nanos, ok := firstNumber(dir, "cpuacct.usage"); ok {
			return time.Duration(nanos), true
		}
	}
	return 0, false
}

// dirs gives the group's directories for a controller, own one first, then up to
// the root: a limit of any of them holds.
func (c cgroups) dirs(controller string) []string {
	text, err := os.ReadFile(c.root + "/proc/self/cgroup")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		base := ""
		switch {
		case part[0] == "0" && part[1] == "":
			base = c.root + "/sys/fs/cgroup"
		case hasController(part[1], controller):
			base = c.root + "/sys/fs/cgroup/" + part[1]
			if _, err := os.Stat(base); err != nil {
				base = c.root + "/sys/fs/cgroup/" + controller
			}
		default:
			continue
		}
		for p := path.Clean("/" + part[2]); ; p = path.Dir(p) {
			dir := filepath.Join(base, p)
			if _, err := os.Stat(dir); err == nil { // a container sees its own group as the root
				dirs = append(dirs, dir)
			}
			if p == "/" {
				break
			}
		}
	}
	return dirs
}

func hasController(list, want string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if name == want {
			return true
		}
	}
	return false
}

// cpuQuota reads quota and period, of version 2 or 1.
func cpuQuota(dir string) (quota, period float64, ok bool) {
	if text, err := os.ReadFile(dir + "/cpu.max"); err == nil {
		field := strings.Fields(string(text))
		if len(field) != 2 {
			return 0, 0, false
		}
		quota, err1 := strconv.ParseFloat(field[0], 64) // "max" is no number
		period, err2 := strconv.ParseFloat(field[1], 64)
		return quota, period, err1 == nil && err2 == nil && quota > 0 && period > 0
	}
	q, ok1 := firstNumber(dir, "cpu.cfs_quota_us") // −1 is no number of ours
	p, ok2 := firstNumber(dir, "cpu.cfs_period_us")
	return float64(q), float64(p), ok1 && ok2 && q > 0 && p > 0
}

// firstNumber reads the first of the files that is there.
func firstNumber(dir string, files ...string) (uint64, bool) {
	for _, file := range files {
		text, err := os.ReadFile(dir + "/" + file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// statNumber reads the first of the keys that is in the file; 0 when none is.
func statNumber(dir, file string, keys ...string) uint64 {
	text, err := os.ReadFile(dir + "/" + file)
	if err != nil {
		return 0
	}
	for _, key := range keys {
		for line := range strings.Lines(string(text)) {
			if rest, found := strings.CutPrefix(line, key+" "); found {
				n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
				return n
			}
		}
	}
	return 0
}
