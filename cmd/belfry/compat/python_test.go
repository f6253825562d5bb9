package compat

import (
	"path/filepath"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

func TestPythonConfluentKafka(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	python := cached(t, "python", "bin", "python")
	script, err := filepath.Abs("client.py")
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string) string {
		t.Helper()
		return must(t, "", python, script, name, n.Kafka, "python")
	}
	const messages = 1000
	if r := decode[struct{ Topics bool }](t, step("create")); !r.Topics {
		t.Error("the topic is not listed after its creation")
	}
	produced := decode[struct {
		Acked  int
		Errors []string
	}](t, step("produce"))
	if produced.Acked != messages || len(produced.Errors) > 0 {
		t.Errorf("produced %d of %d, errors %v", produced.Acked, messages, produced.Errors)
	}
	g := decode[struct {
		Seen, Alone    int
		Shared         map[string]int
		Headers, Ended bool
	}](t, step("group"))
	if g.Seen != messages/2 || g.Alone != 4 || g.Shared["one"] != 2 || g.Shared["two"] != 2 || !g.Headers || !g.Ended {
		t.Errorf("group of two: %+v, want 500 seen, 4 partitions alone, 2 and 2 shared, headers right, both ended", g)
	}
	n.Kill()
	n.Restart()
	r := decode[struct{ Committed, Read, End int }](t, step("resume"))
	if r.End != messages || r.Committed != messages/2 || r.Committed+r.Read != messages {
		t.Errorf("after kill -9: %+v, want %d committed and the rest read", r, messages/2)
	}
	s := decode[struct {
		Found int
		Value string
	}](t, step("seek"))
	if s.Found != 5 || s.Value != "t5" {
		t.Errorf("seek by time found %+v, want the sixth message", s)
	}
}
