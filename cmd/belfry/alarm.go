package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/rules"
)

func alarmCommand(c *client) *cobra.Command {
	return noun("alarm", "See which alarms fire, why, and what to do", alarmList(c))
}

// alarmLine is one alarm as it is listed.
type alarmLine struct {
	Alarm    string     `json:"alarm"`
	Object   string     `json:"object"`
	Severity string     `json:"severity"`
	State    string     `json:"state"`
	Fired    time.Time  `json:"fired"`
	Ended    *time.Time `json:"ended,omitempty"`
	Value    float64    `json:"value"`
	Unit     string     `json:"unit,omitempty"`
	When     string     `json:"condition"`
	Summary  string     `json:"summary,omitempty"`
	Advice   string     `json:"advice,omitempty"`
	Reason   string     `json:"reason,omitempty"` // why it ended, if not by a good value
}

func alarmList(c *client) *cobra.Command {
	var agents []string
	var ended bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the alarms that fire, with what is wrong and what to do", Args: noArgs,
		Long:    "List the alarms that fire, with what is wrong and what to do.\n\nThe agents are asked, each for its own node; one of them also watches the whole cluster. One that\ndoes not answer is told of, and the others' alarms are listed.",
		Example: "  belfry alarm list\n  belfry alarm list --ended -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := askAlarms(cmd.Context(), agents, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			lines := alarmLines(all, ended)
			if c.output == "table" || c.output == "wide" {
				return showAlarms(cmd.OutOrStdout(), lines, time.Now())
			}
			v := view{columns: columns("SEVERITY", "ALARM", "OBJECT", "STATE", "FIRED", "ENDED", "VALUE", "CONDITION", "SUMMARY", "ADVICE"), body: lines}
			for _, l := range lines {
				over := ""
				if l.Ended != nil {
					over = l.Ended.Format(time.RFC3339)
				}
				v.rows = append(v.rows, []string{l.Severity, l.Alarm, l.Object, l.State, l.Fired.Format(time.RFC3339), over,
					strconv.FormatFloat(l.Value, 'g', -1, 64), l.When, l.Summary, l.Advice})
			}
			return c.show(cmd.OutOrStdout(), v)
		},
	}
	cmd.Flags().StringSliceVar(&agents, "agent", envList("BELFRY_AGENT", "127.0.0.1:9308"), "agents to ask, HOST:PORT of their metrics; BELFRY_AGENT says the same")
	cmd.Flags().BoolVar(&ended, "ended", false, "also those that ended within the last day")
	return cmd
}

// agentLimit bounds the wait for one agent.
const agentLimit = 5 * time.Second

