package compat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// coordinatorOf asks for the broker that coordinates a group or a producer's transactions.
func coordinatorOf(t *testing.T, nodes []*nodetest.Node, name string, transactions bool) int32 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(seeds(nodes), ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	find := kadm.NewClient(cl).FindGroupCoordinators
	if transactions {
		find = kadm.NewClient(cl).FindTxnCoordinators
	}
	node := int32(-1)
	eventually(t, "a coordinator of "+name, func() bool {
		found := find(t.Context(), name)[name]
		node = found.NodeID
		return found.Err == nil && node > 0
	})
	return node
}

// reassignOfThree moves partitions to other brokers while they are there, and cancels a move to one that is not.
func (k tools) reassignOfThree() {
	t, topic := k.t, k.name("relocated")
	assign(t, k.nodes, topic, []int32{1, 2}, []int32{2, 1})
	lines := numbered("line-", 2000)
	k.produce(topic, lines)
	list := write(t, fmt.Sprintf(`{"version":1,"topics":[{"topic":%q}]}`, topic))
	out := k.run("reassign-partitions", "--generate", "--topics-to-move-json-file", list, "--broker-list", "2,3").succeeds(t)
	contains(t, "reassign --generate", out, "Current partition replica assignment", `"partition":0,"replicas":[1,2]`, "Proposed partition reassignment configuration")
	if _, proposed, _ := strings.Cut(out, "Proposed"); !regexp.MustCompile(`"partition":1,"replicas":\[(2,3|3,2)\]`).MatchString(proposed) {
		t.Errorf("the proposed plan is not on brokers 2 and 3:\n%s", out)
	}
	plan := func(replicas ...string) string {
		var ps []string
		for i, r := range replicas {
			ps = append(ps, fmt.Sprintf(`{"topic":%q,"partition":%d,"replicas":[%s],"log_dirs":["any","any"]}`, topic, i, r))
		}
		return write(t, `{"version":1,"partitions":[`+strings.Join(ps, ",")+`]}`)
	}
	away := plan("3,2", "2,3")
	out = k.run("reassign-partitions", "--execute", "--reassignment-json-file", away).succeeds(t)
	contains(t, "reassign --execute", out, "Successfully started partition reassignments for "+topic+"-0,"+topic+"-1")
	done := regexp.MustCompile(`Reassignment of partition ` + topic + `-[01] (is complete|is completed|completed successfully)`)
	eventually(t, "the partitions are where they should be", func() bool {
		return len(done.FindAllString(k.run("reassign-partitions", "--verify", "--reassignment-json-file", away).succeeds(t), -1)) == 2
	})
	contains(t, "topics --describe", k.run("topics", "--describe", "--topic", topic).succeeds(t), "Replicas: 3,2\t", "Replicas: 2,3\t")
	contains(t, "reassign --list", k.run("reassign-partitions", "--list").succeeds(t), "No partition reassignments found.")
	sameLines(k, "after the move", k.consume("--topic", topic, "--from-beginning", "--max-messages", "2000", "--timeout-ms", "60000"), lines)
	k.cancelMove(topic, plan("1,3"))
	k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan("3,7")).refused(t, "7")
}

// cancelMove takes back a move of partition 0 from brokers 3 and 2 to 1 and 3, which cannot end while broker 1 is dead;
// as the tool begins none to a broker that it finds dead, it is begun by the API.
func (k tools) cancelMove(topic, plan string) {
	t := k.t
	k.without(1, topic, func() {
		k.leads(topic, isNot(1))
		k.beginMove(topic, 1, 3)
		list := k.run("reassign-partitions", "--list").succeeds(t)
		contains(t, "reassign --list", list, "Current partition reassignments", topic+"-0: replicas: ", "adding: 1", "removing: 2")
		out := k.run("reassign-partitions", "--verify", "--reassignment-json-file", plan).succeeds(t)
		contains(t, "reassign --verify", out, "Reassignment of partition "+topic+"-0 is still in progress")
		out = k.run("reassign-partitions", "--cancel", "--preserve-throttles", "--reassignment-json-file", plan).succeeds(t) // it would ask each broker to drop a throttle
		contains(t, "reassign --cancel", out, "Successfully cancelled partition reassignment for", topic+"-0")
		contains(t, "reassign --list", k.run("reassign-partitions", "--list").succeeds(t), "No partition reassignments found.")
		contains(t, "topics --describe", k.run("topics", "--describe", "--topic", topic).succeeds(t), "Replicas: 3,2\t")
		contains(t, "reassign --cancel again", k.run("reassign-partitions", "--cancel", "--preserve-throttles", "--reassignment-json-file", plan).succeeds(t), "None of the specified partition reassignments are active.")
	})
}

