package collect

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// devices finds the block device under a directory and its I/O statistics. Linux
// only: elsewhere there are no such files and nothing is found.
type devices struct {
	root string // "" but in tests
}

// ioTimes are one device's counters since the machine started.
// Source: Linux, Documentation/admin-guide/iostats.rst, fields 1, 4, 5, 8.
type ioTimes struct{ reads, readMS, writes, writeMS uint64 }

// maxLayers bounds how many file systems that lie on others are followed.
const maxLayers = 4

// times gives the counters of every device that holds one of the directories.
func (d devices) times(dirs []string) map[string]ioTimes {
	text, err := os.ReadFile(d.root + "/proc/diskstats")
	if err != nil {
		return nil
	}
	byNumber, byName := parseDiskstats(string(text))
	mounts := d.mounts()
	out := map[string]ioTimes{}
	for _, dir := range dirs {
		m, ok := d.device(dir, mounts, maxLayers)
		if !ok {
			continue
		}
		if t, ok := byNumber[m.number]; ok {
			out[m.number] = t
		} else if t, ok := byName[d.blockName(m.source)]; ok {
			// A file system of its own numbering (btrfs, ZFS on one disk): its source is
			// the device.
			out[m.source] = t
		}
	}
	return out
}

// mount is one line of mountinfo.
type mount struct {
	number, point, kind, source string
	upper                       string // of an overlay: where what is written goes
}

// device gives the mount that holds a directory; for an overlay the one that
// holds its upper layer.
func (d devices) device(dir string, mounts []mount, layers int) (mount, bool) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	var best mount
	found := false
	for _, m := range mounts {
		if within(dir, m.point) && (!found || len(m.point) >= len(best.point)) {
			best, found = m, true // of two on one point the later hides the earlier
		}
	}
	if found && best.kind == "overlay" && best.upper != "" && layers > 0 {
		return d.device(best.upper, mounts, layers-1)
	}
	return best, found
}

func within(dir, point string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// blockName gives the kernel's name of a source like /dev/mapper/data.
func (d devices) blockName(source string) string {
	if real, err := filepath.EvalSymlinks(source); err == nil {
		source = real
	}
	return strings.TrimPrefix(source, "/dev/")
}

func (d devices) mounts() []mount {
	text, err := os.ReadFile(d.root + "/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	return parseMountinfo(string(text))
}

// parseMountinfo reads the kernel's list of mounts.
// Source: proc_pid_mountinfo(5).
func parseMountinfo(text string) []mount {
	var out []mount
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		a, b := strings.Fields(left), strings.Fields(right)
		if !ok || len(a) < 5 || len(b) < 2 {
			continue
		}
		m := mount{number: a[2], point: unescape(a[4]), kind: b[0], source: unescape(b[1])}
		if len(b) > 2 {
			for option := range strings.SplitSeq(b[2], ",") {
				if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
					m.upper = unescape(upper)
				}
			}
		}
		out = append(out, m)
	}
	return out
}

// unescape turns \040 and its like back: the kernel writes blanks so.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseDiskstats reads all rows, idle devices too, by "major:minor" and by name.
func parseDiskstats(text string) (byNumber, byName map[string]ioTimes) {
	byNumber, byName = map[string]ioTimes{}, map[string]ioTimes{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 11 {
			continue
		}
		var t ioTimes
		bad := false
		for i, to := range map[int]*uint64{3: &t.reads, 6: &t.readMS, 7: &t.writes, 10: &t.writeMS} {
			n, err := strconv.ParseUint(f[i], 10, 64)
			*to, bad = n, bad || err != nil
		}
		if !bad {
			byNumber[f[0]+":"+f[1]], byName[f[2]] = t, t
		}
	}
	return byNumber, byName
}
