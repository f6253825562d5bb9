package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// TestKcatModes goes through what TestKcat leaves out: JSON, tombstones, files, ends of partitions.
func TestKcatModes(t *testing.T) {
	n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "true", "num.partitions": "2"}})
	kcat(t, n, "first\n", "-P", "-t", "modes", "-p", "0", "-k", "key", "-H", "a=1", "-H", "b=2", "-X", "enable.idempotence=true")
	kcat(t, n, "key:\n", "-P", "-t", "modes", "-p", "0", "-K", ":", "-Z") // -Z: an empty value is none
	kcat(t, n, "x;y;z", "-P", "-t", "modes", "-p", "1", "-D", ";", "-z", "zstd")

	type message struct {
		Topic             string
		Partition, Offset int
		TS                int64
		TSType            string
		Headers           []string
		Key, Payload      *string
	}
	var read []message
	for line := range strings.Lines(kcat(t, n, "", "-C", "-J", "-t", "modes", "-p", "0", "-o", "beginning", "-e", "-q")) {
		read = append(read, decode[message](t, line))
	}
	if len(read) != 2 {
		t.Fatalf("kcat -C -J read %d messages, want 2", len(read))
	}
	first, second := read[0], read[1]
	if *first.Key != "key" || *first.Payload != "first" || strings.Join(first.Headers, " ") != "a 1 b 2" || first.TSType != "create" || first.TS == 0 {
		t.Errorf("kcat -J shows %+v", first)
	}
	if second.Offset != 1 || *second.Key != "key" || second.Payload != nil {
		t.Errorf("kcat -J shows %+v, want a tombstone", second)
	}

	out := kcat(t, n, "", "-C", "-t", "modes", "-p", "1", "-o", "-2", "-c", "1", "-q", "-f", "%t %p %o %s %S %K %h\n")
	if out != "modes 1 1 y 1 -1 \n" {
		t.Errorf("kcat read %q two before the end", out)
	}
	out = kcat(t, n, "", "-C", "-t", "modes", "-p", "1", "-o", "1", "-e", "-f", "%s\n", "-X", "isolation.level=read_committed")
	if out != "y\nz\n" {
		t.Errorf("kcat read %q from offset 1", out)
	}
	kcatMetadata(t, n)
	kcatFiles(t, n)
}

// kcatMetadata asks for what there is, as JSON, and for offsets of several partitions at once.
func kcatMetadata(t *testing.T, n *nodetest.Node) {
	t.Helper()
	type metadata struct {
		Brokers []struct {
			ID   int
			Name string
		}
		Topics []struct {
			Topic      string
			Partitions []struct{ Partition, Leader int }
		}
	}
	all := decode[metadata](t, kcat(t, n, "", "-L", "-J"))
	if len(all.Brokers) != 1 || all.Brokers[0].Name != n.Kafka || len(all.Topics) != 1 || all.Topics[0].Topic != "modes" || len(all.Topics[0].Partitions) != 2 {
		t.Errorf("kcat -L -J shows %+v", all)
	}
	out := kcat(t, n, "", "-Q", "-t", "modes:0:-1", "-t", "modes:1:-2")
	contains(t, "kcat -Q", out, "modes [0] offset 2", "modes [1] offset 0")
}

// kcatFiles sends whole files as messages, and a file line by line.
func kcatFiles(t *testing.T, n *nodetest.Node) {
	t.Helper()
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, []byte(strings.Repeat("0123456789", 80_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	kcat(t, n, "", "-P", "-t", "files", "-p", "0", big)
	kcat(t, n, "", "-P", "-t", "files", "-p", "0", "-l", write(t, "one\ntwo\n"))
	out := kcat(t, n, "", "-C", "-t", "files", "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%o:%S\n")
	if want := fmt.Sprintf("0:%d\n1:3\n2:3\n", 800_000); out != want {
		t.Errorf("kcat read files of the sizes %q, want %q", out, want)
	}
}
