package compat

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest/port"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// connectRelease is the release whose Kafka Connect is run.
const connectRelease = "4.3.1"

// files is a file that a connector reads and one that another writes.
type files struct {
	t            *testing.T
	source, sink string
	lines        []string
}

func newFiles(t *testing.T) *files {
	dir := t.TempDir()
	return &files{t: t, source: filepath.Join(dir, "source.txt"), sink: filepath.Join(dir, "sink.txt")}
}

// add appends lines to the source.
func (f *files) add(lines []string) {
	f.t.Helper()
	file, err := os.OpenFile(f.source, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		f.t.Fatal(err)
	}
	f.lines = append(f.lines, lines...)
}

// copied waits until the sink holds every line of the source once, in order.
func (f *files) copied(p *javaProgram) {
	f.t.Helper()
	eventually(f.t, "the sink holds what the source does", func() bool {
		select {
		case <-p.gone:
			f.t.Fatalf("the worker ended: %v\n%s", p.err, clip(p.out.String()))
		default:
		}
		return len(f.read()) >= len(f.lines)
	})
	if got := f.read(); strings.Join(got, "\n") != strings.Join(f.lines, "\n") {
		f.t.Errorf("the sink has %d lines, the source %d:\n%s", len(got), len(f.lines), clip(strings.Join(got, "\n")))
	}
}

func (f *files) read() []string {
	b, err := os.ReadFile(f.sink)
	if err != nil || len(b) == 0 {
		return nil // not yet there
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// properties writes a file of settings.
func properties(t *testing.T, of map[string]string) string {
	var b strings.Builder
	for name, value := range of {
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	return write(t, b.String())
}

func TestConnect(t *testing.T) {
	if !long() {
		return // each worker is a Java machine that takes its time
	}
	t.Run("standalone", func(t *testing.T) {
		keepTool(t, oneNodeResults, connectRelease, "Kafka Connect: standalone, file source and sink", "a restarted worker goes on without loss or doubling")
		connectStandalone(t)
	})
	t.Run("distributed", func(t *testing.T) {
		keepTool(t, oneNodeResults, connectRelease, "Kafka Connect: distributed, file source and sink", "a restarted worker goes on without loss or doubling")
		connectDistributed(t)
	})
}

// connectStandalone copies a file through a topic; a worker that is started again goes on
// where it was.
func connectStandalone(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	f := newFiles(t)
	worker := properties(t, map[string]string{
		"bootstrap.servers": n.Kafka, "key.converter": "org.apache.kafka.connect.storage.StringConverter", "value.converter": "org.apache.kafka.connect.storage.StringConverter",
		"offset.storage.file.filename": filepath.Join(t.TempDir(), "offsets"), "offset.flush.interval.ms": "1000", "listeners": "http://" + port.Addr(t),
	})
	source := properties(t, map[string]string{"name": "source", "connector.class": "FileStreamSource", "tasks.max": "1", "file": f.source, "topic": "copied", "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1"})
	sink := properties(t, map[string]string{"name": "sink", "connector.class": "FileStreamSink", "tasks.max": "1", "file": f.sink, "topics": "copied"})
	start := func() *javaProgram {
		return startProgram(t, cached(t, "kafka-"+connectRelease), "org.apache.kafka.connect.cli.ConnectStandalone", worker, source, sink)
	}
	f.add(numbered("first ", 100))
	p := start()
	f.copied(p)
	f.add(numbered("second ", 50))
	f.copied(p)
	p.terminate()
	f.add(numbered("third ", 50))
	p = start()
	f.copied(p)
	p.terminate()
}

// connectDistributed does the same by the REST interface of a worker that keeps its
// connectors, offsets and states in compacted topics.
func connectDistributed(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	f := newFiles(t)
	rest := "http://" + port.Addr(t)
	worker := properties(t, map[string]string{
		"bootstrap.servers": n.Kafka, "group.id": "workers", "key.converter": "org.apache.kafka.connect.storage.StringConverter", "value.converter": "org.apache.kafka.connect.storage.StringConverter",
		"config.storage.topic": "connect-configs", "offset.storage.topic": "connect-offsets", "status.storage.topic": "connect-status",
		"config.storage.replication.factor": "1", "offset.storage.replication.factor": "1", "status.storage.replication.factor": "1", "offset.storage.partitions": "3", "status.storage.partitions": "2",
		"offset.flush.interval.ms": "1000", "listeners": rest, "scheduled.rebalance.max.delay.ms": "0",
	})
	start := func() *javaProgram {
		return startProgram(t, cached(t, "kafka-"+connectRelease), "org.apache.kafka.connect.cli.ConnectDistributed", worker)
	}
	p := start()
	put := func(name string, settings map[string]string) {
		t.Helper()
		body, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the worker takes connector "+name, func() bool {
			code, _ := restCall(t, http.MethodPut, rest+"/connectors/"+name+"/config", string(body))
			return code == http.StatusCreated || code == http.StatusOK
		})
	}
	f.add(numbered("first ", 100))
	put("source", map[string]string{"connector.class": "FileStreamSource", "tasks.max": "1", "file": f.source, "topic": "moved", "topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1"})
	put("sink", map[string]string{"connector.class": "FileStreamSink", "tasks.max": "1", "file": f.sink, "topics": "moved"})
	f.copied(p)
	compacted(t, n.Kafka, "connect-configs", "connect-offsets", "connect-status")
	p.terminate()
	f.add(numbered("second ", 50))
	p = start()
	f.copied(p)
	eventually(t, "source and sink run after the restart", func() bool {
		for _, name := range []string{"source", "sink"} {
			_, body := restCall(t, http.MethodGet, rest+"/connectors/"+name+"/status", "")
			if strings.Count(body, `"state":"RUNNING"`) != 2 { // the connector and its task
				return false
			}
		}
		return true
	})
	if code, body := restCall(t, http.MethodDelete, rest+"/connectors/source", ""); code != http.StatusNoContent {
		t.Errorf("deleting a connector gave %d %s", code, body)
	}
	eventually(t, "the deleted connector is gone", func() bool {
		_, body := restCall(t, http.MethodGet, rest+"/connectors", "")
		return body == `["sink"]`
	})
	p.terminate()
}

// restCall gives code 0 where nobody answers.
func restCall(t *testing.T, method, url, body string) (code int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// compacted fails the test unless the topics are.
func compacted(t *testing.T, bootstrap string, topics ...string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := map[string]string{}
	for _, topic := range topics {
		want[topic] = "compact"
	}
	cleanupPolicies(t, client, want)
}
