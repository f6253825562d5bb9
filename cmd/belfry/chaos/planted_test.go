package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// plant is a rule broken on purpose, and the faults under which that must be seen.
type plant struct {
	name   string // as planted.go of the room calls it
	faults string // as named takes them
	quick  bool   // it is seen within seconds; the short form tries one of these
}

// plants are the rules whose break can be brought about from outside within minutes. Two are not among them. Fencing by
// leader epoch: the in-sync set alone already keeps a leader that nobody told from acknowledging anything. That a
// damaged replica begins anew only once it is not counted on any more: it must be elected right then. The moments in
// which only these help are too short to hit; the simulation in broker/replica hits them.
func plants() []plant {
	return []plant{
		{"early acknowledgement", "a leader alone, clients still reach it; kill -9 of one, back at once", true},
		{"truncation to the high watermark", "kill -9 of one after the other; kill -9 of all; a leader alone, clients still reach it", false},
		{"anybody joins the in-sync set", "one comes back over a slow cable, and the others are killed", false},
		{"skipped check sums", "a flipped bit in a leader's log", false},
		{"no generation fencing", "kill -9 of one, back at once", true},
		{"no deduplication", "SIGSTOP of one for a moment; a cable that is loose; one direction of one link; kill -9 of one, back at once", false},
		{"reads of open transactions", "kill -9 of one, back at once", true},
	}
}

// TestPlantedBugsAreFound proves that TestChaos is worth something: with each rule broken it fails, and says why.
func TestPlantedBugsAreFound(t *testing.T) {
	long := os.Getenv("BELFRY_LONG") != ""
	tried := plants()
	if only := os.Getenv("BELFRY_CHAOS_PLANT"); only != "" {
		tried = slices.DeleteFunc(tried, func(p plant) bool { return p.name != only })
	} else if !long {
		quick := slices.DeleteFunc(tried, func(p plant) bool { return !p.quick })
		tried = []plant{quick[seed(t)%uint64(len(quick))]}
	}
	found := 0
	page := "\n## Planted bugs\n\nA program with one rule broken on purpose, under faults of the kind that the rule is for.\n\n| rule broken | how it was seen |\n| --- | --- |\n"
	for _, p := range tried {
		out := harm(t, p)
		line := sign(out)
		if line == "" {
			t.Errorf("%s is not seen:\n%s", p.name, out[max(0, len(out)-4000):])
			line = "**not seen**"
		} else {
			found++
			t.Logf("%s: %s", p.name, line)
		}
		page += fmt.Sprintf("| %s | %s |\n", p.name, strings.ReplaceAll(line, "|", "\\|"))
	}
	t.Logf("%d of %d planted bugs are found", found, len(tried))
	appendReport(t, page+fmt.Sprintf("\n%d of %d are found. Leader-epoch fencing, in-sync sets, high watermarks and truncation are broken one by one in the simulation of broker/replica, too.\n", found, len(tried)))
}

// sign gives the line by which a run of TestChaos tells that something is wrong; "" = none.
func sign(out string) string {
	for _, s := range []string{"FOUND ", "not within"} {
		if _, rest, ok := strings.Cut(out, s); ok {
			line, _, _ := strings.Cut(rest, "\n")
			return s + line
		}
	}
	return ""
}

// harm runs TestChaos as a process of its own, in namespaces of its own, against a program with that bug.
func harm(t *testing.T, p plant) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestChaos$", "-test.v", "-test.timeout=8m")
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, inNamespace+"=") && !strings.HasPrefix(e, "BELFRY_LONG=") && !strings.HasPrefix(e, "BELFRY_CHAOS_REPORT=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, outerNamespace+"="+os.Getenv(inNamespace), "BELFRY_PLANTED="+p.name, "BELFRY_CHAOS_TIME="+plantedSpan, "BELFRY_CHAOS_FAULT="+p.faults)
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
