package compat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// features are what every client program tries once, in the order of the page.
var features = []string{
	"create-topic", "produce-none", "produce-gzip", "produce-snappy", "produce-lz4", "produce-zstd", "idempotent", "transactions",
	"group-eager", "group-cooperative", "group-static", "group-new-protocol", "commit-resume", "seek-by-time",
	"headers", "tombstone", "large-message", "wrong-topic", "unknown-version",
}

// clusterFeatures are what they try against several brokers.
var clusterFeatures = append(slices.Clone(features), "failover")

// runLimit is the longest that a client program may take for all features; two minutes is the rule,
// the rest is for a machine that does other things.
const runLimit = 4 * time.Minute

// setupLimit is the longest that installing one client may take.
const setupLimit = 15 * time.Minute

// client is one release of one client library: a line of a file clients/DRIVER/table.
type client struct {
	driver, version string
	short           bool     // runs in the short form too
	name            string   // as the page shows it
	none            []string // features that the release does not have
}

func (c client) id() string { return c.driver + "-" + c.version }

// script gives one of the driver's two programs.
func (c client) script(name string) string { return filepath.Join("clients", c.driver, name) }

// result is what a client program said of one feature.
type result struct {
	verdict string // ok, fail, none
	why     string // the reason of a fail or none; a remark on an ok
}

// readTable reads a driver's list of releases.
func readTable(driver, text string) ([]client, error) {
	var all []client
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 4 || f[0] == "" || f[1] != "short" && f[1] != "long" || f[2] == "" {
			return nil, fmt.Errorf("cannot read the line %q: want VERSION, short or long, NAME and the missing features, parted by tabs", line)
		}
		c := client{driver: driver, version: f[0], short: f[1] == "short", name: f[2]}
		if f[3] != "-" {
			c.none = strings.Fields(f[3])
		}
		for _, feature := range c.none {
			if !slices.Contains(clusterFeatures, feature) {
				return nil, fmt.Errorf("cannot read the line %q: there is no feature %q", line, feature)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// allClients reads every driver's table.
func allClients(t *testing.T) []client {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join("clients", "*", "table"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table of clients found: %v", err)
	}
	var all []client
	for _, path := range tables {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		some, err := readTable(filepath.Base(filepath.Dir(path)), string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, some...)
	}
	return all
}

// readResults reads what a client program printed.
func readResults(out string) (map[string]result, error) {
	found := map[string]result{}
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimRight(line, "\r\n"), "\t", 3)
		if len(f) < 2 || !slices.Contains(clusterFeatures, f[0]) || !slices.Contains([]string{"ok", "fail", "none"}, f[1]) {
			return found, fmt.Errorf("cannot read the line %q: want FEATURE, ok or fail or none, and WHY, parted by tabs", line)
		}
		if _, twice := found[f[0]]; twice {
			return found, fmt.Errorf("cannot read the line %q: the feature was there before", line)
		}
		r := result{verdict: f[1]}
		if len(f) == 3 {
			r.why = strings.TrimSpace(f[2])
		}
		found[f[0]] = r
	}
	return found, nil
}

// judge says what is wrong with the results of a client that was to try some features.
func judge(c client, wanted []string, found map[string]result) []string {
	var wrong []string
	for _, feature := range wanted {
		r, ok := found[feature]
		switch {
		case !ok:
			wrong = append(wrong, feature+": the client program says nothing of it")
		case r.verdict == "fail":
			wrong = append(wrong, feature+": "+r.why)
		case r.verdict == "none" && r.why == "":
			wrong = append(wrong, feature+": none without a reason")
		case r.verdict == "none" && !slices.Contains(c.none, feature):
			wrong = append(wrong, feature+": none is not allowed for this client: "+r.why)
		case r.verdict == "ok" && slices.Contains(c.none, feature):
			wrong = append(wrong, feature+": works, but the table says that the client does not have it")
		}
	}
	return wrong
}

// command runs one of a driver's programs; when its time is over, all that it started ends with it.
func command(t *testing.T, limit time.Duration, name string, args ...string) (out, errOut string, err error) {
	t.Helper()
	return commandWith(t, nil, limit, name, args...)
}

// commandWith is command with more in the environment.
func commandWith(t *testing.T, env []string, limit time.Duration, name string, args ...string) (out, errOut string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %v: %w", limit, ctx.Err())
	}
	return o.String(), e.String(), err
}

// stage is what a client program is run against: the table of the page that its results go to.
type stage struct {
	kept     string // folder below page
	brokers  int    // of each instance
	features []string
	short    []string // drivers that run in the short form; nil = all
}

// covers tells whether this run tries a client here.
func (s stage) covers(c client) bool {
	return long() || c.short && (s.short == nil || slices.Contains(s.short, c.driver))
}

var (
	oneBroker    = stage{kept: "clients", brokers: 1, features: features}
	threeBrokers = stage{kept: "clients3", brokers: 3, features: clusterFeatures, short: []string{"confluent-python", "java"}}
)

// TestClients runs every client program of the tables against a node that offers all it can and
// one that offers what Kafka 1.1 did. The long form keeps what came out for the page.
func TestClients(t *testing.T) { tryAll(t, oneBroker) }

// TestClientsOnThreeBrokers runs the same programs against clusters instead of nodes: topics have three
// replicas, min.insync.replicas is 2, and at the end the leader of a partition that is written and read is killed.
func TestClientsOnThreeBrokers(t *testing.T) { tryAll(t, threeBrokers) }

