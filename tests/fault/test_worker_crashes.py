"""Workers that are killed at every step of the protocol: who follows finishes what they meant, once."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.doomed import START, STEPS
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Settlement
from tests.support.kafka import KafkaCluster

KILLED: Final = -9
INTENDED: Final = ("intent_committed", "sending_letters", "letters_sent", "inserting", "insert_under_way", "inserted")
"""At these steps the group holds an intent whose rows nobody has committed."""
QUICK: Final[dict[str, object]] = {
    "batch_rows_max": 50,  # several batches for each partition, so that an intent rides on the commit before it
    "session_timeout_ms": 1000,
    "heartbeat_interval_ms": 200,
}
PATIENT_MS: Final = 10_000
"""The session of those who should live: on a busy machine they fall silent, and would replay what they began."""
_AT_ONCE: Final = 4
_POLL_MAX: Final = 5000  # no poll brings more records, but for a few
_STORM_S: Final = 30.0


@pytest.fixture
def fleet(broker: KafkaCluster, events: str, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Fleet]:
    """Workers of one node's topic, quick to miss one that died."""
    with Fleet(tmp_path, broker.bootstrap_servers, events, clickhouse.url) as fleet:
        fleet.settings |= QUICK
        yield fleet


@pytest.fixture
def feed(broker: KafkaCluster, events: str) -> Feed:
    """Good events of one partition: a worker that dies there has no commit under way, and leaves one range."""
    return Feed(broker.bootstrap_servers, events).beside(partition=0)


class Chain(NamedTuple):
    """What two dead workers left, what the third replayed of it, and what is there in the end."""

    left: int
    replayed: float
    code: int
    found: Settlement


def times(step: str) -> tuple[int, int]:
    """Return at the how manyth time the first worker dies, and the second: late enough that others are under way."""
    if step == "polled":
        return 1, 1
    return (4, 2) if "commit" in step and "intent" not in step else (6, 3)


def chain(step: str, fleet: Fleet, feed: Feed) -> Chain:
    """Kill two workers in a row at a step, and let a third one finish that and something new."""
    first, second = times(step)
    feed.send(600)
    assert fleet.start(doom=f"{step}:{first}").await_exit() == KILLED
    feed.send(200)
    assert fleet.start(doom=f"{step}:{second}").await_exit() == KILLED
    left = len(fleet.left())
    feed.send(100)
    third = fleet.start(session_timeout_ms=PATIENT_MS)
    fleet.settle(feed)
    replayed = third.figure("headrace_consumer_intents_total", outcome="replayed")
    code = third.stop()
    third.books()
    return Chain(left, replayed, code, fleet.look(feed))


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(("intent_committed", "letters_sent"), id="two phases"),
        *(
            pytest.param(STEPS[at : at + _AT_ONCE], id=name, marks=SOAK_ONLY)
            for at, name in zip(range(0, len(STEPS), _AT_ONCE), ("intent", "insert", "commit"), strict=True)
        ),
    ],
)
def test_two_in_a_row_are_killed_at_each_step(
    steps: tuple[str, ...], broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path, oracle: Oracle
) -> None:
    """Some steps side by side, each in its own group: the third worker replays exactly what the two left."""

    def run(step: str) -> Chain:
        topic = new_topic_on(broker)
        (directory := tmp_path / step).mkdir()
        with Fleet(directory, broker.bootstrap_servers, topic, clickhouse.url) as fleet:
            fleet.settings |= QUICK
            return chain(step, fleet, Feed(broker.bootstrap_servers, topic, poison_every=20))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        chains = dict(zip(steps, pool.map(run, steps), strict=True))
    oracle.say(**{step: f"{each.left}/{each.replayed:.0f}" for step, each in chains.items()})
    for step, each in chains.items():
        each.found.check()
        assert each.code == 0, step
        assert each.replayed == each.left, step
        assert each.left >= (step in INTENDED), step


def test_workers_are_killed_before_they_have_polled(fleet: Fleet, feed: Feed, oracle: Oracle) -> None:
    """A range is left; two workers die while they start, and the next still finds the same range."""
    feed.send(600)
    assert fleet.start(doom="inserted:6").await_exit() == KILLED
    left = fleet.intents()
    for step in START:
        assert fleet.start(doom=step).await_exit() == KILLED
    after = fleet.intents()
    feed.send(100)
    last = fleet.start(session_timeout_ms=PATIENT_MS)
    fleet.settle(feed)
    replayed = last.figure("headrace_consumer_intents_total", outcome="replayed")
    assert last.stop() == 0
    found = fleet.look(feed)
    oracle.say(rows=found.rows, letters=found.letters, intents_left=len(left), replayed=replayed)
    found.check()
    assert len(left) == 1
    assert after == left
    assert replayed == 1


