package compat

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// checksOfThree are what the tools have to do with three brokers: what several brokers change has checks
// of its own, the rest are those of one node.
func checksOfThree() []toolCheck {
	const newer = "this release has no such tool"
	return []toolCheck{
		{script: "kafka-topics.sh, a broker down", tool: "topics", run: tools.topicsOfThree},
		{script: "kafka-configs.sh (topics)", tool: "configs", slow: true, run: tools.configsOfTopics},
		{script: "kafka-configs.sh (brokers)", tool: "configs", slow: true, run: tools.configsOfBrokers},
		{script: "kafka-console-producer.sh, kafka-console-consumer.sh", tool: "console-producer", slow: true, run: tools.console},
		{script: "kafka-consumer-groups.sh", tool: "consumer-groups", slow: true, run: tools.consumerGroups},
		{script: "kafka-consumer-groups.sh, the coordinator dies", tool: "consumer-groups", run: tools.coordinatorDies},
		{script: "kafka-consumer-groups.sh --reset-offsets", tool: "consumer-groups", slow: true, run: tools.resetOffsets},
		{script: "kafka-consumer-groups.sh (new protocol, KIP-848)", tool: "groups", slow: true, run: tools.newProtocol, absent: "the protocol is final since Kafka 4.0"},
		{script: "kafka-groups.sh", tool: "groups", slow: true, run: tools.groups, absent: newer},
		{script: "kafka-get-offsets.sh", tool: "get-offsets", slow: true, run: tools.offsets},
		{script: "kafka-delete-records.sh", tool: "delete-records", slow: true, run: tools.deleteRecords},
		{script: "kafka-log-dirs.sh", tool: "log-dirs", run: tools.logDirsOfThree},
		{script: "kafka-producer-perf-test.sh, kafka-consumer-perf-test.sh", tool: "producer-perf-test", slow: true, run: tools.perf},
		{script: "kafka-e2e-latency.sh", tool: "e2e-latency", slow: true, run: tools.endToEnd},
		{script: "kafka-verifiable-producer.sh, kafka-verifiable-consumer.sh, the leader dies", tool: "verifiable-producer", slow: true, run: tools.verifiableOfThree},
		{script: "kafka-replica-verification.sh", tool: "replica-verification", slow: true, run: tools.replicaVerification},
		{script: "kafka-reassign-partitions.sh: generate, execute, verify, list, cancel", tool: "reassign-partitions", run: tools.reassignOfThree},
		{script: "kafka-leader-election.sh: preferred", tool: "leader-election", run: tools.preferredOfThree},
		{script: "kafka-leader-election.sh: unclean", tool: "leader-election", slow: true, run: tools.uncleanOfThree},
		{script: "kafka-preferred-replica-election.sh", tool: "preferred-election", slow: true, run: tools.preferredElection, absent: "replaced by kafka-leader-election.sh"},
		{script: "kafka-broker-api-versions.sh", tool: "broker-api-versions", run: tools.apiVersions},
		{script: "kafka-features.sh", tool: "features", run: tools.features},
		{script: "kafka-metadata-quorum.sh: describe, the leader dies", tool: "metadata-quorum", run: tools.quorumOfThree, absent: newer},
		{script: "kafka-metadata-quorum.sh: add-controller, remove-controller", tool: "metadata-quorum", slow: true, run: tools.voters, absent: newer},
		{script: "kafka-cluster.sh", tool: "cluster", slow: true, run: tools.clusterOfThree, absent: newer},
		{script: "kafka-transactions.sh", tool: "transactions", run: tools.transactions, absent: newer, note: "list, describe, describe-producers, find-hanging, abort"},
		{script: "TransactionalMessageCopier, the coordinator and leader die", tool: "transactional-message-copier", run: tools.copierOfThree},
		{script: "kafka-streams-application-reset.sh", tool: "streams-reset", slow: true, run: tools.streamsReset},
		{script: "kafka-dump-log.sh", tool: "dump-log", slow: true, run: tools.dumpLog},
		{script: "kafka-dump-log.sh: the replicas are the same", tool: "dump-log", slow: true, run: tools.sameReplicas}, // last: it stops all nodes
	}
}

