"""Workers that come and go under load, topics that are recreated under them, and a broker that keeps no intents."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import Broker, KafkaCluster

KIP848: Final[dict[str, object]] = {"group_protocol": "consumer"}
_KILLED: Final = -9
_PARTITIONS: Final = 4
_PER_SECOND: Final = 120


def shares(crew: list[Member]) -> bool:
    """Tell whether each has a partition, and all of them together have all, the dead letters' too."""
    owned = [member.partitions() for member in crew]
    return all(owned) and sum(owned) == _PARTITIONS + 1


def total(members: list[Member], topic: str) -> Counter[str]:
    """Add up the counts of stopped workers over the partitions of one topic."""
    sums: Counter[str] = Counter()
    for member in members:
        for place, book in member.books().items():
            if place.rpartition("/")[0] == topic:
                sums.update(book)
    return sums


def repeated(member: Member) -> float:
    """Return how many batches of its predecessors a worker has inserted again, under their tokens."""
    return member.figure("headrace_consumer_intents_total", outcome="replayed")


@pytest.fixture
def fleet(broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Fleet]:
    """Workers of a topic with four partitions."""
    topic = new_topic_on(broker, _PARTITIONS)
    with Fleet(tmp_path, broker.bootstrap_servers, topic, clickhouse.url) as fleet:
        yield fleet


@pytest.mark.parametrize(
    "protocol", [pytest.param({}, id="classic"), pytest.param(KIP848, id="kip848", marks=SOAK_ONLY)]
)
def test_one_to_four_to_one_under_load(
    protocol: dict[str, object], fleet: Fleet, broker: KafkaCluster, oracle: Oracle
) -> None:
    """Three join, then three leave, the oldest first: exit 0, books that balance, and no row is made twice.

    A last commit that a rebalance refuses leaves its intent: the successor repeats that batch, and counts it again.
    """
    fleet.settings |= protocol
    feed = Feed(broker.bootstrap_servers, fleet.topic, poison_every=100)
    with feed.running(_PER_SECOND):
        crew = [fleet.start()]
        until(lambda: shares(crew), "one has all")
        crew += [fleet.start() for _ in range(3)]
        until(lambda: shares(crew), "four share")
        codes, repeats = [], 0.0
        for _ in range(3):
            repeats += repeated(crew[0])
            codes.append(crew.pop(0).stop())
            until(lambda: shares(crew), "the rest share")
    fleet.settle(feed)
    repeats += repeated(crew[0])
    codes.append(crew[0].stop())
    found = fleet.look(feed)
    sums = total(fleet.members, fleet.topic)
    oracle.say(rows=found.rows, letters=found.letters, repeats=repeats, **sums)
    found.check()
    assert codes == [0] * 4
    again = sums["rows_inserted"] - len(feed.good), sums["dead_letters"] - len(feed.poison)
    assert min(again) >= 0
    assert repeats or max(again) == 0
    assert sums["read"] - sums["returned"] == len(feed.good) + len(feed.poison) + sum(again)


@pytest.mark.parametrize(
    ("state", "protocol"),
    [
        pytest.param("frozen", {}, id="frozen-classic"),
        pytest.param("reading", KIP848, id="reading-kip848"),
        pytest.param("frozen", KIP848, id="frozen-kip848", marks=SOAK_ONLY),
        pytest.param("reading", {}, id="reading-classic", marks=SOAK_ONLY),
    ],
)
def test_a_topic_is_made_anew(
    protocol: dict[str, object], state: str, fleet: Fleet, broker: KafkaCluster, oracle: Oracle
) -> None:
    """Records are unread when the topic goes: at most once each; those of the new topic exactly once each."""
    fleet.settings |= {"session_timeout_ms": 10_000, "insert_timeout_s": 10, **protocol}
    crew = [fleet.start() for _ in range(2)]
    until(lambda: shares(crew), "two share")
    first = Feed(broker.bootstrap_servers, fleet.topic)
    first.send(500)
    fleet.settle(first).check()
    old = broker.topic_id(fleet.topic)
    if state == "frozen":
        for member in crew:
            member.pause()
    first.send(300)
    broker.delete_topic(fleet.topic)
    broker.create_topic(fleet.topic, partitions=_PARTITIONS)
    new = broker.topic_id(fleet.topic)
    second = Feed(broker.bootstrap_servers, fleet.topic)
    second.send(1000)
    for member in crew:
        member.resume()
    fleet.settle(second, topic_id=new)
    codes = [member.stop() for member in crew]
    found, of_old = fleet.look(second, topic_id=new), fleet.look(first, topic_id=old)
    oracle.say(rows=found.rows, of_old=of_old.rows, unread=len(of_old.missing))
    found.check()
    assert codes == [0, 0]
    for member in crew:
        member.books()
    assert not of_old.doubled
    assert not of_old.wrong
    assert of_old.rows == of_old.counted >= 500
    assert new != old


@SOAK_ONLY
def test_workers_follow_each_other_on_a_broker_that_keeps_no_intents(
    embedded_broker: Broker, clickhouse: ClickHouse, tmp_path: Path, oracle: Oracle
) -> None:
    """What is promised there: clean stops under load are exact, and a killed worker loses nothing."""
    topic = tmp_path.name
    embedded_broker.create_topic(f"{topic}.dead")
    embedded_broker.create_topic(topic, partitions=_PARTITIONS)
    feed = Feed(embedded_broker.bootstrap_servers, topic, poison_every=300)  # much poison takes longer than a stop may
    with Fleet(tmp_path, embedded_broker.bootstrap_servers, topic, clickhouse.url) as fleet:
        with feed.running(_PER_SECOND):
            for _ in range(2):
                member = fleet.start()
                until(lambda: member.inserted() > 100, "it works")  # noqa: B023  (asked at once)
                assert member.stop() == 0
                member.books()
        last = fleet.start()
        exact = fleet.settle(feed)
        exact.check()
        assert "at least once" in last.said()
        assert last.stop() == 0
        with feed.running(_PER_SECOND):
            assert fleet.start(doom="inserted:6").await_exit() == _KILLED
        feed.send(200)
        last = fleet.start()
        found = fleet.settle(feed)
        assert last.stop() == 0
    oracle.say(exact=exact.rows, rows=found.rows, letters=found.letters, doubled=len(found.doubled))
    assert not found.missing
    assert not found.wrong
