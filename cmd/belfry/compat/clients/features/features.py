"""What the Python drivers share: running every feature once, a group of two, comparing.

A driver puts this folder on its path, builds a list of (name, function or reason why the client
lacks it) and calls run.
"""
import os
import re
import sys
import threading
import time
import traceback
import urllib.request

LIMIT = 40  # seconds that one feature may take
PATIENCE = LIMIT / 2  # seconds that one awaited thing may take
REPLICAS = int(os.environ.get("BELFRY_REPLICAS", "1"))  # of a new topic
FAULTS = os.environ.get("BELFRY_FAULTS", "")  # address of who ends nodes and starts them again


class Lacks(Exception):
    """The client does not have a feature; the text says why."""


def until(what, done, limit=PATIENCE):
    """Polls until done() holds; what() describes what was awaited in vain."""
    end = time.monotonic() + limit
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit:.0f} s in vain: {what()}")
        time.sleep(0.02)


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {str(got)[:300]}, want {str(want)[:300]}")


def refused(call, pattern, what):
    """call() has to raise an error whose type and text match the pattern."""
    try:
        value = call()
    except Exception as e:  # any kind: the pattern decides
        text = f"{type(e).__name__} {e!r} {e}"
        if not re.search(pattern, text):
            raise AssertionError(f"{what}: refused with {text}, want {pattern}") from e
        return
    raise AssertionError(f"{what}: not refused, answered {value!r}")


def messages(n, name):
    """n keys and values; the values compress well and differ."""
    return [(f"{name}-{i}".encode(), f"{name} {i} ".encode() + b"abcdefgh" * 40) for i in range(n)]


def mib(n):
    """A value of n × 2^20 bytes."""
    return bytes(range(256)) * (n << 12)


class Share:
    """The partitions of one member: the client's callbacks write, the scenario reads."""

    def __init__(self):
        self._lock, self._parts, self._lost = threading.Lock(), set(), 0

    def add(self, parts):
        with self._lock:
            self._parts |= set(parts)

    def remove(self, parts):
        with self._lock:
            gone = self._parts & set(parts)
            self._parts -= gone
            self._lost += len(gone)

    def parts(self):
        with self._lock:
            return sorted(self._parts)

    def lost(self):
        """How often a partition was given up."""
        with self._lock:
            return self._lost


class Member:
    """A consumer of a group that lives in a thread of its own.

    loop(share, stopping) joins, consumes until stopping() and leaves; an error ends it and is told by leave.
    """

    def __init__(self, loop):
        self.share, self._stop, self._error = Share(), threading.Event(), None
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
        self._thread.start()

    def _run(self, loop):
        try:
            loop(self.share, self._stop.is_set)
        except BaseException as e:  # told by leave
            self._error = e
        self.share.remove(self.share.parts())

    def leave(self):
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise AssertionError("a member does not end")
        if self._error is not None:
            raise self._error


class Ledger:
    """Who received what; a key that comes twice is a fault."""

    def __init__(self):
        self._lock, self._by, self.twice = threading.Lock(), {}, []

    def add(self, member, key):
        with self._lock:
            if key in self._by:
                self.twice.append(key)
            self._by[key] = member

    def count(self, *members):
        with self._lock:
            return sum(m in members for m in self._by.values())