// TestKafkaToolsOnThreeBrokers runs the tools of each release against one cluster of three real processes
// a release; the short form runs the most telling ones of the newest.
func TestKafkaToolsOnThreeBrokers(t *testing.T) {
	for _, release := range toolReleases {
		if !long() && release != toolReleases[len(toolReleases)-1] {
			continue
		}
		t.Run(release, func(t *testing.T) {
			var output complaints
			settings := replicated()
			settings["group.initial.rebalance.delay.ms"] = "0"
			k := tools{t: t, release: release, jars: cached(t, "kafka-"+release)}
			k.nodes = nodetest.StartCluster(t, 3, nodetest.Options{Output: &output, Settings: settings})
			k.node, k.bootstrap = k.nodes[0], seeds(k.nodes)
			k.vm = startJVM(t, k.jars)
			for _, c := range checksOfThree() {
				if long() || !c.slow {
					k.check(t, threeNodesResults, c)
				}
			}
			for _, line := range output.all() {
				t.Errorf("a node complained: %s", line)
			}
		})
	}
}

// settled waits until all replicas of a topic are in sync.
func (k tools) settled(topic string) {
	k.t.Helper()
	if k.nodes == nil {
		return
	}
	if err := errors.Join(known(k.t.Context(), k.nodes, topic), inSync(k.t.Context(), k.nodes, topic, len(k.nodes))); err != nil {
		k.t.Fatal(err)
	}
}

// without runs something while a node is dead, ended as by a power cut, and has all replicas of a topic in sync after.
func (k tools) without(id int32, topic string, run func()) {
	k.t.Helper()
	n := k.nodes[id-1]
	n.Kill()
	defer func() {
		n.Restart()
		found, err := partitions(k.t.Context(), k.nodes, topic)
		if err == nil && len(found) > 0 {
			err = inSync(k.t.Context(), k.nodes, topic, len(found[0].Replicas))
		}
		if err != nil {
			k.t.Error(err)
		}
	}()
	run()
}

// leads waits until partition 0 of a topic is led by one of the nodes that want holds of, and gives it.
func (k tools) leads(topic string, want func(id int32) bool) (leader int32) {
	k.t.Helper()
	eventually(k.t, "another leader of "+topic, func() bool {
		found, err := partitions(k.t.Context(), k.nodes, topic)
		leader = found[0].Leader
		return err == nil && len(found) > 0 && want(leader)
	})
	return leader
}

// is makes a condition of an ID.
func is(want int32) func(int32) bool { return func(id int32) bool { return id == want } }

// isNot makes the opposite one; no leader is none.
func isNot(bad int32) func(int32) bool { return func(id int32) bool { return id >= 0 && id != bad } }

// coordinator gives the ID of the broker that coordinates a group.
func (k tools) coordinator(group string) string {
	k.t.Helper()
	if k.nodes == nil {
		return k.broker()
	}
	return strconv.Itoa(int(coordinatorOf(k.t, k.nodes, group, false)))
}

