package rules

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Prometheus writes the rules as a rule file for a Prometheus server that
// scrapes the nodes, for those who want their alarms there. Period is the
// sampling period. Rules that are off are named in comments.
//
// What Prometheus cannot say is said in a comment beside the rule: a window in
// another time zone than UTC, repeat intervals and receivers (they are the
// routes of an Alertmanager).
func Prometheus(set *Set, period time.Duration) []byte {
	period = cmp.Or(period, time.Minute)
	var b bytes.Buffer
	b.WriteString("# Alarm rules for a Prometheus server, made from the rules of the node.\n")
	b.WriteString("groups:\n  - name: belfry\n")
	fmt.Fprintf(&b, "    interval: %s\n", promDuration(period))
	b.WriteString("    rules:\n")
	for i := range set.rules {
		r := &set.rules[i]
		switch {
		case !r.Enabled:
			fmt.Fprintf(&b, "      # %s is turned off.\n", r.Name)
		case r.Off != "":
			fmt.Fprintf(&b, "      # %s is off: %s.\n", r.Name, r.Off)
		default:
			r.prometheus(&b, period)
		}
	}
	if set.Active() == 0 {
		b.WriteString("      []\n")
	}
	return b.Bytes()
}

func (r *Rule) prometheus(b *bytes.Buffer, sampling time.Duration) {
	period := cmp.Or(r.Period, sampling)
	if !r.Window.Always() && r.Window.Zone != "UTC" {
		fmt.Fprintf(b, "      # The window of %s is not in UTC: it is left out here.\n", r.Name)
	}
	fmt.Fprintf(b, "      - alert: %s\n", r.Name)
	fmt.Fprintf(b, "        expr: %s\n", strconv.Quote(r.expr(sampling)))
	// Why: Prometheus fires when the expression has held for this long, so
	// that N evaluations in a row are N-1 intervals.
	if r.For > 1 {
		fmt.Fprintf(b, "        for: %s\n", promDuration(time.Duration(r.For-1)*period))
	}
	if r.ForOK > 1 {
		fmt.Fprintf(b, "        keep_firing_for: %s\n", promDuration(time.Duration(r.ForOK-1)*period))
	}
	fmt.Fprintf(b, "        labels:\n          severity: %s\n", r.Severity)
	b.WriteString("        annotations:\n")
	fmt.Fprintf(b, "          summary: %s\n", strconv.Quote(plain(cmp.Or(r.Summary, r.Text()))))
	if r.Advice != "" {
		fmt.Fprintf(b, "          advice: %s\n", strconv.Quote(plain(r.Advice)))
	}
	if !r.Watchdog {
		fmt.Fprintf(b, "          condition: %s\n", strconv.Quote(plain(r.Text())))
		b.WriteString("          value: \"{{ $value }}\"\n")
	}
}

// expr gives the rule as PromQL.
func (r *Rule) expr(sampling time.Duration) string {
	if r.Watchdog {
		return "vector(1)"
	}
	series := r.Metric
	if len(r.Match) > 0 {
		series += "{" + matchText(r.Match) + "}"
	}
	period := cmp.Or(r.Period, sampling)
	switch r.Aggregation {
	case Avg, Max, Min, Sum:
		if period > sampling {
			series = fmt.Sprintf("%s_over_time(%s[%s])", r.Aggregation, series, promDuration(period))
		}
	case Increase:
		// Why: increase needs two samples in its range, however far apart the
		// scrapes are; 4 periods hold them even if one scrape fails.
		series = fmt.Sprintf("increase(%s[%s])", series, promDuration(max(period, 4*sampling)))
	}
	expr := fmt.Sprintf("%s %s %s", series, r.Condition.Comparison, promNumber(r.Condition.Threshold))
	if !r.Window.Always() && r.Window.Zone == "UTC" {
		minute := "(hour() * 60 + minute())"
		from, to := int(r.Window.From.Minutes()), int(r.Window.To.Minutes())
		join := "and"
		if from > to {
			join = "or"
		}
		expr += fmt.Sprintf(" and on () (%s >= %d %s %s < %d)", minute, from, join, minute, to)
	}
	return expr
}

// plain keeps text from being read as a template.
func plain(s string) string { return strings.ReplaceAll(s, "{{", `{{ "{{" }}`) }

func promNumber(f float64) string {
	if math.Abs(f) >= 1e15 {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return number(f)
}

func promDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
