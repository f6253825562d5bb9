package chaos

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/ledger"
)

// span is how long faults go on.
func span(t *testing.T) time.Duration {
	if text := os.Getenv("BELFRY_CHAOS_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("BELFRY_CHAOS_TIME: %v", err)
		}
		return d
	}
	if os.Getenv("BELFRY_LONG") != "" {
		return time.Hour
	}
	return 75 * time.Second
}

// seed makes a run like an earlier one; not the same, as nobody tells the machine when to do what.
func seed(t *testing.T) uint64 {
	text := os.Getenv("BELFRY_CHAOS_SEED")
	if text == "" {
		return rand.Uint64()
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("BELFRY_CHAOS_SEED: %v", err)
	}
	return n
}

// TestChaos puts one fault after the other to a cluster under load.
func TestChaos(t *testing.T) {
	number := seed(t)
	w := newWorld(t, number)
	l := w.topic(ledger.Options{Topic: "exact"})
	rate := 200
	if os.Getenv("BELFRY_LONG") != "" {
		rate = 60 // an hour of it is kept, three times, and read back
	}
	w.exact(l, rate)
	w.weak(w.topic(ledger.Options{Topic: "weak"}), rate/2)
	tx, copies := w.topic(ledger.Options{Topic: "transactions", Holes: true}), w.topic(ledger.Options{Topic: "copies", Holes: true})
	w.transactional(tx)
	w.copied(tx, copies)
	if os.Getenv("BELFRY_LONG") != "" {
		w.foreign(l, rate/2)
		w.foreignCopies(tx, w.topic(ledger.Options{Topic: "java-copies", Holes: true}))
	}
	w.watchOutages(l)
	w.healed()
	faults := slices.Concat(processFaults(), networkFaults(), diskFaults(), damageFaults(), clockFaults(), storms())
	if only := os.Getenv("BELFRY_CHAOS_FAULT"); only != "" {
		faults = named(t, faults, only)
	}
	begun := time.Now()
	defer func() { w.writeReport(number, time.Since(begun)) }() // also when something was not healed in time
	for end, i := begun.Add(span(t)), 0; time.Now().Before(end) && !t.Failed(); i++ {
		if i%len(faults) == 0 {
			w.rnd.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		f := faults[i%len(faults)]
		w.say("%s (%d acknowledged)", f.name, l.Count())
		w.suffer(f)
	}
	if t.Failed() && os.Getenv("BELFRY_PLANTED") != "" {
		return // seen; what else is wrong does not matter
	}
	w.finish()
	for _, name := range slices.Sorted(maps.Keys(w.report.faults)) {
		t.Logf("%3d × %s", len(w.report.faults[name].kept), name)
	}
}

// suffer brings a fault about, and waits until all is healed.
func (w *world) suffer(f fault) {
	w.outages.next()
	f.do(w)
	healing := w.healed()
	s := w.report.faults[f.name]
	if s == nil {
		s = &suffered{}
		w.report.faults[f.name] = s
	}
	s.kept, s.healing = append(s.kept, w.outages.next()), max(s.healing, healing)
}

// named picks faults, separated by "; ".
func named(t *testing.T, faults []fault, names string) (some []fault) {
	for name := range strings.SplitSeq(names, "; ") {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 {
			t.Fatalf("no fault is called %q", name)
		}
		some = append(some, faults[i])
	}
	return some
}