// topicsOfThree describes a topic whose partitions are led by all, with all brokers and with two.
func (k tools) topicsOfThree() {
	t, topic, placed := k.t, k.name("spread-out"), k.name("placed")
	k.create(topic, 3, "--config", "retention.ms=7200000")
	k.settled(topic)
	out := k.run("topics", "--describe", "--topic", topic).succeeds(t)
	contains(t, "topics --describe", out, "PartitionCount: 3", "ReplicationFactor: 3", "retention.ms=7200000")
	leaders := map[string]bool{}
	for _, p := range partitionLines(out) {
		leaders[p["Leader"]] = true
		for _, set := range []string{"Replicas", "Isr"} {
			ids := strings.Split(p[set], ",")
			slices.Sort(ids)
			if !slices.Equal(ids, []string{"1", "2", "3"}) {
				t.Errorf("partition %s has %s %s, want all three brokers", p["Partition"], set, p[set])
			}
		}
	}
	if len(leaders) != 3 {
		t.Errorf("the partitions are led by %v, want each broker to lead one", leaders)
	}
	k.run("topics", "--create", "--topic", k.name("four"), "--partitions", "1", "--replication-factor", "4").refused(t, "InvalidReplicationFactorException")
	k.run("topics", "--create", "--topic", placed, "--replica-assignment", "2:3:1,3:1:2").succeeds(t)
	k.settled(placed)
	out = k.run("topics", "--describe", "--topic", placed).succeeds(t)
	contains(t, "topics --describe", out, "Partition: 0\tLeader: 2\tReplicas: 2,3,1\t", "Partition: 1\tLeader: 3\tReplicas: 3,1,2\t")
	k.run("topics", "--alter", "--topic", placed, "--partitions", "3", "--replica-assignment", "1:2:3,2:3:1,3:2:1").prints(t)

	problem := func(kind string) string { return k.run("topics", "--describe", kind).succeeds(t) }
	lacks(t, "with all brokers", problem("--under-replicated-partitions"), "Topic: "+topic)
	k.without(3, topic, func() {
		k.leads(placed, is(2))
		eventually(t, "partitions are shown as under-replicated", func() bool {
			return strings.Count(problem("--under-replicated-partitions"), "Topic: "+topic+"\t") == 3
		})
		if n := strings.Count(problem("--at-min-isr-partitions"), "Topic: "+topic+"\t"); n != 3 {
			t.Errorf("%d partitions are shown at min.insync.replicas, want 3", n)
		}
		lacks(t, "under min.insync.replicas", problem("--under-min-isr-partitions"), "Topic: "+topic)
		lacks(t, "unavailable", problem("--unavailable-partitions"), "Topic: "+topic)
		k.produce(topic, numbered("two are enough ", 30))
		k.run("topics", "--delete", "--topic", placed).succeeds(t)
	})
	sameLines(k, "after the return", k.consume("--topic", topic, "--from-beginning", "--max-messages", "30", "--timeout-ms", "60000"), numbered("two are enough ", 30))
	lacks(t, "with all brokers again", problem("--under-replicated-partitions"), "Topic: "+topic)
	lacks(t, "topics --list", k.run("topics", "--list").succeeds(t), placed)
}

// partitionLines reads the lines of kafka-topics.sh --describe, by what they name.
func partitionLines(out string) []map[string]string {
	var all []map[string]string
	for line := range strings.Lines(out) {
		p := map[string]string{}
		for _, field := range strings.Split(strings.TrimSpace(line), "\t") {
			if name, value, ok := strings.Cut(field, ": "); ok {
				p[name] = strings.TrimSpace(value)
			}
		}
		if p["Partition"] != "" {
			all = append(all, p)
		}
	}
	return all
}

// coordinatorDies: a group goes on with another coordinator, which knows what was committed.
func (k tools) coordinatorDies() {
	t, topic, group := k.t, k.name("orphaned"), k.name("orphans")
	k.create(topic, 2)
	member := k.run("console-consumer", "--topic", topic, "--group", group, "--from-beginning", "--timeout-ms", "120000",
		consumerProperty(k), "auto.commit.interval.ms=200")
	lines := func(out string) []string { return strings.Split(strings.TrimSpace(out), "\n") }
	k.produce(topic, numbered("before ", 20))
	for _, line := range numbered("before ", 20) {
		member.awaits(t, line+"\n")
	}
	first := coordinatorOf(t, k.nodes, group, false)
	state := strings.Fields(lastLine(k.group(group, "--describe", "--state").succeeds(t)))
	if !slices.Contains(state, "("+strconv.Itoa(int(first))+")") {
		t.Errorf("--state shows %q, want the coordinator %d", state, first)
	}
	eventually(t, "all is committed", func() bool {
		lag := column(k.group(group, "--describe").succeeds(t), "LAG", group, topic)
		return maps.Equal(lag, map[string]string{"0": "0", "1": "0"})
	})
	k.without(first, topic, func() {
		k.produce(topic, numbered("without ", 20))
		for _, line := range numbered("without ", 20) {
			member.awaits(t, line+"\n")
		}
		eventually(t, "another coordinator", func() bool { return coordinatorOf(t, k.nodes, group, false) != first })
		contains(t, "consumer-groups --list", k.run("consumer-groups", "--list").succeeds(t), group+"\n")
	})
	k.produce(topic, numbered("after ", 20))
	for _, line := range numbered("after ", 20) {
		member.awaits(t, line+"\n")
	}
	member.stop(t)
	want := slices.Concat(numbered("after ", 20), numbered("before ", 20), numbered("without ", 20))
	got := slices.DeleteFunc(lines(member.out.String()), func(line string) bool { return strings.HasPrefix(line, "Processed") })
	slices.Sort(got)
	slices.Sort(want)
	if got := slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("the member read %d different lines, want %d", len(got), len(want))
	}
	describe := k.group(group, "--describe").succeeds(t)
	if lag := column(describe, "LAG", group, topic); !maps.Equal(lag, map[string]string{"0": "0", "1": "0"}) {
		t.Errorf("the lag after reading all is %v:\n%s", lag, describe)
	}
}

