package config

import (
	"math"
	"regexp"
	"sort"
)

const (
	unlimited = math.MaxInt64
	maxInt    = math.MaxInt32
	// largestMessage is the most that message.max.bytes may be.
	// Source: product specification, "Configuration parameters".
	largestMessage = 10_485_760
)

// table is every setting; the order here is by subject, Table's is by name.
// Source of names and meanings: Apache Kafka's broker and topic configuration; of limits and
// defaults where they differ: the product specification.
var table = sorted(identity, network, logs, logTopics, groups, transactions, groupOwn, clientMetrics, capacity, agentRows)

var identity = []Setting{
	{Name: "node.id", Scope: Node, Kind: Int, Default: "0", Min: 0, Max: maxInt, Help: "This broker's ID; fixed when the data directory is first used."},
	{Name: "broker.rack", Scope: Node, Kind: String, Help: "Rack or availability zone of this broker, for replica placement."},
	{Name: "broker.session.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "9000", Min: 200, Max: maxInt, Uniform: true, Help: "A broker that the controller has not heard for this long is taken out of service; others lead its partitions."},
	{Name: "broker.heartbeat.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "2000", Min: 20, Max: maxInt, Help: "How often a broker tells the controller that it lives."},
	{Name: "controlled.shutdown.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "30000", Min: 0, Max: maxInt, Help: "How long a broker that is asked to stop waits until others lead its partitions; 0 = it does not wait."},
	{Name: "version", Scope: Node, Kind: String, Default: "newest", Values: []string{"newest", "1.1.0", "2.3.0", "2.7"}, Uniform: true, Help: "Kafka version of the instance: caps the API versions that clients are offered; cannot be changed once the data directory is formatted."},
	{Name: "instance.flavor", Scope: Node | Agent, Kind: String, Default: "custom", Values: flavorNames(), Help: "Size class of the brokers; sets the partition and connection limits. custom takes them from the settings."},
	{Name: "instance.partition.limit", Scope: Node | Agent, Kind: Long, Default: "0", Min: 0, Max: unlimited, Uniform: true, Help: "Most partitions in the instance, replicas not counted; 0 = the flavor's limit per broker times brokers, unlimited for custom."},
	{Name: "log.dirs", Scope: Node, Kind: List, Default: "./belfry-data", Help: "Directories that hold the message data, separated by commas; the first one also holds the metadata log."},
	{Name: "num.partitions", Scope: Node, Kind: Int, Default: "3", Min: 1, Max: 100, Uniform: true, Help: "Partitions of a topic that is created without a number."},
	{Name: "default.replication.factor", Scope: Node, Kind: Int, Default: "3", Min: 1, Max: 3, Uniform: true, Help: "Replicas of a topic that is created without a number; fewer if there are fewer brokers."},
	{Name: "auto.create.topics.enable", Scope: Node, Kind: Bool, Default: "false", Dynamic: true, Uniform: true, Help: "Whether an unknown topic that is produced to or consumed from is created."},
	{Name: "delete.topic.enable", Scope: Node, Kind: Bool, Default: "true", Uniform: true, Help: "Whether topics can be deleted."},
}

var network = []Setting{
	{Name: "controller.quorum.voters", Scope: Node, Kind: List, Help: "The first controllers of a new cluster, the same on all of them: ID@HOST:PORT of 1, 3 or 5 nodes. All of them must be up to form it. Not looked at once a node belongs to a cluster; empty = this node is alone, or joins one."},
	{Name: "controller.listener", Scope: Node, Kind: String, Help: "HOST:PORT where this node listens to the other nodes of its cluster; empty = its own entry of controller.quorum.voters. A node alone has none unless this is set."},
	{Name: "controller.quorum.fetch.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "1000", Min: 50, Max: maxInt, Uniform: true, Help: "How long a node hears nothing of the leader of the metadata log before another one is elected."},
	{Name: "join", Scope: Node, Kind: Password, Sensitive: true, Help: "Token of belfry cluster join-token, with which this node joins a cluster that is there. Not looked at once it belongs to one."},
	{Name: "cluster.join.tokens", Scope: Node, Kind: List, Dynamic: true, form: checkJoinTokens, Help: "What tells good join tokens: HASH:EXPIRY, several separated by commas, as belfry cluster join-token adds them; a token that does not stand here lets nobody in."},
	{Name: "listeners", Scope: Node, Kind: List, Default: "PLAINTEXT://127.0.0.1:9092", Help: "Where Kafka clients connect: NAME://HOST:PORT, separated by commas. Only PLAINTEXT and PUBLIC (both plaintext) are served yet; beyond loopback only if an address here says so."},
	{Name: "advertised.listeners", Scope: Node, Kind: List, Help: "Addresses told to clients, in the form of listeners; empty = those of listeners."},
	{Name: "inter.broker.listener.name", Scope: Node, Kind: String, Help: "Which of listeners the other brokers connect to; empty = the only one, or the first that is not PUBLIC."},
	{Name: "max.connections", Scope: Node, Kind: Int, Default: "2147483647", Min: 1, Max: maxInt, Dynamic: true, Help: "Most connections of clients at a time; the flavor's limit applies if it is smaller."},
	{Name: "max.connections.per.ip", Scope: Node, Kind: Int, Default: "1000", Min: 100, Max: 20_000, Dynamic: true, Help: "Most connections from one address at a time; one more is closed at once."},
	{Name: "connections.max.idle.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "600000", Min: 5_000, Max: 600_000, Help: "A connection without traffic for this long is closed."},
	{Name: "socket.request.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "104857600", Min: 1 << 20, Max: maxInt, Help: "Largest request frame; a larger one closes the connection. All requests but Produce are limited to 1 MiB."},
	{Name: "queued.max.request.bytes", Scope: Node, Kind: Long, Unit: "bytes", Default: "268435456", Min: 16 << 20, Max: unlimited, Help: "Memory for requests being read and served; when it is used up, connections are read later."},
	{Name: "fetch.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "57671680", Min: 1024, Max: maxInt, Help: "Most bytes of records in one fetch response, except that one batch is always returned."},
	{Name: "max.incremental.fetch.session.cache.slots", Scope: Node, Kind: Int, Default: "1000", Min: 0, Max: 1_000_000, Help: "Most incremental fetch sessions kept."},
}

// joinToken is one entry of cluster.join.tokens: SHA-256 in hex, seconds since 1970.
var joinToken = regexp.MustCompile(`^[0-9a-f]{64}:[0-9]{1,18}$`)

func checkJoinTokens(text string) (want string) {
	for _, part := range split(text) {
		if !joinToken.MatchString(part) {
			return "HASH:EXPIRY, several separated by commas, as belfry cluster join-token makes them"
		}
	}
	return ""
}

var logs = []Setting{
	{Name: "log.retention.hours", Scope: Node, Kind: Int, Unit: "hours", Default: "72", Min: 1, Max: 168, Dynamic: true, Uniform: true, Help: "How long messages are kept, unless the topic says otherwise."},
	{Name: "log.retention.minutes", Scope: Node, Kind: Int, Unit: "minutes", Min: 1, Max: maxInt, Dynamic: true, Uniform: true, Help: "The same in minutes; goes before log.retention.hours."},
	{Name: "log.retention.ms", Scope: Node, Kind: Long, Unit: "ms", Min: -1, Max: unlimited, Dynamic: true, Uniform: true, Help: "The same in milliseconds; goes before both; -1 = for ever."},
	{Name: "log.retention.bytes", Scope: Node, Kind: Long, Unit: "bytes", Default: "-1", Min: -1, Max: unlimited, Dynamic: true, Uniform: true, Help: "Bytes kept in a partition; -1 = no limit."},
	{Name: "log.retention.check.interval.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "300000", Min: 100, Max: unlimited, Help: "How often retention is looked at."},
	{Name: "log.segment.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "1073741824", Min: 1 << 10, Max: maxInt, Dynamic: true, Help: "A segment file is closed at this size."},
	{Name: "log.roll.hours", Scope: Node, Kind: Int, Unit: "hours", Default: "168", Min: 1, Max: maxInt, Help: "A segment file is closed at this age."},
	{Name: "log.roll.ms", Scope: Node, Kind: Long, Unit: "ms", Min: 1, Max: unlimited, Dynamic: true, Help: "The same in milliseconds; goes before log.roll.hours."},
	{Name: "log.roll.jitter.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "0", Min: 0, Max: unlimited, Dynamic: true, Help: "At most this much is taken off the age at random, so that not all segments close at once."},
	{Name: "log.index.size.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "10485760", Min: 4096, Max: maxInt, Dynamic: true, Help: "Largest offset index of a segment; a full one closes the segment."},
	{Name: "log.index.interval.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "4096", Min: 0, Max: maxInt, Dynamic: true, Help: "Bytes of messages between two entries of an index."},
	{Name: "log.flush.interval.messages", Scope: Node, Kind: Long, Min: 1, Max: unlimited, Dynamic: true, Uniform: true, Help: "Messages after which a partition is flushed to disk; 1 = before every answer. Not set: 1 for topics with fewer than 3 replicas or min.insync.replicas below 2, else left to the operating system."},
	{Name: "log.flush.interval.ms", Scope: Node, Kind: Long, Unit: "ms", Min: 1, Max: unlimited, Dynamic: true, Help: "Longest time that a message stays unflushed; not set = no limit."},
	{Name: "log.flush.offset.checkpoint.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "60000", Min: 100, Max: maxInt, Help: "How often recovery points and log starts are written down."},
	{Name: "log.preallocate", Scope: Node, Kind: Bool, Default: "false", Dynamic: true, Help: "Whether a segment file's space is taken from the file system when it is created."},
	{Name: "log.segment.delete.delay.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "60000", Min: 0, Max: unlimited, Dynamic: true, Help: "How long a deleted segment file stays on disk under another name."},
	{Name: "log.cleanup.policy", Scope: Node, Kind: List, Default: "delete", Values: []string{"delete", "compact"}, Dynamic: true, Uniform: true, Help: "What is done with old segments: delete, compact or both."},
	{Name: "log.cleaner.min.cleanable.ratio", Scope: Node, Kind: Double, Default: "0.5", Min: 0, Max: 1, Dynamic: true, Help: "Share of uncompacted bytes at which a log is compacted."},
	{Name: "log.cleaner.delete.retention.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "86400000", Min: 0, Max: unlimited, Dynamic: true, Help: "How long tombstones stay in a compacted log."},
	{Name: "log.cleaner.min.compaction.lag.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "0", Min: 0, Max: unlimited, Dynamic: true, Help: "Shortest time that a message stays uncompacted."},
	{Name: "log.cleaner.max.compaction.lag.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "9223372036854775807", Min: 1, Max: unlimited, Dynamic: true, Help: "Longest time that a message stays uncompacted."},
	{Name: "replica.alter.log.dirs.io.max.bytes.per.second", Scope: Node, Kind: Long, Unit: "bytes/s", Default: "9223372036854775807", Min: 1, Max: unlimited, Dynamic: true, Help: "How fast a partition that moves to another log directory is copied."},
	{Name: "log.cleaner.backoff.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "15000", Min: 10, Max: unlimited, Help: "How long the cleaner rests when there is nothing to compact."},
	{Name: "log.message.timestamp.type", Scope: Node, Kind: String, Default: "CreateTime", Values: []string{"CreateTime", "LogAppendTime"}, Dynamic: true, Uniform: true, Help: "Whose clock a message's time comes from."},
	{Name: "log.message.timestamp.before.max.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "9223372036854775807", Min: 0, Max: unlimited, Dynamic: true, Uniform: true, Help: "A message whose time is further in the past is refused."},
	{Name: "log.message.timestamp.after.max.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "3600000", Min: 0, Max: unlimited, Dynamic: true, Uniform: true, Help: "A message whose time is further in the future is refused."},
	{Name: "message.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "10485760", Min: 0, Max: largestMessage, Dynamic: true, Uniform: true, Help: "Largest record batch, as sent; one uncompressed record alone in its batch is measured by its key, value and headers."},
	{Name: "compression.type", Scope: Node, Kind: String, Default: "producer", Values: codecs, Dynamic: true, Uniform: true, Help: "Codec that messages are stored with; producer = as sent."},
	{Name: "min.insync.replicas", Scope: Node, Kind: Int, Default: "1", Min: 1, Max: 3, Dynamic: true, Uniform: true, Help: "In-sync replicas that a produce with acks=all needs."},
	{Name: "unclean.leader.election.enable", Scope: Node, Kind: Bool, Default: "false", Dynamic: true, Uniform: true, Help: "Whether a replica that is not in sync may lead, losing messages, when no other is left."},
	{Name: "auto.leader.rebalance.enable", Scope: Node, Kind: Bool, Default: "true", Uniform: true, Help: "Whether partitions go back to their preferred leaders by themselves."},
	{Name: "leader.imbalance.check.interval.seconds", Scope: Node, Kind: Long, Unit: "seconds", Default: "300", Min: 1, Max: maxInt, Help: "How often that is looked at."},
	{Name: "leader.imbalance.per.broker.percentage", Scope: Node, Kind: Int, Unit: "%", Default: "10", Min: 0, Max: 100, Help: "Share of the partitions preferring a broker that others may lead before it takes them back."},
	{Name: "replica.lag.time.max.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "30000", Min: 100, Max: maxInt, Uniform: true, Help: "A follower that has not caught up with its leader for so long leaves the in-sync set."},
	{Name: "replica.fetch.wait.max.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "500", Min: 1, Max: maxInt, Help: "How long a leader lets a follower's fetch wait for new messages."},
	{Name: "replica.fetch.min.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "1", Min: 0, Max: maxInt, Help: "Fewest bytes for which a leader answers a follower's fetch before its time."},
	{Name: "replica.fetch.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "1048576", Min: 1, Max: maxInt, Help: "Most bytes that a follower fetches of one partition at once, except that one batch is always returned."},
	{Name: "replica.fetch.response.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "10485760", Min: 1, Max: maxInt, Help: "Most bytes that a follower fetches at once, except that one batch is always returned."},
	{Name: "replica.fetch.backoff.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "1000", Min: 1, Max: maxInt, Help: "Longest wait of a follower after its fetch of a partition has failed; it begins with 20 ms and doubles."},
	{Name: "replica.socket.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "30000", Min: 1000, Max: maxInt, Help: "How long a follower waits for an answer beyond the time that its fetch may wait."},
	{Name: "replica.selector.class", Scope: Node, Kind: String, Default: "org.apache.kafka.common.replica.LeaderSelector", Values: []string{"org.apache.kafka.common.replica.LeaderSelector", "org.apache.kafka.common.replica.RackAwareReplicaSelector"}, Uniform: true, Help: "From which replica consumers are told to read: the leader, or one in their own rack (their client.rack, the brokers' broker.rack) that is in sync."},
	{Name: "leader.replication.throttled.rate", Scope: Node, Kind: Long, Unit: "bytes/s", Default: "9223372036854775807", Min: 0, Max: unlimited, Dynamic: true, Help: "How fast this broker, as a leader, sends to followers of the partitions in leader.replication.throttled.replicas that are not in sync; all that goes to followers of these partitions counts."},
	{Name: "follower.replication.throttled.rate", Scope: Node, Kind: Long, Unit: "bytes/s", Default: "9223372036854775807", Min: 0, Max: unlimited, Dynamic: true, Help: "How fast this broker, as a follower, fetches the partitions in follower.replication.throttled.replicas while it is not in sync with their leaders."},
	{Name: "num.replica.fetchers", Scope: Node, Kind: Int, Default: "1", Min: 1, Max: 64, Help: "Requests that a follower has under way with each leader at a time."},
	{Name: "producer.id.expiration.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "86400000", Min: 1, Max: maxInt, Uniform: true, Help: "A producer's sequence state is forgotten when it was silent for this long."},
	{Name: "storage.reserve.bytes", Scope: Node, Kind: Size, Unit: "bytes", Default: "16MB", Min: 0, Max: 1 << 40, Help: "Space held back in each log directory, so that a full disk stops neither start-up nor offset commits."},
}

var codecs = []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}

var logTopics = []Setting{
	topicRow("retention.ms", Long, "ms", -1, unlimited, "How long messages are kept; -1 = for ever.", Link{"log.retention.ms", 1}, Link{"log.retention.minutes", 60_000}, Link{"log.retention.hours", 3_600_000}),
	topicRow("retention.bytes", Long, "bytes", -1, unlimited, "Bytes kept in a partition; -1 = no limit.", Link{"log.retention.bytes", 1}),
	topicRow("segment.bytes", Int, "bytes", 1<<10, maxInt, "A segment file is closed at this size.", Link{"log.segment.bytes", 1}),
	topicRow("segment.ms", Long, "ms", 1, unlimited, "A segment file is closed at this age.", Link{"log.roll.ms", 1}, Link{"log.roll.hours", 3_600_000}),
	topicRow("segment.jitter.ms", Long, "ms", 0, unlimited, "At most this much is taken off segment.ms at random.", Link{"log.roll.jitter.ms", 1}),
	topicRow("segment.index.bytes", Int, "bytes", 4096, maxInt, "Largest offset index of a segment.", Link{"log.index.size.max.bytes", 1}),
	topicRow("index.interval.bytes", Int, "bytes", 0, maxInt, "Bytes of messages between two entries of an index.", Link{"log.index.interval.bytes", 1}),
	topicRow("flush.messages", Long, "", 1, unlimited, "Messages after which a partition is flushed to disk; 1 = before every answer. Not set: 1 with fewer than 3 replicas or min.insync.replicas below 2, else left to the operating system.", Link{"log.flush.interval.messages", 1}),
	topicRow("flush.ms", Long, "ms", 1, unlimited, "Longest time that a message stays unflushed.", Link{"log.flush.interval.ms", 1}),
	topicRow("max.message.bytes", Int, "bytes", 0, largestMessage, "Largest record batch, as sent; one uncompressed record alone in its batch is measured by its key, value and headers.", Link{"message.max.bytes", 1}),
	topicRow("min.insync.replicas", Int, "", 1, 3, "In-sync replicas that a produce with acks=all needs.", Link{"min.insync.replicas", 1}),
	topicRow("min.cleanable.dirty.ratio", Double, "", 0, 1, "Share of uncompacted bytes at which the log is compacted.", Link{"log.cleaner.min.cleanable.ratio", 1}),
	topicRow("min.compaction.lag.ms", Long, "ms", 0, unlimited, "Shortest time that a message stays uncompacted.", Link{"log.cleaner.min.compaction.lag.ms", 1}),
	topicRow("max.compaction.lag.ms", Long, "ms", 1, unlimited, "Longest time that a message stays uncompacted.", Link{"log.cleaner.max.compaction.lag.ms", 1}),
	topicRow("delete.retention.ms", Long, "ms", 0, unlimited, "How long tombstones stay in a compacted log.", Link{"log.cleaner.delete.retention.ms", 1}),
	topicRow("file.delete.delay.ms", Long, "ms", 0, unlimited, "How long a deleted segment file stays on disk under another name.", Link{"log.segment.delete.delay.ms", 1}),
	topicRow("preallocate", Bool, "", 0, 0, "Whether a segment file's space is taken when it is created.", Link{"log.preallocate", 1}),
	topicRow("message.timestamp.before.max.ms", Long, "ms", 0, unlimited, "A message whose time is further in the past is refused.", Link{"log.message.timestamp.before.max.ms", 1}),
	topicRow("message.timestamp.after.max.ms", Long, "ms", 0, unlimited, "A message whose time is further in the future is refused.", Link{"log.message.timestamp.after.max.ms", 1}),
	topicRow("unclean.leader.election.enable", Bool, "", 0, 0, "Whether a replica that is not in sync may lead, losing messages, when no other is left.", Link{"unclean.leader.election.enable", 1}),
	throttledRow("leader.replication.throttled.replicas", "Replicas that leader.replication.throttled.rate of their brokers holds for while they lead: PARTITION:BROKER, several separated by commas, or * for all."),
	throttledRow("follower.replication.throttled.replicas", "Replicas that follower.replication.throttled.rate of their brokers holds for while they follow: PARTITION:BROKER, several separated by commas, or * for all."),
	withValues(topicRow("cleanup.policy", List, "", 0, 0, "What is done with old segments: delete, compact or both.", Link{"log.cleanup.policy", 1}), "delete", "compact"),
	withValues(topicRow("compression.type", String, "", 0, 0, "Codec that messages are stored with; producer = as sent.", Link{"compression.type", 1}), codecs...),
	withValues(topicRow("message.timestamp.type", String, "", 0, 0, "Whose clock a message's time comes from.", Link{"log.message.timestamp.type", 1}), "CreateTime", "LogAppendTime"),
}

var groups = []Setting{
	{Name: "offsets.topic.num.partitions", Scope: Node, Kind: Int, Default: "50", Min: 1, Max: 1000, Uniform: true, Help: "Partitions of __consumer_offsets when it is created."},
	{Name: "offsets.topic.replication.factor", Scope: Node, Kind: Short, Default: "3", Min: 1, Max: 32, Uniform: true, Help: "Replicas of __consumer_offsets when it is created; fewer if there are fewer brokers."},
	{Name: "offsets.topic.segment.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "104857600", Min: 1 << 10, Max: maxInt, Help: "Segment size of __consumer_offsets."},
	{Name: "offsets.retention.minutes", Scope: Node, Kind: Int, Unit: "minutes", Default: "20160", Min: 1, Max: maxInt, Uniform: true, Help: "How long the offsets of a group without members are kept."},
	{Name: "offsets.retention.check.interval.ms", Scope: Node, Kind: Long, Unit: "ms", Default: "600000", Min: 1, Max: unlimited, Help: "How often offsets are looked at for expiry."},
	{Name: "offsets.commit.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "5000", Min: 1, Max: maxInt, Help: "How long an offset commit waits to be stored before it is answered with an error."},
	{Name: "offset.metadata.max.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "4096", Min: 0, Max: 1 << 20, Uniform: true, Help: "Largest metadata text that comes with a committed offset."},
	{Name: "group.min.session.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "6000", Min: 6_000, Max: 300_000, Uniform: true, Help: "Shortest session time-out a member may ask for."},
	{Name: "group.max.session.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "1800000", Min: 6_000, Max: 1_800_000, Uniform: true, Help: "Longest session time-out a member may ask for."},
	{Name: "group.initial.rebalance.delay.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "3000", Min: 0, Max: maxInt, Uniform: true, Help: "How long a new group waits for more members before its first rebalance."},
	{Name: "group.max.size", Scope: Node, Kind: Int, Default: "2147483647", Min: 1, Max: maxInt, Uniform: true, Help: "Most members of one classic group."},
	{Name: "group.consumer.session.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "45000", Min: 1, Max: maxInt, Uniform: true, Help: "How long a member of the consumer protocol may be silent before it is taken out."},
	{Name: "group.consumer.min.session.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "45000", Min: 1, Max: maxInt, Uniform: true, Help: "Shortest session time-out that may be set for one group."},
	{Name: "group.consumer.max.session.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "60000", Min: 1, Max: maxInt, Uniform: true, Help: "Longest session time-out that may be set for one group."},
	{Name: "group.consumer.heartbeat.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "5000", Min: 1, Max: maxInt, Uniform: true, Help: "How often the members of the consumer protocol are told to send heartbeats."},
	{Name: "group.consumer.min.heartbeat.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "5000", Min: 1, Max: maxInt, Uniform: true, Help: "Shortest heartbeat interval that may be set for one group."},
	{Name: "group.consumer.max.heartbeat.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "15000", Min: 1, Max: maxInt, Uniform: true, Help: "Longest heartbeat interval that may be set for one group."},
	{Name: "group.consumer.max.size", Scope: Node, Kind: Int, Default: "2147483647", Min: 1, Max: maxInt, Uniform: true, Help: "Most members of one group of the consumer protocol."},
	{Name: "group.consumer.assignors", Scope: Node, Kind: List, Default: "uniform,range", Values: []string{"uniform", "range"}, Uniform: true, Help: "Server-side assignors that members may ask for; the first one is the default."},
	{Name: "group.consumer.migration.policy", Scope: Node, Kind: String, Default: "bidirectional", Values: []string{"bidirectional", "upgrade", "downgrade", "disabled"}, Uniform: true, Help: "Whether groups with members may go over from the classic protocol to the consumer protocol (upgrade), back (downgrade), both or neither."},
}

var transactions = []Setting{
	{Name: "transaction.state.log.num.partitions", Scope: Node, Kind: Int, Default: "50", Min: 1, Max: 1000, Uniform: true, Help: "Partitions of __transaction_state when it is created."},
	{Name: "transaction.state.log.replication.factor", Scope: Node, Kind: Short, Default: "3", Min: 1, Max: 32, Uniform: true, Help: "Replicas of __transaction_state when it is created; fewer if there are fewer brokers."},
	{Name: "transaction.state.log.min.isr", Scope: Node, Kind: Int, Default: "2", Min: 1, Max: 3, Uniform: true, Help: "min.insync.replicas of __transaction_state when it is created; fewer if it has fewer replicas."},
	{Name: "transaction.state.log.segment.bytes", Scope: Node, Kind: Int, Unit: "bytes", Default: "104857600", Min: 1 << 10, Max: maxInt, Help: "Segment size of __transaction_state."},
	{Name: "transaction.max.timeout.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "900000", Min: 1, Max: maxInt, Uniform: true, Help: "Longest time-out of its transactions that a producer may ask for."},
	{Name: "transaction.abort.timed.out.transaction.cleanup.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "10000", Min: 1, Max: maxInt, Help: "How often transactions are looked at that take longer than their time-out; these are aborted."},
	{Name: "transactional.id.expiration.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "604800000", Min: 1, Max: maxInt, Uniform: true, Help: "A transactional ID without an open transaction is forgotten when it was not used for this long."},
	{Name: "transaction.remove.expired.transaction.cleanup.interval.ms", Scope: Node, Kind: Int, Unit: "ms", Default: "3600000", Min: 1, Max: maxInt, Help: "How often transactional IDs are looked at for expiry."},
	{Name: "transaction.partition.verification.enable", Scope: Node, Kind: Bool, Default: "true", Dynamic: true, Uniform: true, Help: "Whether the coordinator is asked before a transaction's first records are taken into a partition, so that none is left open for ever."},
}

// groupOwn are the settings of one group of the consumer protocol.
// Source: KIP-848, KIP-1043.
var groupOwn = []Setting{
	{Name: "consumer.session.timeout.ms", Scope: Group, Kind: Int, Unit: "ms", Min: 1, Max: maxInt, Dynamic: true, Follows: []Link{{"group.consumer.session.timeout.ms", 1}}, Help: "How long a member of the group may be silent before it is taken out; kept between group.consumer.min.session.timeout.ms and group.consumer.max.session.timeout.ms."},
	{Name: "consumer.heartbeat.interval.ms", Scope: Group, Kind: Int, Unit: "ms", Min: 1, Max: maxInt, Dynamic: true, Follows: []Link{{"group.consumer.heartbeat.interval.ms", 1}}, Help: "How often the group's members are told to send heartbeats; kept between group.consumer.min.heartbeat.interval.ms and group.consumer.max.heartbeat.interval.ms."},
}

func topicRow(name string, k Kind, unit string, low, high float64, help string, follows ...Link) Setting {
	return Setting{Name: name, Scope: Topic, Kind: k, Unit: unit, Min: low, Max: high, Dynamic: true, Follows: follows, Help: help}
}

// throttledRow is a list of replicas. Source: KIP-73.
func throttledRow(name, help string) Setting {
	return Setting{Name: name, Scope: Topic, Kind: List, Dynamic: true, Help: help, form: checkThrottled}
}

func checkThrottled(text string) (want string) {
	if _, err := ParseReplicas(text); err != nil {
		return "* or PARTITION:BROKER, several separated by commas"
	}
	return ""
}

func withValues(s Setting, values ...string) Setting {
	s.Values = values
	return s
}

func sorted(parts ...[]Setting) []Setting {
	var all []Setting
	for _, p := range parts {
		all = append(all, p...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Table gives all settings sorted by name. Read only.
func Table() []Setting { return table }

// Lookup finds one row of a scope.
func Lookup(scope Scope, name string) (Setting, bool) {
	i := sort.Search(len(table), func(i int) bool { return table[i].Name >= name })
	for ; i < len(table) && table[i].Name == name; i++ {
		if table[i].Scope&scope != 0 {
			return table[i], true
		}
	}
	return Setting{}, false
}
