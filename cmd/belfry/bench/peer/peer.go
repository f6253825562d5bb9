// Package peer runs the brokers that are compared as real processes on loopback: Belfry, a broker
// without its agent, the null broker, Apache Kafka, klite and NATS JetStream; Belfry and Kafka as
// clusters of three nodes, too.
//
// It knows how each is configured and started and what the system says of its process; it does
// not know what is measured. Every peer has its own defaults; what is set besides is told by
// Spec.Settings.
//
// Invariant: when Stop has returned, the process has ended and its folder is gone. A process
// ends with the program that started it, however that comes about.
package peer

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Names of the peers as results show them.
const (
	Belfry = "Belfry"
	Kafka  = "Kafka"
	Klite  = "klite"
	NATS   = "NATS"
	Null   = "null broker"
)

// KafkaRelease is the folder of Kafka's jars in the cache.
const KafkaRelease = "kafka-4.3.1"

// NATSRelease is the folder of the NATS server in the cache.
const NATSRelease = "nats-server-v2.15.2"

// Spec is a peer that can be started.
type Spec struct {
	Name     string
	Version  string // exact, as the program itself or its build tells
	Settings string // how it is run, apart from ports and folders

	prepare func(ctx context.Context, dir string, a addresses) ([]string, error) // makes the folder ready, once; gives the command line
	speaks  func(addr string) error                                              // one attempt to get the first answer
}

// addresses are a process's own ports on loopback.
type addresses struct{ client, second, profiles, controller string }

// Setting is one line of a configuration.
type Setting struct{ Name, Value string }

// never is as many messages as turn flushing before answers off.
const never = "9223372036854775807"

// PageCache are the settings of a topic that is answered from the page cache, which is Kafka's default.
func PageCache() map[string]string { return map[string]string{"flush.messages": never} }

// Flushed are the settings of a topic that is flushed to disk before every answer, which is Belfry's default.
func Flushed() map[string]string { return map[string]string{"flush.messages": "1"} }

// deleteDelay is the same for all who have such a setting: what one measurement leaves behind
// must be gone before the next one. The default of all is a minute.
const deleteDelay = "200"

// BelfryNode is a node as a user runs it, with its agent and its metrics.
func BelfryNode(program, version string, more ...Setting) Spec {
	return belfry(program, version, []string{"server"}, more)
}

// BelfryBroker is a node without its agent.
func BelfryBroker(program, version string, more ...Setting) Spec {
	return belfry(program, version, []string{"bench", "broker"}, more)
}

// BelfryProfiled is a node that gives profiles of itself at Process.Profiles, with its agent or without.
func BelfryProfiled(program, version string, agent bool, more ...Setting) Spec {
	command := []string{"bench", "broker"}
	if agent {
		command = append(command, "--agent")
	}
	s := belfry(program, version, command, more)
	prepare := s.prepare
	s.prepare = func(ctx context.Context, dir string, a addresses) ([]string, error) {
		argv, err := prepare(ctx, dir, a)
		return append(argv, "--profiles", a.profiles), err
	}
	return s
}

func belfry(program, version string, command []string, more []Setting) Spec {
	settings := belfrySettings(more)
	return Spec{
		Name: Belfry, Version: version, Settings: "defaults; " + told(settings), speaks: speaksKafka,
		prepare: func(_ context.Context, dir string, a addresses) ([]string, error) {
			file, err := belfryFile(dir, a, settings)
			return append(append([]string{program}, command...), "--config", file), err
		},
	}
}

// belfrySettings are those that differ from the defaults.
// Why so many connections: all of them come from one address here.
func belfrySettings(more []Setting) []Setting {
	return append([]Setting{{"log.segment.delete.delay.ms", deleteDelay}, {"max.connections.per.ip", "20000"}}, more...)
}

func told(settings []Setting) string {
	said := make([]string, len(settings))
	for i, s := range settings {
		said[i] = s.Name + "=" + s.Value
	}
	return strings.Join(said, " ")
}

