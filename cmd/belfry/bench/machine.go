package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where a run took place.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Disk   string `json:"disk"`
	// ReadAhead is how far the system reads ahead on that disk, in KiB; 0: it does not tell.
	ReadAhead int    `json:"read_ahead_kib,omitempty"`
	Go        string `json:"go"`
	Load      string `json:"load_average"` // at the start and, once it is over, at the end
}

func readMachine(dir string) Machine {
	return Machine{
		CPU: field(read("/proc/cpuinfo"), "model name"), Cores: runtime.NumCPU(), Memory: memoryText(memory("MemTotal")),
		Kernel: strings.TrimSpace(read("/proc/sys/kernel/ostype") + " " + read("/proc/sys/kernel/osrelease")),
		Disk:   mountOf(read("/proc/mounts"), dir), ReadAhead: readAhead(dir), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, Load: loadAverage(),
	}
}

func (m Machine) String() string {
	disk := m.Disk
	if m.ReadAhead > 0 {
		disk += fmt.Sprintf(" (read-ahead %d KiB)", m.ReadAhead)
	}
	return fmt.Sprintf("%s, %d cores, %s; %s; %s; %s; load average %s", m.CPU, m.Cores, m.Memory, m.Kernel, disk, m.Go, m.Load)
}

// read gives a file without the line's end, "" where the system has none.
func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// field gives the first value of a name in lines of the form "name : value".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memoryText(bytes int64) string {
	if bytes == 0 {
		return "unknown memory"
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// mountOf gives device and file system that hold a folder.
func mountOf(mounts, dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "unknown disk"
	}
	best, longest := "unknown disk", 0
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		within := f[1] == "/" || dir == f[1] || strings.HasPrefix(dir, f[1]+"/")
		if within && len(f[1]) >= longest {
			best, longest = f[2]+" on "+f[0], len(f[1])
		}
	}
	return best
}

// readAhead gives how far the system reads ahead on the disk of a folder, in KiB; 0 where it does not tell.
func readAhead(dir string) (kib int) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return 0
	}
	dev := uint64(s.Dev) // Why: its type is not the same everywhere
	if _, err := fmt.Sscan(read(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dev), unix.Minor(dev))), &kib); err != nil {
		return 0
	}
	return kib
}

// loadAverage gives the machine's load of the last minutes.
func loadAverage() string {
	fields := strings.Fields(read("/proc/loadavg"))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
