package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Result is everything that a run found out.
type Result struct {
	Date     string     `json:"date"`
	Machine  Machine    `json:"machine"`
	Settings []string   `json:"settings"`
	Peers    []Peer     `json:"peers"`
	Notes    []string   `json:"notes,omitempty"` // what could not be measured, and why
	Took     []string   `json:"took,omitempty"`  // what took how long
	Lines    []*Measure `json:"lines"`
	Profiles []Profile  `json:"profiles,omitempty"`
}

// Peer is who took part.
type Peer struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Settings string `json:"settings"`
}

// Measure is a line with what was measured.
type Measure struct {
	Line
	Values  map[string][]float64 `json:"values"`  // of each peer, a value a round
	Medians map[string]float64   `json:"medians"` // of each peer; of a Largest line the largest value
}

func newResult(o Options) *Result {
	r := &Result{Date: time.Now().Format(time.RFC3339), Machine: readMachine(o.Dir)}
	for _, l := range lines(o) {
		if slices.Contains(o.Only, l.Section) {
			r.Lines = append(r.Lines, &Measure{Line: l, Values: map[string][]float64{}, Medians: map[string]float64{}})
		}
	}
	r.Settings = []string{
		fmt.Sprintf("medians of %d alternating rounds of %v; %d partitions; messages of 1 KB unless said", o.Rounds, o.Time, o.Partitions),
		"client franz-go in this process: acks=all, idempotent, its defaults; client and broker share the machine's cores",
		"answers from the page cache compared with the same (flush.messages is set where it is not the default), fsync with fsync",
	}
	if o.FreeMB >= 0 {
		r.Settings = append(r.Settings, fmt.Sprintf("before each measurement old pages fill the page cache until less than %d MiB of memory are free, and those are touched, as on a machine that has been up for long", o.FreeMB))
	}
	return r
}

// note keeps what one round found out about a peer, or about the limit. A line that was not asked for is left out.
func (r *Result) note(id, peer string, v float64) {
	if m := r.line(id); m != nil {
		if peer == m.Limit {
			peer = limitColumn
		}
		m.Values[peer] = append(m.Values[peer], v)
		m.Medians[peer] = median(m.Values[peer])
		if m.Largest {
			m.Medians[peer] = slices.Max(m.Values[peer])
		}
	}
}

func (r *Result) line(id string) *Measure {
	i := slices.IndexFunc(r.Lines, func(m *Measure) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return r.Lines[i]
}

// remark adds what a reader has to know, once.
func (r *Result) remark(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, s) {
		r.Notes = append(r.Notes, s)
	}
}

// ratio compares Belfry with another column; false if one of them was not measured.
func (m *Measure) ratio(of, to string) (float64, bool) {
	a, okA := m.Medians[of]
	b, okB := m.Medians[to]
	if !okA || !okB || b == 0 {
		return 0, false
	}
	return a / b, true
}

// met tells whether a ratio reaches a goal.
func (m *Measure) met(ratio, goal float64) bool {
	if m.Lower {
		return ratio <= goal
	}
	return ratio >= goal
}

func (r *Result) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
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