// belfryFile writes a node's configuration.
func belfryFile(dir string, a addresses, settings []Setting) (file string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners: PLAINTEXT://%s\nlog.dirs: %q\nagent.listen: %q\n", a.client, filepath.Join(dir, "data"), a.second)
	for _, s := range settings {
		fmt.Fprintf(&b, "%s: %q\n", s.Name, s.Value)
	}
	file = filepath.Join(dir, "node.yaml")
	return file, os.WriteFile(file, []byte(b.String()), 0o600)
}

// NullBroker is the broker that stores nothing.
func NullBroker(program, version string, partitions int) Spec {
	return Spec{
		Name: Null, Version: version, Settings: "checks every batch, stores nothing", speaks: speaksKafka,
		prepare: func(_ context.Context, _ string, a addresses) ([]string, error) {
			return []string{program, "bench", "null", "--listen", a.client, "--partitions", fmt.Sprint(partitions)}, nil
		},
	}
}

// kliteDisk is more than what one measurement writes. Why: beyond it klite removes what is oldest,
// without a word to a consumer, which waits for it in vain.
// Source: klite v0.2.0, internal/wal/writer.go, tryCleanupSegmentsLocked.
const kliteDisk = "8589934592"

// KliteBroker is klite, without object storage.
//
// Errors: its program is not there.
func KliteBroker(cache string) (Spec, error) {
	program, version, err := find(cache, "klite")
	if err != nil {
		return Spec{}, err
	}
	return Spec{
		Name: Klite, Version: version, speaks: speaksKafka,
		Settings: "defaults (fsync in windows of 2 ms before the answer), no object storage; wal-max-disk-size=8 GiB: without object storage its messages are gone once they are out of that, of which the default is 1 GiB, and its offsets still begin at 0",
		prepare: func(_ context.Context, dir string, a addresses) ([]string, error) {
			return []string{program, "--listen", a.client, "--data-dir", filepath.Join(dir, "data"), "--log-level", "error", "--wal-max-disk-size", kliteDisk}, nil
		},
	}, nil
}

// NATSServer is NATS with JetStream. flushed: every message is on disk before its answer.
//
// Errors: its program is not there.
func NATSServer(cache string, flushed bool) (Spec, error) {
	program, version, err := find(cache, filepath.Join(NATSRelease, "nats-server"))
	if err != nil {
		return Spec{}, err
	}
	interval, said := "2m", "JetStream, file store, defaults (sync_interval 2m)"
	if flushed {
		interval, said = "always", "JetStream, file store, sync_interval always"
	}
	return Spec{
		Name: NATS, Version: version, Settings: said, speaks: speaksNATS,
		prepare: func(_ context.Context, dir string, a addresses) ([]string, error) {
			file := filepath.Join(dir, "nats.conf")
			text := fmt.Sprintf("listen: %q\njetstream {\n  store_dir: %q\n  sync_interval: %s\n  max_file_store: 100GB\n}\n", a.client, filepath.Join(dir, "data"), interval)
			return []string{program, "-c", file}, os.WriteFile(file, []byte(text), 0o600)
		},
	}, nil
}

// Tool gives a program that is installed beside the peers, and its version.
//
// Errors: it is not there.
func Tool(cache, name string) (program, version string, err error) { return find(cache, name) }

// find looks for a program in the cache, then in PATH; its build tells its version.
func find(cache, name string) (program, version string, err error) {
	program = filepath.Join(cache, "peers", name)
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath(filepath.Base(name)); err != nil {
			return "", "", fmt.Errorf("cannot find %q: put it into PATH or %q", filepath.Base(name), filepath.Join(cache, "peers"))
		}
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", "", fmt.Errorf("cannot tell the version of %q: %w", program, err)
	}
	version = info.Main.Version
	for _, d := range info.Deps {
		if d.Path == natsClient {
			version = d.Path + " " + d.Version // our own program, whose version says nothing
		}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (version == "" || version == "(devel)") {
			version = s.Value[:min(12, len(s.Value))]
		}
	}
	return program, version + " (" + info.GoVersion + ")", nil
}

// natsClient is the module that the bench's client of NATS is made with.
const natsClient = "github.com/nats-io/nats.go"
