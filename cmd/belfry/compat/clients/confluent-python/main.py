"""Tries every feature of the compat table with confluent-kafka, the Python binding of librdkafka.

usage: main.py BOOTSTRAP OLD_BOOTSTRAP PREFIX, with the folder of features.py on the path.
"""
import functools
import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from features import LIMIT, REPLICAS, Lacks, Member, equal, group_of_two, heard, known, messages, mib, refused, run, survive, until

BOOTSTRAP, OLD_BOOTSTRAP, PREFIX = sys.argv[1:]
LIBRDKAFKA = confluent_kafka.libversion()[1]
FIRST_NEW_PROTOCOL = 0x020C0000  # 2.12: from there on the protocol of KIP-848 counts as finished
print("librdkafka", confluent_kafka.libversion()[0], file=sys.stderr)


@functools.cache  # a client that nobody holds ends, and its answers with it
def admin(at=BOOTSTRAP):
    return AdminClient({"bootstrap.servers": at})


def wait(futures):
    """Waits for the futures of an admin call, which come by object."""
    return {what: future.result(LIMIT) for what, future in futures.items()}


def topic(name, partitions=1, config=None, at=BOOTSTRAP):
    full = PREFIX + name
    wait(admin(at).create_topics([NewTopic(full, partitions, REPLICAS, config=config or {})]))
    return known(full)


def send(t, sent, at=BOOTSTRAP, **conf):
    """Produces dictionaries of produce's arguments and waits until all are delivered."""
    base = {"bootstrap.servers": at, "message.timeout.ms": 10000, "topic.metadata.propagation.max.ms": 1000, "linger.ms": 5}
    p, errors = Producer({**base, **{k.replace("_", "."): v for k, v in conf.items()}}), []
    for one in sent:
        p.produce(t, on_delivery=lambda err, _: err and errors.append(err), **one)
    left = p.flush(LIMIT / 2)
    if errors:
        raise AssertionError(f"{len(errors)} not delivered, the first with {errors[0].name()}: {errors[0].str()}")
    equal(left, 0, "messages without an answer")


def pairs(sent):
    return [{"key": k, "value": v} for k, v in sent]


def poll(c, n):
    """Gives n messages."""
    got, end = [], time.monotonic() + LIMIT / 2
    while len(got) < n:
        if time.monotonic() > end:
            raise AssertionError(f"read {len(got)} of {n} messages")
        m = c.poll(0.2)
        if m is None:
            continue
        if m.error():
            raise AssertionError(f"consumer: {m.error()}")
        got.append(m)
    return got


def consumer(group, at=BOOTSTRAP, conf=None):
    return Consumer({"bootstrap.servers": at, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.wait.max.ms": 100, **(conf or {})})


def read(t, n, at=BOOTSTRAP, start=0):
    """Reads n messages of partition 0 from an offset on."""
    c = consumer(t + "-reader", at)
    try:
        c.assign([TopicPartition(t, 0, start)])
        return poll(c, n)
    finally:
        c.close()


def round_trip(t, sent, at=BOOTSTRAP, **conf):
    send(t, pairs(sent), at, **conf)
    equal([(m.key(), m.value()) for m in read(t, len(sent), at)], sent, "messages")


def create_topic():
    name = PREFIX + "create"
    a, wish = admin(), NewTopic(name, 3, REPLICAS, config={"retention.ms": "3600000"})
    wait(a.create_topics([wish]))
    known(name)
    refused(lambda: wait(a.create_topics([wish])), "TOPIC_ALREADY_EXISTS", "second creation")
    equal(sorted(a.list_topics(name, timeout=LIMIT).topics[name].partitions), [0, 1, 2], "partitions")
    (entries,) = wait(a.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name)])).values()
    equal(entries["retention.ms"].value, "3600000", "retention.ms")
    wait(a.create_partitions([NewPartitions(name, 5)]))
    until(lambda: "5 partitions", lambda: len(a.list_topics(name, timeout=LIMIT).topics[name].partitions) == 5)
    wait(a.delete_topics([name]))
    heard("gone", name)
    equal(name in a.list_topics(timeout=LIMIT).topics, False, "listed after its deletion")


def codec(name):
    return lambda: round_trip(topic(f"codec-{name}"), messages(100, name), compression_type=name)


