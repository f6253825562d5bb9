package guard

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func instant(t *testing.T, seconds string) time.Time {
	t.Helper()
	return epoch.Add(time.Duration(figure(t, seconds) * float64(time.Second)))
}

func figure(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func limitsOf(t *testing.T, f []string) Limits {
	t.Helper()
	p, err := ParsePolicy(f[0])
	if err != nil {
		t.Fatal(err)
	}
	return Limits{Policy: p, Threshold: figure(t, f[1]), Hysteresis: figure(t, f[2]), Pace: 5 * time.Second}
}

// step runs one line of the script; decided is false for lines that decide nothing.
func step(t *testing.T, m **Machine, words []string) (d Decision, decided bool) {
	t.Helper()
	switch words[0] {
	case "policy":
		l := limitsOf(t, words[1:])
		if *m == nil {
			*m = NewMachine(l)
			return d, false
		}
		return (*m).Configure(l, epoch), false
	case "change":
		return (*m).Configure(limitsOf(t, words[2:]), instant(t, words[1])), true
	case "restore":
		(*m).Restore(words[1] == "refusing")
	case "acted":
		(*m).Acted(int64(figure(t, words[2])*10), len(words) > 3, instant(t, words[1]))
	case "unknown":
		return (*m).Unknown(), true
	case "at":
		percent := figure(t, words[2])
		return (*m).Observe(Reading{At: instant(t, words[1]), Used: int64(percent * 10), Total: 1000, Percent: percent}), true
	default:
		t.Fatalf("unknown step %q", words[0])
	}
	return d, false
}

func show(d Decision) string {
	text := "accept"
	if d.Refuse {
		text = "refuse"
	}
	if d.Delete {
		text += " delete"
	}
	return text
}

func TestPolicy(t *testing.T) {
	script, err := os.ReadFile("testdata/policy.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(script), "\ncase ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		t.Run(name, func(t *testing.T) {
			var m *Machine
			for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
				do, want, _ := strings.Cut(line, "→")
				d, decided := step(t, &m, strings.Fields(do))
				want, reason, _ := strings.Cut(strings.TrimSpace(want), ` "`)
				if decided && want == "" {
					t.Fatalf("%s: nothing expected of a deciding step", line)
				}
				if decided && show(d) != want {
					t.Errorf("%s: got %s", line, show(d))
				}
				if d.Refuse != (d.Reason != "") || !strings.Contains(d.Reason, strings.TrimSuffix(reason, `"`)) {
					t.Errorf("%s: reason %q", line, d.Reason)
				}
			}
		})
	}
}

// FuzzPolicy: whatever comes, the machine deletes only above the threshold and one at a time, and refuses under Reject
// above it always, below threshold − hysteresis never.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte{0, 96, 1, 10, 2, 0, 0, 80, 3, 1, 0, 96})
	f.Fuzz(func(t *testing.T, script []byte) {
		l := Limits{Policy: Delete, Threshold: 95, Hysteresis: 5, Pace: 5 * time.Second}
		m, at, running := NewMachine(l), epoch, false
		for i := 0; i+1 < len(script); i += 2 {
			at = at.Add(time.Second)
			arg := script[i+1]
			var d Decision
			switch script[i] % 4 {
			case 0:
				percent := float64(arg) / 2.5
				d = m.Observe(Reading{At: at, Used: int64(percent * 10), Total: 1000, Percent: percent})
				if l.Policy == Reject && (percent >= 95 && !d.Refuse || percent < 90 && d.Refuse) {
					t.Fatalf("at %g %%: refuse %v", percent, d.Refuse)
				}
			case 1:
				if running {
					m.Acted(int64(arg), arg%3 == 0, at)
					running = false
				}
			case 2:
				if d = m.Unknown(); d.Delete {
					t.Fatal("deletion ordered blindly")
				}
			case 3:
				l.Policy = []Policy{Delete, Reject}[arg%2]
				d = m.Configure(l, at)
			}
			if d.Delete && (running || !m.Above() || l.Policy != Delete) {
				t.Fatalf("deletion at %g %% under %s, one running %v", m.last.Percent, l.Policy, running)
			}
			running = running || d.Delete
			if d.Refuse != (d.Reason != "") {
				t.Fatalf("refuse %v with reason %q", d.Refuse, d.Reason)
			}
		}
	})
}
