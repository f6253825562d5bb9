package compat

import (
	"fmt"
	"regexp"
	"strings"
	"time"

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
	if k.node != nil {
		k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan, "--throttle", "1000000").refused(t, "replication.throttled")
	}
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

// transactions: an idempotent producer shows among the producers of its partition.
func (k tools) transactions() {
	t, topic := k.t, k.name("producers")
	k.create(topic, 1)
	k.produce(topic, numbered("n", 5))
	out := k.run("transactions", "describe-producers", "--topic", topic, "--partition", "0").succeeds(t)
	if !regexp.MustCompile(`(?m)^\d+\s+0\s+-1\s+4\s+1\d{12}\s+None`).MatchString(out) {
		t.Errorf("describe-producers does not show a producer of epoch 0 whose last sequence is 4:\n%s", out)
	}
	contains(t, "transactions list", k.run("transactions", "list").succeeds(t), "TransactionalId", "TransactionState")
	contains(t, "transactions find-hanging", k.run("transactions", "find-hanging", "--topic", topic, "--partition", "0").succeeds(t), "ProducerId")
	k.run("transactions", "describe", "--transactional-id", "nonesuch").refused(t, "nonesuch")
}