def idempotent():
    round_trip(topic("idempotent"), messages(100, "idempotent"), enable_idempotence=True, batch_num_messages=7)


def transactional(name):
    p = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name, "linger.ms": 5})
    p.init_transactions(LIMIT / 2)
    p.begin_transaction()
    return p


def transactions():
    """A copy with its offsets is committed, a transaction aborted, another committed; a producer whose name was taken is refused."""
    source, target = topic("txn-in"), topic("txn-out")
    send(source, [{"value": v} for v in (b"a", b"b", b"c")])
    p, c = transactional(source), consumer(source)
    try:
        c.subscribe([source])
        for m in poll(c, 3):
            p.produce(target, value=m.value())
        p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), LIMIT / 2)
        p.commit_transaction(LIMIT / 2)
        for value, end in ((b"aborted", p.abort_transaction), (b"later", p.commit_transaction)):
            p.begin_transaction()
            p.produce(target, value=value)
            p.flush(LIMIT / 2)
            end(LIMIT / 2)
        (found,) = c.committed([TopicPartition(source, 0)], timeout=LIMIT)
        equal(found.offset, 3, "offset committed with a transaction")
    finally:
        c.close()
    p.begin_transaction()
    second = transactional(source)
    second.produce(target, value=b"fence")
    second.commit_transaction(LIMIT / 2)
    p.produce(target, value=b"fenced")
    refused(lambda: p.commit_transaction(LIMIT / 2), "_FENCED|PRODUCER_FENCED|INVALID_PRODUCER_EPOCH", "a producer whose name was taken")
    for level, want in (("read_committed", [b"a", b"b", b"c", b"later", b"fence"]), ("read_uncommitted", [b"a", b"b", b"c", b"aborted", b"later", b"fence"])):
        c = consumer(target + level, conf={"isolation.level": level})
        try:
            c.assign([TopicPartition(target, 0, 0)])
            equal([m.value() for m in poll(c, len(want))], want, level)
        finally:
            c.close()


def failover():
    t = PREFIX + "failover"  # the test has made it
    p, c = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "linger.ms": 5}), consumer(t)

    def put(values):
        errors = []
        for value in values:
            p.produce(t, value=value, on_delivery=lambda err, _: err and errors.append(err))
        equal((p.flush(LIMIT), errors), (0, []), "messages without an answer, errors")

    def get():
        got = [m for m in c.consume(100, 0.2) if not m.error()]
        if got:
            c.commit(got[-1], asynchronous=False)
        return [m.value() for m in got]
    try:
        c.subscribe([t])
        survive(put, get)
    finally:
        c.close()


def group(name, conf, **kind):
    """Runs the scenario of two members; conf(member) gives what differs from the defaults."""
    t = topic(name, 4)

    def join(member, seen):
        def loop(share, stopping):
            c = consumer(t, conf={"client.id": member, **conf(member)})
            c.subscribe([t], on_assign=lambda _, ps: share.add(p.partition for p in ps),
                        on_revoke=lambda _, ps: share.remove(p.partition for p in ps))
            try:
                while not stopping():
                    m = c.poll(0.1)
                    if m is not None and m.error():
                        raise AssertionError(f"consumer: {m.error()}")
                    if m is not None:
                        seen(m.key())
                        c.commit(m, asynchronous=False)
            finally:
                c.close()
        return Member(loop)

    group_of_two(join, lambda keys: send(t, [{"key": k, "value": b"", "partition": i % 4} for i, k in enumerate(keys)]), **kind)


def classic(strategy, **more):
    return {"partition.assignment.strategy": strategy, "session.timeout.ms": 6000, "heartbeat.interval.ms": 300, **more}


def group_eager():
    group("eager", lambda _: classic("range"))


def group_cooperative():
    group("cooperative", lambda _: classic("cooperative-sticky"), cooperative=True)


def group_static():
    group("static", lambda member: classic("range", **{"group.instance.id": member}), static=True)


def group_new_protocol():
    if LIBRDKAFKA < FIRST_NEW_PROTOCOL:
        raise Lacks(f"librdkafka {confluent_kafka.libversion()[0]} has no group.protocol=consumer")
    group("new", lambda _: {"group.protocol": "consumer"}, cooperative=True)


