package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// tools is one release of Apache Kafka's command-line tools.
type tools struct {
	t         *testing.T
	jars      string
	bootstrap string
	class     map[string]string // by the name of the shell script
	old       bool              // before 4.0
}

func kafkaTools(t *testing.T, release, bootstrap string) tools {
	k := tools{t: t, jars: cached(t, "kafka-"+release), bootstrap: bootstrap, old: release[0] < '4'}
	if k.old {
		k.class = map[string]string{
			"topics": "kafka.admin.TopicCommand", "console-producer": "kafka.tools.ConsoleProducer",
			"console-consumer": "kafka.tools.ConsoleConsumer", "consumer-groups": "kafka.admin.ConsumerGroupCommand",
			"configs": "kafka.admin.ConfigCommand", "delete-records": "kafka.admin.DeleteRecordsCommand",
			"get-offsets": "kafka.tools.GetOffsetShell", "log-dirs": "kafka.admin.LogDirsCommand", "dump-log": "kafka.tools.DumpLogSegments",
		}
		return k
	}
	k.class = map[string]string{
		"topics": "org.apache.kafka.tools.TopicCommand", "console-producer": "org.apache.kafka.tools.ConsoleProducer",
		"console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer", "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
		"configs": "kafka.admin.ConfigCommand", "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
		"get-offsets": "org.apache.kafka.tools.GetOffsetShell", "log-dirs": "org.apache.kafka.tools.LogDirsCommand", "dump-log": "org.apache.kafka.tools.DumpLogSegments",
	}
	return k
}

func (k tools) args(tool string, args []string) []string {
	return append([]string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dlog4j2.level=WARN", "-cp", filepath.Join(k.jars, "*"), k.class[tool]}, args...)
}

// option gives the name that an option has in this release.
func (k tools) option(old, now string) string {
	if k.old {
		return old
	}
	return now
}

// run is one tool with the bootstrap server that has to succeed.
func (k tools) run(stdin, tool string, args ...string) string {
	k.t.Helper()
	return must(k.t, stdin, "java", k.args(tool, append([]string{"--bootstrap-server", k.bootstrap}, args...))...)
}

func TestKafkaTools(t *testing.T) {
	for _, release := range []string{"2.7.2", "4.3.1"} {
		t.Run(release, func(t *testing.T) {
			n := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
			k := kafkaTools(t, release, n.Kafka)
			topic := "tools"
			k.topics(topic)
			lines := k.produceAndConsume(n, topic)
			k.groups(topic, lines)
			k.configs(topic)
			k.records(topic, lines)
			k.dirsAndDump(n, topic)
			k.run("", "topics", "--delete", "--topic", topic)
			if out := k.run("", "topics", "--list"); strings.Contains(out, topic+"\n") {
				t.Errorf("topic %s is still listed after its deletion:\n%s", topic, out)
			}
		})
	}
}

func (k tools) topics(topic string) {
	k.t.Helper()
	k.run("", "topics", "--create", "--topic", topic, "--partitions", "2", "--replication-factor", "1", "--config", "retention.ms=7200000")
	contains(k.t, "topics --list", k.run("", "topics", "--list"), topic)
	k.run("", "topics", "--alter", "--topic", topic, "--partitions", "3")
	out := k.run("", "topics", "--describe", "--topic", topic)
	contains(k.t, "topics --describe", out, "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=7200000", "Partition: 2\tLeader: 0\tReplicas: 0\tIsr: 0")
	_, errOut, err := program(k.t, "", "java", k.args("topics", []string{"--bootstrap-server", k.bootstrap, "--create", "--topic", topic})...)
	if err == nil {
		k.t.Errorf("creating topic %s twice succeeded", topic)
	}
	_ = errOut // where the tools print the reason differs between releases
}

// produceAndConsume sends lines with every codec and reads them back in a group; the node is
// killed and restarted in between.
func (k tools) produceAndConsume(n *nodetest.Node, topic string) []string {
	k.t.Helper()
	var all []string
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var lines []string
		for i := range 20 {
			lines = append(lines, fmt.Sprintf("%s-%d:value %s %d", codec, i, codec, i))
		}
		property := k.option("--property", "--reader-property")
		k.run(strings.Join(lines, "\n")+"\n", "console-producer", "--topic", topic, "--compression-codec", codec, property, "parse.key=true", property, "key.separator=:", "--request-required-acks", "all")
		all = append(all, lines...)
	}
	n.Kill()
	n.Restart()
	property := k.option("--property", "--formatter-property")
	out := k.run("", "console-consumer", "--topic", topic, "--group", "readers", "--from-beginning", "--max-messages", fmt.Sprint(len(all)), "--timeout-ms", "60000", property, "print.key=true", property, "key.separator=:")
	got := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(got)
	want := slices.Sorted(slices.Values(all))
	if !slices.Equal(got, want) {
		k.t.Errorf("console-consumer gave %d lines, want the %d that were produced:\n%s", len(got), len(want), clip(out))
	}
	return all
}

