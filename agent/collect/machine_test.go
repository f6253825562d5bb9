package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/net"
	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree writes files below a new directory, which stands for the root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// got collects and gives the values by metric.
func got(t *testing.T, c sampler.Collector) (map[metric.ID]float64, error) {
	t.Helper()
	samples, err := c.Collect(t.Context(), sampler.Period{})
	out := map[metric.ID]float64{}
	for _, s := range samples {
		if s.Label(metric.LabelBroker) != "7" {
			t.Errorf("%s is of broker %q", s.ID, s.Label(metric.LabelBroker))
		}
		out[s.ID] = s.Value
	}
	return out, err
}

func TestCgroups(t *testing.T) {
	for _, c := range []struct {
		name        string
		files       map[string]string
		used, limit uint64 // 0: no limit
		processors  float64
		time        time.Duration
	}{
		{name: "none"},
		{name: "version 2, limits of the parent hold", files: map[string]string{
			"proc/self/cgroup":                          "0::/box/inner\n",
			"sys/fs/cgroup/box/inner/memory.max":        "max\n",
			"sys/fs/cgroup/box/inner/cpu.max":           "max 100000\n",
			"sys/fs/cgroup/box/inner/cpu.stat":          "usage_usec 1500000\nuser_usec 1\n",
			"sys/fs/cgroup/box/memory.max":              "1000\n",
			"sys/fs/cgroup/box/memory.current":          "700\n",
			"sys/fs/cgroup/box/memory.stat":             "anon 1\ninactive_file 200\n",
			"sys/fs/cgroup/box/cpu.max":                 "150000 100000\n",
			"sys/fs/cgroup/box/inner/memory.swap.max":   "0\n",
			"sys/fs/cgroup/box/inner/memory.swap.event": "0\n",
		}, used: 500, limit: 1000, processors: 1.5, time: 1500 * time.Millisecond},
		{name: "version 2, a container sees its group as the root", files: map[string]string{
			"proc/self/cgroup":             "0::/../far\n",
			"sys/fs/cgroup/memory.max":     "4096\n",
			"sys/fs/cgroup/memory.current": "1024\n",
			"sys/fs/cgroup/cpu.max":        "50000 100000\n",
			"sys/fs/cgroup/cpu.stat":       "usage_usec 7\n",
		}, used: 1024, limit: 4096, processors: .5, time: 7 * time.Microsecond},
		{name: "version 1", files: map[string]string{
			"proc/self/cgroup": "4:memory:/box\n2:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n",
			"sys/fs/cgroup/memory/box/memory.limit_in_bytes":       "2000\n",
			"sys/fs/cgroup/memory/box/memory.usage_in_bytes":       "900\n",
			"sys/fs/cgroup/memory/box/memory.stat":                 "inactive_file 1\ntotal_inactive_file 100\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":           "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":           "900\n",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us":       "200000\n",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us":      "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/box/cpuacct.usage":          "3000000000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":           "-1\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":          "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpuacct.usage":              "9000000000\n",
			"sys/fs/cgroup/systemd/cgroup.procs":                   "",
			"sys/fs/cgroup/memory/box/memory.kmem.limit_in_bytes":  "1\n",
			"sys/fs/cgroup/memory/box/memory.memsw.limit_in_bytes": "1\n",
		}, used: 800, limit: 2000, processors: 2, time: 3 * time.Second},
		{name: "version 1 without limits", files: map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "900\n",
		}},
		{name: "nonsense", files: map[string]string{
			"proc/self/cgroup":         "what\n0::/\n",
			"sys/fs/cgroup/memory.max": "many\n",
			"sys/fs/cgroup/cpu.max":    "1\n",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := cgroups{root: tree(t, c.files)}
			used, limit, ok := g.memory()
			if ok != (c.limit > 0) || ok && (used != c.used || limit != c.limit) {
				t.Errorf("memory is %d of %d, %v; want %d of %d", used, limit, ok, c.used, c.limit)
			}
			if n, ok := g.processors(); ok != (c.processors > 0) || ok && n != c.processors {
				t.Errorf("processors are %v, %v; want %v", n, ok, c.processors)
			}
			if d, ok := g.cpuTime(); ok != (c.time > 0) || d != c.time {
				t.Errorf("processor time is %v, %v; want %v", d, ok, c.time)
			}
		})
	}
}

