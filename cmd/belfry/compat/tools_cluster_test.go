package compat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// reassign moves partitions of a node that is alone: from itself to itself.
func (k tools) reassign() {
	t, topic := k.t, k.name("moved")
	k.create(topic, 2)
	list := write(t, fmt.Sprintf(`{"version":1,"topics":[{"topic":%q}]}`, topic))
	out := k.run("reassign-partitions", "--generate", "--topics-to-move-json-file", list, "--broker-list", "0").succeeds(t)
	contains(t, "reassign --generate", out, "Current partition replica assignment", "Proposed partition reassignment configuration", `"topic":"`+topic+`","partition":1,"replicas":[0]`)
	plan := write(t, fmt.Sprintf(`{"version":1,"partitions":[{"topic":%[1]q,"partition":0,"replicas":[0],"log_dirs":["any"]},{"topic":%[1]q,"partition":1,"replicas":[0],"log_dirs":["any"]}]}`, topic))
	out = k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan).succeeds(t)
	contains(t, "reassign --execute", out, "Successfully started partition reassignments for "+topic+"-0,"+topic+"-1")
	out = k.run("reassign-partitions", "--verify", "--reassignment-json-file", plan).succeeds(t)
	done := regexp.MustCompile(`Reassignment of partition ` + topic + `-[01] (is complete|is completed|completed successfully)`)
	if n := len(done.FindAllString(out, -1)); n != 2 {
		t.Errorf("reassign --verify says of %d partitions that they are done, want 2:\n%s", n, out)
	}
	contains(t, "reassign --list", k.run("reassign-partitions", "--list").succeeds(t), "No partition reassignments found.")
	contains(t, "reassign --cancel", k.run("reassign-partitions", "--cancel", "--reassignment-json-file", plan).succeeds(t), "None of the specified partition reassignments are active.")
	out = k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan, "--throttle", "1000000").succeeds(t)
	contains(t, "reassign --throttle", out, "The inter-broker throttle limit was set to 1000000 B/s")
	contains(t, "reassign --verify", k.run("reassign-partitions", "--verify", "--reassignment-json-file", plan).succeeds(t), "Clearing broker-level throttles on broker")
	bad := write(t, fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"replicas":[0,7]}]}`, topic))
	k.run("reassign-partitions", "--execute", "--reassignment-json-file", bad).refused(t, "7")
}

// moveDirs moves a partition to the other log directory of a node that has two, slowly enough
// that it is seen on its way.
func (k tools) moveDirs() {
	t, topic := k.t, k.name("spread")
	if k.node == nil {
		return // another server has the directories that it has
	}
	node := nodetest.Start(t, nodetest.Options{Settings: map[string]string{"log.dirs": t.TempDir() + "," + t.TempDir()}})
	k.node, k.bootstrap = node, node.Kafka
	k.create(topic, 1)
	lines := numbered("line-", 2000)
	k.produce(topic, lines)
	where := func() (in, free, coming string) {
		for _, d := range k.describeLogDirs(topic).Brokers[0].LogDirs {
			switch {
			case len(d.Partitions) == 0:
				free = d.LogDir
			case d.Partitions[0].IsFuture:
				coming = d.LogDir
			default:
				in = d.LogDir
			}
		}
		return in, free, coming
	}
	in, free, coming := where()
	if in == "" || free == "" || coming != "" {
		t.Fatalf("the partition is in %q, not in %q, on its way to %q", in, free, coming)
	}
	plan := func(dir string) string {
		return write(t, fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"replicas":[0],"log_dirs":[%q]}]}`, topic, dir))
	}
	out := k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan(free), "--replica-alter-log-dirs-throttle", "1000").succeeds(t)
	started := "Successfully started moving log directory to " + free + " for replica " + topic + "-0 with broker 0"
	if !k.since('3') {
		started = "Successfully started log directory move for: " + topic + "-0-0"
	}
	contains(t, "reassign --execute", out, started)
	if _, _, coming := where(); coming != free {
		t.Errorf("the partition is on its way to %q, want %q", coming, free)
	}
	contains(t, "reassign --verify", k.run("reassign-partitions", "--verify", "--reassignment-json-file", plan(free)).succeeds(t),
		"Reassignment of replica "+topic+"-0-0 is still in progress")
	// A second call changes only the throttle.
	k.run("reassign-partitions", "--execute", "--additional", "--reassignment-json-file", plan(free), "--replica-alter-log-dirs-throttle", "100000000").succeeds(t)
	for limit := time.Now().Add(toolLimit); ; {
		out := k.run("reassign-partitions", "--verify", "--reassignment-json-file", plan(free)).succeeds(t)
		if strings.Contains(out, "Reassignment of replica "+topic+"-0-0 completed successfully") {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("reassign --verify says\n%s", out)
		}
	}
	if now, _, coming := where(); now != free || coming != "" {
		t.Errorf("the partition is in %q and on its way to %q, want %q", now, coming, free)
	}
	sameLines(k, "after the move", k.consume("--topic", topic, "--from-beginning", "--max-messages", "2000", "--timeout-ms", "60000"), lines)
	k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan("/elsewhere")).refused(t, "LogDirNotFoundException")
}

