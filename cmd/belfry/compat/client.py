"""What a Python program with confluent-kafka does to a node, in steps that the test calls one by one.

usage: client.py STEP BOOTSTRAP TOPIC
Prints one JSON object; fails with a traceback.
"""
import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

STEP, BOOTSTRAP, TOPIC = sys.argv[1:4]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
EACH = 200  # messages a codec
GROUP = TOPIC + "-group"
LIMIT = 30  # seconds that anything may take


def create():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    for future in admin.create_topics([NewTopic(TOPIC, 4, 1)]).values():
        future.result(LIMIT)
    return {"topics": TOPIC in admin.list_topics(timeout=LIMIT).topics}


def produce():
    acked, errors = [0], []

    def done(err, msg):
        if err:
            errors.append(str(err))
        else:
            acked[0] += 1

    for codec in CODECS:
        p = Producer({"bootstrap.servers": BOOTSTRAP, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5})
        for i in range(EACH):
            p.produce(TOPIC, key=f"{codec}-{i}", value=f"value {codec} {i} " + "x" * 200, headers=[("codec", codec.encode()), ("n", str(i).encode())], on_delivery=done)
        p.flush(LIMIT)
    return {"acked": acked[0], "errors": errors}


def consumer(extra=None):
    conf = {"bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6000}
    conf.update(extra or {})
    return Consumer(conf)


def group():
    """Two members share the topic; half of the messages are read and committed."""
    seen, lock, assigned, stop = {}, threading.Lock(), {}, threading.Event()
    half = len(CODECS) * EACH // 2

    def member(name):
        c = consumer({"client.id": name})
        c.subscribe([TOPIC], on_assign=lambda _, parts: assigned.__setitem__(name, len(parts)))
        while not stop.is_set():
            m = c.poll(0.1)
            if m is None:
                continue
            if m.error():
                raise KafkaException(m.error())
            with lock:
                if len(seen) >= half or len(assigned) < 2:
                    continue
                seen[m.key().decode()] = dict(m.headers())["codec"].decode()
                c.commit(m, asynchronous=False)
                if len(seen) >= half:
                    stop.set()
        c.close()

    first = threading.Thread(target=member, args=("one",))
    first.start()
    deadline = time.time() + LIMIT
    while "one" not in assigned and time.time() < deadline:
        time.sleep(0.05)
    alone = assigned.get("one")
    second = threading.Thread(target=member, args=("two",))
    second.start()
    for t in (first, second):
        t.join(LIMIT)
    headers = all(k.split("-")[0] == v for k, v in seen.items())
    return {"seen": len(seen), "alone": alone, "shared": assigned, "headers": headers, "ended": not (first.is_alive() or second.is_alive())}


def resume():
    """Every partition continues at what was committed: committed plus read is the whole."""
    c = consumer()
    parts = [TopicPartition(TOPIC, p) for p in range(4)]
    committed = sum(max(p.offset, 0) for p in c.committed(parts, timeout=LIMIT))
    ends = sum(c.get_watermark_offsets(p, timeout=LIMIT)[1] for p in parts)
    c.subscribe([TOPIC])
    read, deadline = 0, time.time() + LIMIT
    while committed + read < ends and time.time() < deadline:
        m = c.poll(0.2)
        if m is not None and not m.error():
            read += 1
    c.commit(asynchronous=False)
    c.close()
    return {"committed": committed, "read": read, "end": ends}


def seek():
    """offsets_for_times finds the first message at or after a time."""
    topic = TOPIC + "-seek"
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    for future in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(LIMIT)
    c = consumer({"group.id": GROUP + "-seek"})
    p = Producer({"bootstrap.servers": BOOTSTRAP})
    base = int(time.time() * 1000) - 100_000
    for i in range(10):
        p.produce(topic, value=f"t{i}", partition=0, timestamp=base + i * 1000)
        p.flush(LIMIT)
    found = c.offsets_for_times([TopicPartition(topic, 0, base + 4500)], timeout=LIMIT)[0].offset
    c.assign([TopicPartition(topic, 0, found)])
    m = c.poll(LIMIT)
    c.close()
    return {"found": found, "value": m.value().decode()}


print(json.dumps({"create": create, "produce": produce, "group": group, "resume": resume, "seek": seek}[STEP]()))
