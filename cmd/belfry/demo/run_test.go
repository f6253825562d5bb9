package demo_test

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/cmd/belfry/demo"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDemo plays the demo with the real program under both policies, a little faster than for people.
func TestDemo(t *testing.T) {
	for _, c := range []struct{ policy, seen string }{{"delete", "deleted the oldest"}, {"reject", "refuses produce"}} {
		t.Run(c.policy, func(t *testing.T) {
			var out bytes.Buffer
			err := demo.Run(t.Context(), demo.Options{
				Program: nodetest.Binary(t), Out: &out, Policy: c.policy, Capacity: 64 << 20, Fill: 20 * time.Second, Keep: t.TempDir(),
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			for _, want := range []string{"webhook   firing broker_disk_usage", "[CRITICAL] guard_active", "[OK] broker_disk_usage", "lag ", c.seen, "everybody knows that it is over"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("nothing says %q\n%s", want, out.String())
				}
			}
		})
	}
}

// TestDemoOfACluster plays the other one, a little faster too.
func TestDemoOfACluster(t *testing.T) {
	var out bytes.Buffer
	err := demo.Run(t.Context(), demo.Options{Program: nodetest.Binary(t), Out: &out, Brokers: 3, Calm: 2 * time.Second, Keep: t.TempDir()})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log("\n" + out.String())
	for _, want := range []string{"3 nodes are ready", "kill -9 of node", "webhook   firing broker_alive [critical]", "remedy    Its process has ended",
		"webhook   resolved broker_alive", ": 0 lost, 0 twice; 0 errors at the producer", "brokers alive"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q\n%s", want, out.String())
		}
	}
	if err := demo.Run(t.Context(), demo.Options{Program: nodetest.Binary(t), Out: &out, Brokers: 2}); err == nil || !strings.Contains(err.Error(), "2 brokers") {
		t.Errorf("error %v", err)
	}
}

func TestDemoSaysWhyANodeDoesNotStart(t *testing.T) {
	program, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := demo.Run(ctx, demo.Options{Program: program, Out: &out, Keep: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "node ended by itself") {
		t.Errorf("error %v", err)
	}
	if err := demo.Run(ctx, demo.Options{Program: program, Out: &out, Capacity: 1}); err == nil || !strings.Contains(err.Error(), "capacity of 1 bytes") {
		t.Errorf("error %v", err)
	}
}
