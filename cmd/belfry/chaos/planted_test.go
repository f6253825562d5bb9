package chaos

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// plant is a rule broken on purpose, and the faults under which that must be seen.
type plant struct {
	name   string // as broker/replica/planted.go calls it
	faults string // as named takes them; "" = all
	short  bool   // the short form tries it, too
}

func plants() []plant {
	return []plant{
		{"early acknowledgement", "a leader alone, clients still reach it; kill -9 of one, back at once", true},
		{"truncation to the high watermark", "kill -9 of one after the other; kill -9 of all; a leader alone, clients still reach it", false},
		{"no epoch fencing", "a leader alone, clients still reach it; SIGSTOP of one beyond its session", false},
		{"anybody joins the in-sync set", "kill -9 of one after the other; a leader alone, clients still reach it", false},
	}
}

// TestPlantedBugsAreFound proves that TestChaos is worth something: with each rule broken it fails, and says why.
func TestPlantedBugsAreFound(t *testing.T) {
	found, tried := 0, 0
	for _, p := range plants() {
		if !p.short && os.Getenv("BELFRY_LONG") == "" {
			continue
		}
		tried++
		out := suffer(t, p)
		if i := strings.Index(out, "FOUND "); i >= 0 {
			found++
			line, _, _ := strings.Cut(out[i:], "\n")
			t.Logf("%s: %s", p.name, line)
		} else if i := strings.Index(out, "not within"); i >= 0 {
			found++
			line, _, _ := strings.Cut(out[i:], "\n")
			t.Logf("%s: %s", p.name, line)
		} else {
			t.Errorf("%s is not seen:\n%s", p.name, out[max(0, len(out)-4000):])
		}
	}
	t.Logf("%d of %d planted bugs are found", found, tried)
}

// suffer runs TestChaos as a process of its own, in namespaces of its own, against a program with that bug.
func suffer(t *testing.T, p plant) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestChaos$", "-test.v", "-test.timeout=8m")
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, inNamespace+"=") && !strings.HasPrefix(e, "BELFRY_LONG=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "BELFRY_TEST_TAGS=planted", "BELFRY_PLANTED="+p.name, "BELFRY_CHAOS_TIME="+plantedSpan, "BELFRY_CHAOS_FAULT="+p.faults)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && t.Context().Err() != nil {
		t.Fatal(err)
	}
	return out.String()
}

// plantedSpan is how long faults go on at most until a planted bug must have been seen.
const plantedSpan = "150s"