// beginMove asks for other replicas of partition 0.
func (k tools) beginMove(topic string, replicas ...int32) {
	k.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.bootstrap, ",")...))
	if err != nil {
		k.t.Fatal(err)
	}
	defer cl.Close()
	var move kadm.AlterPartitionAssignmentsReq
	move.Assign(topic, 0, replicas)
	answer, err := kadm.NewClient(cl).AlterPartitionAssignments(k.t.Context(), move)
	if err = errors.Join(err, answer.Error()); err != nil {
		k.t.Fatal(err)
	}
}

// preferredOfThree: the first replica leads again after it was away.
func (k tools) preferredOfThree() {
	t, topic := k.t, k.name("first-again")
	assign(t, k.nodes, topic, []int32{2, 3, 1})
	k.without(2, topic, func() { k.leads(topic, is(3)) })
	k.leads(topic, is(3))
	elect := func() string {
		return k.run("leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0").succeeds(t)
	}
	contains(t, "leader-election", elect(), "Successfully completed leader election (PREFERRED) for partitions "+topic+"-0")
	k.leads(topic, is(2))
	contains(t, "leader-election again", elect(), "Valid replica already elected for partitions ")
	k.run("leader-election", "--election-type", "preferred", "--all-topic-partitions").succeeds(t)
}

// uncleanOfThree: with the last in-sync replica dead, a partition is unavailable until somebody chooses to lose messages.
func (k tools) uncleanOfThree() {
	t, topic := k.t, k.name("unclean")
	assign(t, k.nodes, topic, []int32{2, 3})
	k.config("topics", topic, "--alter", "--add-config", "min.insync.replicas=1").succeeds(t)
	kept := numbered("kept ", 5)
	k.produce(topic, kept)
	second, third := k.nodes[1], k.nodes[2]
	third.Kill()
	if err := inSync(t.Context(), k.nodes[:2], topic, 1); err != nil {
		t.Fatal(err)
	}
	k.produce(topic, numbered("lost ", 5))
	second.Kill()
	third.Restart()
	eventually(t, "the partition is unavailable", func() bool {
		return strings.Contains(k.run("topics", "--describe", "--unavailable-partitions").wait(t).all(), "Topic: "+topic+"\t")
	})
	elect := func(kind string) *call {
		return k.run("leader-election", "--election-type", kind, "--topic", topic, "--partition", "0")
	}
	elect("preferred").refused(t, topic+"-0")
	contains(t, "leader-election", elect("unclean").succeeds(t), "Successfully completed leader election (UNCLEAN) for partitions "+topic+"-0")
	k.leads(topic, is(3))
	read := func() []string {
		return k.consume("--topic", topic, "--from-beginning", "--max-messages", "5", "--timeout-ms", "60000")
	}
	sameLines(k, "what the elected replica has", read(), kept)
	second.Restart()
	if err := inSync(t.Context(), k.nodes, topic, 2); err != nil {
		t.Fatal(err)
	}
	contains(t, "leader-election", elect("preferred").succeeds(t), "Successfully completed leader election (PREFERRED)")
	sameLines(k, "what the other one has after it followed", read(), kept)
	if end := k.offsetsAt(topic, "")[0]; end != 5 {
		t.Errorf("the partition ends at %d, want 5", end)
	}
}

// quorumOfThree: three voters, one leads; when it dies another does, in a later epoch.
func (k tools) quorumOfThree() {
	t := k.t
	status := func() (leader int32, epoch int) {
		out := k.run("metadata-quorum", "describe", "--status").succeeds(t)
		for _, line := range []string{`ClusterId:\s+\S{22}`, `LeaderId:\s+[123]`, `LeaderEpoch:\s+\d+`, `HighWatermark:\s+\d+`, `MaxFollowerLag:\s+\d+`, `CurrentObservers:\s+\[\]`} {
			if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out) {
				t.Errorf("metadata-quorum --status has no line like %s:\n%s", line, out)
			}
		}
		number := func(name string) int {
			found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)$`).FindStringSubmatch(out)
			n, err := strconv.Atoi(strings.Join(found[min(1, len(found)):], ""))
			if err != nil {
				t.Fatalf("metadata-quorum --status has no number %s:\n%s", name, out)
			}
			return n
		}
		if n := len(k.votersOf(out)); n != 3 {
			t.Errorf("metadata-quorum --status shows %d voters, want 3:\n%s", n, out)
		}
		return int32(number("LeaderId")), number("LeaderEpoch")
	}
	leader, epoch := status()
	out := k.run("metadata-quorum", "describe", "--replication").succeeds(t)
	for id := range int32(3) {
		role := map[bool]string{true: "Leader", false: "Follower"}[id+1 == leader]
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^%d\s.*\s%s\s*$`, id+1, role)).MatchString(out) {
			t.Errorf("metadata-quorum --replication does not show node %d as %s:\n%s", id+1, role, out)
		}
	}
	topic := k.name("voted")
	k.create(topic, 1)
	k.without(leader, topic, func() {
		next, later := status()
		if next == leader || later <= epoch {
			t.Errorf("after the death of node %d, leader of epoch %d, node %d leads epoch %d", leader, epoch, next, later)
		}
		k.run("topics", "--create", "--topic", k.name("voted-without"), "--partitions", "1", "--replication-factor", "2").succeeds(t)
	})
}

