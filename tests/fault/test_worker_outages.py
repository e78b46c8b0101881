"""ClickHouse is away, frozen or slow for longer than a group waits for a member: the worker waits, and nothing else."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import PARTITIONS, Oracle, new_topic_on
from tests.support.clickhouse import EmbeddedClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster
from tests.support.proxy import BlackHole, DelayAnswer, Mode, Pass, Refuse
from tests.support.rig import INSERT, Rig

AWAY_S: Final = 20.0
_FROZEN_S: Final = 12.0
_LAG_S_MAX: Final = 60.0  # a slow machine's feed needs longer to fill what a worker may hold
_POLL_MS_MAX: Final = 10_000  # the least that is allowed; both outages are longer
_SESSION_MS: Final = 8000  # shorter than both outages, longer than a busy machine lets a heartbeat wait
_WAITING_MAX: Final = 1024 * 1024
_ONE_POLL: Final = 4 * 1024 * 1024  # what the feed sends in some seconds, and what Python adds to it
_PREFETCH: Final = 16 * 1024 * 1024  # librdkafka's own queue
_PER_SECOND: Final = 600
_RECORD: Final = 400  # bytes at the least, with what Python adds to it


@dataclass
class Watched:
    """What a worker showed during an outage, once a second."""

    resident: list[int] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    lag: list[float] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    pages: list[tuple[int, int]] = field(default_factory=list)

    @property
    def lags(self) -> bool:
        """Whether more records are behind than the worker can hold, and its page says that it is not ready."""
        return self.lag[-1] > 2 * max(self.waiting) / _RECORD and self.pages[-1][1] == HTTPStatus.SERVICE_UNAVAILABLE

    def look(self, member: Member, topic: str) -> None:
        """Note everything."""
        self.resident.append(member.resident_bytes())
        figures = member.figures()
        self.waiting.append(figures["headrace_consumer_waiting_bytes"])
        self.lag.append(figures["headrace_consumer_lag_records"])
        self.fresh_s.append(member.figure("headrace_consumer_freshness_seconds", topic=topic) / PARTITIONS)
        self.pages.append((member.page("/healthz")[0], member.page("/readyz")[0]))


@contextmanager
def outage(clickhouse: EmbeddedClickHouse, how: str) -> Iterator[float]:
    """Take ClickHouse away for the block, and yield how long (s) that should last."""
    if how == "killed":
        clickhouse.kill()
        yield AWAY_S
        clickhouse.start()
    else:
        clickhouse.pause()
        yield _FROZEN_S
        clickhouse.resume()


@pytest.mark.parametrize("how", [pytest.param("killed", marks=SOAK_ONLY), "frozen"])
def test_clickhouse_is_away_under_load(how: str, broker: KafkaCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Held: no rebalance, no dead letter, memory to its bound; lag and freshness rise and fall; then all is there."""
    topic, watched = new_topic_on(broker), Watched()
    with EmbeddedClickHouse() as own, Fleet(tmp_path, broker.bootstrap_servers, topic, own.url) as fleet:
        feed = Feed(broker.bootstrap_servers, topic, poison_every=100)
        settings = {"max_poll_interval_ms": _POLL_MS_MAX, "waiting_bytes_max": _WAITING_MAX, "insert_timeout_s": 4}
        settings |= {"session_timeout_ms": _SESSION_MS, "insert_threads": PARTITIONS}  # all of them hang
        member = fleet.start("", **settings)
        with feed.running(_PER_SECOND):
            until(lambda: member.figure("headrace_consumer_batch_rows_count") >= 8, "rows")
            before, members = member.resident_bytes(), fleet.group()
            with outage(own, how) as away_s:
                began_s = time.monotonic()
                while (away := time.monotonic() - began_s) < away_s or (away < _LAG_S_MAX and not watched.lags):
                    time.sleep(1)
                    watched.look(member, topic)
        found = fleet.settle(feed, 90)
        until(lambda: member.page("/readyz")[0] == 200, "ready")
        until(lambda: member.figure("headrace_consumer_freshness_seconds") == 0, "fresh")
        returned = member.figure("headrace_consumer_records_total", outcome="returned")
        oracle.say(
            away_s=away_s,
            rows=found.rows,
            letters=found.letters,
            grown_mib=(max(watched.resident) - before) / 2**20,
            grown_in_the_end_mib=(watched.resident[-1] - watched.resident[len(watched.resident) // 2]) / 2**20,
            waiting_mib=max(watched.waiting) / 2**20,
            paused=member.figure("headrace_consumer_partitions", state="paused"),
            lag=max(watched.lag),
            behind_s=max(watched.fresh_s),
            retries=member.figure("headrace_consumer_retries_total"),
        )
        found.check()
        assert fleet.group() == members, "the group has changed"
        assert returned == 0
        assert "partitions lost" not in member.said()
        assert member.stop() == 0
    assert {health for health, _ in watched.pages} == {200}
    assert max(watched.waiting) <= _WAITING_MAX + _ONE_POLL
    assert max(watched.resident) - before < 3 * (_WAITING_MAX + _ONE_POLL) + _PREFETCH
    assert watched.lags, "the lag counts what is not read, too, and the page says 503"
    assert watched.fresh_s[-1] >= away_s / 2


def test_a_worker_says_what_its_threads_do(member: Member) -> None:
    """On SIGUSR1, into its log; it works on."""
    member.process.send_signal(signal.SIGUSR1)

    until(lambda: "in turn\n" in member.said(), "the polling thread's calls")
    until(lambda: member.page("/healthz")[0] == 200, "its page")


@pytest.mark.parametrize(
    "mode", [pytest.param(Refuse(), id="refusing", marks=SOAK_ONLY), pytest.param(BlackHole(), id="frozen")]
)
def test_sigterm_while_clickhouse_is_away(rig: Rig, oracle: Oracle, mode: Mode) -> None:
    """It gives what was taken its time, no more, and ends, though an insert hangs; a successor makes what was left."""
    rig.proxy.set(Pass())
    rig.fleet.stop_all()  # another worker would take over what this one leaves, and the successor find nothing
    # Longer than the test waits for its end, and no thread to spare.
    member = rig.start(insert_timeout_s=90, insert_threads=PARTITIONS)
    rig.feed.send(400)
    rig.fleet.settle(rig.feed)  # the first batch of each partition asks the tables before it has an intent
    written = member.figure("headrace_consumer_intents_total", outcome="written")
    rig.proxy.set(
        mode, only=INSERT if isinstance(mode, BlackHole) else ""
    )  # a question that hangs is before the intent
    rig.feed.send(800)
    until(lambda: member.figure("headrace_consumer_intents_total", outcome="written") > written, "an intent")
    until(lambda: member.figure("headrace_consumer_is_retrying") == 1 or rig.proxy.count(BlackHole) > 0, "retrying")
    code = member.stop()
    rig.proxy.set(Pass())
    successor = rig.start()
    found = rig.fleet.settle(rig.feed)
    replayed = successor.figure("headrace_consumer_intents_total", outcome="replayed")
    oracle.say(exit_code=code, rows=found.rows, letters=found.letters, replayed=replayed)
    found.check()
    assert code == 0
    assert replayed > 0


def test_inserts_of_several_partitions_go_side_by_side(rig: Rig, member: Member, oracle: Oracle) -> None:
    """One at a time for each partition, though each takes seconds, and those of several partitions at once."""
    member.stop()
    slow = rig.start(insert_timeout_s=9)
    until(lambda: slow.page("/readyz")[0] == 200, "ready")
    feed, delay_s = rig.feed.beside(), 3.0
    (since,) = rig.fleet.connection.query("SELECT now64(3, 'UTC') AS at")
    struck = rig.proxy.count(DelayAnswer)
    rig.proxy.set(DelayAnswer(delay_s), only=INSERT)
    with feed.running(200):
        rig.proxy.await_count(DelayAnswer, struck + 2 * PARTITIONS)
    found = rig.fleet.settle(feed)
    query = """
    SELECT _partition AS p, arraySort(groupUniqArray(toFloat64(_inserted_at))) AS at FROM events
    WHERE _inserted_at >= {since:DateTime64(3)} GROUP BY p
    """
    times = {row["p"]: row["at"] for row in rig.fleet.connection.query(query, {"since": since["at"]})}
    of_any = sorted(moment for at in times.values() for moment in at)
    closest = min(later - earlier for at in times.values() for earlier, later in pairwise(at))
    closest_of_any = min(later - earlier for earlier, later in pairwise(of_any))
    oracle.say(inserts=len(of_any), closest_s=closest, closest_of_any_s=closest_of_any, rows=found.rows)
    found.check()
    assert len(times) == PARTITIONS
    assert closest >= delay_s
    assert closest_of_any < delay_s
