package compat

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// tools is one release of Apache Kafka's command-line tools, pointed at a node or at several.
type tools struct {
	t         *testing.T
	release   string
	jars      string
	vm        *jvm
	node      *nodetest.Node   // the first one; nil = another server is asked, see peerVariable
	nodes     []*nodetest.Node // of a cluster; nil = one node
	bootstrap string
}

// replicas is what a topic gets.
func (k tools) replicas() string { return strconv.Itoa(max(len(k.nodes), 1)) }

// broker is the ID of one that there is.
func (k tools) broker() string {
	if len(k.nodes) > 0 {
		return "1"
	}
	return "0"
}

// peerVariable names the environment variable with the address of an Apache Kafka broker to
// run the checks against: a check that it fails asks for more than Apache Kafka gives.
const peerVariable = "BELFRY_COMPAT_PEER"

// toolReleases are the releases whose tools are run, newest last.
var toolReleases = []string{"2.7.2", "3.9.2", "4.3.1"}

// toolCheck is what one of the shell scripts has to do.
type toolCheck struct {
	script string // as in Kafka's bin folder, with what is checked of it
	tool   string // key of toolClasses
	slow   bool   // in the long form only
	run    func(k tools)
	absent string // why a release that has no such class lacks it; shown as a footnote
	note   string // what is to be known though it works; shown as a footnote
}