func (k tools) leaderElection() {
	t, topic := k.t, k.name("elected")
	k.create(topic, 1)
	k.run("leader-election", "--election-type", "preferred", "--all-topic-partitions").succeeds(t)
	out := k.run("leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0").succeeds(t)
	contains(t, "leader-election", out, "Valid replica already elected for partitions ")
	if k.since('3') { // 2.7 forgets the names
		contains(t, "leader-election", out, topic+"-0")
	}
	file := write(t, fmt.Sprintf(`{"partitions":[{"topic":%q,"partition":0}]}`, topic))
	out = k.run("leader-election", "--election-type", "unclean", "--path-to-json-file", file).succeeds(t)
	contains(t, "leader-election", out, "Valid replica already elected")
	k.run("leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "77").refused(t, topic+"-77", "UnknownTopicOrPartitionException")
}

func (k tools) preferredElection() {
	topic := k.name("preferred")
	k.create(topic, 1)
	file := write(k.t, fmt.Sprintf(`{"partitions":[{"topic":%q,"partition":0}]}`, topic))
	c := k.run("preferred-election", "--path-to-json-file", file)
	c.succeeds(k.t)
	lacks(k.t, "preferred-election", c.all(), "Exception", "Error")
}

func (k tools) features() {
	t := k.t
	if !k.since('3') {
		k.run("features", "--describe").succeeds(t)
		return
	}
	out := k.run("features", "describe").succeeds(t)
	if k.since('4') {
		for _, feature := range []string{"group.version", "metadata.version"} {
			if !regexp.MustCompile(`Feature: ` + regexp.QuoteMeta(feature) + `\s+SupportedMinVersion: \S+\s+SupportedMaxVersion: \S+\s+FinalizedVersionLevel: \S+`).MatchString(out) {
				t.Errorf("features describe does not show %s:\n%s", feature, out)
			}
		}
	}
	k.run("features", "upgrade", "--feature", "nonesuch=1").refused(t, "nonesuch")
}

func (k tools) quorum() {
	t := k.t
	status := k.run("metadata-quorum", "describe", "--status").succeeds(t)
	for _, line := range []string{`ClusterId:\s+\S{22}`, `LeaderId:\s+0`, `LeaderEpoch:\s+\d+`, `HighWatermark:\s+\d+`, `MaxFollowerLag:\s+0`, `CurrentVoters:\s+\[.*0.*\]`, `CurrentObservers:\s+\[\]`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(status) {
			t.Errorf("metadata-quorum --status has no line like %s:\n%s", line, status)
		}
	}
	out := k.run("metadata-quorum", "describe", "--replication").succeeds(t)
	if !regexp.MustCompile(`(?m)^0\s.*\sLeader\s*$`).MatchString(out) {
		t.Errorf("metadata-quorum --replication does not show node 0 as the leader:\n%s", out)
	}
}

func (k tools) cluster() {
	t := k.t
	id := k.input("", "cluster", "cluster-id", "--bootstrap-server", k.bootstrap).succeeds(t)
	if !regexp.MustCompile(`^Cluster ID: \S{22}\n$`).MatchString(id) {
		t.Errorf("cluster-id printed %q", id)
	}
	if k.since('4') {
		out := strings.Fields(lastLine(k.input("", "cluster", "list-endpoints", "--bootstrap-server", k.bootstrap).succeeds(t)))
		host, port, _ := strings.Cut(k.bootstrap, ":")
		if want := []string{"0", host, port, "null", "unfenced", "broker"}; strings.Join(out, " ") != strings.Join(want, " ") {
			t.Errorf("list-endpoints shows %v, want %v", out, want)
		}
	}
	k.input("", "cluster", "unregister", "--bootstrap-server", k.bootstrap, "--id", "9").refused(t, "BrokerIdNotRegisteredException")
}

// transactions: an idempotent producer shows among the producers of its partition; a
// transaction whose producer fell silent is found and aborted.
func (k tools) transactions() {
	t, topic := k.t, k.name("producers")
	k.create(topic, 1)
	k.produce(topic, numbered("n", 5))
	producers := func() string {
		return k.run("transactions", "describe-producers", "--topic", topic, "--partition", "0").succeeds(t)
	}
	out := producers()
	if !regexp.MustCompile(`(?m)^\d+\s+0\s+-1\s+4\s+1\d{12}\s+None`).MatchString(out) {
		t.Errorf("describe-producers does not show a producer of epoch 0 whose last sequence is 4:\n%s", out)
	}
	id := k.name("silent")
	k.fallSilent(id, topic)
	contains(t, "transactions list", k.run("transactions", "list").succeeds(t), "TransactionalId", id, "Ongoing")
	contains(t, "transactions describe", k.run("transactions", "describe", "--transactional-id", id).succeeds(t), id, "Ongoing", topic+"-0")
	if out = producers(); !regexp.MustCompile(`(?m)^\d+\s+0\s+-1\s+0\s+1\d{12}\s+5\s*$`).MatchString(out) {
		t.Errorf("describe-producers does not show a transaction from offset 5 on:\n%s", out)
	}
	k.run("transactions", "abort", "--topic", topic, "--partition", "0", "--start-offset", "5").succeeds(t)
	if out = producers(); regexp.MustCompile(`(?m)\s5\s*$`).MatchString(out) {
		t.Errorf("describe-producers shows a transaction that was aborted:\n%s", out)
	}
	contains(t, "transactions find-hanging", k.run("transactions", "find-hanging", "--topic", topic, "--partition", "0").succeeds(t), "ProducerId")
	k.run("transactions", "describe", "--transactional-id", "nonesuch").refused(t, "nonesuch")
}

// fallSilent begins a transaction with one record and leaves it.
func (k tools) fallSilent(id, topic string) {
	k.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.bootstrap, ",")...), kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	if err := c.BeginTransaction(); err != nil {
		k.t.Fatal(err)
	}
	if err := c.ProduceSync(k.t.Context(), kgo.StringRecord("lost")).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
}

// copier copies a topic in transactions, offsets included, some of them aborted at random:
// every record is there once, in order.
func (k tools) copier() {
	t, from, to := k.t, k.name("copy-in"), k.name("copy-out")
	k.create(from, 1)
	k.create(to, 1)
	lines := numbered("c", 600)
	k.produce(from, lines)
	out := k.process("transactional-message-copier", "--broker-list", k.bootstrap, "--transactional-id", k.name("copier"), "--consumer-group", k.name("copiers"),
		"--input-topic", from, "--input-partition", "0", "--output-topic", to, "--max-messages", "600", "--transaction-size", "50", "--enable-random-aborts", "--use-group-metadata")
	contains(t, "TransactionalMessageCopier", out, `"consumed":600`, `"remaining":0`)
	got := k.consume("--topic", to, "--from-beginning", "--isolation-level", "read_committed", "--max-messages", "600")
	if !slices.Equal(got, lines) {
		t.Errorf("%d lines arrived, want %d in order:\n%s", len(got), len(lines), clip(strings.Join(got, "\n")))
	}
}