// votersOf reads the IDs of the voters, which 3.9 prints as numbers and 4.x as objects.
func (k tools) votersOf(status string) []string {
	line := regexp.MustCompile(`(?m)^CurrentVoters:.*$`).FindString(status)
	if ids := regexp.MustCompile(`"id":\s*(\d+)`).FindAllString(line, -1); ids != nil {
		return ids
	}
	return regexp.MustCompile(`\d+`).FindAllString(line, -1)
}

// voters gives a node that has joined a vote, and takes it back.
func (k tools) voters() {
	t := k.t
	fourth := k.joiner(t, 4)
	status := func() string { return k.run("metadata-quorum", "describe", "--status").succeeds(t) }
	observed := regexp.MustCompile(`(?m)^CurrentObservers:.*\b4\b.*$`)
	eventually(t, "node 4 observes", func() bool { return observed.MatchString(status()) })
	// Why not the node's own meta.properties: the metadata log is a directory by itself, with an ID of its own.
	id := regexp.MustCompile(`(?m)^4\s+(\S{22})\s.*Observer`).FindStringSubmatch(k.run("metadata-quorum", "describe", "--replication").succeeds(t))
	if id == nil {
		t.Fatal("metadata-quorum --replication does not show the directory ID of node 4")
	}
	dir := t.TempDir()
	meta := "version=1\nnode.id=4\ncluster.id=any\ndirectory.id=" + id[1] + "\n"
	if err := os.WriteFile(filepath.Join(dir, "meta.properties"), []byte(meta), 0o600); err != nil {
		t.Fatal(err)
	}
	config := write(t, fmt.Sprintf("process.roles=controller\nnode.id=4\ncontroller.listener.names=CONTROLLER\nlisteners=CONTROLLER://%s\n"+
		"controller.quorum.bootstrap.servers=%s\nmetadata.log.dir=%[3]s\nlog.dirs=%[3]s\n", fourth.Controller, k.node.Controller, dir))
	k.run("metadata-quorum", "--command-config", config, "add-controller").succeeds(t)
	eventually(t, "node 4 votes", func() bool { return len(k.votersOf(status())) == 4 && !observed.MatchString(status()) })
	remove := []string{"remove-controller", "--controller-id", "4", "--controller-directory-id"}
	k.run("metadata-quorum", append(remove, "AAAAAAAAAAAAAAAAAAAAKg")...).refused(t, "Exception")
	k.run("metadata-quorum", append(remove, id[1])...).succeeds(t)
	eventually(t, "node 4 observes again", func() bool { return len(k.votersOf(status())) == 3 && observed.MatchString(status()) })
	fourth.Stop()
	eventually(t, "node 4 is forgotten", func() bool {
		k.input("", "cluster", "unregister", "--bootstrap-server", k.bootstrap, "--id", "4").wait(t)
		return !observed.MatchString(status())
	})
}

// verifiableOfThree: what was acknowledged while the leader died and came back is there.
func (k tools) verifiableOfThree() {
	t, topic, group := k.t, k.name("verifiable"), k.name("verifiable-group")
	assign(t, k.nodes, topic, []int32{2, 3, 1})
	// Why: the tool itself sets retries to 0.
	config := write(t, "retries=1000\nenable.idempotence=true\nacks=all\nrequest.timeout.ms=5000\ndelivery.timeout.ms=120000\n")
	option := "--command-config"
	if !k.since('4') {
		option = "--producer.config"
	}
	const messages = 1000
	consumer := startProgram(t, k.jars, k.class("verifiable-consumer"), "--bootstrap-server", k.bootstrap, "--topic", topic, "--group-id", group, "--reset-policy", "earliest", "--verbose")
	producer := startProgram(t, k.jars, k.class("verifiable-producer"), "--bootstrap-server", k.bootstrap, "--topic", topic, "--max-messages", strconv.Itoa(messages), "--throughput", "200", "--acks", "-1", option, config)
	producer.awaits(`"offset":100,`)
	k.without(2, topic, func() {
		k.leads(topic, isNot(2))
		producer.awaits(`"offset":600,`)
	})
	select {
	case <-producer.gone:
	case <-time.After(toolLimit):
		t.Fatalf("the producer did not end:\n%s", clip(producer.out.String()))
	}
	contains(t, "verifiable-producer", producer.out.String(), fmt.Sprintf(`"sent":%d,"acked":%[1]d`, messages))
	lacks(t, "verifiable-producer", producer.out.String(), "producer_send_error")
	value := regexp.MustCompile(`"name":"record_data"[^}]*"value":"(\d+)"|"value":"(\d+)"[^}]*"name":"record_data"`)
	seen := map[string]bool{}
	eventually(t, "the consumer has read all", func() bool {
		for _, found := range value.FindAllStringSubmatch(consumer.out.String(), -1) {
			seen[found[1]+found[2]] = true
		}
		return len(seen) >= messages
	})
	consumer.terminate()
	if end := k.offsetsAt(topic, "")[0]; end != messages || len(seen) != messages {
		t.Errorf("%d messages were sent, the partition holds %d, %d different ones were read", messages, end, len(seen))
	}
}

