"""Refused content of every kind beside good traffic: no exit, no halt, each bad record a dead letter with its cause.

Some seconds by default; `HEADRACE_SOAK=1` makes it ten minutes, and then compares times.
"""

import os
import random
import time
from typing import Final

import pytest

from consumer.errors import Reason
from tests.conftest import SOAK_ONLY
from tests.fault.conftest import PARTITIONS, Oracle
from tests.support.fixtures_consumer import AT_MS, encoded, encoded_loosely
from tests.support.fleet import Member, until
from tests.support.kafka_clients import producer
from tests.support.rig import Rig

_HALF_S: Final = float(os.environ.get("HEADRACE_SOAK_HALF_S", "300"))
_SLICE_S: Final = 1.0
_GOOD_PER_S: Final = 300
_JUNK_PER_S: Final = 100
_INSERTS: Final = "headrace_consumer_insert_seconds_count"
_LATENCY: Final = """
SELECT quantile(0.99)(toUnixTimestamp64Milli(_inserted_at) - toUnixTimestamp64Milli(_timestamp)) / 1000 AS p99
FROM events WHERE _topic = {topic:String} AND _timestamp >= fromUnixTimestamp64Milli({since_ms:Int64})
"""


def junk(chance: random.Random, number: int) -> tuple[bytes, Reason]:
    """Return a record that can't become a row, and why."""
    kinds = [
        (chance.randbytes(chance.randrange(1, 300)).replace(b"\0", b"\1"), Reason.FRAME),
        (b"", Reason.FRAME),
        ('{"eventType":"VIEW"}'.encode("utf-16-be"), Reason.UNKNOWN_SCHEMA),
        (b"\0" + chance.randbytes(4) + encoded(number)[5:], Reason.UNKNOWN_SCHEMA),
        (encoded(number)[: chance.randrange(5, 60)], Reason.BAD_AVRO),
        (encoded(number)[:5] + b"\xff" * 40, Reason.BAD_AVRO),
        (encoded_loosely(number, eventId="'\"; DROP TABLE events --"), Reason.BAD_VALUE),
        (encoded(number, active=chance.randrange(128, 2**31)), Reason.BAD_VALUE),
        (encoded(number, receivedAt=-chance.randrange(1, 2**50)), Reason.CONSTRAINT),
    ]
    return chance.choice(kinds)


@SOAK_ONLY
@pytest.mark.timeout(4 * _HALF_S + 120)
def test_junk_of_every_kind_costs_good_events_nothing(rig: Rig, oracle: Oracle) -> None:
    """Half of the time good events alone, then junk beside them: their p99 to the row stays, and nothing halts."""
    member = started(rig)
    # Otherwise parts pile up until ClickHouse delays each insert, and then refuses them. A double shows in the counts.
    rig.fleet.connection.command("SYSTEM START MERGES events")
    good = rig.feed.beside()
    with good.running(_GOOD_PER_S):
        time.sleep(3)  # until the worker is warm
        began_ms = int(time.time() * 1000)
        time.sleep(_HALF_S)
        before_s = _p99_s(rig, began_ms)
        began_ms, sent = int(time.time() * 1000), _send_junk(rig, _HALF_S)
        after_s = _p99_s(rig, began_ms)
        halted = member.figure("headrace_consumer_partitions", state="halted")
    found = rig.fleet.settle(rig.feed)
    oracle.say(before_s=before_s, after_s=after_s, junk=sent, rows=found.rows, letters=found.letters)
    found.check()
    assert member.is_alive
    assert halted == member.figure("headrace_consumer_halts_total") == 0
    assert found.letters >= sent
    assert after_s <= before_s + 1.0
    assert member.stop() == 0


def test_behind_the_first_batches_no_insert_is_refused(rig: Rig, oracle: Oracle) -> None:
    """The table is asked beforehand, for as long as junk comes: good rows wait for no search."""
    member = started(rig, batch_age_s_max=0.25)
    with rig.feed.running(_GOOD_PER_S):
        sent = 0
        while member.figure(_INSERTS, table="events", outcome="inserted") <= 4 * PARTITIONS:
            sent += _send_junk(rig, _SLICE_S)
    found = rig.fleet.settle(rig.feed)
    refused = member.figure(_INSERTS, table="events", outcome="rejected")
    inserted = member.figure(_INSERTS, table="events", outcome="inserted")
    oracle.say(refused=refused, inserted=inserted, junk=sent, rows=found.rows, letters=found.letters)
    found.check()
    assert refused <= 3 * PARTITIONS  # two batches each are on their way before the first is refused
    assert member.figure("headrace_consumer_halts_total") == 0
    assert member.stop() == 0


def started(rig: Rig, **settings: object) -> Member:
    """Start a worker in place of all others, and wait until it has its partitions."""
    rig.fleet.stop_all()
    member = rig.start(unknown_schema_s=0, insert_timeout_s=10, **settings)
    until(lambda: member.partitions() > PARTITIONS, "partitions")
    return member


def _p99_s(rig: Rig, since_ms: int) -> float:
    found = rig.fleet.connection.query(_LATENCY, {"topic": rig.fleet.topic, "since_ms": since_ms})
    return float(found[0]["p99"])


def _send_junk(rig: Rig, time_s: float) -> int:
    """Send junk to all partitions, with timestamps of many years; note what its dead letters must say."""
    chance, sending = random.Random(11), producer(str(rig.fleet.settings["bootstrap_servers"]))
    until_s, number = time.monotonic() + time_s, 0
    while time.monotonic() < until_s:
        number += 1
        value, reason = junk(chance, 50_000_000 + number)

        def note(_: object, message: object, reason: Reason = reason) -> None:
            rig.feed.poison[message.partition(), message.offset()] = reason  # type: ignore[attr-defined]  # a Message

        at_ms = chance.choice([AT_MS, 1, chance.randrange(AT_MS)])
        headers: list[tuple[str, str | bytes | None]] = [("reason", b"mine"), ("trace", chance.randbytes(20))]
        sending.produce(
            rig.fleet.topic, value, b"k", number % PARTITIONS, on_delivery=note, timestamp=at_ms, headers=headers
        )
        sending.poll(0)
        time.sleep(1 / _JUNK_PER_S)
    sending.flush(60)
    return number
