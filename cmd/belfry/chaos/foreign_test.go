package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/ledger"
)

// foreign puts the Java client and librdkafka to work on a topic: each with a producer, a member of a group of its own
// – both group protocols – and a reader of all.
func (w *world) foreign(l *ledger.Ledger, perSecond int) {
	w.t.Helper()
	python := filepath.Join(w.cache(), "python", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		w.t.Fatalf("no Python with librdkafka: %v: run make deps", err)
	}
	for _, k := range []struct {
		name     string
		line     []string
		strength ledger.Strength
	}{
		{"java", w.java(), ledger.Exact},
		// Why renewed: when a request behind a refused one is out of order, this client takes a new epoch for all
		// partitions at once, and sends what waits for an answer of other leaders, or timed out there, under that.
		{"librdkafka", []string{python, "clients/client.py"}, ledger.Renewed},
	} {
		l.Promise(k.name, k.strength)
		w.speak(speaker{l: l, line: append(k.line, "produce"), name: k.name, perSecond: perSecond, told: l.Taker(k.name)})
		w.speak(speaker{l: l, line: append(k.line, "assign"), name: k.name + "-reader", told: l.Read(k.name + " reader of all").Take})
		for _, protocol := range []string{"classic", "consumer"} {
			group := k.name + "-" + protocol
			shared := l.ShareMembers("the group " + group)
			w.groups = append(w.groups, shared)
			// Why both members in one process: what one was given before it lost a partition is said before what the
			// other is given then.
			w.speak(speaker{l: l, line: append(k.line, "group"), name: group, more: protocol, told: shared.Take})
		}
	}
	w.load = append(w.load, fmt.Sprintf("the Java client 4.3 and librdkafka, each: an idempotent producer of %d messages/s, a reader of all, 2 members of a group of the classic and 2 of the new protocol", perSecond))
}

// foreignCopies has the Java client copy transactions exactly once, too.
func (w *world) foreignCopies(from, to *ledger.Ledger) {
	w.t.Helper()
	w.speak(speaker{l: from, line: append(w.java(), "copy"), name: "java-copier", more: to.Topic, told: to.Copied, copies: true})
	w.pairs = append(w.pairs, [2]*ledger.Ledger{from, to})
	w.load = append(w.load, "2 members of a group of Java clients that copy them exactly once, too")
	w.follow(to)
}

// cache is where make deps puts clients.
func (w *world) cache() string {
	w.t.Helper()
	if dir := os.Getenv("BELFRY_CACHE"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		w.t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "belfry")
}

// java compiles the Java client and gives how it is run.
func (w *world) java() []string {
	w.t.Helper()
	jars := filepath.Join(w.cache(), "kafka-4.3.1", "*")
	if found, err := filepath.Glob(jars); err != nil || len(found) == 0 {
		w.t.Fatalf("no Java client at %s: run make deps", jars)
	}
	classes := w.t.TempDir()
	w.run("javac", "-d", classes, "-cp", jars, "clients/Client.java")
	line := []string{"java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-cp", jars + ":" + classes, "Client"}
	return line[:len(line):len(line)]
}

// speaker is a client that is a process of its own and says what it is told.
type speaker struct {
	l         *ledger.Ledger
	line      []string // the command, with the role
	name      string
	perSecond int
	more      string // the role's last argument
	told      func(partition int32, offset int64, text []byte)
	copies    bool // it ends with the copiers
}

// speak runs a client and takes down what it says, until the workers are to end.
func (w *world) speak(s speaker) {
	w.t.Helper()
	ctx, workers := w.ctx, &w.workers
	if s.copies {
		ctx, workers = w.copying, &w.copiers
	}
	line := append(s.line[:len(s.line):len(s.line)], strings.Join(w.Seeds(), ","), s.l.Topic, s.name, strconv.Itoa(s.perSecond), strconv.Itoa(partitions), s.more)
	cmd := exec.Command(line[0], line[1:]...)
	errs := &end{}
	cmd.Stderr = errs
	if f := w.beside(s.name); f != nil {
		cmd.Stderr = io.MultiWriter(errs, f)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := start(cmd); err != nil {
		w.t.Fatalf("cannot run %s: %v", line[0], err)
	}
	told := make(chan struct{})
	workers.Go(func() {
		hear(s.l, s.name, out, s.told)
		err := cmd.Wait()
		if ctx.Err() == nil {
			s.l.Find(ledger.Refused, "%s has ended by itself: %v: %s", s.name, err, errs)
		}
		close(told)
	})
	workers.Go(func() {
		select {
		case <-told:
			return
		case <-ctx.Done():
			_ = in.Close()
		}
		select {
		case <-told:
		case <-time.After(90 * time.Second):
			_ = cmd.Process.Kill() // what it was told last it has said by now
		}
	})
}

// start starts a process that ends with this one.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Why: the parent-death signal is bound to the thread that starts the child
	defer runtime.UnlockOSThread()
	return cmd.Start()
}

// hear takes down what a client says.
func hear(l *ledger.Ledger, who string, out io.Reader, take func(partition int32, offset int64, value []byte)) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		what, rest, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		fields := bytes.SplitN(rest, []byte(" "), 3)
		switch kind := string(what); {
		case (kind == "acked" || kind == "read" || kind == "copied") && len(fields) == 3:
			partition, err1 := strconv.ParseInt(string(fields[0]), 10, 32)
			offset, err2 := strconv.ParseInt(string(fields[1]), 10, 64)
			if err1 == nil && err2 == nil && partition >= 0 && partition < partitions && (offset >= 0 || kind == "acked") {
				take(int32(partition), offset, fields[2])
				continue
			}
			fallthrough
		default:
			l.Find(ledger.Refused, "%s: %s", who, lines.Text())
		}
	}
}

// end keeps the last that a process said.
type end struct {
	mu sync.Mutex
	b  []byte
}

func (e *end) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.b = append(e.b, b...)
	e.b = e.b[max(0, len(e.b)-4000):]
	return len(b), nil
}

func (e *end) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.b)
}
