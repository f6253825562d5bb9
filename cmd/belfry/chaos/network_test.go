package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// inNamespace marks the copy of the test program that runs where it may mount and make networks: asRoot, or as a user
// who may mount no disk there.
const (
	inNamespace = "BELFRY_CHAOS_NAMESPACE"
	asRoot      = "root"
	asUser      = "user"
	// outerNamespace says which of both the tests are that start tests again.
	outerNamespace = "BELFRY_CHAOS_OUTER"
)

// TestMain runs the tests in namespaces of their own, so that no file system and no network stays behind.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Why planted: only so does a node have a clock that can be set. It has no flaw unless BELFRY_PLANTED names one.
	cmd.Env = append(os.Environ(), inNamespace+"="+asRoot, "BELFRY_TEST_TAGS=planted")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getenv(outerNamespace) == asUser {
		cmd.Env = append(cmd.Env, inNamespace+"="+asUser)
	} else if os.Getuid() != 0 {
		cmd.Env = append(cmd.Env, inNamespace+"="+asUser)
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot run the tests in namespaces of their own:", err)
		os.Exit(1)
	}
}

// network is one network namespace a node, each with a cable to the test's own namespace, which routes between them.
type network struct {
	t     *testing.T
	name  string
	nodes int
}

// clients stands for the test itself where a node's number is asked for.
const clients = 0

// newNetwork lays the cables of nodes 1 … n.
func newNetwork(t *testing.T, n int) *network {
	t.Helper()
	w := &network{t: t, name: fmt.Sprintf("c%d-", os.Getpid()), nodes: n}
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("cannot make mounts private: %v", err)
	}
	// Why over /run as a whole: who is not root may not make a directory there.
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatalf("cannot mount a tmpfs for the names of network namespaces: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount("/run", syscall.MNT_DETACH) }) // it ends with the namespace anyway
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w.run("ip", "link", "set", "lo", "up")
	for i := 1; i <= n; i++ {
		ns, cable := w.namespace(i), w.cable(i)
		w.run("ip", "netns", "add", ns)
		w.run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", ns)
		w.run("ip", "addr", "add", w.router(i)+"/24", "dev", cable)
		w.run("ip", "link", "set", cable, "up")
		w.run("ip", "-n", ns, "addr", "add", w.host(i)+"/24", "dev", "eth0")
		w.run("ip", "-n", ns, "link", "set", "eth0", "up")
		w.run("ip", "-n", ns, "link", "set", "lo", "up")
		w.run("ip", "-n", ns, "route", "add", "default", "via", w.router(i))
		t.Cleanup(func() { _ = exec.Command("ip", "link", "del", cable).Run() }) // it ends with the namespace anyway
	}
	w.run("nft", "add", "table", "ip", "chaos")
	w.run("nft", "add", "chain", "ip", "chaos", "in", "{ type filter hook prerouting priority -300 ; }")
	w.run("nft", "add", "chain", "ip", "chaos", "out", "{ type filter hook output priority -300 ; }")
	t.Cleanup(func() { _ = exec.Command("nft", "delete", "table", "ip", "chaos").Run() })
	return w
}

func (w *network) namespace(i int) string { return fmt.Sprintf("%s%d", w.name, i) }

func (w *network) cable(i int) string { return fmt.Sprintf("v%d", i) }

func (w *network) host(i int) string { return fmt.Sprintf("10.77.%d.2", i) }

func (w *network) router(i int) string { return fmt.Sprintf("10.77.%d.1", i) }

func (w *network) run(args ...string) {
	w.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		w.t.Fatalf("cannot run %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// cut drops what one node sends to another, in that direction only.
func (w *network) cut(from, to int) {
	w.t.Helper()
	switch {
	case from == clients:
		w.run("nft", "add", "rule", "ip", "chaos", "out", "ip", "daddr", w.host(to), "drop")
	case to == clients:
		w.run("nft", "add", "rule", "ip", "chaos", "in", "ip", "saddr", w.host(from), "ip", "daddr", w.router(from), "drop")
	default:
		w.run("nft", "add", "rule", "ip", "chaos", "in", "ip", "saddr", w.host(from), "ip", "daddr", w.host(to), "drop")
	}
}

// part cuts both directions.
func (w *network) part(a, b int) {
	w.t.Helper()
	w.cut(a, b)
	w.cut(b, a)
}

// narrow lets a node receive only so many megabits a second; widen ends that.
func (w *network) narrow(id, megabits int) {
	w.t.Helper()
	w.run("tc", "qdisc", "add", "dev", w.cable(id), "root", "tbf", "rate", fmt.Sprint(megabits, "mbit"), "burst", "16kb", "latency", "400ms")
}

func (w *network) widen(id int) {
	w.t.Helper()
	w.run("tc", "qdisc", "del", "dev", w.cable(id), "root")
}

// heal drops nothing any more.
func (w *network) heal() {
	w.t.Helper()
	w.run("nft", "flush", "chain", "ip", "chaos", "in")
	w.run("nft", "flush", "chain", "ip", "chaos", "out")
}
