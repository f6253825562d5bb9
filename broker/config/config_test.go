package config

import (
	"strings"
	"testing"
	"time"
)

func TestTableHoldsTogether(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Table() {
		for _, scope := range []Scope{Node, Topic, Agent} {
			if s.Scope&scope == 0 {
				continue
			}
			key := string(rune(scope)) + s.Name
			if seen[key] {
				t.Errorf("%s stands twice in one scope", s.Name)
			}
			seen[key] = true
		}
		if s.Help == "" || !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s: help %q is not a sentence", s.Name, s.Help)
		}
		if s.Default != "" {
			if err := s.Check(s.Default); err != nil {
				t.Errorf("default: %v", err)
			}
		}
		for _, f := range s.Follows {
			if _, ok := Lookup(Node, f.Name); !ok {
				t.Errorf("%s follows %s, which does not exist", s.Name, f.Name)
			}
		}
	}
}

func TestReadErrorsNameFileLineValueAndLimit(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"log.retention.hours: 999", `node.yaml:1: cannot set log.retention.hours to "999": want a whole number from 1 to 168 hours`},
		{"log:\n  retention:\n    hours: many", `node.yaml:3: cannot set log.retention.hours to "many": want a whole number from 1 to 168 hours`},
		{"\nlog.retention.hour: 3", `node.yaml:2: unknown setting "log.retention.hour"; did you mean "log.retention.hours"?`},
		{"version: 3.1", `node.yaml:1: cannot set version to "3.1": want one of newest, 1.1.0, 2.3.0, 2.7`},
		{"agent:\n  period: 10", `want a duration such as 90s or 5m from 1s to 1h0m0s`},
		{"node.id: 1\nnode:\n  id: 2", `node.yaml:3: node.id is set a second time; the first is at line 1`},
		{"node.id:", `node.yaml:1: node.id has no value`},
		{"notify.email.to: [a@b.c]", "notify.email.to is set without notify.email.smarthost"},
		{"agent.cluster.listen: 10.0.0.1:9310", "agent.cluster.listen is \"10.0.0.1:9310\" without agent.cluster.secret"},
		{"agent.cluster.listen: 9310", "want HOST:PORT"},
		{"notify.email.password: &x secret\nnode.id: *x", "node.yaml:2: node.id: aliases are not read"},
		{"a: [", "cannot read configuration"},
	} {
		_, err := Read(strings.NewReader(c.text), "node.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestReadReportsEveryFault(t *testing.T) {
	_, err := Read(strings.NewReader("a: 1\nb: 2\nnode.id: 3\n"), "f")
	if got := strings.Count(err.Error(), "\n") + 1; got != 2 {
		t.Errorf("%d faults reported, want 2: %v", got, err)
	}
}

func TestSensitiveValuesStayHidden(t *testing.T) {
	s := Setting{Name: "secret", Kind: Int, Sensitive: true}
	if err := s.Check("hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestValues(t *testing.T) {
	v, err := Read(strings.NewReader("storage_capacity: 2 GB\nagent.period: 2s\nlog:\n  dirs: [a, b]\nconnections.max.idle.ms: 5000\nauto.create.topics.enable: true"), "f")
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Int("storage_capacity"); got != 2<<30 {
		t.Errorf("storage_capacity = %d", got)
	}
	if got := v.Duration("agent.period"); got != 2*time.Second {
		t.Errorf("agent.period = %v", got)
	}
	if got := v.Duration("connections.max.idle.ms"); got != 5*time.Second {
		t.Errorf("idle = %v", got)
	}
	if got := v.Duration("log.cleaner.max.compaction.lag.ms"); got != maxDuration {
		t.Errorf("for ever = %v", got)
	}
	if got := v.List("log.dirs"); len(got) != 2 || got[1] != "b" {
		t.Errorf("log.dirs = %v", got)
	}
	if !v.Bool("auto.create.topics.enable") {
		t.Error("auto.create.topics.enable is off")
	}
	if _, err := v.With(map[string]string{"num.partitions": "101"}); err == nil {
		t.Error("With took 101 partitions")
	}
}

func TestTopicValuesFollowTheNode(t *testing.T) {
	file, err := Defaults().With(map[string]string{"log.retention.hours": "2"})
	if err != nil {
		t.Fatal(err)
	}
	v := TopicValues(file, nil, nil, nil, 1)
	if got := v.Int("retention.ms"); got != 2*3_600_000 {
		t.Errorf("retention.ms = %d, want 2 h", got)
	}
	if got := v.Int("flush.messages"); got != 1 {
		t.Errorf("flush.messages = %d with one replica, want 1", got)
	}
	if got := TopicValues(file, nil, nil, nil, 3).String("flush.messages"); got != "1" {
		t.Errorf("flush.messages = %q with three replicas of which one is enough, want 1", got)
	}
	if got := TopicValues(file, nil, nil, map[string]string{"min.insync.replicas": "2"}, 3).String("flush.messages"); got != "" {
		t.Errorf("flush.messages = %q with three replicas, two in sync, want none", got)
	}
	v = TopicValues(file, map[string]string{"log.retention.ms": "5"}, nil, map[string]string{"flush.messages": "100"}, 1)
	if got := v.Int("retention.ms"); got != 5 {
		t.Errorf("dynamic retention.ms = %d, want 5", got)
	}
	if got := v.Int("flush.messages"); got != 100 {
		t.Errorf("flush.messages = %d, want what the user said", got)
	}
}

func TestSynonymsNearestFirst(t *testing.T) {
	file, _ := Defaults().With(map[string]string{"log.retention.hours": "2"})
	s, _ := Lookup(Topic, "retention.ms")
	e := Layers{File: file, DynamicDefault: map[string]string{"log.retention.ms": "7"}, Own: map[string]string{"retention.ms": "9"}}.Effective(s)
	if e.Value != "9" || e.Source != FromTopic {
		t.Errorf("got %q from %d", e.Value, e.Source)
	}
	want := []Synonym{{"retention.ms", "9", FromTopic}, {"log.retention.ms", "7", FromDynamicDefault}, {"log.retention.hours", "2", FromFile}, {"log.retention.hours", "72", FromDefault}}
	if len(e.Synonyms) != len(want) {
		t.Fatalf("got %v", e.Synonyms)
	}
	for i := range want {
		if e.Synonyms[i] != want[i] {
			t.Errorf("synonym %d = %v, want %v", i, e.Synonyms[i], want[i])
		}
	}
}

// A layer in another unit is shown as it was given; what holds is in the setting's own unit.
func TestSynonymsKeepTheirUnit(t *testing.T) {
	s, _ := Lookup(Topic, "retention.ms")
	e := Layers{File: Defaults()}.Effective(s)
	if e.Value != "259200000" || len(e.Synonyms) != 1 || e.Synonyms[0] != (Synonym{"log.retention.hours", "72", FromDefault}) {
		t.Errorf("retention.ms is %s from %v", e.Value, e.Synonyms)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("node.id: 1\nlog:\n  dirs: [a, b]\n")
	f.Add("a: {b: {c: [1, 2]}}")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := Read(strings.NewReader(text), "f")
		if err != nil {
			return
		}
		for _, s := range Table() {
			if text, ok := v.Set(s.Name); ok && s.Check(text) != nil {
				t.Errorf("%s passed with %q", s.Name, text)
			}
		}
	})
}

func TestPartitionLimit(t *testing.T) {
	v, _ := Defaults().With(map[string]string{"instance.flavor": "kafka.4u8g.cluster"})
	if got := PartitionLimit(v, 3); got != 1500 {
		t.Errorf("limit = %d, want 1500", got)
	}
	if got := PartitionLimit(Defaults(), 3); got != 0 {
		t.Errorf("custom limit = %d, want none", got)
	}
}
