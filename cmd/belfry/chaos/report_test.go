package chaos

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/ledger"
)

// outages measures how long each partition of a topic took no message that was to be acknowledged by all in sync.
type outages struct {
	mu    sync.Mutex
	tops  []int64
	since []time.Time
	worst time.Duration // since the last call of next
}

// watchOutages looks every 20 ms until the workers are to end.
func (w *world) watchOutages(l *ledger.Ledger) {
	o := &outages{tops: make([]int64, partitions), since: slices.Repeat([]time.Time{time.Now()}, partitions)}
	w.outages = o
	w.workers.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.ctx.Done():
				return
			case <-tick.C:
				o.look(l.Tops(), time.Now())
			}
		}
	})
}

func (o *outages) look(tops []int64, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p, top := range tops {
		o.worst = max(o.worst, now.Sub(o.since[p]))
		if top > o.tops[p] {
			o.tops[p], o.since[p] = top, now
		}
	}
}

// next gives the longest time since the last call that a partition took nothing.
func (o *outages) next() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.worst
	o.worst = 0
	return d
}

// suffered is what is known of the times that one fault was brought about.
type suffered struct {
	kept    []time.Duration // how long a partition took no message at most, from the fault's begin until all was healed
	healing time.Duration   // the longest from the fault's end until all was in sync
}

// report is what TestChaos writes down of itself.
type report struct {
	faults map[string]*suffered
	lines  []string // of the end: what was sent, and is there
}

// reportPath is where it goes; "" = nowhere.
func reportPath() string { return os.Getenv("BELFRY_CHAOS_REPORT") }

// writeReport writes the run down as a page.
func (w *world) writeReport(seed uint64, length time.Duration) {
	path := reportPath()
	if path == "" {
		return
	}
	var b strings.Builder
	found := 0
	for _, l := range w.ledgers {
		found += len(l.Findings())
	}
	fmt.Fprintf(&b, "# A cluster under faults\n\nWritten by TestChaos (`make chaos`).\n\n| | |\n| --- | --- |\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	row("version", "%s", version())
	row("begun", "%s", w.began.UTC().Format("2006-01-02 15:04 UTC"))
	row("machine", "%s", machine())
	row("nodes", "3, each in a network namespace of its own, on %s", w.volumesAre())
	row("faults for", "%v, seed %d", length.Round(time.Second), seed)
	row("load", "%s", strings.Join(w.load, "; "))
	row("findings", "**%d**%s", found, map[bool]string{true: "; the test failed", false: ""}[w.t.Failed()])
	fmt.Fprintf(&b, "\n## What was sent, and is there\n\n")
	for _, line := range w.report.lines {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "\n## Findings\n\n")
	for _, l := range w.ledgers {
		for _, f := range l.Findings() {
			fmt.Fprintf(&b, "- %s: %s\n", f.Kind, f.Text)
		}
	}
	if found == 0 {
		fmt.Fprintf(&b, "None. Looked for: %s.\n", strings.Join(lookedFor(), "; "))
	}
	fmt.Fprintf(&b, "\n## Faults\n\nUnavailable: the longest time that one of %d partitions took no message of acks=all, from the begin of the fault until all was healed, of all clients together; with a fault's own length in it.\n\n", partitions)
	fmt.Fprintf(&b, "| fault | times | unavailable, median | longest | in sync again after, longest |\n| --- | ---: | ---: | ---: | ---: |\n")
	all := 0
	for _, name := range slices.Sorted(maps.Keys(w.report.faults)) {
		s := w.report.faults[name]
		slices.Sort(s.kept)
		all += len(s.kept)
		fmt.Fprintf(&b, "| %s | %d | %.1f s | %.1f s | %.1f s |\n", name, len(s.kept), s.kept[len(s.kept)/2].Seconds(), s.kept[len(s.kept)-1].Seconds(), s.healing.Seconds())
	}
	fmt.Fprintf(&b, "| all | %d | | | |\n", all)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		w.t.Error(err)
	}
}

// lookedFor names what the checks would find.
func lookedFor() []string {
	return []string{
		"an acknowledged message that is lost", "two messages at one offset, at any time, for any reader", "a message of an idempotent producer twice",
		"messages out of order", "damaged messages", "offsets left out or given twice", "clients that gave up", "messages of aborted or open transactions",
		"torn transactions", "messages copied not exactly once", "committed offsets of groups that went back or were lost",
		"partitions with two owners in one generation", "commits of a past generation and producers of a past epoch that were obeyed",
		"replicas that are not the same byte by byte (of compacted internal topics: not of the same content)",
	}
}

// appendReport adds to the page.
func appendReport(t *testing.T, text string) {
	t.Helper()
	path := reportPath()
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err != nil || cerr != nil {
		t.Error(err, cerr)
	}
}

// version says what was tested.
func version() string {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "not known"
	}
	return strings.TrimSpace(string(out))
}

// machine says on what.
func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	memory := ""
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf(", %.0f GiB", float64(kib)/(1<<20))
		}
	}
	return fmt.Sprintf("%d × %s%s, %s/%s", runtime.NumCPU(), model, memory, runtime.GOOS, runtime.GOARCH)
}