// consumerProperty is the option of the console consumer for a setting.
func consumerProperty(k tools) string {
	if k.since('4') {
		return "--command-property"
	}
	return "--consumer-property"
}

// logDirsOfThree: each replica is told by its broker, of one size.
func (k tools) logDirsOfThree() {
	t, topic := k.t, k.name("everywhere")
	k.create(topic, 2)
	k.produce(topic, numbered("n", 100))
	k.settled(topic)
	var answer logDirs
	eventually(t, "no replica lags", func() bool {
		answer = k.describeLogDirs(topic)
		for _, b := range answer.Brokers {
			for _, p := range b.LogDirs[0].Partitions {
				if p.OffsetLag != 0 {
					return false
				}
			}
		}
		return len(answer.Brokers) == 3
	})
	sizes := map[string]int{}
	for _, b := range answer.Brokers {
		dir := b.LogDirs[0]
		if len(b.LogDirs) != 1 || dir.Error != nil || len(dir.Partitions) != 2 {
			t.Errorf("log-dirs shows of broker %d %+v, want one folder with both partitions", b.Broker, b.LogDirs)
		}
		for _, p := range dir.Partitions {
			if had, seen := sizes[p.Partition]; seen && had != p.Size {
				t.Errorf("replicas of %s have %d and %d bytes", p.Partition, had, p.Size)
			}
			sizes[p.Partition] = p.Size
		}
	}
}

// clusterOfThree: the brokers, and one that is gone for good.
func (k tools) clusterOfThree() {
	t := k.t
	contains(t, "cluster-id", k.input("", "cluster", "cluster-id", "--bootstrap-server", k.bootstrap).succeeds(t), "Cluster ID: ")
	fifth := k.joiner(t, 5)
	if k.since('4') {
		out := k.input("", "cluster", "list-endpoints", "--bootstrap-server", k.bootstrap).succeeds(t)
		for i, n := range append(slices.Clone(k.nodes), fifth) {
			host, port, _ := strings.Cut(n.Kafka, ":")
			id := strconv.Itoa(i + 1)
			if n == fifth {
				id = "5"
			}
			if want := strings.Join([]string{id, host, port, "null", "unfenced", "broker"}, " "); !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
				return strings.Join(strings.Fields(line), " ") == want
			}) {
				t.Errorf("list-endpoints does not show %q:\n%s", want, out)
			}
		}
	}
	k.input("", "cluster", "unregister", "--bootstrap-server", k.bootstrap, "--id", "9").refused(t, "BrokerIdNotRegisteredException")
	fifth.Stop()
	eventually(t, "a broker that has stopped is unregistered", func() bool {
		return k.input("", "cluster", "unregister", "--bootstrap-server", k.bootstrap, "--id", "5").wait(t).code == 0
	})
	k.input("", "cluster", "unregister", "--bootstrap-server", k.bootstrap, "--id", "5").refused(t, "BrokerIdNotRegisteredException")
}

// joiner starts a node that joins the cluster and does not vote.
func (k tools) joiner(t *testing.T, id int) *nodetest.Node {
	t.Helper()
	token := must(t, "", nodetest.Binary(t), "cluster", "join-token", "--expires", "10m", "--bootstrap-server", k.node.Kafka)
	n := nodetest.NewJoiner(t, id, strings.TrimSpace(token), nodetest.Options{})
	n.Launch()
	n.WaitReady()
	return n
}
