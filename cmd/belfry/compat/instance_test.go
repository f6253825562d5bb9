package compat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// instance is one node, or several that form a cluster, and what they complained of.
type instance struct {
	version string
	nodes   []*nodetest.Node
	output  *complaints
}

// replicated are the settings of a cluster whose topics have three replicas and need two of them.
func replicated() map[string]string {
	return map[string]string{
		"default.replication.factor": "3", "min.insync.replicas": "2", "offsets.topic.replication.factor": "3",
		"transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2",
		"auto.leader.rebalance.enable": "false", // a test says when leaders go back
	}
}

// instance starts the nodes of one.
func (s stage) instance(t *testing.T, version, create string) instance {
	t.Helper()
	settings := map[string]string{
		"version": version, "auto.create.topics.enable": create, "group.initial.rebalance.delay.ms": "0",
		"group.consumer.heartbeat.interval.ms": "500", "group.consumer.min.heartbeat.interval.ms": "500", // else each step takes 5 s
	}
	i := instance{version: version, output: &complaints{}}
	if s.brokers == 1 {
		i.nodes = []*nodetest.Node{nodetest.Start(t, nodetest.Options{Output: i.output, Settings: settings})}
		return i
	}
	for name, value := range replicated() {
		settings[name] = value
	}
	i.nodes = nodetest.StartCluster(t, s.brokers, nodetest.Options{Output: i.output, Settings: settings})
	return i
}

// stop ends all nodes in order, and tells what they complained of.
func (i instance) stop(t *testing.T) {
	t.Helper()
	var ends sync.WaitGroup
	for _, n := range i.nodes {
		ends.Go(n.Stop) // all at once, as a node that is left alone has nobody to hand over to
	}
	ends.Wait()
	for _, line := range i.output.all() {
		t.Errorf("a node with version %s complained: %s", i.version, line)
	}
}

// seeds are the addresses of all nodes for clients.
func seeds(nodes []*nodetest.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Kafka)
	}
	return strings.Join(all, ",")
}

// faultLimit is the longest that a node may take to be dead, or to be back in sync.
const faultLimit = 40 * time.Second

// faults creates the topic of the feature failover – one partition, led by the second node, which is not the
// one that the program knows – and serves what the program asks for: /kill ends that node as a power cut would,
// /restart is answered once it is in sync again, /known/TOPIC and /gone/TOPIC once every node of the instance, or of the
// old one, has heard of the topic's creation or deletion. It gives the address.
func (i instance) faults(t *testing.T, old instance, topic string) string {
	t.Helper()
	assign(t, i.nodes, topic, []int32{2, 3, 1})
	victim := i.nodes[1]
	mux := http.NewServeMux()
	mux.HandleFunc("/kill", func(http.ResponseWriter, *http.Request) { victim.Kill() })
	mux.HandleFunc("/restart", func(w http.ResponseWriter, r *http.Request) {
		victim.Launch()
		if err := inSync(r.Context(), i.nodes, topic, 3); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	for path, there := range map[string]bool{"/known/": true, "/gone/": false} {
		mux.HandleFunc(path+"{topic}", func(w http.ResponseWriter, r *http.Request) {
			if !heard(r.Context(), there, r.PathValue("topic"), i.nodes, old.nodes) {
				http.Error(w, "not every node has heard of it", http.StatusInternalServerError)
			}
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// assign creates a topic whose partitions lie where they are put; the first replica of each leads.
func assign(t *testing.T, nodes []*nodetest.Node, topic string, partitions ...[]int32) {
	t.Helper()
	ask := kmsg.NewCreateTopicsRequestTopic()
	ask.Topic, ask.NumPartitions, ask.ReplicationFactor = topic, -1, -1
	for i, replicas := range partitions {
		p := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		p.Partition, p.Replicas = int32(i), replicas
		ask.ReplicaAssignment = append(ask.ReplicaAssignment, p)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = int32(toolLimit.Milliseconds()), []kmsg.CreateTopicsRequestTopic{ask}
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(seeds(nodes), ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	answer, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.Topics[0].ErrorCode)
	}
	// Why it may be there: a controller that loses its office before it can answer is asked again.
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Fatalf("cannot create topic %q: %v", topic, err)
	}
	if err := errors.Join(known(t.Context(), nodes, topic), inSync(t.Context(), nodes, topic, len(partitions[0]))); err != nil {
		t.Fatal(err)
	}
}

// heard waits until a topic is there, or is not, for all nodes of one of the clusters, or of each of them.
func heard(ctx context.Context, there bool, topic string, clusters ...[]*nodetest.Node) bool {
	for limit := time.Now().Add(faultLimit); time.Now().Before(limit) && ctx.Err() == nil; {
		all := 0
		for _, nodes := range clusters {
			n := 0
			for i := range nodes {
				found, err := partitions(ctx, nodes[i:i+1], topic)
				if (err == nil && len(found) > 0) == there {
					n++
				}
			}
			if n == len(nodes) {
				all++
			}
		}
		if there && all > 0 || all == len(clusters) {
			return true
		}
	}
	return false
}

// known waits until every node knows a topic: as with Apache Kafka a node may learn of it a moment after its creation.
func known(ctx context.Context, nodes []*nodetest.Node, topic string) error {
	for i := range nodes {
		if err := inSync(ctx, nodes[i:i+1], topic, -1); err != nil {
			return err
		}
	}
	return nil
}

// inSync waits until every partition of a topic has so many replicas in sync; -1 = any number.
func inSync(ctx context.Context, nodes []*nodetest.Node, topic string, want int) error {
	ctx, cancel := context.WithTimeout(ctx, faultLimit)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		found, err := partitions(ctx, nodes, topic)
		enough := err == nil && len(found) > 0
		for _, p := range found {
			enough = enough && (len(p.ISR) == want || want < 0)
		}
		if enough {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %q has not %d replicas in sync: %v, %w", topic, want, found, err)
		case <-poll.C:
		}
	}
}

// partitions asks whichever of the nodes answers, and no other.
func partitions(ctx context.Context, nodes []*nodetest.Node, topic string) (kadm.PartitionDetails, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(seeds(nodes), ",")...)) // of its own: it has not heard of others
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	all, err := kadm.NewClient(cl).ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	return all[topic].Partitions, all[topic].Err
}
