package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// heap and tuning are what kafka-server-start.sh and kafka-run-class.sh give the JVM.
// Source: Apache Kafka 4.3.1, bin/kafka-server-start.sh, bin/kafka-run-class.sh.
var (
	heap   = []string{"-Xmx1G", "-Xms1G"}
	tuning = []string{"-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"}
)

// kafkaLogger is the jar with which a Kafka says why it ends; its own modules have none.
const kafkaLogger = "kafka-2.7.2/slf4j-simple-1.7.30.jar"

// kafkaCluster is any UUID in Kafka's notation.
const kafkaCluster = "4L6g3nShT-eMCtK--X86sw"

// KafkaNode is Apache Kafka on one node, broker and controller in one process, with the JVM's
// settings of its start script and its own defaults.
//
// Errors: its jars or Java are not there.
func KafkaNode(ctx context.Context, cache string) (Spec, error) {
	java, err := newJava(ctx, cache)
	if err != nil {
		return Spec{}, err
	}
	return Spec{
		Name: Kafka, Version: java.release(),
		Settings: "KRaft combined mode, defaults; log.segment.delete.delay.ms=" + deleteDelay + "; " + jvm(),
		prepare:  java.prepare, speaks: speaksKafka,
	}, nil
}

// java runs Kafka's classes.
type java struct {
	version   string
	classPath string
}

func newJava(ctx context.Context, cache string) (*java, error) {
	jars := filepath.Join(cache, KafkaRelease)
	if _, err := os.Stat(jars); err != nil {
		return nil, fmt.Errorf("cannot find Kafka's jars: %w; `make bench` installs them", err)
	}
	out, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("cannot run Java: %w; `make bench` installs it", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	paths := filepath.Join(jars, "*")
	if logger := filepath.Join(cache, kafkaLogger); exists(logger) {
		paths += ":" + logger
	}
	return &java{version: strings.TrimSpace(lines[min(1, len(lines)-1)]), classPath: paths}, nil
}

func (j *java) release() string {
	return strings.TrimPrefix(KafkaRelease, "kafka-") + " (" + j.version + ")"
}

// jvm tells its settings.
func jvm() string { return "JVM " + strings.Join(append(heap[:len(heap):len(heap)], tuning...), " ") }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (j *java) command(jvm []string, class string, args ...string) []string {
	all := append([]string{"java"}, jvm...)
	all = append(all, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", j.classPath, class)
	return append(all, args...)
}

func (j *java) prepare(ctx context.Context, dir string, a addresses) ([]string, error) {
	// Why these factors: the defaults want three brokers; Kafka's own server.properties sets them, too.
	text := kafkaProperties(1, dir, a, []string{a.controller}) + `offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
`
	return j.format(ctx, dir, text, "--standalone")
}

// kafkaProperties are those that every node needs, and the one setting that differs from the defaults.
func kafkaProperties(id int, dir string, a addresses, controllers []string) string {
	return fmt.Sprintf(`process.roles=broker,controller
node.id=%[5]d
controller.quorum.bootstrap.servers=%[6]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=%[3]s
log.segment.delete.delay.ms=%[4]s
`, a.client, a.controller, filepath.Join(dir, "data"), deleteDelay, id, strings.Join(controllers, ","))
}

// format makes a node's folder ready; quorum says who forms the first quorum.
func (j *java) format(ctx context.Context, dir, properties string, quorum ...string) ([]string, error) {
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(properties), 0o600); err != nil {
		return nil, err
	}
	format := j.command([]string{"-Xmx256m", "-XX:TieredStopAtLevel=1"}, "kafka.tools.StorageTool", append([]string{"format", "-t", kafkaCluster, "-c", file}, quorum...)...)
	if out, err := exec.CommandContext(ctx, format[0], format[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot format Kafka's storage: %w\n%s", err, out)
	}
	return j.command(append(heap[:len(heap):len(heap)], tuning...), "kafka.Kafka", file), nil
}

// KafkaTool runs a class of Kafka's tools, with the heap of its start scripts, and gives what it printed.
//
// Errors: it ends with an error, or ctx; they carry what it printed.
func KafkaTool(ctx context.Context, cache, class string, args ...string) (string, error) {
	j, err := newJava(ctx, cache)
	if err != nil {
		return "", err
	}
	// Source: bin/kafka-producer-perf-test.sh, bin/kafka-consumer-perf-test.sh.
	argv := j.command(append([]string{"-Xmx512M"}, tuning...), class, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = ownGroup()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot run %s: %w\n%s", class, err, out)
	}
	return string(out), nil
}
