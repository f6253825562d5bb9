package alarm

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/rules"
)

// TestScripts plays testdata/*.txt: commands at the line's begin, what happened
// below them, indented.
//
//	rules          the rules that follow, indented by one space, are put in force
//	tick SERIES…   one period passes; a series is metric{label=value,…}=number
//	missed N       the next tick stands for N lost ones too
//	at HH:MM       the next tick ends then (UTC)
//	elsewhere      another node emits the series of the cluster from now on
//	here           this node does
//	restart        state is encoded and decoded into a new core
//	show           all alarms
func TestScripts(t *testing.T) { golden.Scripts(t, "testdata/*.txt", play) }

type script struct {
	t    *testing.T
	core *core
	now  time.Time
	lost int
	out  strings.Builder
}

func play(t *testing.T, text string) string {
	s := &script{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s.core = newCore(s.set(""), Units())
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "  ") {
			continue // an earlier output
		}
		s.out.WriteString(line + "\n")
		if line == "rules" {
			var yaml strings.Builder
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") && !strings.HasPrefix(lines[i+1], "  ") {
				i++
				yaml.WriteString(lines[i] + "\n")
				s.out.WriteString(lines[i] + "\n")
			}
			s.events(s.core.replace(s.set(yaml.String()), s.now))
			continue
		}
		s.command(strings.Fields(line))
	}
	return s.out.String()
}

// set gives the rules of a script alone, without the built-in ones.
func (s *script) set(text string) *rules.Set {
	s.t.Helper()
	list, err := rules.Parse("script", []byte("rules:\n"+text+" []"), nil)
	if text != "" {
		list, err = rules.Parse("script", []byte("rules:\n"+text), nil)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	set, err := rules.Check(list, testEnv())
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

func testEnv() rules.Env {
	return Environment(func(rules.Limit) float64 { return 0 }, func(l rules.Limit) string { return string(l) }, nil, time.Minute)
}

func (s *script) command(words []string) {
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return
	}
	switch words[0] {
	case "tick":
		s.tick(words[1:])
	case "missed":
		s.lost, _ = strconv.Atoi(words[1])
		s.now = s.now.Add(time.Duration(s.lost) * time.Minute)
	case "at":
		clock, err := time.Parse("15:04", words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = time.Date(2026, 3, 2, clock.Hour(), clock.Minute()-1, 0, 0, time.UTC)
	case "elsewhere":
		s.events(s.core.handOver(s.now))
	case "here":
		s.core.elsewhere = false
	case "restart":
		next := newCore(s.core.set, Units())
		events, err := next.restore(s.core.encode(), s.now)
		if err != nil {
			s.t.Fatal(err)
		}
		s.core = next
		s.events(events)
	case "show":
		for _, a := range s.core.alarms() {
			fmt.Fprintf(&s.out, "  %s\n", shown(a))
		}
		for _, a := range s.core.ended {
			fmt.Fprintf(&s.out, "  ended %s\n", shown(a))
		}
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
}

func (s *script) tick(words []string) {
	snap := &metric.Snapshot{InstanceID: "i", Start: s.now, End: s.now.Add(time.Minute), Elapsed: time.Minute, Missed: s.lost}
	s.now, s.lost = snap.End, 0
	for _, w := range words {
		at := strings.LastIndexByte(w, '=')
		v, err := strconv.ParseFloat(w[at+1:], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		id, labels, _ := strings.Cut(w[:at], "{")
		sample := metric.Sample{ID: metric.ID(id), Value: v}
		if labels != "" {
			var pairs []string
			for _, pair := range strings.Split(strings.TrimSuffix(labels, "}"), ",") {
				name, value, _ := strings.Cut(pair, "=")
				pairs = append(pairs, "kafka_"+name, value)
			}
			sample.Labels = metric.Labels(pairs...)
		}
		snap.Samples = append(snap.Samples, sample)
	}
	snap.Samples, _ = metric.Arrange(snap.Samples)
	s.events(s.core.evaluate(snap))
}

func (s *script) events(events []Event) {
	for _, e := range events {
		fmt.Fprintf(&s.out, "  %s %s -> %s %s\n", e.Time.Format("15:04"), e.From, e.To, shown(e.Alarm))
	}
}

func shown(a Alarm) string {
	text := fmt.Sprintf("%s (%s) %s value %v", a.Rule, a.Object(), a.State, a.Value)
	if a.IsFiring {
		text += " firing since " + a.Fired.UTC().Format("15:04")
	}
	if !a.Ended.IsZero() {
		text += " ended " + a.Ended.UTC().Format("15:04")
	}
	if a.Moved {
		text += ", moved"
	}
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	return text
}