// bare is a host of four processors without any group.
func bare(t *testing.T) *Host {
	h := NewHost("7")
	h.group = cgroups{root: tree(t, nil)}
	h.load = func(context.Context) (float64, error) { return 6, nil }
	h.cores = func(context.Context) (int, error) { return 4, nil }
	h.memory = func(context.Context) (*mem.VirtualMemoryStat, error) {
		return &mem.VirtualMemoryStat{Total: 1000, Available: 250, Used: 1}, nil
	}
	h.times = func(context.Context) (cpu.TimesStat, error) { return cpu.TimesStat{}, nil }
	return h
}

func TestHost(t *testing.T) {
	h := bare(t)
	clock := cpu.TimesStat{User: 100, System: 50, Idle: 1000, Iowait: 10, Guest: 90}
	h.times = func(context.Context) (cpu.TimesStat, error) { return clock, nil }
	v, err := got(t, h)
	if err != nil || v[metric.BrokerCPUCoreLoad] != 1.5 || v[metric.BrokerMemoryUsage] != 75 {
		t.Errorf("got %v, %v; want load 1.5, memory 75", v, err)
	}
	if _, ok := v[metric.BrokerCPUUsage]; ok {
		t.Error("the first reading gives a rate")
	}
	clock = cpu.TimesStat{User: 120, System: 60, Steal: 10, Idle: 1050, Iowait: 20, Guest: 110}
	if v, err = got(t, h); err != nil || v[metric.BrokerCPUUsage] != 40 {
		t.Errorf("got %v, %v; want 40 %%: 40 of 100 seconds", v, err)
	}
	clock = cpu.TimesStat{User: 1, Idle: 1} // the machine was started anew
	if v, _ = got(t, h); v[metric.BrokerCPUUsage] != 0 || hasKey(v, metric.BrokerCPUUsage) {
		t.Errorf("after a restart: %v", v)
	}
	h.times = func(context.Context) (cpu.TimesStat, error) { return clock, errors.New("no") }
	h.load = func(context.Context) (float64, error) { return 0, errors.New("no") }
	h.memory = func(context.Context) (*mem.VirtualMemoryStat, error) { return nil, errors.New("no") }
	v, err = got(t, h)
	if err == nil || len(v) != 0 {
		t.Errorf("what cannot be read gave %v, %v", v, err)
	}
	h.times = func(context.Context) (cpu.TimesStat, error) { return clock, nil }
	if v, _ = got(t, h); hasKey(v, metric.BrokerCPUUsage) {
		t.Error("a rate over a gap")
	}
}

func hasKey(m map[metric.ID]float64, id metric.ID) bool { _, ok := m[id]; return ok }

// TestHostInContainer: limits are read before what /proc shows of the host.
func TestHostInContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := bare(t)
		usage := func(micros int, quota string) {
			h.group.root = tree(t, map[string]string{
				"proc/self/cgroup":             "0::/\n",
				"sys/fs/cgroup/memory.max":     "800\n",
				"sys/fs/cgroup/memory.current": "600\n",
				"sys/fs/cgroup/memory.stat":    "inactive_file 200\n",
				"sys/fs/cgroup/cpu.max":        quota + " 100000\n",
				"sys/fs/cgroup/cpu.stat":       fmt.Sprintf("usage_usec %d\n", micros),
			})
		}
		usage(10_000_000, "200000")
		v, err := got(t, h)
		if err != nil || v[metric.BrokerMemoryUsage] != 50 {
			t.Errorf("got %v, %v; want memory 50: 400 of 800", v, err)
		}
		time.Sleep(time.Minute)
		usage(10_000_000+60_000_000, "200000")
		if v, err = got(t, h); err != nil || v[metric.BrokerCPUUsage] != 50 {
			t.Errorf("got %v, %v; want 50 %%: one of two processors", v, err)
		}
		time.Sleep(time.Minute)
		usage(80_000_000, "800000") // more than there is: no limit any more
		if v, err = got(t, h); err != nil || hasKey(v, metric.BrokerCPUUsage) {
			t.Errorf("got %v, %v; want no rate between two ways to count", v, err)
		}
	})
}

