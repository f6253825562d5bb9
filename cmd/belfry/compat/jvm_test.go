package compat

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// jvm is a Java machine that runs many tools (java/ToolRunner.java), because starting one for
// each takes longer than most tools do.
type jvm struct {
	stdin io.Writer
	log   *lockedBuffer // what the machine itself printed

	mu struct {
		sync.Mutex
		last  int
		calls map[string]*call
		err   error // why the machine ended
	}
}

// call is one run of a tool.
type call struct {
	vm       *jvm
	id       string
	what     string
	done     chan struct{}
	out, err lockedBuffer
	code     int // valid once done is closed
}

// lockedBuffer is a bytes.Buffer that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// javaFlags keep a machine small and quick to start, and quiet.
var javaFlags = []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dlog4j2.level=WARN"}

// startJVM runs a machine with all jars of a folder until the test ends.
func startJVM(t *testing.T, jars string) *jvm {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "java", append(javaFlags, "-cp", filepath.Join(jars, "*"), filepath.Join("java", "ToolRunner.java"))...)
	vm := &jvm{log: &lockedBuffer{}}
	vm.mu.calls = map[string]*call{}
	cmd.Stderr = vm.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot run java (install it with `make deps`): %v", err)
	}
	vm.stdin = stdin
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		vm.read(stdout)
		vm.end(cmd.Wait())
	}()
	t.Cleanup(func() {
		_ = stdin.Close() // it halts at the end of its input
		<-ended
		if t.Failed() && vm.log.String() != "" {
			t.Logf("the Java machine printed:\n%s", clip(vm.log.String()))
		}
	})
	return vm
}

// read takes the lines of the machine apart.
func (vm *jvm) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		if len(words) != 3 {
			fmt.Fprintf(vm.log, "BUG: the machine says %q\n", line)
			continue
		}
		vm.mu.Lock()
		c := vm.mu.calls[words[1]]
		vm.mu.Unlock()
		switch words[0] {
		case "exit":
			c.code, err = strconv.Atoi(words[2])
			close(c.done)
		case "out", "err":
			b, wrong := base64.StdEncoding.DecodeString(words[2][1:])
			err = wrong
			if words[0] == "out" {
				_, _ = c.out.Write(b) // a buffer takes all
			} else {
				_, _ = c.err.Write(b)
			}
		}
		if err != nil {
			fmt.Fprintf(vm.log, "BUG: the machine says %q: %v\n", line, err)
		}
	}
}

// end lets go of everybody who waits for a machine that is no more.
func (vm *jvm) end(err error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.mu.err = fmt.Errorf("the Java machine ended: %v", err)
	for _, c := range vm.mu.calls {
		select {
		case <-c.done:
		default:
			c.code = -1
			fmt.Fprintln(&c.err, vm.mu.err)
			close(c.done)
		}
	}
}

// start runs the main function of a class and does not wait for its end.
func (vm *jvm) start(t *testing.T, stdin, class string, args ...string) *call {
	t.Helper()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.mu.err != nil {
		t.Fatal(vm.mu.err)
	}
	vm.mu.last++
	c := &call{vm: vm, id: strconv.Itoa(vm.mu.last), what: class + " " + strings.Join(args, " "), done: make(chan struct{})}
	vm.mu.calls[c.id] = c
	line := "run " + c.id + " " + class
	for _, word := range append([]string{stdin}, args...) {
		line += " =" + base64.StdEncoding.EncodeToString([]byte(word))
	}
	if _, err := io.WriteString(vm.stdin, line+"\n"); err != nil {
		t.Fatalf("cannot start %s: %v", c.what, err)
	}
	return c
}

// interrupt runs the shutdown hooks of a call, as a signal to its process would.
func (c *call) interrupt(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c.vm.stdin, "stop "+c.id+"\n"); err != nil {
		t.Fatalf("cannot stop %s: %v", c.what, err)
	}
}

// stop is interrupt for a call that ends of it.
func (c *call) stop(t *testing.T) {
	t.Helper()
	c.interrupt(t)
	c.wait(t)
}

// wait waits for the end of the call, at most toolLimit.
func (c *call) wait(t *testing.T) *call {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(toolLimit):
		t.Fatalf("%s did not end within %v:\n%s\n%s", c.what, toolLimit, clip(c.out.String()), clip(c.err.String()))
	}
	return c
}

// all is what a terminal would show.
func (c *call) all() string { return c.out.String() + c.err.String() }

// succeeds gives the standard output of a call that has to end with 0.
func (c *call) succeeds(t *testing.T) string {
	t.Helper()
	if c.wait(t).code != 0 {
		t.Fatalf("%s ended with %d:\n%s", c.what, c.code, clip(c.all()))
	}
	return c.out.String()
}

// prints checks for texts in either output, whatever the exit code.
func (c *call) prints(t *testing.T, texts ...string) string {
	t.Helper()
	c.wait(t)
	contains(t, c.what, c.all(), texts...)
	return c.all()
}

// refused gives what a call printed that has to end with another code than 0.
func (c *call) refused(t *testing.T, texts ...string) string {
	t.Helper()
	if c.wait(t).code == 0 {
		t.Errorf("%s ended with 0, want a refusal:\n%s", c.what, clip(c.all()))
	}
	return c.prints(t, texts...)
}

// awaits waits until the call has printed a text, or has ended.
func (c *call) awaits(t *testing.T, text string) {
	t.Helper()
	limit := time.After(toolLimit)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !strings.Contains(c.all(), text) {
		select {
		case <-poll.C:
		case <-c.done:
			if !strings.Contains(c.all(), text) {
				t.Fatalf("%s ended with %d before it printed %q:\n%s", c.what, c.code, text, clip(c.all()))
			}
		case <-limit:
			t.Fatalf("%s did not print %q within %v:\n%s", c.what, text, toolLimit, clip(c.all()))
		}
	}
}
