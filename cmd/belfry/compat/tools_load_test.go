package compat

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

func (k tools) perf() {
	t, topic := k.t, k.name("perf")
	k.create(topic, 2)
	args := []string{"--topic", topic, "--num-records", "3000", "--record-size", "100", "--throughput", "-1", "--producer-props", "bootstrap.servers=" + k.bootstrap, "acks=all"}
	for _, codec := range []string{"none", "lz4"} {
		out := k.input("", "producer-perf-test", append(args, "compression.type="+codec)...).succeeds(t)
		contains(t, "producer-perf-test", out, "3000 records sent", "99.9th")
	}
	messages := "--messages"
	if k.since('4') {
		messages = "--num-records"
	}
	out := k.run("consumer-perf-test", "--topic", topic, messages, "6000", "--group", k.name("perf-group"), "--timeout", "60000").succeeds(t)
	if !regexp.MustCompile(`(?m)^\d{4}-.*, 6000, \d`).MatchString(out) {
		t.Errorf("consumer-perf-test did not read 6000 messages:\n%s", out)
	}
}

func (k tools) endToEnd() {
	topic := k.name("e2e")
	k.create(topic, 1)
	args := []string{k.bootstrap, topic, "200", "all", "100"}
	if k.since('4') {
		args = []string{"--bootstrap-server", k.bootstrap, "--topic", topic, "--num-records", "200", "--producer-acks", "all", "--record-size", "100"}
	}
	out := k.input("", "e2e-latency", args...).succeeds(k.t)
	contains(k.t, "e2e-latency", out, "Avg latency:", "Percentiles: 50th =")
}

func (k tools) verifiable() {
	t, topic, group := k.t, k.name("verifiable"), k.name("verifiable-group")
	k.create(topic, 1)
	out := k.process("verifiable-producer", "--bootstrap-server", k.bootstrap, "--topic", topic, "--max-messages", "50", "--value-prefix", "7", "--acks", "-1")
	contains(t, "verifiable-producer", out, `"name":"producer_send_success"`, `"value":"7.49"`, `"offset":49`, `"sent":50,"acked":50`, `"name":"shutdown_complete"`)
	out = k.process("verifiable-consumer", "--bootstrap-server", k.bootstrap, "--topic", topic, "--group-id", group, "--max-messages", "50", "--reset-policy", "earliest", "--verbose")
	contains(t, "verifiable-consumer", out, `"name":"partitions_assigned"`, `"value":"7.0"`, `"value":"7.49"`, `"name":"offsets_committed"`, `"offset":50`, `"success":true`, `"name":"shutdown_complete"`)
	if n := strings.Count(out, `"name":"record_data"`); n != 50 {
		t.Errorf("verifiable-consumer read %d messages, want 50", n)
	}
}

// replicaVerification asks the leader as a debugging consumer (replica -2). The tool never ends.
func (k tools) replicaVerification() {
	t, topic := k.t, k.name("verified")
	k.create(topic, 1)
	k.produce(topic, numbered("n", 10))
	option := "--topics-include"
	if !k.since('3') {
		option = "--topic-white-list"
	}
	out := k.until("max lag is 0", "replica-verification", "--broker-list", k.bootstrap, option, topic, "--report-interval-ms", "500", "--time", "-2", "--max-wait-ms", "100")
	contains(t, "replica-verification", out, "verification process is started", "for partition "+topic+"-0 at offset 10 among 1 partitions")
	lacks(t, "replica-verification", out, "Exception", "Error")
}

// apiVersions: the node speaks every API that the release's admin tools rest on.
func (k tools) apiVersions() {
	out := k.run("broker-api-versions").succeeds(k.t)
	for i := range max(len(k.nodes), 1) {
		id := k.broker()
		if k.nodes != nil {
			id = strconv.Itoa(i + 1)
		}
		contains(k.t, "broker-api-versions", out, "(id: "+id+" rack: null")
	}
	for key, name := range map[int]string{0: "Produce", 1: "Fetch", 2: "ListOffsets", 3: "Metadata", 8: "OffsetCommit", 11: "JoinGroup", 18: "ApiVersions", 19: "CreateTopics", 32: "DescribeConfigs"} {
		if !regexp.MustCompile(fmt.Sprintf(`%s\(%d\): \d+ to \d+ \[usable: \d+\]`, name, key)).MatchString(out) {
			k.t.Errorf("broker-api-versions does not list %s as usable:\n%s", name, clip(out))
		}
	}
}