func TestHostOfThisMachine(t *testing.T) {
	v, err := got(t, NewHost("7"))
	if err != nil || v[metric.BrokerMemoryUsage] <= 0 || v[metric.BrokerMemoryUsage] > 100 || !hasKey(v, metric.BrokerCPUCoreLoad) {
		t.Errorf("got %v, %v", v, err)
	}
}

const diskstats = `   8       0 sda 10 0 80 100 20 0 160 400 0 1 1
   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11 0 0 0 0 0 0
 253       2 dm-2 7 0 0 70 8 0 0 80 0 0 0
   9       9 broken x 0 0 0 0 0 0 0 0 0 0
`

func TestDevices(t *testing.T) {
	mountinfo := strings.Join([]string{
		`22 1 8:1 / / rw - ext4 /dev/sda1 rw`,
		`23 22 8:0 / /data rw shared:1 - xfs /dev/sda rw`,
		`24 22 0:50 / /merged rw - overlay overlay rw,lowerdir=/x,upperdir=/data/up\040per,workdir=/w`,
		`25 22 0:51 / /lost rw - overlay overlay rw,lowerdir=/x`,
		`26 22 0:52 / /pool rw - btrfs /dev/dm-2 rw`,
		`27 22 0:53 / /memory rw - tmpfs tmpfs rw`,
		`28 22 0:54 / /hidden rw - tmpfs tmpfs rw`,
		`29 28 8:0 / /hidden rw - xfs /dev/sda rw`,
		`30 22 0:55 / /loop rw - overlay overlay rw,upperdir=/loop/up`,
		`nonsense`,
	}, "\n")
	d := devices{root: tree(t, map[string]string{"proc/diskstats": diskstats, "proc/self/mountinfo": mountinfo})}
	sda := ioTimes{10, 100, 20, 400}
	for dir, want := range map[string]map[string]ioTimes{
		"/data/belfry":   {"8:0": sda},
		"/database":      {"8:1": {1, 4, 5, 8}},
		"/merged/belfry": {"8:0": sda},
		"/lost/belfry":   {},
		"/pool/belfry":   {"/dev/dm-2": {7, 70, 8, 80}},
		"/memory/belfry": {},
		"/hidden/belfry": {"8:0": sda},
		"/loop/belfry":   {},
	} {
		if got := d.times([]string{dir, dir}); !maps.Equal(got, want) {
			t.Errorf("%s is on %v, want %v", dir, got, want)
		}
	}
	if got := (devices{root: t.TempDir()}).times([]string{"/data"}); len(got) != 0 {
		t.Errorf("a kernel without statistics gives %v", got)
	}
}