def commit_resume():
    t = topic("resume")
    send(t, pairs(messages(20, "resume")))

    def first(then=lambda c: None):
        c = consumer(t)
        try:
            c.subscribe([t])
            offset = poll(c, 1)[0].offset()
            then(c)
            return offset
        finally:
            c.close()

    half = TopicPartition(t, 0, 10)
    if hasattr(half, "metadata"):
        half = TopicPartition(t, 0, 10, "half-way")
    equal(first(lambda c: c.commit(offsets=[half], asynchronous=False)), 0, "first offset of a new group")

    def committed(c):
        (found,) = c.committed([TopicPartition(t, 0)], timeout=LIMIT)
        equal((found.offset, getattr(found, "metadata", None)), (10, getattr(half, "metadata", None)), "committed")
    equal(first(committed), 10, "first offset after the return")


def seek_by_time():
    t, base = topic("time"), int(time.time() * 1000) - 100_000
    send(t, [{"value": b"t%d" % i, "timestamp": base + i * 1000} for i in range(10)])
    c = consumer(t)
    try:
        (found,) = c.offsets_for_times([TopicPartition(t, 0, base + 4500)], timeout=LIMIT)
        equal(found.offset, 5, "offset by time")
        (after,) = c.offsets_for_times([TopicPartition(t, 0, base + 60_000)], timeout=LIMIT)
        equal(after.offset, confluent_kafka.OFFSET_END, "offset of a time after the last message")
        c.assign([TopicPartition(t, 0, found.offset)])
        (m,) = poll(c, 1)
        equal((m.value(), m.timestamp()[1]), (b"t5", base + 5000), "message at that offset")
    finally:
        c.close()


def headers():
    t = topic("headers")
    sent = [("a", b"text"), ("a", b"\x00\xff\x80"), ("empty", b""), ("null", None)]
    send(t, [{"value": b"v", "headers": sent}])
    equal(read(t, 1)[0].headers(), sent, "headers")


def tombstone():
    t = topic("tombstone", config={"cleanup.policy": "compact"})
    send(t, [{"key": b"k", "value": value} for value in (b"v", None, b"")])
    equal([m.value() for m in read(t, 3)], [b"v", None, b""], "values")
    refused(lambda: send(t, [{"value": b"no key"}]), "INVALID_RECORD", "a message without key in a compacted topic")


def large_message():
    t = topic("large")
    send(t, [{"value": mib(9)}], message_max_bytes=64 << 20)
    equal(read(t, 1)[0].value() == mib(9), True, "the large message is the same")
    refused(lambda: send(t, [{"value": mib(11)}], message_max_bytes=64 << 20), "MSG_SIZE_TOO_LARGE", "11 MiB")


def wrong_topic():
    bad = PREFIX + " no/topic"
    refused(lambda: wait(admin().create_topics([NewTopic(bad, 1, 1)])), "TOPIC_EXCEPTION", "creation")
    refused(lambda: send(bad, [{"value": b"v"}]), "TOPIC_EXCEPTION|_UNKNOWN_TOPIC", "produce to a bad name")
    refused(lambda: send(PREFIX + "missing", [{"value": b"v"}]), "UNKNOWN_TOPIC", "produce to a missing topic")


def unknown_version():
    round_trip(topic("old", at=OLD_BOOTSTRAP), messages(20, "old"), at=OLD_BOOTSTRAP)


run([
    ("create-topic", create_topic),
    ("produce-none", codec("none")),
    ("produce-gzip", codec("gzip")),
    ("produce-snappy", codec("snappy")),
    ("produce-lz4", codec("lz4")),
    ("produce-zstd", codec("zstd")),
    ("idempotent", idempotent),
    ("transactions", transactions),
    ("group-eager", group_eager),
    ("group-cooperative", group_cooperative),
    ("group-static", group_static),
    ("group-new-protocol", group_new_protocol),
    ("commit-resume", commit_resume),
    ("seek-by-time", seek_by_time),
    ("headers", headers),
    ("tombstone", tombstone),
    ("large-message", large_message),
    ("wrong-topic", wrong_topic),
    ("unknown-version", unknown_version),
    ("failover", failover),
])
