package compat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// TestKafkaToolsThrottle moves a partition between three nodes with each release's
// kafka-reassign-partitions.sh under --throttle: it is slowed, shown, made faster, and nothing
// is left of it at the end.
func TestKafkaToolsThrottle(t *testing.T) {
	nodes := nodetest.StartCluster(t, 3, nodetest.Options{Settings: map[string]string{"agent.period": "30s"}})
	for _, release := range toolReleases {
		if !long() && release == "3.9.2" {
			continue
		}
		t.Run(release, func(t *testing.T) {
			keepTool(t, threeNodesResults, release, "kafka-reassign-partitions.sh --throttle", "")
			k := tools{t: t, release: release, jars: cached(t, "kafka-"+release), node: nodes[0], bootstrap: nodes[0].Kafka}
			k.vm = startJVM(t, k.jars)
			k.throttle()
		})
	}
}

func (k tools) throttle() {
	t, topic := k.t, k.name("slow")
	k.run("topics", "--create", "--topic", topic, "--replica-assignment", "1").succeeds(t)
	c, err := kgo.NewClient(kgo.SeedBrokers(k.bootstrap), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(32<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3000 {
		c.Produce(t.Context(), &kgo.Record{Value: make([]byte, 1000)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	plan := write(t, fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"replicas":[2],"log_dirs":["any"]}]}`, topic))
	verify := func() string {
		return k.run("reassign-partitions", "--verify", "--reassignment-json-file", plan).succeeds(t)
	}
	settings := func() string {
		return k.config("brokers", "1", "--describe").succeeds(t) + k.config("brokers", "2", "--describe").succeeds(t) + k.config("topics", topic, "--describe").succeeds(t)
	}

	out := k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan, "--throttle", "20000").succeeds(t)
	contains(t, "reassign --throttle", out, "The inter-broker throttle limit was set to 20000 B/s", "Successfully started partition reassignment for "+topic+"-0")
	contains(t, "what is set", settings(), "leader.replication.throttled.rate=20000", "follower.replication.throttled.rate=20000",
		"leader.replication.throttled.replicas=0:1", "follower.replication.throttled.replicas=0:2")
	contains(t, "reassign --verify", verify(), "Reassignment of partition "+topic+"-0 is still in progress")
	contains(t, "reassign --list", k.run("reassign-partitions", "--list").succeeds(t), topic+"-0: replicas: 2,1. adding: 2. removing: 1.")
	k.run("reassign-partitions", "--execute", "--reassignment-json-file", plan).refused(t, "--additional")
	k.run("topics", "--delete", "--topic", topic).refused(t, "being moved")

	// A second call changes only the throttle.
	out = k.run("reassign-partitions", "--execute", "--additional", "--reassignment-json-file", plan, "--throttle", "100000000").succeeds(t)
	contains(t, "reassign --additional", out, "The inter-broker throttle limit was set to 100000000 B/s")
	done := fmt.Sprintf("Reassignment of partition %s-0 is complete", topic)
	for limit := time.Now().Add(toolLimit); ; {
		out = verify()
		if strings.Contains(out, done) {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("reassign --verify says\n%s", out)
		}
	}
	contains(t, "reassign --verify", out, "Clearing broker-level throttles on brokers 1,2,3", "Clearing topic-level throttles on topic "+topic)
	lacks(t, "what is left", settings(), "throttled")

	// By hand, as kafka-configs.sh sets and takes it back.
	k.config("brokers", "", "--alter", "--add-config", "leader.replication.throttled.rate=5000,follower.replication.throttled.rate=6000").succeeds(t)
	k.config("topics", topic, "--alter", "--add-config", "leader.replication.throttled.replicas=*,follower.replication.throttled.replicas=[0:1,0:2]").succeeds(t)
	contains(t, "what is set", k.config("brokers", "", "--describe").succeeds(t)+settings(), "leader.replication.throttled.rate=5000", "follower.replication.throttled.rate=6000",
		"leader.replication.throttled.replicas=*", "follower.replication.throttled.replicas=0:1,0:2")
	k.config("topics", topic, "--alter", "--add-config", "leader.replication.throttled.replicas=everything").refused(t, "leader.replication.throttled.replicas", "everything")
	k.config("brokers", "", "--alter", "--delete-config", "leader.replication.throttled.rate,follower.replication.throttled.rate").succeeds(t)
	k.config("topics", topic, "--alter", "--delete-config", "leader.replication.throttled.replicas,follower.replication.throttled.replicas").succeeds(t)
	lacks(t, "what is left", k.config("brokers", "", "--describe").succeeds(t)+settings(), "throttled")
}
