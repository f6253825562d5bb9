package audit

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(Config{Dir: dir}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestEventsSurviveAndAreFound(t *testing.T) {
	dir := t.TempDir()
	day := time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)
	l := open(t, dir)
	l.Record(Event{Name: "Kafka_create_topicSuccess", Resource: "topic", ResourceID: "orders", User: "ann", Time: day})
	l.Record(Event{Name: "Kafka_delete_topicsFailure", Resource: "topic", ResourceID: "orders", User: "bob", Level: Warning, Code: 403, Time: day.Add(2 * time.Minute)})
	l.Record(Event{Name: "capacityGuardDelete", Resource: "broker", ResourceID: "0", Source: "guard", Level: Incident, Time: day.Add(time.Hour)})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	l.Record(Event{Name: "stillInMemory", Time: day.Add(2 * time.Hour)})
	for _, c := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"all, newest first", Filter{}, "stillInMemory capacityGuardDelete Kafka_delete_topicsFailure Kafka_create_topicSuccess"},
		{"part of the name", Filter{Name: "TOPIC"}, "Kafka_delete_topicsFailure Kafka_create_topicSuccess"},
		{"user", Filter{User: "ann"}, "Kafka_create_topicSuccess"},
		{"level", Filter{Level: Incident}, "capacityGuardDelete"},
		{"resource", Filter{Resource: "topic", ResourceID: "orders", User: "bob"}, "Kafka_delete_topicsFailure"},
		{"source", Filter{Source: "guard"}, "capacityGuardDelete"},
		{"time", Filter{From: day.Add(time.Minute), To: day.Add(time.Hour)}, "Kafka_delete_topicsFailure"},
		{"limit", Filter{Limit: 2}, "stillInMemory capacityGuardDelete"},
	} {
		events, err := l.Query(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range events {
			if e.ID == "" {
				t.Errorf("%s: event %q without an ID", c.name, e.Name)
			}
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestATornLineIsCutAndHidesNothing(t *testing.T) {
	dir := t.TempDir()
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(dir, "audit-2026-03-01.jsonl")
	l := open(t, dir)
	l.Record(Event{Name: "first", Time: day})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"id":"x","name":"to`); err != nil {
		t.Fatal(err)
	}
	file.Close()
	l = open(t, dir)
	l.Record(Event{Name: "second", Time: day.Add(time.Second)})
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	events, err := l.Query(Filter{})
	if err != nil || len(events) != 2 || events[0].Name != "second" || events[1].Name != "first" {
		t.Errorf("Query gave %v, %v", events, err)
	}
	raw, _ := os.ReadFile(path)
	if strings.Contains(string(raw), `"name":"to`) {
		t.Errorf("the torn line is still in the file:\n%s", raw)
	}
}

func TestARefusingDiskKeepsEventsInMemory(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	block := filepath.Join(dir, "audit-2026-03-01.jsonl")
	if err := os.Mkdir(block, 0o700); err != nil { // a directory cannot be opened for writing
		t.Fatal(err)
	}
	for i := range maxPending + 2 {
		l.Record(Event{Name: "e", Code: i, Time: day})
	}
	if err := l.Flush(); err == nil {
		t.Fatal("Flush succeeded over a directory")
	}
	if l.Dropped() != 2 || l.Failed() != 1 {
		t.Errorf("dropped %d, failed %d; want 2 and 1", l.Dropped(), l.Failed())
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	events, err := l.Query(Filter{Limit: 2 * maxPending})
	if err != nil || len(events) != maxPending {
		t.Errorf("%d events after the disk came back, %v; want %d", len(events), err, maxPending)
	}
}

func TestRunWritesAndExpires(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, fileOf(dayOf(time.Now().AddDate(0, 0, -40))))
	young := filepath.Join(dir, fileOf(dayOf(time.Now().AddDate(0, 0, -20))))
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.Record(Event{Name: "written", Request: strings.Repeat("ä", maxText)})
	go func() { ended <- l.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("a file of 40 days ago is still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("a file of 20 days ago went: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, fileOf(dayOf(time.Now()))))
	if err != nil || !strings.Contains(string(raw), `"name":"written"`) || !strings.Contains(string(raw), "bytes cut)") {
		t.Errorf("file holds %.100q, %v", raw, err)
	}
}

func TestKeepBelowTheLimitIsRefused(t *testing.T) {
	if _, err := Open(Config{Dir: t.TempDir(), Keep: 24 * time.Hour}, quiet); err == nil {
		t.Error("Open took one day")
	}
}