// askAlarms asks all agents at once. Errors: none of them answered.
func askAlarms(ctx context.Context, agents []string, errOut io.Writer) ([]agent.Alarms, error) {
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	pages, errs := make([]agent.Alarms, len(agents)), make([]error, len(agents))
	var wg sync.WaitGroup
	for i, at := range agents {
		wg.Go(func() { pages[i], errs[i] = askAgent(ctx, at) })
	}
	wg.Wait()
	var all []agent.Alarms
	for i := range agents {
		if errs[i] == nil {
			all = append(all, pages[i])
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cannot reach an agent: %w\nIs the node running? Name its metrics address with --agent, or in BELFRY_AGENT", errors.Join(errs...))
	}
	for _, err := range errs {
		if err != nil {
			fmt.Fprintln(errOut, "belfry:", err)
		}
	}
	return all, nil
}

func askAgent(ctx context.Context, at string) (a agent.Alarms, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/alarms", nil)
	if err != nil {
		return a, fmt.Errorf("cannot ask the agent at %q: %w", at, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, fmt.Errorf("the agent at %s does not answer: %w", at, unwrapped(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("the agent at %s answers %s", at, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return a, fmt.Errorf("the answer of the agent at %s is not understood: %w", at, err)
	}
	return a, nil
}

// unwrapped leaves out what net/http says around an error: method and URL.
func unwrapped(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// alarmLines joins what the agents know: what fires, the worst first, then what ended, the last first.
func alarmLines(all []agent.Alarms, ended bool) []alarmLine {
	firing, over := map[string]alarm.Alarm{}, map[string]alarm.Alarm{}
	for _, page := range all {
		for _, a := range slices.Concat(page.Firing, page.Elsewhere) {
			if !a.Watchdog {
				firing[a.Key()] = a
			}
		}
		for _, a := range page.Ended {
			if !a.Moved && !a.Watchdog {
				over[a.Key()+a.Ended.UTC().String()] = a
			}
		}
	}
	lines := linesOf(firing)
	slices.SortFunc(lines, func(a, b alarmLine) int {
		return cmp.Or(severityRank(a.Severity)-severityRank(b.Severity), a.Fired.Compare(b.Fired), strings.Compare(a.Alarm+a.Object, b.Alarm+b.Object))
	})
	if ended {
		past := linesOf(over)
		slices.SortFunc(past, func(a, b alarmLine) int {
			return cmp.Or(b.Ended.Compare(*a.Ended), strings.Compare(a.Alarm+a.Object, b.Alarm+b.Object))
		})
		lines = append(lines, past...)
	}
	return lines
}

func linesOf(all map[string]alarm.Alarm) []alarmLine {
	lines := []alarmLine{}
	for _, a := range all {
		l := alarmLine{
			Alarm: a.Rule, Object: a.Object(), Severity: string(a.Severity), State: string(a.State), Fired: a.Fired, Value: a.Value,
			Unit: a.Unit, When: a.Condition, Summary: a.Summary, Advice: a.Advice, Reason: a.Reason,
		}
		if !a.Ended.IsZero() {
			l.Ended = &a.Ended
		}
		lines = append(lines, l)
	}
	return lines
}

// severityRank orders the worst first.
func severityRank(s string) int {
	if i := slices.Index(rules.Severities(), rules.Severity(s)); i >= 0 {
		return i
	}
	return len(rules.Severities())
}

// showAlarms writes for people: what, since when, why, what to do.
func showAlarms(w io.Writer, lines []alarmLine, now time.Time) error {
	if len(lines) == 0 {
		_, err := fmt.Fprintln(w, "no alarm fires")
		return err
	}
	for i, l := range lines {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  %s, %s: %s\n", strings.ToUpper(l.Severity), l.Alarm, l.Object, cmp.Or(l.Summary, l.When))
		lasts, until := "for", now
		if l.Ended != nil {
			lasts, until = "lasted", *l.Ended
		}
		fmt.Fprintf(w, "  since     %s, %s %s\n", l.Fired.Local().Format(time.DateTime), lasts, until.Sub(l.Fired).Round(time.Second))
		switch {
		case l.Ended != nil && l.Reason != "":
			fmt.Fprintf(w, "  ended     %s: %s\n", l.Ended.Local().Format(time.DateTime), l.Reason)
		case l.Ended != nil:
			fmt.Fprintf(w, "  ended     %s\n", l.Ended.Local().Format(time.DateTime))
		}
		known := ""
		if l.Ended == nil && l.State != string(alarm.Firing) {
			known = "; no reading comes any more"
		}
		fmt.Fprintf(w, "  value     %s%s (the alarm's condition: %s)\n", quantity(l.Value, l.Unit), known, l.When)
		if l.Advice != "" {
			fmt.Fprintf(w, "  remedy    %s\n", wrap(l.Advice, 100, "            "))
		}
	}
	return nil
}

// quantity writes a value with its unit, where that says something.
func quantity(v float64, unit string) string {
	text := strconv.FormatFloat(v, 'g', 6, 64)
	switch unit {
	case "", "bool", "count", "ratio":
		return text
	}
	return text + " " + unit
}

// wrap breaks a text into lines of at most width, the following ones indented.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case column == 0:
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