func TestAwaits(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now map[string]ioTimes
		read, write await
	}{
		{"first reading", nil, map[string]ioTimes{"a": {9, 9, 9, 9}}, await{}, await{}},
		{"no I/O, no sample", map[string]ioTimes{"a": {9, 9, 9, 9}}, map[string]ioTimes{"a": {9, 9, 9, 9}}, await{}, await{}},
		{"reads only", map[string]ioTimes{"a": {10, 100, 5, 5}}, map[string]ioTimes{"a": {20, 150, 5, 5}}, await{5, true}, await{}},
		{"too fast to measure", map[string]ioTimes{"a": {}}, map[string]ioTimes{"a": {0, 0, 4, 0}}, await{}, await{0, true}},
		{"two devices, by operations", map[string]ioTimes{"a": {}, "b": {}}, map[string]ioTimes{"a": {1, 10, 0, 0}, "b": {3, 2, 0, 0}}, await{3, true}, await{}},
		{"begun anew", map[string]ioTimes{"a": {100, 100, 100, 100}}, map[string]ioTimes{"a": {1, 1, 1, 1}}, await{}, await{}},
		{"time went back", map[string]ioTimes{"a": {1, 100, 1, 100}}, map[string]ioTimes{"a": {2, 50, 2, 150}}, await{}, await{50, true}},
		{"device came in between", map[string]ioTimes{"a": {}}, map[string]ioTimes{"b": {9, 9, 9, 9}}, await{}, await{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			read, write := awaits(c.before, c.now)
			if read != c.read || write != c.write {
				t.Errorf("got %v and %v, want %v and %v", read, write, c.read, c.write)
			}
		})
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0.log"), make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	capacity := int64(0)
	d := NewDisk(DiskOptions{Broker: "7", Dirs: []string{dir}, Capacity: func() int64 { return capacity }})
	v, err := got(t, d)
	if err != nil || v[metric.BrokerDiskUsage] <= 0 || v[metric.BrokerDiskUsage] > 100 || v[metric.DiskCapacityBytes] < 8192 {
		t.Errorf("got %v, %v", v, err)
	}
	capacity = 16384
	v, err = got(t, d)
	if err != nil || v[metric.BrokerDiskUsage] != 50 || v[metric.DiskUsedBytes] != 8192 || v[metric.DiskCapacityBytes] != 16384 {
		t.Errorf("got %v, %v; want half of the capacity", v, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if v, err = got(t, d); err == nil || hasKey(v, metric.BrokerDiskUsage) || hasKey(v, metric.DiskUsedBytes) {
		t.Errorf("without its directory: %v, %v", v, err)
	}
}

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork("7")
		n.root = tree(t, map[string]string{"sys/class/net/eth0/device/x": ""})
		all := []net.IOCountersStat{{Name: "lo", BytesRecv: 1e9}, {Name: "eth0", BytesRecv: 1000, BytesSent: 500}, {Name: "docker0", BytesRecv: 77}}
		n.read = func(context.Context, bool) ([]net.IOCountersStat, error) { return all, nil }
		if v, err := got(t, n); err != nil || len(v) != 0 {
			t.Errorf("the first reading gives %v, %v", v, err)
		}
		step := func(name string, in, out uint64, want map[metric.ID]float64) {
			t.Helper()
			time.Sleep(10 * time.Second)
			all = []net.IOCountersStat{{Name: "lo", BytesRecv: 2e9}, {Name: name, BytesRecv: in, BytesSent: out}, {Name: "docker0", BytesRecv: 999}}
			v, err := got(t, n)
			if err != nil || !maps.Equal(v, want) {
				t.Errorf("got %v, %v; want %v", v, err, want)
			}
		}
		rates := func(in, out float64) map[metric.ID]float64 {
			return map[metric.ID]float64{metric.BrokerTotalBytesInRate: in, metric.BrokerTotalBytesOutRate: out}
		}
		step("eth0", 2000, 800, rates(100, 30))
		step("eth0", 100, 80, nil) // begun anew: never negative
		step("eth0", 1100, 80, rates(100, 0))
		n.read = func(context.Context, bool) ([]net.IOCountersStat, error) { return nil, errors.New("no") }
		if v, err := got(t, n); err == nil || len(v) != 0 {
			t.Errorf("what cannot be read gives %v, %v", v, err)
		}
	})
}