// tryAll runs every client program that belongs to this run.
func tryAll(t *testing.T, s stage) {
	cache, err := filepath.Abs(cacheRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, "clients"), 0o755); err != nil {
		t.Fatal(err)
	}
	if long() {
		t.Cleanup(func() { save(t, page, assemble(t)) }) // when all have run
	}
	for _, c := range allClients(t) {
		if !s.covers(c) {
			continue
		}
		t.Run(c.id(), func(t *testing.T) {
			// Why here: package managers do not like to be run twice at once.
			if _, errOut, err := command(t, setupLimit, c.script("setup"), cache, c.version); err != nil {
				t.Fatalf("cannot install %s: %v\n%s", c.id(), err, clip(errOut))
			}
			t.Parallel()
			try(t, cache, c, s)
		})
	}
}

// try runs one client program against two instances of its own.
func try(t *testing.T, cache string, c client, s stage) {
	t.Helper()
	prefix := strings.ReplaceAll(c.id(), ".", "_") + "-"
	newest, old := s.instance(t, "newest", "false"), s.instance(t, "1.1.0", "true")
	var env []string
	if s.brokers > 1 {
		env = []string{"BELFRY_REPLICAS=" + strconv.Itoa(s.brokers), "BELFRY_FAULTS=" + newest.faults(t, old, prefix+"failover")}
	}
	began := time.Now()
	out, errOut, err := commandWith(t, env, runLimit, c.script("run"), cache, c.version, newest.nodes[0].Kafka, old.nodes[0].Kafka, prefix)
	t.Logf("%s took %v", c.name, time.Since(began).Round(time.Second))
	if err != nil {
		t.Errorf("the client program ended with %v", err)
	}
	found, err := readResults(out)
	if err != nil {
		t.Error(err)
	}
	for _, wrong := range judge(c, s.features, found) {
		t.Error(wrong)
	}
	newest.stop(t)
	old.stop(t)
	if t.Failed() {
		t.Logf("standard error of the client program:\n%s", clip(errOut))
	}
	if long() {
		keepResults(t, s, c, found)
	}
}

// complaints picks the lines of a node's output that a healthy node does not print.
type complaints struct {
	mu struct {
		sync.Mutex
		part  []byte // the begin of a line
		lines []string
	}
}

// mostComplaints bounds what is kept: the first ones tell the story.
const mostComplaints = 20

func (c *complaints) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.part = append(c.mu.part, b...)
	for {
		line, rest, ended := bytes.Cut(c.mu.part, []byte("\n"))
		if !ended {
			return len(b), nil
		}
		if text := string(line); len(c.mu.lines) < mostComplaints && complaint(text) {
			c.mu.lines = append(c.mu.lines, text)
		}
		c.mu.part = append([]byte(nil), rest...)
	}
}

func (c *complaints) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.lines)
}

func complaint(line string) bool {
	for _, sign := range []string{"level=ERROR", "panic: ", "fatal error: ", "DATA RACE"} {
		if strings.Contains(line, sign) {
			return true
		}
	}
	return false
}

func TestReadTable(t *testing.T) {
	got, err := readTable("java", "# comment\n\n1.1.1\tshort\tJava 1.1.1\tproduce-zstd headers\n2.0\tlong\tJava 2.0\t-\n")
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v, want two clients", got, err)
	}
	if c := got[0]; c.id() != "java-1.1.1" || !c.short || c.name != "Java 1.1.1" || !slices.Equal(c.none, []string{"produce-zstd", "headers"}) {
		t.Errorf("the first client is %+v", c)
	}
	if c := got[1]; c.short || len(c.none) != 0 {
		t.Errorf("the second client is %+v", c)
	}
	for _, bad := range []string{"1\tshort\tname", "1\tsometimes\tname\t-", "1\tlong\tname\tflying"} {
		if got, err := readTable("java", bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestJudge(t *testing.T) {
	var lines []string
	for _, feature := range features {
		lines = append(lines, feature+"\tok\t")
	}
	c := client{none: []string{"headers"}}
	wrong := func(replace map[string]string) string {
		t.Helper()
		out := slices.Clone(lines)
		for i, feature := range features {
			if line, ok := replace[feature]; ok {
				out[i] = line
			}
		}
		out = slices.DeleteFunc(out, func(line string) bool { return line == "" })
		found, err := readResults(strings.Join(out, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(judge(c, features, found), "; ")
	}
	fine := map[string]string{"headers": "headers\tnone\tbefore its time", "idempotent": "idempotent\tok\twith a remark"}
	if got := wrong(fine); got != "" {
		t.Errorf("all is well, but judged: %s", got)
	}
	for replaced, want := range map[string]string{
		"headers\tok":                    "headers: works, but the table",
		"headers\tnone":                  "headers: none without a reason",
		"tombstone\tnone\twhy not":       "tombstone: none is not allowed",
		"tombstone\tfail\tit came again": "tombstone: it came again",
	} {
		feature, _, _ := strings.Cut(replaced, "\t")
		if got := wrong(map[string]string{"headers": fine["headers"], feature: replaced}); !strings.HasPrefix(got, want) {
			t.Errorf("%q: judged %q, want %q", replaced, got, want)
		}
	}
	if got := wrong(map[string]string{"headers": fine["headers"], "idempotent": ""}); !strings.HasPrefix(got, "idempotent: the client program says nothing") {
		t.Errorf("a missing line: judged %q", got)
	}
	for _, bad := range []string{"flying\tok\t", "headers\tmaybe\t", "words", "headers\tok\t\nheaders\tok\t"} {
		if found, err := readResults(bad); err == nil {
			t.Errorf("%q was read as %v", bad, found)
		}
	}
}

func TestComplaints(t *testing.T) {
	var c complaints
	for _, part := range []string{"level=INFO msg=fine\nlev", "el=ERROR msg=bad\npanic: oh", "\nWARNING: DATA RACE\n"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(c.all(), "|"); got != "level=ERROR msg=bad|panic: oh|WARNING: DATA RACE" {
		t.Errorf("got %s", got)
	}
}
