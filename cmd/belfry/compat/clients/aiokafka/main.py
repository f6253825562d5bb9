"""Tries every feature of the compat table with aiokafka.

usage: main.py BOOTSTRAP OLD_BOOTSTRAP PREFIX, with the folder of features.py on the path.
Each step runs an event loop of its own; a member of a group has one in its thread.
"""
import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced, for_code
from aiokafka.structs import OffsetAndMetadata

from features import LIMIT, REPLICAS, Member, equal, group_of_two, heard, known, messages, mib, refused, run, survive, until

BOOTSTRAP, OLD_BOOTSTRAP, PREFIX = sys.argv[1:]


def admin(use, at=BOOTSTRAP):
    """Gives what use(administrator) gives."""
    async def main():
        a = AIOKafkaAdminClient(bootstrap_servers=at)
        await a.start()
        try:
            return await use(a)
        finally:
            await a.close()
    return asyncio.run(asyncio.wait_for(main(), LIMIT))


def create(full, partitions=1, configs=None, at=BOOTSTRAP):
    """Creates a topic; aiokafka leaves it to its user to look at the answer."""
    answer = admin(lambda a: a.create_topics([NewTopic(full, partitions, REPLICAS, topic_configs=configs)]), at)
    for _, code, text in answer.topic_errors:
        if code:
            raise for_code(code)(text)
    known(full)


def topic(name, partitions=1, configs=None, at=BOOTSTRAP):
    create(PREFIX + name, partitions, configs, at)
    return PREFIX + name


def produce(t, sent, at=BOOTSTRAP, **conf):
    """Sends dictionaries of send's arguments and waits for every answer."""
    async def main():
        async with AIOKafkaProducer(bootstrap_servers=at, request_timeout_ms=10000, **conf) as p:
            answers = [await p.send(t, **one) for one in sent]
            for answer in answers:
                await answer
    asyncio.run(asyncio.wait_for(main(), LIMIT / 2))


def consume(use, *topics, at=BOOTSTRAP, **conf):
    """Gives what use(consumer) gives."""
    async def main():
        async with AIOKafkaConsumer(*topics, bootstrap_servers=at, auto_offset_reset="earliest", enable_auto_commit=False, **conf) as c:
            return await asyncio.wait_for(use(c), LIMIT / 2)
    return asyncio.run(main())


def read(t, n, at=BOOTSTRAP, start=0, **conf):
    """Reads n messages of partition 0 from an offset on."""
    async def use(c):
        c.assign([TopicPartition(t, 0)])
        c.seek(TopicPartition(t, 0), start)
        return [await c.getone() for _ in range(n)]
    return consume(use, at=at, **conf)


def round_trip(t, sent, at=BOOTSTRAP, **conf):
    produce(t, [{"key": k, "value": v} for k, v in sent], at, **conf)
    equal([(m.key, m.value) for m in read(t, len(sent), at)], sent, "messages")


def create_topic():
    name = topic("create", 3, {"retention.ms": "3600000"})
    refused(lambda: create(name, 3), "TopicAlreadyExists", "second creation")

    def partitions():
        (found,) = admin(lambda a: a.describe_topics([name]))
        return len(found["partitions"])
    equal(partitions(), 3, "partitions")
    (answer,) = admin(lambda a: a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": None})]))
    equal(answer.resources[0][4][0][:2], ("retention.ms", "3600000"), "config")
    admin(lambda a: a.create_partitions({name: NewPartitions(5)}))
    until(lambda: "5 partitions", lambda: partitions() == 5)
    admin(lambda a: a.delete_topics([name]))
    heard("gone", name)
    equal(name in admin(lambda a: a.list_topics()), False, "listed after its deletion")


def codec(name):
    return lambda: round_trip(topic(f"codec-{name}"), messages(100, name), compression_type=None if name == "none" else name)


def idempotent():
    round_trip(topic("idempotent"), messages(100, "idempotent"), enable_idempotence=True, max_batch_size=2000)


def transactional(name):
    return AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name)


def transactions():
    """A copy with its offsets is committed, a transaction aborted, another committed; a producer whose name was taken is refused."""
    source, target = topic("txn-in"), topic("txn-out")
    part = TopicPartition(source, 0)
    produce(source, [{"value": v} for v in (b"a", b"b", b"c")])

    async def copy(c):
        async with transactional(source) as p:
            async with p.transaction():
                for _ in range(3):
                    await p.send_and_wait(target, (await c.getone()).value)
                await p.send_offsets_to_transaction({part: 3}, source)
            for value, end in ((b"aborted", p.abort_transaction), (b"later", p.commit_transaction)):
                await p.begin_transaction()
                await p.send_and_wait(target, value)
                await end()
            equal(await c.committed(part), 3, "offset committed with a transaction")
            await p.begin_transaction()
            async with transactional(source) as second:
                async with second.transaction():
                    await second.send_and_wait(target, b"fence")
            try:
                await p.send_and_wait(target, b"fenced")
            except (ProducerFenced, InvalidProducerEpoch):
                return
            raise AssertionError("a producer whose name was taken is not refused")
    consume(copy, source, group_id=source)
    for level, want in (("read_committed", [b"a", b"b", b"c", b"later", b"fence"]), ("read_uncommitted", [b"a", b"b", b"c", b"aborted", b"later", b"fence"])):
        equal([m.value for m in read(target, len(want), isolation_level=level)], want, level)