def group_of_two(join, send, cooperative=False, static=False):
    """Two members share the 4 partitions of a topic: the first has all, the second takes half, each
    message arrives once, and the first has all again after the second has left.

    join(name, seen) gives a Member that calls seen(key) for each message.
    send(keys) produces message i into partition i modulo 4.
    cooperative: the first member keeps the partitions that do not move.
    static: the second member comes back under its name within the session and nothing moves.
    """
    ledger, members, sent = Ledger(), {}, [0]

    def start(name):
        members[name] = join(name, lambda key: ledger.add(name, key))
        return members[name]

    def shares():
        return {name: m.share.parts() for name, m in members.items()}

    def settle(**want):
        until(lambda: f"partitions {want}, have {shares()}", lambda: {n: len(p) for n, p in shares().items()} == want)
        equal(sorted(sum(shares().values(), [])), [0, 1, 2, 3], "partitions of the members")

    def exchange(name, first):
        send([f"{name}-{i}".encode() for i in range(40)])
        sent[0] += 40
        until(lambda: f"{ledger.count('one', 'two')} of {sent[0]} messages in the round {name!r}, partitions {shares()}", lambda: ledger.count("one", "two") >= sent[0])
        equal(ledger.count("one"), first, f"messages of the first member after the round {name!r}")

    try:
        one = start("one")
        settle(one=4)
        exchange("alone", 40)
        two = start("two")
        settle(one=2, two=2)
        if cooperative:
            equal(one.share.lost(), 2, "partitions given up by the first member")
        exchange("shared", 60)
        if static:
            lost, had = one.share.lost(), two.share.parts()
            members.pop("two").leave()
            two = start("two")
            settle(one=2, two=2)
            equal(two.share.parts(), had, "partitions of the static member that came back")
            equal(one.share.lost(), lost, "partitions that the first member has given up by then")
            exchange("back", 80)
        members.pop("two").leave()
        settle(one=4)
        exchange("left", ledger.count("one") + 40)
        equal(ledger.twice, [], "messages that came twice")
    finally:
        for m in members.values():
            m.leave()


def known(topic):
    """Waits until every node has heard of a new topic; gives its name."""
    heard("known", topic)
    return topic


def heard(what, topic):
    if FAULTS:
        with urllib.request.urlopen(f"{FAULTS}/{what}/{topic}", timeout=LIMIT) as answer:
            equal(answer.status, 200, f"{what} {topic}")


def survive(send, read, once=True):
    """The leader of a partition is killed and started again while one producer writes and one consumer reads.

    send(values) waits for the answers; read() gives some values, perhaps none.
    once: the producer is idempotent, so that each value arrives once and in order; else it may come again.
    """
    sent, got = [], []
    for fault, name in ((None, "before"), ("kill", "without it"), ("restart", "after")):
        if fault:
            with urllib.request.urlopen(f"{FAULTS}/{fault}", timeout=LIMIT + 10) as answer:
                equal(answer.status, 200, f"answer to {fault}")
        values = [f"{name} {i}".encode() for i in range(50)]
        send(values)
        sent += values

        def arrived():
            got.extend(read())
            return not set(sent) - set(got)
        until(lambda: f"{len(set(sent) - set(got))} of {len(sent)} values are missing in the round {name!r}", arrived, LIMIT)
    if once:
        equal(got, sent, "values")


def run(features):
    """Tries the features one after the other, prints a line for each and ends the process."""
    for name, feature in features:
        if name == "failover" and not FAULTS:
            continue  # one node: nobody takes over
        began = time.monotonic()
        outcome = []
        if isinstance(feature, str):
            outcome.append(Lacks(feature))
        else:
            thread = threading.Thread(target=_try, args=(feature, outcome), daemon=True)
            thread.start()
            thread.join(LIMIT)
            if thread.is_alive():
                frame = sys._current_frames().get(thread.ident)
                traceback.print_stack(frame, file=sys.stderr)
                outcome = [AssertionError(f"not done after {LIMIT} s")]
        e = outcome[0]
        verdict = "ok" if e is None else "none" if isinstance(e, Lacks) else "fail"
        why = "" if e is None else " ".join(str(e).split()) or repr(e)
        if verdict == "fail":
            traceback.print_exception(type(e), e, e.__traceback__, file=sys.stderr)
            why = f"{type(e).__name__}: {why}"
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        print(f"{name}\t{verdict}\t{why}", flush=True)
    os._exit(0)  # threads that hang are left behind


def _try(feature, outcome):
    try:
        feature()
        outcome.append(None)
    except BaseException as e:  # reported by run
        outcome.append(e)
