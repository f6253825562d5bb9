package compat

import "regexp"

func (k tools) topics() {
	t, topic, second := k.t, k.name("topics"), k.name("topics-assigned")
	k.create(topic, 2, "--config", "retention.ms=7200000")
	k.run("topics", "--create", "--topic", topic).refused(t, "already exists")
	k.run("topics", "--create", "--topic", topic, "--if-not-exists").succeeds(t)
	k.run("topics", "--create", "--topic", "bad/name").refused(t, "bad/name")
	k.run("topics", "--create", "--topic", k.name("topics-three"), "--partitions", "1", "--replication-factor", "3").refused(t, "3")
	k.run("topics", "--create", "--topic", k.name("topics-config"), "--partitions", "1", "--config", "no.such=1").refused(t, "no.such")
	k.run("topics", "--create", "--topic", second, "--replica-assignment", "0,0").succeeds(t)
	contains(t, "topics --describe", k.run("topics", "--describe", "--topic", second).succeeds(t), "PartitionCount: 2")

	k.run("topics", "--alter", "--topic", topic, "--partitions", "3").succeeds(t)
	k.run("topics", "--alter", "--topic", topic, "--partitions", "2").refused(t, "2")
	out := k.run("topics", "--describe", "--topic", topic).succeeds(t)
	contains(t, "topics --describe", out, "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=7200000", "Partition: 2\tLeader: 0\tReplicas: 0\tIsr: 0")
	k.run("topics", "--describe", "--topic", "nonesuch").refused(t, "nonesuch")
	for _, none := range []string{"--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"} {
		lacks(t, none, k.run("topics", "--describe", none).succeeds(t), "Partition:")
	}
	contains(t, "at min ISR", k.run("topics", "--describe", "--at-min-isr-partitions").succeeds(t), "Topic: "+topic+"\tPartition: 0")
	contains(t, "with overrides", k.run("topics", "--describe", "--topics-with-overrides").succeeds(t), "Topic: "+topic, "retention.ms=7200000")
	contains(t, "topics --list", k.run("topics", "--list", "--exclude-internal").succeeds(t), topic+"\n", second+"\n")

	k.run("topics", "--delete", "--topic", "nonesuch").refused(t, "nonesuch")
	k.run("topics", "--delete", "--topic", second).succeeds(t)
	lacks(t, "topics --list", k.run("topics", "--list").succeeds(t), second+"\n")
}

// config runs kafka-configs.sh for one entity.
func (k tools) config(kind, name string, args ...string) *call {
	k.t.Helper()
	entity := []string{"--entity-type", kind, "--entity-default"}
	if name != "" {
		entity = []string{"--entity-type", kind, "--entity-name", name}
	}
	return k.run("configs", append(entity, args...)...)
}

func (k tools) configsOfTopics() {
	t, topic := k.t, k.name("configs")
	k.create(topic, 1, "--config", "retention.ms=7200000")
	k.config("topics", topic, "--alter", "--add-config", "segment.bytes=1048576,max.message.bytes=2000000").succeeds(t)
	k.config("topics", topic, "--alter", "--add-config", "cleanup.policy=[compact,delete]").succeeds(t)
	out := k.config("topics", topic, "--describe").succeeds(t)
	contains(t, "configs of a topic", out, "segment.bytes=1048576", "cleanup.policy=compact,delete", "DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000", "DEFAULT_CONFIG:message.max.bytes=")
	k.config("topics", topic, "--alter", "--delete-config", "max.message.bytes,cleanup.policy").succeeds(t)
	lacks(t, "configs of a topic", k.config("topics", topic, "--describe").succeeds(t), "max.message.bytes=2000000", "cleanup.policy")
	k.config("topics", topic, "--alter", "--add-config", "retention.ms=abc").refused(t, "retention.ms", "abc")
	k.config("topics", "nonesuch", "--alter", "--add-config", "retention.ms=1000").refused(t, "UnknownTopicOrPartitionException")
	out = k.config("topics", topic, "--describe", "--all").succeeds(t)
	for _, name := range topicConfigs {
		contains(t, "all configs of a topic", out, "  "+name+"=")
	}
	contains(t, "configs of all topics", k.run("configs", "--entity-type", "topics", "--describe").succeeds(t), topic, "segment.bytes=1048576")
}