@pytest.mark.parametrize("step", [pytest.param("intending", marks=SOAK_ONLY), "inserting"])
def test_a_worker_is_stopped_while_it_replays(step: str, fleet: Fleet, feed: Feed, oracle: Oracle) -> None:
    """SIGTERM while it repeats a predecessor's batch: it finishes that, and leaves nothing to repeat."""
    feed.send(600)
    assert fleet.start(doom="inserted:6").await_exit() == KILLED
    left = fleet.intents()
    stopped = fleet.start(doom=f"{step}:1:SIGTERM", session_timeout_ms=PATIENT_MS)
    assert stopped.await_exit() == 0
    stopped.books()
    after = fleet.intents()
    feed.send(100)
    last = fleet.start(session_timeout_ms=PATIENT_MS)
    fleet.settle(feed)
    assert last.stop() == 0
    found = fleet.look(feed)
    oracle.say(rows=found.rows, letters=found.letters, intents_left=len(left), still_left=len(after))
    found.check()
    assert len(left) == 1
    assert not after


def test_a_worker_is_stopped_before_it_has_read_all_that_it_replays(fleet: Fleet, feed: Feed, oracle: Oracle) -> None:
    """SIGTERM when a poll has brought a part of a predecessor's range: it goes back, its intent untouched.

    There is no other partition, and the range is longer than a poll: so the first poll brings a part of it.
    """
    feed.send(_POLL_MAX + 3000)
    range_of_two_polls = {"batch_rows_max": _POLL_MAX + 2000, "batch_age_s_max": 60}
    assert fleet.start(doom="inserted:1", **range_of_two_polls).await_exit() == KILLED
    left = fleet.intents()
    stopped = fleet.start(doom="polled:1:SIGTERM", session_timeout_ms=PATIENT_MS)
    assert stopped.await_exit() == 0
    returned = sum(book["returned"] for book in stopped.books().values())
    after = fleet.intents()
    feed.send(100)
    last = fleet.start(session_timeout_ms=PATIENT_MS)
    fleet.settle(feed)
    assert last.stop() == 0
    found = fleet.look(feed)
    oracle.say(rows=found.rows, intents_left=len(left), still_left=len(after), returned=returned)
    found.check()
    assert [intent.b - intent.a for intent in left.values()] == [_POLL_MAX + 2000]
    assert after == left
    assert returned > 0


@SOAK_ONLY
def test_a_storm_of_kills(kafka_cluster: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path, oracle: Oracle) -> None:
    """Three workers under load on three nodes, one killed and replaced every second or so, for half a minute."""
    chance = random.Random(1)
    topic = new_topic_on(kafka_cluster, partitions=4)
    feed = Feed(kafka_cluster.bootstrap_servers, topic, poison_every=100)
    replayed = kills = 0
    with Fleet(tmp_path, kafka_cluster.bootstrap_servers, topic, clickhouse.url) as fleet:
        fleet.settings |= QUICK
        crew = [fleet.start() for _ in range(3)]
        deadline_s = time.monotonic() + _STORM_S
        with feed.running(400):
            while time.monotonic() < deadline_s:
                time.sleep(chance.uniform(0.2, 2.5))
                victim = crew.pop(chance.randrange(len(crew)))
                replayed += int(victim.figure("headrace_consumer_intents_total", outcome="replayed"))
                victim.kill()
                crew.append(fleet.start())
                kills += 1
            in_storm = fleet.look(feed).rows
        began_s = time.monotonic()
        fleet.settle(feed)
        settled_s = time.monotonic() - began_s
        codes = [member.stop() for member in crew]
        found = fleet.look(feed)
        for member in crew:
            member.books()
    counts = {"rows": found.rows, "letters": found.letters, "in_storm": in_storm}
    oracle.say(kills=kills, replayed=replayed, settled_s=settled_s, **counts)
    found.check()
    assert codes == [0, 0, 0]
    assert kills >= 10
    assert replayed > 0
    assert in_storm > 0
