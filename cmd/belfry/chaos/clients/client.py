"""A client of librdkafka under faults.

It tells on its standard output what it was told, a line each: "acked PARTITION OFFSET NUMBER"
(-1: it was not told the offset), "failed NUMBER WHY",
"read PARTITION OFFSET VALUE", "broken WHY". It ends when its standard input does. In a group it is two members.

usage: client.py produce|group|assign BOOTSTRAP TOPIC NAME RATE PARTITIONS PROTOCOL
"""
import os
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

ROLE, BOOTSTRAP, TOPIC, NAME, RATE, PARTITIONS, PROTOCOL = sys.argv[1:8]
over = threading.Event()
speech = threading.Lock()


def wait_for_end():
    sys.stdin.read()
    over.set()


def say(line):
    with speech:
        sys.stdout.write(line.replace("\n", " ") + "\n")
        sys.stdout.flush()


def common():
    return {"bootstrap.servers": BOOTSTRAP, "client.id": NAME, "socket.timeout.ms": 4000, "reconnect.backoff.max.ms": 500,
            "topic.metadata.refresh.interval.ms": 5000}


def produce():
    p = Producer({**common(), "enable.idempotence": True, "message.timeout.ms": 0, "request.timeout.ms": 4000, "linger.ms": 1, "compression.type": "gzip"})
    partitions, rate, due, i = int(PARTITIONS), int(RATE), time.monotonic(), 0

    def done(number):
        def told(err, msg):
            if err is None:
                say(f"acked {msg.partition()} {-1 if msg.offset() is None else msg.offset()} {number}")
            elif not over.is_set():
                say(f"failed {number} {err}")
        return told

    while not over.is_set():
        value = f"{NAME} {i} " + chr(ord("a") + i % 26) * (200 + i % 800)
        try:
            p.produce(TOPIC, value=value.encode(), partition=i % partitions, on_delivery=done(i))
        except BufferError:
            p.poll(0.1)
            continue
        i += 1
        due = max(due + 1 / rate, time.monotonic() - 1)
        p.poll(max(0, due - time.monotonic()))
        while time.monotonic() < due:
            p.poll(max(0, due - time.monotonic()))
    p.flush(60)


def consume():
    conf = {**common(), "auto.offset.reset": "earliest" if ROLE == "group" else "error", "auto.commit.interval.ms": 500,
            "enable.auto.commit": ROLE == "group", "group.id": NAME}
    if ROLE == "group":
        conf["group.protocol"] = PROTOCOL
        if PROTOCOL == "classic":
            conf["session.timeout.ms"] = 10000
            conf["partition.assignment.strategy"] = "cooperative-sticky"
    c = Consumer(conf)
    if ROLE == "group":
        c.subscribe([TOPIC])
    else:
        c.assign([TopicPartition(TOPIC, p, OFFSET_BEGINNING) for p in range(int(PARTITIONS))])
    while not over.is_set():
        m = c.poll(0.2)
        if m is None:
            continue
        if m.error():
            # Why not all: what passes when a broker is back is told, too.
            if m.error().code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE) or m.error().fatal():
                say(f"broken {m.error()}")
            continue
        say(f"read {m.partition()} {m.offset()} {m.value().decode()}")
    c.close()


def run():
    try:
        produce() if ROLE == "produce" else consume()
    except Exception as e:  # whoever started this program has to hear of it
        say(f"broken {e!r}")
        os._exit(1)


threading.Thread(target=wait_for_end, daemon=True).start()
members = [threading.Thread(target=run) for _ in range(2 if ROLE == "group" else 1)]
for t in members:
    t.start()
for t in members:
    t.join()