// topicConfigs are settings of topics that every release since 2.7 knows.
var topicConfigs = []string{
	"cleanup.policy", "compression.type", "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms", "index.interval.bytes",
	"max.compaction.lag.ms", "max.message.bytes", "message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas",
	"preallocate", "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms", "unclean.leader.election.enable",
}

func (k tools) configsOfBrokers() {
	t := k.t
	out := k.config("brokers", k.broker(), "--describe", "--all").succeeds(t)
	contains(t, "all configs of a broker", out, "log.retention.hours=", "DEFAULT_CONFIG:", "STATIC_BROKER_CONFIG:", "num.partitions=", "message.max.bytes=")
	k.config("brokers", "", "--alter", "--add-config", "log.retention.ms=86400000").succeeds(t)
	contains(t, "defaults of brokers", k.config("brokers", "", "--describe").succeeds(t), "DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=86400000")
	k.config("brokers", k.broker(), "--alter", "--add-config", "log.retention.ms=43200000").succeeds(t)
	contains(t, "configs of a broker", k.config("brokers", k.broker(), "--describe").succeeds(t), "log.retention.ms=43200000", "DYNAMIC_BROKER_CONFIG:log.retention.ms=43200000")
	k.config("brokers", k.broker(), "--alter", "--delete-config", "log.retention.ms").succeeds(t)
	lacks(t, "configs of a broker", k.config("brokers", k.broker(), "--describe").succeeds(t), "43200000")
	k.config("brokers", "", "--alter", "--delete-config", "log.retention.ms").succeeds(t)
	lacks(t, "defaults of brokers", k.config("brokers", "", "--describe").succeeds(t), "log.retention.ms=86400000")
	k.config("brokers", k.broker(), "--alter", "--add-config", "node.id=7").refused(t, "node.id")
}

func (k tools) configsOfClients() {
	t, client, user := k.t, k.name("client"), k.name("user")
	k.config("clients", client, "--alter", "--add-config", "producer_byte_rate=1048576,consumer_byte_rate=2097152").succeeds(t)
	both := []string{"--entity-type", "users", "--entity-name", user, "--entity-type", "clients", "--entity-name", client}
	k.run("configs", append(both, "--alter", "--add-config", "request_percentage=50")...).succeeds(t)
	k.config("clients", "", "--alter", "--add-config", "producer_byte_rate=5000000").succeeds(t)
	out := k.run("configs", "--entity-type", "clients", "--describe").succeeds(t)
	contains(t, "quotas of clients", out, "client-id '"+client+"'", "producer_byte_rate=1048576.0", "consumer_byte_rate=2097152.0", "default client-id are producer_byte_rate=5000000.0")
	lacks(t, "quotas of clients", out, "request_percentage")
	out = k.run("configs", "--entity-type", "users", "--entity-type", "clients", "--describe").succeeds(t)
	contains(t, "quotas of users and clients", out, "user-principal '"+user+"', client-id '"+client+"' are request_percentage=50.0")
	k.config("clients", client, "--alter", "--delete-config", "producer_byte_rate").succeeds(t)
	out = k.config("clients", client, "--describe").succeeds(t)
	contains(t, "quotas of a client", out, "consumer_byte_rate=2097152.0")
	lacks(t, "quotas of a client", out, "producer_byte_rate")
	k.config("clients", client, "--alter", "--delete-config", "consumer_byte_rate").succeeds(t)
	k.config("clients", "", "--alter", "--delete-config", "producer_byte_rate").succeeds(t)
	k.run("configs", append(both, "--alter", "--delete-config", "request_percentage")...).succeeds(t)
	lacks(t, "quotas after their removal", k.run("configs", "--entity-type", "clients", "--describe").succeeds(t), "byte_rate")
	if k.since('3') {
		k.config("ips", "127.0.0.9", "--alter", "--add-config", "connection_creation_rate=10").succeeds(t)
		contains(t, "quotas of addresses", k.run("configs", "--entity-type", "ips", "--describe").succeeds(t), "ip '127.0.0.9' are connection_creation_rate=10.0")
		k.config("ips", "127.0.0.9", "--alter", "--delete-config", "connection_creation_rate").succeeds(t)
	}
}