def failover():
    t = PREFIX + "failover"  # the test has made it
    loop = asyncio.new_event_loop()

    def do(what):
        return loop.run_until_complete(asyncio.wait_for(what, LIMIT))

    async def put(values):
        for answer in [await p.send(t, v) for v in values]:
            await answer

    async def get():
        got = [m for some in (await c.getmany(timeout_ms=200)).values() for m in some]
        if got:
            await c.commit()
        return [m.value for m in got]

    async def start():
        producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True, request_timeout_ms=int(LIMIT * 1000))
        consumer = AIOKafkaConsumer(t, bootstrap_servers=BOOTSTRAP, group_id=t, auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=300)
        await producer.start()
        await consumer.start()
        return producer, consumer
    p, c = do(start())
    try:
        survive(lambda values: do(put(values)), lambda: do(get()))
    finally:
        do(c.stop())
        do(p.stop())


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

    async def member(name, share, stopping, seen):
        async with AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=t, client_id=name, auto_offset_reset="earliest", enable_auto_commit=False,
                                    session_timeout_ms=6000, heartbeat_interval_ms=300, **conf(name)) as c:
            c.subscribe([t], listener=Listener(share))
            while not stopping():
                for part, some in (await c.getmany(timeout_ms=100)).items():
                    for m in some:
                        seen(m.key)
                    await c.commit({part: some[-1].offset + 1})

    def join(name, seen):
        return Member(lambda share, stopping: asyncio.run(member(name, share, stopping, seen)))

    group_of_two(join, lambda keys: produce(t, [{"key": k, "value": b"", "partition": i % 4} for i, k in enumerate(keys)]), **kind)


def group_eager():
    group("eager", lambda _: {"partition_assignment_strategy": [RangePartitionAssignor]})


def group_static():
    group("static", lambda name: {"group_instance_id": name, "partition_assignment_strategy": [StickyPartitionAssignor]}, static=True)


def commit_resume():
    t = topic("resume")
    part = TopicPartition(t, 0)
    round_trip(t, messages(20, "resume"))

    async def first(c):
        offset = (await c.getone()).offset
        await c.commit({part: OffsetAndMetadata(10, "half-way")})
        return offset

    equal(consume(first, t, group_id=t), 0, "first offset of a new group")
    found = admin(lambda a: a.list_consumer_group_offsets(t))
    equal(found[part], OffsetAndMetadata(10, "half-way"), "committed")
    equal(consume(first, t, group_id=t), 10, "first offset after the return")


def seek_by_time():
    t = topic("time")
    part, base = TopicPartition(t, 0), int(time.time() * 1000) - 100_000
    produce(t, [{"value": b"t%d" % i, "timestamp_ms": base + i * 1000} for i in range(10)])
    found = consume(lambda c: c.offsets_for_times({part: base + 4500}))[part]
    equal((found.offset, found.timestamp), (5, base + 5000), "offset by time")
    equal(consume(lambda c: c.offsets_for_times({part: base + 60_000}))[part], None, "offset of a time after the last message")
    (m,) = read(t, 1, start=found.offset)
    equal((m.value, m.timestamp), (b"t5", base + 5000), "message at that offset")


def headers():
    t = topic("headers")
    sent = [("a", b"text"), ("a", b"\x00\xff\x80"), ("empty", b""), ("null", None)]
    produce(t, [{"value": b"v", "headers": sent}])
    equal(list(read(t, 1)[0].headers), sent, "headers")


def tombstone():
    t = topic("tombstone", configs={"cleanup.policy": "compact"})
    produce(t, [{"key": b"k", "value": value} for value in (b"v", None, b"")])
    equal([m.value for m in read(t, 3)], [b"v", None, b""], "values")
    # aiokafka does not know INVALID_RECORD (87) by name.
    refused(lambda: produce(t, [{"value": b"no key"}]), "InvalidRecord|UnknownError", "a message without key in a compacted topic")


def large_message():
    t = topic("large")
    produce(t, [{"value": mib(9)}], max_request_size=64 << 20)
    equal(read(t, 1)[0].value == mib(9), True, "the large message is the same")
    refused(lambda: produce(t, [{"value": mib(11)}], max_request_size=64 << 20), "MessageSizeTooLarge", "11 MiB")


def wrong_topic():
    bad = PREFIX + " no/topic"
    refused(lambda: create(bad), "InvalidTopic", "creation")
    refused(lambda: produce(bad, [{"value": b"v"}]), "InvalidTopic|UnknownTopic", "produce to a bad name")
    refused(lambda: produce(PREFIX + "missing", [{"value": b"v"}]), "UnknownTopic", "produce to a missing topic")


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
    ("group-cooperative", "aiokafka has no cooperative rebalance: every member gives up all its partitions"),
    ("group-static", group_static),
    ("group-new-protocol", "aiokafka speaks the classic group protocol only"),
    ("commit-resume", commit_resume),
    ("seek-by-time", seek_by_time),
    ("headers", headers),
    ("tombstone", tombstone),
    ("large-message", large_message),
    ("wrong-topic", wrong_topic),
    ("unknown-version", unknown_version),
    ("failover", failover),
])