// toolClasses gives the main classes: in 2.7, in 3.9, in 4.x; "" = the release has no such tool.
var toolClasses = map[string][3]string{
	"acls":                         {"kafka.admin.AclCommand", "kafka.admin.AclCommand", "org.apache.kafka.tools.AclCommand"},
	"broker-api-versions":          {"kafka.admin.BrokerApiVersionsCommand", "kafka.admin.BrokerApiVersionsCommand", "org.apache.kafka.tools.BrokerApiVersionsCommand"},
	"client-metrics":               {"", "org.apache.kafka.tools.ClientMetricsCommand", "org.apache.kafka.tools.ClientMetricsCommand"},
	"cluster":                      {"", "org.apache.kafka.tools.ClusterTool", "org.apache.kafka.tools.ClusterTool"},
	"configs":                      {"kafka.admin.ConfigCommand", "kafka.admin.ConfigCommand", "kafka.admin.ConfigCommand"},
	"console-consumer":             {"kafka.tools.ConsoleConsumer", "org.apache.kafka.tools.consumer.ConsoleConsumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"},
	"console-producer":             {"kafka.tools.ConsoleProducer", "kafka.tools.ConsoleProducer", "org.apache.kafka.tools.ConsoleProducer"},
	"consumer-groups":              {"kafka.admin.ConsumerGroupCommand", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"},
	"consumer-perf-test":           {"kafka.tools.ConsumerPerformance", "org.apache.kafka.tools.ConsumerPerformance", "org.apache.kafka.tools.ConsumerPerformance"},
	"delegation-tokens":            {"kafka.admin.DelegationTokenCommand", "org.apache.kafka.tools.DelegationTokenCommand", "org.apache.kafka.tools.DelegationTokenCommand"},
	"delete-records":               {"kafka.admin.DeleteRecordsCommand", "org.apache.kafka.tools.DeleteRecordsCommand", "org.apache.kafka.tools.DeleteRecordsCommand"},
	"dump-log":                     {"kafka.tools.DumpLogSegments", "kafka.tools.DumpLogSegments", "org.apache.kafka.tools.DumpLogSegments"},
	"e2e-latency":                  {"kafka.tools.EndToEndLatency", "org.apache.kafka.tools.EndToEndLatency", "org.apache.kafka.tools.EndToEndLatency"},
	"features":                     {"kafka.admin.FeatureCommand", "org.apache.kafka.tools.FeatureCommand", "org.apache.kafka.tools.FeatureCommand"},
	"get-offsets":                  {"kafka.tools.GetOffsetShell", "org.apache.kafka.tools.GetOffsetShell", "org.apache.kafka.tools.GetOffsetShell"},
	"groups":                       {"", "", "org.apache.kafka.tools.GroupsCommand"},
	"leader-election":              {"kafka.admin.LeaderElectionCommand", "org.apache.kafka.tools.LeaderElectionCommand", "org.apache.kafka.tools.LeaderElectionCommand"},
	"log-dirs":                     {"kafka.admin.LogDirsCommand", "org.apache.kafka.tools.LogDirsCommand", "org.apache.kafka.tools.LogDirsCommand"},
	"metadata-quorum":              {"", "org.apache.kafka.tools.MetadataQuorumCommand", "org.apache.kafka.tools.MetadataQuorumCommand"},
	"preferred-election":           {"kafka.admin.PreferredReplicaLeaderElectionCommand", "", ""},
	"producer-perf-test":           {"org.apache.kafka.tools.ProducerPerformance", "org.apache.kafka.tools.ProducerPerformance", "org.apache.kafka.tools.ProducerPerformance"},
	"reassign-partitions":          {"kafka.admin.ReassignPartitionsCommand", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"},
	"replica-verification":         {"kafka.tools.ReplicaVerificationTool", "org.apache.kafka.tools.ReplicaVerificationTool", "org.apache.kafka.tools.ReplicaVerificationTool"},
	"share-groups":                 {"", "", "org.apache.kafka.tools.consumer.group.ShareGroupCommand"},
	"streams-groups":               {"", "", "org.apache.kafka.tools.streams.StreamsGroupCommand"},
	"streams-reset":                {"kafka.tools.StreamsResetter", "org.apache.kafka.tools.StreamsResetter", "org.apache.kafka.tools.StreamsResetter"},
	"topics":                       {"kafka.admin.TopicCommand", "org.apache.kafka.tools.TopicCommand", "org.apache.kafka.tools.TopicCommand"},
	"transactional-message-copier": {"org.apache.kafka.tools.TransactionalMessageCopier", "org.apache.kafka.tools.TransactionalMessageCopier", "org.apache.kafka.tools.TransactionalMessageCopier"},
	"transactions":                 {"", "org.apache.kafka.tools.TransactionsCommand", "org.apache.kafka.tools.TransactionsCommand"},
	"verifiable-consumer":          {"org.apache.kafka.tools.VerifiableConsumer", "org.apache.kafka.tools.VerifiableConsumer", "org.apache.kafka.tools.VerifiableConsumer"},
	"verifiable-producer":          {"org.apache.kafka.tools.VerifiableProducer", "org.apache.kafka.tools.VerifiableProducer", "org.apache.kafka.tools.VerifiableProducer"},
}

func toolChecks() []toolCheck {
	const newer = "this release has no such tool"
	return []toolCheck{
		{script: "kafka-topics.sh", tool: "topics", run: tools.topics},
		{script: "kafka-configs.sh (topics)", tool: "configs", run: tools.configsOfTopics},
		{script: "kafka-configs.sh (brokers)", tool: "configs", run: tools.configsOfBrokers, note: "broker-loggers are refused: a node has no log levels by class"},
		{script: "kafka-configs.sh (client quotas)", tool: "configs", run: tools.configsOfClients},
		{script: "kafka-configs.sh (groups)", tool: "groups", run: tools.configsOfGroups, absent: "group settings came with Kafka 4.0"},
		{script: "kafka-configs.sh (client metrics)", tool: "client-metrics", run: tools.configsOfMetrics, absent: "client metrics came with Kafka 3.7"},
		{script: "kafka-client-metrics.sh", tool: "client-metrics", run: tools.clientMetrics, absent: newer},
		{script: "kafka-console-producer.sh, kafka-console-consumer.sh", tool: "console-producer", run: tools.console},
		{script: "kafka-consumer-groups.sh", tool: "consumer-groups", run: tools.consumerGroups},
		{script: "kafka-consumer-groups.sh --reset-offsets", tool: "consumer-groups", run: tools.resetOffsets},
		{script: "kafka-consumer-groups.sh (new protocol, KIP-848)", tool: "groups", run: tools.newProtocol, absent: "the protocol is final since Kafka 4.0"},
		{script: "kafka-groups.sh", tool: "groups", run: tools.groups, absent: newer},
		{script: "kafka-share-groups.sh --list", tool: "share-groups", run: tools.shareGroups, absent: newer, note: "there are none; --describe is refused"},
		{script: "kafka-streams-groups.sh --list", tool: "streams-groups", run: tools.streamsGroups, absent: newer, note: "there are none; --describe is refused"},
		{script: "kafka-get-offsets.sh", tool: "get-offsets", run: tools.offsets},
		{script: "kafka-delete-records.sh", tool: "delete-records", run: tools.deleteRecords},
		{script: "kafka-log-dirs.sh", tool: "log-dirs", run: tools.logDirs},
		{script: "kafka-producer-perf-test.sh, kafka-consumer-perf-test.sh", tool: "producer-perf-test", slow: true, run: tools.perf},
		{script: "kafka-e2e-latency.sh", tool: "e2e-latency", slow: true, run: tools.endToEnd},
		{script: "kafka-verifiable-producer.sh, kafka-verifiable-consumer.sh", tool: "verifiable-producer", slow: true, run: tools.verifiable},
		{script: "kafka-replica-verification.sh", tool: "replica-verification", slow: true, run: tools.replicaVerification},
		{script: "kafka-reassign-partitions.sh", tool: "reassign-partitions", run: tools.reassign},
		{script: "kafka-reassign-partitions.sh (log_dirs)", tool: "reassign-partitions", slow: true, run: tools.moveDirs},
		{script: "kafka-leader-election.sh", tool: "leader-election", run: tools.leaderElection},
		{script: "kafka-preferred-replica-election.sh", tool: "preferred-election", run: tools.preferredElection, absent: "replaced by kafka-leader-election.sh"},
		{script: "kafka-broker-api-versions.sh", tool: "broker-api-versions", run: tools.apiVersions},
		{script: "kafka-features.sh", tool: "features", run: tools.features},
		{script: "kafka-metadata-quorum.sh", tool: "metadata-quorum", run: tools.quorum, absent: newer},
		{script: "kafka-cluster.sh", tool: "cluster", run: tools.cluster, absent: newer},
		{script: "kafka-transactions.sh", tool: "transactions", run: tools.transactions, absent: newer, note: "list, describe, describe-producers, find-hanging, abort"},
		{script: "TransactionalMessageCopier", tool: "transactional-message-copier", slow: true, run: tools.copier},
		{script: "kafka-acls.sh", tool: "acls", run: tools.acls, note: "refused (SecurityDisabledException), as by Apache Kafka without an authorizer"},
		{script: "kafka-delegation-tokens.sh", tool: "delegation-tokens", run: tools.delegationTokens, note: "refused: a node has no such API; Apache Kafka refuses them too where nobody has logged in"},
		{script: "kafka-streams-application-reset.sh", tool: "streams-reset", run: tools.streamsReset},
		{script: "kafka-dump-log.sh", tool: "dump-log", run: tools.dumpLog}, // last: it stops the node
	}
}

// TestKafkaTools runs the tools of each release against one node a release. The long form
// writes its results into the compatibility page.
func TestKafkaTools(t *testing.T) {
	for _, release := range toolReleases {
		if !long() && release == "3.9.2" {
			continue
		}
		t.Run(release, func(t *testing.T) {
			k := startTools(t, release)
			for _, c := range toolChecks() {
				if !long() && c.slow {
					continue
				}
				k.check(t, oneNodeResults, c)
			}
		})
	}
}

// check runs one check as a test of its own and keeps its result.
func (k tools) check(t *testing.T, results string, c toolCheck) {
	if k.class(c.tool) == "" {
		saveTool(t, results, k.release, c.script, "–", c.absent)
		return
	}
	t.Run(c.script, func(t *testing.T) {
		keepTool(t, results, k.release, c.script, c.note)
		k.t = t
		c.run(k)
	})
}

func startTools(t *testing.T, release string) tools {
	k := tools{t: t, release: release, jars: cached(t, "kafka-"+release), bootstrap: os.Getenv(peerVariable)}
	if k.bootstrap == "" {
		k.node = nodetest.Start(t, nodetest.Options{Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
		k.bootstrap = k.node.Kafka
	}
	k.vm = startJVM(t, k.jars)
	return k
}

// class gives the main class of a tool in this release.
func (k tools) class(tool string) string {
	classes, ok := toolClasses[tool]
	if !ok {
		panic("BUG: no tool " + tool)
	}
	switch k.release[0] {
	case '2':
		return classes[0]
	case '3':
		return classes[1]
	}
	return classes[2]
}

// since tells whether the release is of that major version or newer.
func (k tools) since(major byte) bool { return k.release[0] >= major }

// name makes the name of a topic or group that no other check and no other release uses.
func (k tools) name(what string) string {
	name := what + "-" + strings.ReplaceAll(k.release, ".", "")
	if k.node == nil {
		name += fmt.Sprint("-", os.Getpid()) // another server keeps what an earlier run has left there
	}
	return name
}

// input starts one tool with text on its standard input.
func (k tools) input(stdin, tool string, args ...string) *call {
	k.t.Helper()
	return k.vm.start(k.t, stdin, k.class(tool), args...)
}

// run starts one tool with --bootstrap-server.
func (k tools) run(tool string, args ...string) *call {
	k.t.Helper()
	return k.input("", tool, append([]string{"--bootstrap-server", k.bootstrap}, args...)...)
}

// process runs one tool in a machine of its own: for those that end by other means than
// Kafka's Exit class.
func (k tools) process(tool string, args ...string) string {
	k.t.Helper()
	all := append(append([]string{}, javaFlags...), "-cp", filepath.Join(k.jars, "*"), k.class(tool))
	return must(k.t, "", "java", append(all, args...)...)
}

// until runs one tool in a machine of its own until it has printed a text, then kills it.
func (k tools) until(text, tool string, args ...string) (out string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), toolLimit)
	defer cancel()
	all := append(append([]string{}, javaFlags...), "-cp", filepath.Join(k.jars, "*"), k.class(tool))
	cmd := exec.CommandContext(ctx, "java", append(all, args...)...)
	cmd.Stderr = os.Stderr
	lines, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed on purpose
	}()
	for s := bufio.NewScanner(lines); s.Scan(); {
		out += s.Text() + "\n"
		if strings.Contains(s.Text(), text) {
			return out
		}
	}
	k.t.Fatalf("%s did not print %q:\n%s", tool, text, clip(out))
	return ""
}

// create makes a topic.
func (k tools) create(topic string, partitions int, args ...string) {
	k.t.Helper()
	all := append([]string{"--create", "--topic", topic, "--partitions", fmt.Sprint(partitions), "--replication-factor", k.replicas()}, args...)
	contains(k.t, "topics --create", k.run("topics", all...).succeeds(k.t), "Created topic "+topic+".")
	k.settled(topic) // all brokers know it: a producer that is told otherwise complains before it tries again
}

// produce sends lines with the console producer.
func (k tools) produce(topic string, lines []string, args ...string) {
	k.t.Helper()
	all := append([]string{"--bootstrap-server", k.bootstrap, "--topic", topic, "--request-required-acks", "all"}, args...)
	c := k.input(strings.Join(lines, "\n")+"\n", "console-producer", all...)
	c.succeeds(k.t)
	if regexp.MustCompile(`ERROR|Exception`).MatchString(c.all()) { // it ends with 0 whatever becomes of the messages
		k.t.Fatalf("%s:\n%s", c.what, clip(c.all()))
	}
}

// numbered gives n lines.
func numbered(prefix string, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return lines
}

// lacks fails the test if one of the texts is part of the output.
func lacks(t *testing.T, what, out string, texts ...string) {
	t.Helper()
	for _, bad := range texts {
		if strings.Contains(out, bad) {
			t.Errorf("%s: there is a %q in\n%s", what, bad, clip(out))
		}
	}
}