// copierOfThree copies in transactions, offsets included, while the broker that coordinates them and leads the
// source dies and comes back: every record is there once, in order.
func (k tools) copierOfThree() {
	t, from, to, id := k.t, k.name("copy-from"), k.name("copy-to"), k.name("copier")
	const messages = 2000
	k.create(to, 1)
	victim := coordinatorOf(t, k.nodes, id, true)
	assign(t, k.nodes, from, []int32{victim, victim%3 + 1, (victim+1)%3 + 1})
	lines := numbered("c", messages)
	k.produce(from, lines)
	p := startProgram(t, k.jars, k.class("transactional-message-copier"), "--broker-list", k.bootstrap, "--transactional-id", id, "--consumer-group", k.name("copiers"),
		"--input-topic", from, "--input-partition", "0", "--output-topic", to, "--max-messages", strconv.Itoa(messages), "--transaction-size", "20", "--enable-random-aborts", "--use-group-metadata")
	p.awaits(`"consumed":200,`)
	k.without(victim, from, func() {
		k.leads(from, isNot(victim))
		p.awaits(`"consumed":800,`)
	})
	select {
	case <-p.gone:
	case <-time.After(toolLimit):
		t.Fatalf("the copier did not end:\n%s", clip(p.out.String()))
	}
	contains(t, "TransactionalMessageCopier", p.out.String(), `"remaining":0`)
	got := k.consume("--topic", to, "--from-beginning", "--isolation-level", "read_committed", "--max-messages", strconv.Itoa(messages), "--timeout-ms", "60000")
	if !slices.Equal(got, lines) {
		t.Errorf("%d lines arrived, want %d in order:\n%s", len(got), len(lines), clip(strings.Join(got, "\n")))
	}
	if out := k.consume("--topic", to, "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "5000"); len(out) != messages {
		t.Errorf("%d committed messages are there, want %d", len(out), messages)
	}
}

// sameReplicas compares the files of all replicas, byte by byte, and as the tool prints them.
func (k tools) sameReplicas() {
	t, topic := k.t, k.name("replicated")
	assign(t, k.nodes, topic, []int32{1, 2, 3})
	k.produce(topic, numbered("payload ", 500), "--compression-codec", "lz4")
	k.without(1, topic, func() {
		k.leads(topic, isNot(1))
		k.produce(topic, numbered("payload of another epoch ", 500))
	})
	var ends sync.WaitGroup
	for _, n := range k.nodes {
		ends.Go(n.Stop)
	}
	ends.Wait()
	var first []byte
	printed := ""
	for i, n := range k.nodes {
		logs := slices.DeleteFunc(globs(k, filepath.Join(n.Dir, "data"), "*.log"), func(path string) bool {
			return !strings.Contains(k.input("", "dump-log", "--files", path, "--print-data-log").succeeds(t), "payload of another epoch 499")
		})
		if len(logs) != 1 {
			t.Fatalf("node %d has the messages in %d files: %q", i+1, len(logs), logs)
		}
		b, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		out := k.input("", "dump-log", "--files", logs[0], "--deep-iteration", "--print-data-log").succeeds(t)
		_, out, _ = strings.Cut(out, "\n") // the name of the file
		if first == nil {
			first, printed = b, out
		}
		if !bytes.Equal(b, first) || out[strings.Index(out, "baseOffset"):] != printed[strings.Index(printed, "baseOffset"):] {
			t.Errorf("the replica of node %d differs from the first one's: %d bytes, %d bytes", i+1, len(b), len(first))
		}
	}
	contains(t, "dump-log", printed, "partitionLeaderEpoch: 0", "partitionLeaderEpoch: 1")
}