// TestNetworkInContainer: no interface has a device; all but the loopback count.
func TestNetworkInContainer(t *testing.T) {
	n := NewNetwork("7")
	n.root = t.TempDir()
	picked := n.outward([]net.IOCountersStat{{Name: "lo", BytesRecv: 5}, {Name: "eth0", BytesRecv: 6}})
	if !maps.Equal(picked, map[string]traffic{"eth0": {in: 6}}) {
		t.Errorf("got %v", picked)
	}
}

func TestRuntime(t *testing.T) {
	for _, c := range []struct {
		name        string
		own         int64
		group, node string
		want        float64
	}{
		{"Go's own limit", 200, "400", "1000", 50},
		{"the group's", math.MaxInt64, "400", "1000", 25},
		{"the node's", math.MaxInt64, "", "1000", 10},
		{"a group larger than the node", math.MaxInt64, "5000", "1000", 10},
		{"nothing but the group", math.MaxInt64, "400", "", 25},
		{"nothing at all", math.MaxInt64, "", "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRuntime("7")
			r.heap = func() uint64 { return 100 }
			r.limit = func() int64 { return c.own }
			files := map[string]string{}
			if c.group != "" {
				files = map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": c.group, "sys/fs/cgroup/memory.current": "1"}
			}
			r.group = cgroups{root: tree(t, files)}
			r.total = func(context.Context) (uint64, error) {
				if c.node == "" {
					return 0, errors.New("no")
				}
				return 1000, nil
			}
			v, err := got(t, r)
			if c.want < 0 {
				if err == nil || len(v) != 0 {
					t.Errorf("got %v, %v; want nothing", v, err)
				}
				return
			}
			if err != nil || v[metric.BrokerHeapUsage] != c.want {
				t.Errorf("got %v, %v; want %v", v, err, c.want)
			}
		})
	}
	if heapInUse() == 0 {
		t.Error("this process has no heap")
	}
}

func TestProcess(t *testing.T) {
	p := NewProcess("7")
	open, err := p.files()
	if err != nil || open < 3 {
		t.Fatalf("%d open files, %v", open, err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if more, err := p.files(); err != nil || more != open+1 {
		t.Errorf("%d open files after one more, %v; want %d", more, err, open+1)
	}
	file.Close()
	if v, err := got(t, p); err != nil || v[metric.OpenFilesUsage] <= 0 || v[metric.OpenFilesUsage] > 100 {
		t.Errorf("got %v, %v", v, err)
	}
	p.files = func() (int, error) { return 30, nil }
	p.limit = func() (uint64, error) { return 40, nil }
	if v, err := got(t, p); err != nil || v[metric.OpenFilesUsage] != 75 {
		t.Errorf("got %v, %v; want 75", v, err)
	}
	p.files = func() (int, error) { return 0, errors.New("no") }
	if v, err := got(t, p); err == nil || len(v) != 0 {
		t.Errorf("what cannot be read gives %v, %v", v, err)
	}
}

// FuzzKernelFiles: no text of the kernel's makes the parsers panic or run away.
func FuzzKernelFiles(f *testing.F) {
	f.Add(diskstats, "22 1 8:1 / /a\\040b rw - overlay overlay rw,upperdir=/a\\040b\n", "0::/x\n")
	f.Add("", "1 2 3 4 \\04 - x y", "4:memory:/../..\n")
	f.Fuzz(func(t *testing.T, stats, mounts, group string) {
		parseDiskstats(stats)
		d := devices{root: t.TempDir()}
		all := parseMountinfo(mounts)
		if len(all) > strings.Count(mounts, "\n")+1 {
			t.Errorf("%d mounts of %d lines", len(all), strings.Count(mounts, "\n"))
		}
		d.device("/a/b", all, maxLayers)
		unescape(mounts)
		g := cgroups{root: t.TempDir()}
		if err := os.Mkdir(g.root+"/proc", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(g.root+"/proc/self", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(g.root+"/proc/self/cgroup", []byte(group), 0o644); err != nil {
			t.Fatal(err)
		}
		g.memory()
		g.processors()
	})
}
