package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// columns are the heads of the table.
var columns = []string{"measure", "unit", "Belfry", "Kafka", "ratio", "goal", "", "limit", "ratio", "goal", "", "null broker", "ratio", "klite", "NATS"}

// verdictMissed is said of a goal that is not reached.
const verdictMissed = "missed"

// row gives the cells of a line.
func (m *Measure) row() []string {
	against := m.cell(m.Against)
	if m.Against != peer.Kafka && against != "" {
		against += " (" + m.Against + ")"
	}
	limit := m.cell(limitColumn)
	if limit != "" {
		limit += " (" + m.Limit + ")"
	}
	ratio, goal, verdict := m.compare(m.Against, m.Goal)
	toNull, _, _ := m.compare(peer.Null, 0)
	toLimit, limitGoal, limitVerdict := m.compare(limitColumn, m.LimitGoal)
	return []string{
		m.Name, m.Unit, m.cell(peer.Belfry), against, ratio, goal, verdict,
		limit, toLimit, limitGoal, limitVerdict,
		m.cell(peer.Null), toNull, m.cell(peer.Klite), m.cell(peer.NATS),
	}
}

func (m *Measure) cell(peer string) string {
	v, ok := m.Medians[peer]
	if !ok {
		return ""
	}
	return figure(v)
}

func (m *Measure) compare(to string, goal float64) (ratio, wanted, verdict string) {
	if m.Zero && to == m.Against {
		return m.compareZero()
	}
	r, ok := m.ratio(peer.Belfry, to)
	if goal > 0 {
		wanted = goalText(goal, m.Lower)
	}
	if !ok {
		return "", wanted, ""
	}
	if goal > 0 {
		verdict = verdictMissed
		if m.met(r, goal) {
			verdict = "ok"
		}
	}
	return fmt.Sprintf("%.3g ×", r), wanted, verdict
}

// compareZero judges a line where nothing but 0 will do.
func (m *Measure) compareZero() (ratio, wanted, verdict string) {
	wanted = "0"
	switch v, ok := m.Medians[peer.Belfry]; {
	case !ok:
		return "", wanted, ""
	case v > 0:
		return "", wanted, verdictMissed
	}
	return "", wanted, "ok"
}

// figure writes a number with three digits that say something, and no exponent.
func figure(v float64) string {
	if v == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return fmt.Sprintf("%.*f", max(0, digits), v)
}

func goalText(goal float64, lower bool) string {
	sign, text := "≥", fmt.Sprintf("%.3g", goal)
	if lower {
		sign = "≤"
	}
	if n := math.Round(1 / goal); goal < 1 && math.Abs(1/goal-n) < 1e-6 {
		text = fmt.Sprintf("1/%.0f", n)
	}
	return sign + " " + text + " ×"
}

// head gives the lines that come before the table.
func (r *Result) head() []string {
	all := []string{r.Date + "; " + r.Machine.String()}
	all = append(all, r.Settings...)
	for _, p := range r.Peers {
		all = append(all, p.Name+" "+p.Version+": "+p.Settings)
	}
	return all
}

// rows gives the cells of all lines that have a figure; columns without any are left out.
func (r *Result) rows() [][]string {
	all := [][]string{columns}
	for _, m := range r.Lines {
		if len(m.Medians) > 0 {
			all = append(all, m.row())
		}
	}
	used := func(i int) bool {
		return i <= 2 || slices.ContainsFunc(all[1:], func(row []string) bool { return row[i] != "" })
	}
	var kept []int
	for i := range columns {
		if used(i) {
			kept = append(kept, i)
		}
	}
	for n, row := range all {
		cells := make([]string, len(kept))
		for k, i := range kept {
			cells[k] = row[i]
		}
		all[n] = cells
	}
	return all
}

func (r *Result) summary() string {
	var ok, missed int
	for _, m := range r.Lines {
		for _, g := range []struct {
			to   string
			goal float64
		}{{m.Against, m.Goal}, {limitColumn, m.LimitGoal}} {
			switch _, _, v := m.compare(g.to, g.goal); v {
			case "ok":
				ok++
			case verdictMissed:
				missed++
			}
		}
	}
	return fmt.Sprintf("%d goals reached, %d missed", ok, missed)
}

func (r *Result) writeTable(out io.Writer) error {
	for _, line := range r.head() {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintln(out)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range r.rows() {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, n := range r.notes() {
		fmt.Fprintln(out, "note:", n)
	}
	for i, row := range r.profileRows() {
		if i == 0 {
			fmt.Fprintln(out, "\n"+timeTitle)
		}
		fmt.Fprintf(out, "%s: %s busy, broker : client %s\n  broker: %s\n  client: %s\n  a broker that stores nothing: %s\n", row[0], row[1], row[2], row[3], row[4], row[5])
	}
	_, err := fmt.Fprintln(out, r.summary())
	return err
}

// writeMarkdown writes the same for a page.
func (r *Result) writeMarkdown(out io.Writer) error {
	for _, line := range r.head() {
		fmt.Fprintf(out, "- %s\n", line)
	}
	fmt.Fprintln(out)
	for i, row := range r.rows() {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintln(out, "|"+strings.Repeat(" --- |", len(row)))
		}
	}
	fmt.Fprintln(out)
	for _, n := range r.notes() {
		fmt.Fprintf(out, "- %s\n", n)
	}
	if _, err := fmt.Fprintf(out, "\n%s.\n", r.summary()); err != nil {
		return err
	}
	return r.writeTime(out)
}

// notes are the remarks, and what took how long.
func (r *Result) notes() []string {
	all := slices.Clone(r.Notes)
	if len(r.Took) > 0 {
		all = append(all, "the run: "+strings.Join(r.Took, ", "))
	}
	return all
}

const timeTitle = "Where the time goes"

// writeTime writes the lines that missed a goal with their profiles.
func (r *Result) writeTime(out io.Writer) error {
	rows := r.profileRows()
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n## %s\n\n", timeTitle)
	fmt.Fprintln(out, "Every line that missed a goal, measured once more with CPU profiles of both sides; the broker without its agent, but for the lines about the agent, whose profile is of samples and scrapes alone. *Busy* is the part of all processors' time that broker and client used together: near 100 % they took it from each other. *A broker that stores nothing* is the null broker against the same peer, with the same client: no broker gets further here. Lines about memory, starts and lost nodes have no profile.")
	fmt.Fprintf(out, "\n| %s |\n|%s\n", strings.Join(profileColumns, " | "), strings.Repeat(" --- |", len(profileColumns)))
	for _, row := range rows {
		if _, err := fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | ")); err != nil {
			return err
		}
	}
	return nil
}
