package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// volumeBytes is the size of the file system that each node lives on. It takes memory as far as it is used.
const volumeBytes = 4 << 30

// volume is the file system of one node: ext4 in an image that lies in memory where the tests may mount such, so that
// a power cut takes from it what a disk would not have; a tmpfs elsewhere.
type volume struct {
	dir   string // where it is mounted
	image string // "" = a tmpfs
}

// volume mounts a file system of its own for a node.
func (w *network) volume(id int) *volume {
	w.t.Helper()
	v := &volume{dir: w.t.TempDir()}
	if os.Getenv(inNamespace) != asRoot {
		if err := syscall.Mount("tmpfs", v.dir, "tmpfs", 0, fmt.Sprintf("size=%d", int64(volumeBytes))); err != nil {
			w.t.Fatalf("cannot mount a tmpfs: %v", err)
		}
	} else {
		store := w.t.TempDir()
		if err := syscall.Mount("tmpfs", store, "tmpfs", 0, fmt.Sprintf("size=%d", int64(volumeBytes+volumeBytes/8))); err != nil {
			w.t.Fatalf("cannot mount a tmpfs: %v", err)
		}
		w.t.Cleanup(func() { _ = syscall.Unmount(store, syscall.MNT_DETACH) }) // it ends with the namespace anyway
		v.image = filepath.Join(store, fmt.Sprintf("node-%d.ext4", id))
		if err := os.WriteFile(v.image, nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
		if err := os.Truncate(v.image, volumeBytes); err != nil {
			w.t.Fatal(err)
		}
		w.run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", v.image)
		w.mount(v)
	}
	w.t.Cleanup(func() {
		if err := syscall.Unmount(v.dir, syscall.MNT_DETACH); err != nil {
			w.t.Errorf("cannot unmount %s: %v", v.dir, err)
		}
	})
	return v
}

// mount mounts the image. Its loop device goes when it is unmounted, and that it is at the latest when the tests' own
// namespace ends.
func (w *network) mount(v *volume) {
	w.t.Helper()
	w.run("mount", "-t", "ext4", "-o", "loop", v.image, v.dir)
	if canThrottle() {
		w.throttle(v, 0) // who had that loop device before may have died on it
	}
}

// throttles is where cgroups of the first version limit how much is written to a device.
const throttles = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device"

func canThrottle() bool {
	_, err := os.Stat(throttles)
	return err == nil
}

// throttle lets the disk of a volume take only so many bytes a second; 0 = as many as it can.
func (w *network) throttle(v *volume, bytesPerSecond int) {
	w.t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(v.dir, &st); err != nil {
		w.t.Fatal(err)
	}
	line := fmt.Sprintf("%d:%d %d", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00, bytesPerSecond)
	if err := os.WriteFile(throttles, []byte(line), 0); err != nil {
		w.t.Errorf("cannot write %q to %s: %v", line, throttles, err)
	}
}

// Of the ioctl that stops an ext4 file system.
// Source: Linux, include/uapi/linux/ext4.h.
const (
	ext4Shutdown   = 0x8004587d
	withoutJournal = 2 // what is in the journal's memory is gone, too
)

// cutPower takes the power from a node: its process is gone, and so is all that had not reached its disk. The file by
// which the node knows that it runs under the same boot as before goes, too: a machine without power boots anew.
func (w *world) cutPower(id int) {
	w.t.Helper()
	n, v := w.node(id), w.volumes[id-1]
	if v.image == "" {
		n.Kill()
		w.forget(v.dir)
		return
	}
	// Why stopped first: nobody may hear what a program says on a disk that has gone.
	n.Signal(syscall.SIGSTOP)
	d, err := os.Open(v.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	flags := uint32(withoutJournal)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags)))
	d.Close()
	if errno != 0 {
		w.t.Fatalf("cannot shut %s down: %v", v.dir, errno)
	}
	n.Kill()
	w.eventually("the volume of a node that is gone is unmounted", func() string {
		if err := syscall.Unmount(v.dir, 0); err != nil {
			return err.Error()
		}
		return ""
	})
	w.mount(v)
	if err := os.Remove(filepath.Join(v.dir, "data", "broker-epoch")); err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
}

// slow lets a node's disk take only so many bytes a second, until the returned function is called; nil: this machine
// cannot do that.
func (w *world) slow(id int, bytesPerSecond int) (heal func()) {
	w.t.Helper()
	v := w.volumes[id-1]
	if !canThrottle() || v.image == "" {
		return nil
	}
	w.throttle(v, bytesPerSecond)
	heal = sync.OnceFunc(func() { w.throttle(v, 0) })
	w.t.Cleanup(heal)
	return heal
}

// volumesAre says what the nodes live on, for the report.
func (w *world) volumesAre() string {
	if w.volumes[0].image == "" {
		return "a tmpfs each; power cuts are played by cutting logs behind their recovery points"
	}
	out, _ := exec.Command("uname", "-r").Output()
	return "an ext4 image each, loop-mounted, in memory (Linux " + strings.TrimSpace(string(out)) + "); power cuts shut the file system down without its journal"
}