func (k tools) configsOfGroups() {
	t, group := k.t, k.name("configured")
	k.config("groups", group, "--alter", "--add-config", "consumer.session.timeout.ms=50000").succeeds(t)
	contains(t, "configs of a group", k.config("groups", group, "--describe").succeeds(t), "consumer.session.timeout.ms=50000", "DYNAMIC_GROUP_CONFIG", "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000")
	contains(t, "configs of groups", k.run("configs", "--entity-type", "groups", "--describe").succeeds(t), "group "+group, "consumer.session.timeout.ms=50000")
	k.config("groups", group, "--alter", "--add-config", "consumer.session.timeout.ms=1").refused(t, "consumer.session.timeout.ms")
	k.config("groups", group, "--alter", "--delete-config", "consumer.session.timeout.ms").succeeds(t)
	lacks(t, "configs of a group", k.config("groups", group, "--describe").succeeds(t), "50000")
}

func (k tools) configsOfMetrics() {
	t, name := k.t, k.name("subscription")
	k.config("client-metrics", name, "--alter", "--add-config", "interval.ms=60000,metrics=[org.apache.kafka.producer.,org.apache.kafka.consumer.]").succeeds(t)
	out := k.config("client-metrics", name, "--describe").succeeds(t)
	contains(t, "client metrics", out, "interval.ms=60000", "metrics=org.apache.kafka.producer.,org.apache.kafka.consumer.")
	contains(t, "client metrics", k.run("configs", "--entity-type", "client-metrics", "--describe").succeeds(t), name, "interval.ms=60000")
	k.config("client-metrics", name, "--alter", "--delete-config", "interval.ms,metrics").succeeds(t)
}

func (k tools) clientMetrics() {
	t, name := k.t, k.name("metrics")
	k.run("client-metrics", "--alter", "--name", name, "--metrics", "org.apache.kafka.producer.", "--interval", "30000", "--match", "client_id=x").succeeds(t)
	contains(t, "client-metrics --list", k.run("client-metrics", "--list").succeeds(t), name)
	contains(t, "client-metrics --describe", k.run("client-metrics", "--describe", "--name", name).succeeds(t), "interval.ms=30000", "match=client_id=x", "metrics=org.apache.kafka.producer.")
	contains(t, "client-metrics --describe", k.run("client-metrics", "--describe").succeeds(t), name)
	k.run("client-metrics", "--delete", "--name", name).succeeds(t)
	lacks(t, "client-metrics --list", k.run("client-metrics", "--list").succeeds(t), name)
}

// acls: they are refused without an authorizer.
func (k tools) acls() {
	const refusal = "SecurityDisabledException"
	k.run("acls", "--list").prints(k.t, refusal)
	k.run("acls", "--add", "--allow-principal", "User:a", "--operation", "Read", "--topic", k.name("acls")).prints(k.t, refusal)
	k.run("acls", "--remove", "--force", "--allow-principal", "User:a", "--operation", "Read", "--topic", k.name("acls")).prints(k.t, refusal)
}

// delegationTokens: Apache Kafka refuses them over PLAINTEXT; a node may have no such API at all.
func (k tools) delegationTokens() {
	refusal := regexp.MustCompile(`Delegation Token requests are not allowed|does not support [A-Z]+_DELEGATION_TOKEN`)
	properties := write(k.t, "client.id=tokens\n")
	for _, what := range [][]string{
		{"--create", "--max-life-time-period", "-1"},
		{"--describe"},
		{"--renew", "--renew-time-period", "-1", "--hmac", "aG1hYw=="},
		{"--expire", "--expiry-time-period", "-1", "--hmac", "aG1hYw=="},
	} {
		if out := k.run("delegation-tokens", append(what, "--command-config", properties)...).refused(k.t); !refusal.MatchString(out) {
			k.t.Errorf("delegation-tokens %s is not refused in words:\n%s", what[0], clip(out))
		}
	}
}
