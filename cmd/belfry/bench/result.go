package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	startTime   = "start to first answer"
	idleMemory  = "memory, idle (VmRSS)"
	loadMemory  = "memory, after load (VmRSS)"
	peakMemory  = "memory, peak (VmHWM)"
	produce1K   = "produce, 1 KB"
	produce100B = "produce, 100 B"
	produceLZ4  = "produce, 1 KB, lz4"
	consume1K   = "consume, 1 KB, from the page cache"
	produceCPU  = "broker's CPU, produce, 1 KB"
	consumeCPU  = "broker's CPU, consume, 1 KB"
	latency50   = "answer time, p50"
	latency99   = "answer time, p99"
	latency999  = "answer time, p99.9"
)

// measure is one line of the result.
type measure struct {
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Lower  bool                 `json:"lower_is_better"`
	Values map[string][]float64 `json:"values"`  // of each peer, a value a round
	Median map[string]float64   `json:"medians"` // of each peer
}

// result is everything that a run found out.
type result struct {
	Machine    string     `json:"machine"`
	Load       string     `json:"load_average_at_the_end,omitempty"`
	Rounds     int        `json:"rounds"`
	Seconds    float64    `json:"seconds_of_a_measurement"`
	Rate       int        `json:"answer_time_messages_per_second"`
	Partitions int        `json:"partitions"`
	Peers      []string   `json:"peers"` // the last one is the limit that the others are compared with
	Measures   []*measure `json:"measures"`
}

func newResult(o Options, peers []peer) *result {
	r := &result{Machine: machine(), Rounds: o.Rounds, Seconds: o.Duration.Seconds(), Rate: o.Rate, Partitions: o.Partitions}
	for _, p := range peers {
		r.Peers = append(r.Peers, p.name)
	}
	higher := func(unit string, names ...string) { r.add(unit, false, names) }
	lower := func(unit string, names ...string) { r.add(unit, true, names) }
	lower("ms", startTime)
	higher("MB/s", produce1K, produce100B, produceLZ4, consume1K)
	lower("s/GB", produceCPU, consumeCPU)
	lower("ms", latency50, latency99, latency999)
	lower("MiB", idleMemory, loadMemory, peakMemory)
	return r
}

func (r *result) add(unit string, lower bool, names []string) {
	for _, name := range names {
		r.Measures = append(r.Measures, &measure{Name: name, Unit: unit, Lower: lower, Values: map[string][]float64{}, Median: map[string]float64{}})
	}
}

// note keeps what one round found out about a peer.
func (r *result) note(name, peer string, v float64) {
	i := slices.IndexFunc(r.Measures, func(m *measure) bool { return m.Name == name })
	if i < 0 {
		panic("BUG: unknown measure " + name)
	}
	m := r.Measures[i]
	m.Values[peer] = append(m.Values[peer], v)
	m.Median[peer] = median(m.Values[peer])
}

func (r *result) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeTable writes medians, each with its ratio to the null broker's.
func (r *result) writeTable(out io.Writer) error {
	fmt.Fprintf(out, "%s; medians of %d alternating rounds of %g s; load average at the end %s\n", r.Machine, r.Rounds, r.Seconds, r.Load)
	fmt.Fprintf(out, "client franz-go, %d partitions, acks=all, idempotent; answer times at %d messages of 1 KB a second\n", r.Partitions, r.Rate)
	fmt.Fprintln(out, "client and broker share the cores; VmRSS is what ps and top show; (ratio to the null broker)")
	fmt.Fprintln(out)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "measure\tunit\tbetter")
	for _, p := range r.Peers {
		fmt.Fprintf(tw, "\t%s", p)
	}
	fmt.Fprintln(tw)
	limit := r.Peers[len(r.Peers)-1]
	for _, m := range r.Measures {
		better := "higher"
		if m.Lower {
			better = "lower"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s", m.Name, m.Unit, better)
		for _, p := range r.Peers {
			fmt.Fprintf(tw, "\t%.4g", m.Median[p])
			if base := m.Median[limit]; p != limit && base > 0 {
				fmt.Fprintf(tw, " (%.2f ×)", m.Median[p]/base)
			}
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quantile gives the q-quantile in milliseconds. Requires: ts is sorted.
func quantile(ts []time.Duration, q float64) float64 {
	if len(ts) == 0 {
		return 0
	}
	return float64(ts[min(int(q*float64(len(ts))), len(ts)-1)].Microseconds()) / 1000
}

// loadAverage gives the machine's load of the last minutes, "" where the system does not tell.
func loadAverage() string {
	f, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(f))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
