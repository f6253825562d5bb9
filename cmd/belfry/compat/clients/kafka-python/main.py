"""Tries every feature of the compat table with kafka-python.

usage: main.py BOOTSTRAP OLD_BOOTSTRAP PREFIX, with the folder of features.py on the path.
"""
import sys
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

from features import LIMIT, REPLICAS, Member, equal, group_of_two, heard, known, messages, mib, refused, run, survive, until

BOOTSTRAP, OLD_BOOTSTRAP, PREFIX = sys.argv[1:]
MODERN = kafka.__version__ >= "3"  # 2.0.2 lacks what came later


class client:
    """Closes a client of any kind at the end of a with block."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        return self.what

    def __exit__(self, *_):
        self.what.close()


def admin(at=BOOTSTRAP):
    return client(KafkaAdminClient(bootstrap_servers=at))


def producer(at=BOOTSTRAP, **conf):
    if MODERN:
        conf.setdefault("allow_auto_create_topics", False)
    return client(KafkaProducer(bootstrap_servers=at, **conf))


def consumer(*topics, at=BOOTSTRAP, **conf):
    return client(KafkaConsumer(*topics, bootstrap_servers=at, auto_offset_reset="earliest", enable_auto_commit=False, **conf))


def topic(name, partitions=1, configs=None, at=BOOTSTRAP):
    full = PREFIX + name
    with admin(at) as a:
        a.create_topics([NewTopic(full, partitions, REPLICAS, topic_configs=configs)])
    return known(full)


def read(name, n, at=BOOTSTRAP, start=0, **conf):
    """Reads n messages of partition 0 from an offset on."""
    with consumer(at=at, **conf) as c:
        part = TopicPartition(name, 0)
        c.assign([part])
        c.seek(part, start)
        got, end = [], time.monotonic() + LIMIT / 2
        while len(got) < n and time.monotonic() < end:
            for some in c.poll(timeout_ms=200).values():
                got += some
    if len(got) < n:
        raise AssertionError(f"read {len(got)} of {n} messages")
    return got


def send(t, sent, at=BOOTSTRAP, **conf):
    """Sends keys and values and waits for every answer."""
    with producer(at, **conf) as p:
        for future in [p.send(t, key=k, value=v) for k, v in sent]:
            future.get(LIMIT)


def round_trip(t, sent, at=BOOTSTRAP, **conf):
    send(t, sent, at, **conf)
    equal([(m.key, m.value) for m in read(t, len(sent), at)], sent, "messages")


def create_topic():
    name = PREFIX + "create"
    wish = NewTopic(name, 3, REPLICAS, topic_configs={"retention.ms": "3600000"})
    with admin() as a:
        a.create_topics([wish])
        known(name)
        refused(lambda: a.create_topics([wish]), "TopicAlreadyExists", "second creation")
        equal(len(a.describe_topics([name])[0]["partitions"]), 3, "partitions")
        equal(retention(a, name), "3600000", "retention.ms")
        a.create_partitions({name: NewPartitions(5)})
        until(lambda: "5 partitions", lambda: len(a.describe_topics([name])[0]["partitions"]) == 5)
        a.delete_topics([name])
        heard("gone", name)
        equal(name in a.list_topics(), False, "listed after its deletion")


def retention(a, name):
    if MODERN:
        found = a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, ["retention.ms"])])
        return found["topic"][name]["retention.ms"]["value"]
    (answer,) = a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": None})])
    return answer.resources[0][4][0][1]


def codec(name):
    def feature():
        round_trip(topic(f"codec-{name}"), messages(100, name), compression_type=None if name == "none" else name)
    return feature


def idempotent():
    round_trip(topic("idempotent"), messages(100, "idempotent"), enable_idempotence=True, acks="all", batch_size=1000)


def transactional(name):
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name)
    p.init_transactions()
    p.begin_transaction()
    return p


def transactions():
    """A copy with its offsets is committed, a transaction aborted, another committed; a producer whose name was taken is refused."""
    source, target = topic("txn-in"), topic("txn-out")
    part = TopicPartition(source, 0)
    send(source, [(None, v) for v in (b"a", b"b", b"c")])
    with client(transactional(source)) as p, consumer(source, group_id=source) as c:
        got = []

        def polled():
            for some in c.poll(timeout_ms=100).values():
                got.extend(m.value for m in some)
            return len(got) >= 3
        until(lambda: "three messages", polled)
        for value in got:
            p.send(target, value=value)
        p.send_offsets_to_transaction({part: OffsetAndMetadata(3, "", -1)}, c.group_metadata())
        p.commit_transaction()
        for value, end in ((b"aborted", p.abort_transaction), (b"later", p.commit_transaction)):
            p.begin_transaction()
            p.send(target, value=value).get(LIMIT)
            end()
        equal(c.committed(part), 3, "offset committed with a transaction")
        p.begin_transaction()
        with client(transactional(source)) as second:
            second.send(target, value=b"fence")
            second.commit_transaction()
        refused(lambda: p.send(target, value=b"fenced").get(LIMIT), "Fenced|InvalidProducerEpoch|Epoch", "a producer whose name was taken")
        for level, want in (("read_committed", [b"a", b"b", b"c", b"later", b"fence"]), ("read_uncommitted", [b"a", b"b", b"c", b"aborted", b"later", b"fence"])):
            equal([m.value for m in read(target, len(want), isolation_level=level)], want, level)


def failover():
    t = PREFIX + "failover"  # the test has made it
    conf = {"acks": "all", "retries": 1000, "retry_backoff_ms": 100, "max_in_flight_requests_per_connection": 1}
    if MODERN:
        conf["enable_idempotence"] = True
    with producer(**conf) as p, consumer(t, group_id=t, session_timeout_ms=6000, heartbeat_interval_ms=300) as c:
        def put(values):
            for future in [p.send(t, value=v) for v in values]:
                future.get(LIMIT)

        def get():
            got = [m.value for some in c.poll(timeout_ms=200).values() for m in some]
            if got:
                c.commit()
            return got
        survive(put, get, once=MODERN)


class Listener(ConsumerRebalanceListener):
    def __init__(self, share):
        self.share = share

    def on_partitions_assigned(self, assigned):
        self.share.add(p.partition for p in assigned)

    def on_partitions_revoked(self, revoked):
        self.share.remove(p.partition for p in revoked)


def group(name, conf, **kind):
    """Runs the scenario of two members; conf(member) gives what differs from the defaults."""
    t = topic(name, 4)

    def join(member, seen):
        def loop(share, stopping):
            with consumer(group_id=t, client_id=member, session_timeout_ms=6000, heartbeat_interval_ms=300, **conf(member)) as c:
                c.subscribe([t], listener=Listener(share))
                while not stopping():
                    for some in c.poll(timeout_ms=100).values():
                        for m in some:
                            seen(m.key)
                        c.commit()
        return Member(loop)

    with producer() as p:
        def each(keys):
            for future in [p.send(t, key=k, value=b"", partition=i % 4) for i, k in enumerate(keys)]:
                future.get(LIMIT)
        group_of_two(join, each, **kind)


def group_eager():
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    group("eager", lambda _: {"partition_assignment_strategy": [RangePartitionAssignor]})


def group_cooperative():
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    group("cooperative", lambda _: {"partition_assignment_strategy": [CooperativeStickyAssignor]}, cooperative=True)


def group_static():
    from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
    group("static", lambda member: {"group_instance_id": member, "partition_assignment_strategy": [StickyPartitionAssignor]}, static=True)


def commit_resume():
    t = topic("resume")
    part = TopicPartition(t, 0)
    send(t, messages(20, "resume"))

    def first(then=lambda c: None):
        with consumer(t, group_id=t) as c:
            got = []

            def polled():
                for some in c.poll(timeout_ms=100, max_records=5).values():
                    got.extend(m.offset for m in some)
                return got
            until(lambda: "a message", polled)
            then(c)
        return got[0]

    half = OffsetAndMetadata(10, "half-way", -1) if MODERN else OffsetAndMetadata(10, "half-way")
    equal(first(lambda c: c.commit({part: half})), 0, "first offset of a new group")
    with admin() as a:
        found = a.list_group_offsets({t: [part]})[t] if MODERN else a.list_consumer_group_offsets(t)
        equal((found[part].offset, found[part].metadata), (10, "half-way"), "committed")
    equal(first(), 10, "first offset after the return")


def seek_by_time():
    t = topic("time")
    part, base = TopicPartition(t, 0), int(time.time() * 1000) - 100_000
    with producer() as p:
        for i in range(10):
            p.send(t, value=b"t%d" % i, timestamp_ms=base + i * 1000).get(LIMIT)
    with consumer() as c:
        found = c.offsets_for_times({part: base + 4500})[part]
        equal((found.offset, found.timestamp), (5, base + 5000), "offset by time")
        equal(c.offsets_for_times({part: base + 60_000})[part], None, "offset of a time after the last message")
    m = read(t, 1, start=found.offset)[0]
    equal((m.value, m.timestamp), (b"t5", base + 5000), "message at that offset")


def headers():
    t = topic("headers")
    sent = [("a", b"text"), ("a", b"\x00\xff\x80"), ("empty", b"")]
    with producer() as p:
        p.send(t, value=b"v", headers=sent).get(LIMIT)
    equal(list(read(t, 1)[0].headers), sent, "headers")


def tombstone():
    t = topic("tombstone", configs={"cleanup.policy": "compact"})
    with producer() as p:
        for value in (b"v", None, b""):
            p.send(t, key=b"k", value=value).get(LIMIT)
        equal([m.value for m in read(t, 3)], [b"v", None, b""], "values")
        refused(lambda: p.send(t, value=b"no key").get(LIMIT), "InvalidRecord" if MODERN else "UnknownError", "a message without key in a compacted topic")


def large_message():
    t = topic("large")
    room = {"max_request_size": 64 << 20} if MODERN else {"max_request_size": 64 << 20, "buffer_memory": 128 << 20}
    send(t, [(None, mib(9))], **room)
    refused(lambda: send(t, [(None, mib(11))], **room), "MessageSizeTooLarge", "11 MiB")
    equal(read(t, 1)[0].value == mib(9), True, "the large message is the same")


def wrong_topic():
    bad = PREFIX + " no/topic"
    with admin() as a:
        refused(lambda: a.create_topics([NewTopic(bad, 1, 1)]), "InvalidTopic", "creation")
    with producer(max_block_ms=3000) as p:
        refused(lambda: p.send(bad, value=b"v").get(LIMIT), "is illegal" if MODERN else "Timeout", "produce to a bad name")
        refused(lambda: p.send(PREFIX + "missing", value=b"v").get(LIMIT), "UnknownTopicOrPartition|Timeout", "produce to a missing topic")


def unknown_version():
    round_trip(topic("old", at=OLD_BOOTSTRAP), messages(20, "old"), at=OLD_BOOTSTRAP)


def since_3(feature, why):
    return feature if MODERN else why


run([
    ("create-topic", create_topic),
    ("produce-none", codec("none")),
    ("produce-gzip", codec("gzip")),
    ("produce-snappy", codec("snappy")),
    ("produce-lz4", codec("lz4")),
    ("produce-zstd", codec("zstd")),
    ("idempotent", since_3(idempotent, "kafka-python 2.0 has no idempotent producer")),
    ("transactions", since_3(transactions, "kafka-python 2.0 has no transactions")),
    ("group-eager", group_eager),
    ("group-cooperative", since_3(group_cooperative, "kafka-python 2.0 has no cooperative rebalance")),
    ("group-static", since_3(group_static, "kafka-python 2.0 has no group_instance_id")),
    ("group-new-protocol", "kafka-python speaks the classic group protocol only"),
    ("commit-resume", commit_resume),
    ("seek-by-time", seek_by_time),
    ("headers", headers),
    ("tombstone", tombstone),
    ("large-message", large_message),
    ("wrong-topic", wrong_topic),
    ("unknown-version", unknown_version),
    ("failover", failover),
])