func (k tools) groups(topic string, lines []string) {
	k.t.Helper()
	contains(k.t, "consumer-groups --list", k.run("", "consumer-groups", "--list"), "readers")
	describe := k.run("", "consumer-groups", "--describe", "--group", "readers")
	if lag := lags(describe, topic); len(lag) != 3 || sum(lag) != 0 {
		k.t.Errorf("lag after reading all is %v, want three zeros:\n%s", lag, describe)
	}
	contains(k.t, "consumer-groups --state", k.run("", "consumer-groups", "--describe", "--group", "readers", "--state"), "Empty")
	k.run("", "consumer-groups", "--group", "readers", "--topic", topic, "--reset-offsets", "--to-earliest", "--execute")
	describe = k.run("", "consumer-groups", "--describe", "--group", "readers")
	if lag := lags(describe, topic); sum(lag) != len(lines) {
		k.t.Errorf("lag after a reset to the beginning is %v, want %d in all:\n%s", lag, len(lines), describe)
	}
	future := time.Now().Add(-time.Hour).Format("2006-01-02T15:04:05.000")
	contains(k.t, "reset to a time", k.run("", "consumer-groups", "--group", "readers", "--topic", topic, "--reset-offsets", "--to-datetime", future, "--dry-run"), topic)
	k.run("", "consumer-groups", "--group", "readers", "--topic", topic, "--delete-offsets")
	k.run("", "consumer-groups", "--delete", "--group", "readers")
	if out := k.run("", "consumer-groups", "--list"); strings.Contains(out, "readers") {
		k.t.Errorf("group readers is still listed after its deletion:\n%s", out)
	}
}

// lags reads the LAG column of `consumer-groups --describe` for one topic.
func lags(out, topic string) []int {
	var found []int
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == topic {
			n := 0
			if _, err := fmt.Sscan(f[5], &n); err == nil {
				found = append(found, n)
			}
		}
	}
	return found
}

func sum(ns []int) int {
	total := 0
	for _, n := range ns {
		total += n
	}
	return total
}

func (k tools) configs(topic string) {
	k.t.Helper()
	k.run("", "configs", "--entity-type", "topics", "--entity-name", topic, "--alter", "--add-config", "segment.bytes=1048576,max.message.bytes=2000000")
	out := k.run("", "configs", "--entity-type", "topics", "--entity-name", topic, "--describe")
	contains(k.t, "configs of a topic", out, "segment.bytes=1048576", "max.message.bytes=2000000", "DYNAMIC_TOPIC_CONFIG")
	k.run("", "configs", "--entity-type", "topics", "--entity-name", topic, "--alter", "--delete-config", "max.message.bytes")
	if out := k.run("", "configs", "--entity-type", "topics", "--entity-name", topic, "--describe"); strings.Contains(out, "max.message.bytes=2000000") {
		k.t.Errorf("max.message.bytes is still set after its removal:\n%s", out)
	}
	out = k.run("", "configs", "--entity-type", "brokers", "--entity-name", "0", "--describe", "--all")
	contains(k.t, "configs of a broker", out, "log.retention.hours=72", "DEFAULT_CONFIG")
	k.run("", "configs", "--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "max.connections.per.ip=500")
	contains(k.t, "dynamic broker setting", k.run("", "configs", "--entity-type", "brokers", "--entity-default", "--describe"), "max.connections.per.ip=500")
}

func (k tools) offsets(topic, time string) int {
	k.t.Helper()
	args := []string{"--bootstrap-server", k.bootstrap, "--topic", topic, "--time", time}
	if k.old {
		args[0] = "--broker-list"
	}
	out := must(k.t, "", "java", k.args("get-offsets", args)...)
	total := 0
	for line := range strings.Lines(out) {
		parts := strings.Split(strings.TrimSpace(line), ":")
		n := 0
		if len(parts) == 3 && parts[0] == topic {
			if _, err := fmt.Sscan(parts[2], &n); err != nil {
				k.t.Fatalf("get-offsets printed %q", line)
			}
			total += n
		}
	}
	return total
}

func (k tools) records(topic string, lines []string) {
	k.t.Helper()
	if got := k.offsets(topic, "-1"); got != len(lines) {
		k.t.Errorf("the ends sum up to %d, want %d", got, len(lines))
	}
	if got := k.offsets(topic, "-2"); got != 0 {
		k.t.Errorf("the starts sum up to %d, want 0", got)
	}
	file := write(k.t, fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"offset":3},{"topic":%q,"partition":1,"offset":-1}]}`, topic, topic))
	out := k.run("", "delete-records", "--offset-json-file", file)
	contains(k.t, "delete-records", out, "low_watermark: 3")
	if got := k.offsets(topic, "-2"); got <= 3 {
		k.t.Errorf("the starts sum up to %d after deleting, want more than 3", got)
	}
}

func (k tools) dirsAndDump(n *nodetest.Node, topic string) {
	k.t.Helper()
	contains(k.t, "log-dirs", k.run("", "log-dirs", "--describe", "--topic-list", topic), `"partition":"`+topic+`-2"`, `"error":null`)
	n.Stop() // Why: closed segments end where their last batch ends
	logs, err := filepath.Glob(filepath.Join(n.Dir, "data", "*", "*.log"))
	nested, err2 := filepath.Glob(filepath.Join(n.Dir, "data", "*", "*", "*.log"))
	logs = append(logs, nested...)
	if err != nil || err2 != nil || len(logs) == 0 {
		k.t.Fatalf("no segments found below %s: %v %v", n.Dir, err, err2)
	}
	dumped, indexes := "", 0
	for _, log := range logs {
		files := log
		for _, index := range []string{".index", ".timeindex"} { // a log that holds nothing has none
			path := strings.TrimSuffix(log, ".log") + index
			if _, err := os.Stat(path); err == nil {
				files += "," + path
			}
		}
		out := must(k.t, "", "java", k.args("dump-log", []string{"--files", files, "--print-data-log"})...)
		indexes += strings.Count(files, ",")
		if bad := regexp.MustCompile(`isvalid: false|isValid: false|Found timestamp mismatch|Mismatches in|corrupt`).FindString(out); bad != "" {
			k.t.Errorf("dump-log of %s: %s\n%s", log, bad, clip(out))
		}
		dumped += out
	}
	if indexes == 0 {
		k.t.Error("no index was there to be checked")
	}
	contains(k.t, "dump-log", dumped, "payload: value zstd", "key: gzip-1")
	n.Restart()
}
