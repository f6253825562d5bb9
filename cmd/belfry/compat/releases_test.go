package compat

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// javaClients gives the releases of kafka-clients that this run covers, ready to run, and the cache they are in.
func javaClients(t *testing.T) (cache string, all []client) {
	t.Helper()
	cache, err := filepath.Abs(cacheRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range allClients(t) {
		if c.driver != "java" || !c.short && !long() {
			continue
		}
		if _, errOut, err := command(t, setupLimit, c.script("setup"), cache, c.version); err != nil {
			t.Fatalf("cannot install %s: %v\n%s", c.id(), err, clip(errOut))
		}
		all = append(all, c)
	}
	return cache, all
}

// TestReleasesReadEachOther: what any release of kafka-clients wrote, in its message format and with
// each codec, any other one reads; only zstd is refused to those that came before it.
func TestReleasesReadEachOther(t *testing.T) {
	cache, all := javaClients(t)
	var output complaints
	n := nodetest.Start(t, nodetest.Options{Output: &output})
	exchange := func(c client, args ...string) []string {
		t.Helper()
		out, errOut, err := command(t, runLimit, c.script("exchange"), append([]string{cache, c.version}, args...)...)
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", c.id(), args, err, clip(errOut))
		}
		return strings.Split(strings.TrimRight(out, "\n"), "\n")
	}
	var writers, topics []string
	for _, c := range all {
		writers = append(writers, c.version)
		for _, line := range exchange(c, "write", n.Kafka) {
			topic, isOK := strings.CutSuffix(line, "\tok\t")
			if topics = append(topics, topic); !isOK {
				t.Errorf("%s writes: %s", c.id(), line)
			}
		}
	}
	if len(topics) < 4*len(all) {
		t.Errorf("only %d topics were written: %q", len(topics), topics)
	}
	for _, c := range all {
		lines := exchange(c, append([]string{"read", n.Kafka}, writers...)...)
		if len(lines) != len(topics) {
			t.Errorf("%s reads %d topics, want %d", c.id(), len(lines), len(topics))
		}
		for _, line := range lines {
			refused := strings.HasPrefix(line, "zstd\t") && slices.Contains(c.none, "produce-zstd")
			if isOK := strings.HasSuffix(line, "\tok\t"); isOK == refused {
				t.Errorf("%s reads: %s", c.id(), line)
			} else if refused {
				t.Logf("%s reads: %s", c.id(), line)
			}
		}
	}
	n.Stop()
	for _, line := range output.all() {
		t.Errorf("the node complained: %s", line)
	}
}

// TestInstanceVersions: a node that offers what an older release of Kafka did serves the clients of that release.
func TestInstanceVersions(t *testing.T) {
	versions := map[string]string{"0.10.0.1": "2.7"} // of the instance, by that of the client
	if long() {
		versions = map[string]string{"0.10.0.1": "2.7", "1.1.1": "1.1.0", "2.3.1": "2.3.0", "2.7.2": "2.7"}
	}
	cache, all := javaClients(t)
	for _, c := range all {
		version, ok := versions[c.version]
		if !ok {
			continue
		}
		t.Run(c.version+" against "+version, func(t *testing.T) {
			var output complaints
			n := nodetest.Start(t, nodetest.Options{Output: &output, Settings: map[string]string{"version": version, "auto.create.topics.enable": "true", "group.initial.rebalance.delay.ms": "0"}})
			out, errOut, err := command(t, runLimit, c.script("run"), cache, c.version, n.Kafka, n.Kafka, "capped-")
			if err != nil {
				t.Errorf("the client program ended with %v\n%s", err, clip(errOut))
			}
			found, err := readResults(out)
			if err != nil {
				t.Error(err)
			}
			for _, wrong := range judge(c, features, found) {
				t.Error(wrong)
			}
			n.Stop()
			for _, line := range output.all() {
				t.Errorf("the node complained: %s", line)
			}
		})
	}
}
