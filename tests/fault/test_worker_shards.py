"""Workers over two ClickHouse servers, as shards or as entry nodes of one: each record is there once."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from consumer.delivery.intent import Intent
from tests.conftest import IS_SOAK, SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse_shards import Node, ShardedFleet, TwoServers
from tests.support.feed import Feed
from tests.support.fleet import Member, until
from tests.support.kafka import KafkaCluster
from tests.support.proxy import DropAnswer, FaultProxy, Pass

_PER_SECOND: Final = 150
_ROUNDS: Final = 8 if IS_SOAK else 1
_PARTITIONS: Final = 5


@pytest.fixture(scope="module")
def servers() -> Iterator[TwoServers]:
    """Two servers that a test may kill; it starts them again."""
    with TwoServers() as running:
        yield running


def settled(fleet: ShardedFleet, feed: Feed, oracle: Oracle) -> None:
    """Wait until everything is there, and fail unless it is there once, and partitions lie on one shard each.

    A server that was killed merges again; what that hides of doubles, the counts tell.
    """
    found = fleet.settle(feed, 120)
    first, second = fleet.partitions()
    oracle.say(rows=found.rows, letters=found.letters, missing=len(found.missing), first=first, second=second)
    found.check()
    assert not first & second


def killed(fleet: ShardedFleet, node: Node) -> None:
    """Kill a server, and start it again once a worker has missed it."""
    before = retries(fleet)
    node.kill()
    try:
        until(lambda: retries(fleet) > before, "retries")
    finally:
        node.start()


def missed(fleet: ShardedFleet, node: Node) -> None:
    """Kill a server without data, and start it again once the workers have gone on without it."""
    node.kill()
    try:
        before = inserted(fleet)
        until(lambda: inserted(fleet) > before + _PER_SECOND, "rows")
    finally:
        node.start()


def inserted(fleet: ShardedFleet) -> float:
    """Return how many rows the workers that run have inserted."""
    return sum(one.inserted() for one in fleet.members if one.is_alive)


def retries(fleet: ShardedFleet) -> float:
    """Return how often the workers that run have tried again."""
    return sum(one.figure("headrace_consumer_retries_total") for one in fleet.members if one.is_alive)


def started(fleet: ShardedFleet, count: int) -> list[Member]:
    """Start workers, and wait until they own all partitions."""
    members = [fleet.start(insert_timeout_s=3) for _ in range(count)]
    until(lambda: sum(member.partitions() for member in members) >= _PARTITIONS, "partitions", 90)
    return members


@pytest.mark.soak
def test_each_record_is_there_once_over_both_shards_whatever_was_killed(
    one_node: KafkaCluster, servers: TwoServers, tmp_path: Path, oracle: Oracle
) -> None:
    """A worker, then a server, which is an entry node and a shard; its shard's records wait for it."""
    topic, address = new_topic_on(one_node, partitions=4), one_node.bootstrap_servers
    feed = Feed(address, topic, poison_every=97)
    with ShardedFleet(tmp_path, address, topic, servers, "two") as fleet:
        members = started(fleet, 2)
        with feed.running(_PER_SECOND):
            for number in range(_ROUNDS):
                until(lambda: fleet.rows() > 0, "rows")
                members.pop(0).kill()
                members.append(fleet.start(insert_timeout_s=3))
                node = servers.nodes[1 - number % 2]
                killed(fleet, node)
        settled(fleet, feed, oracle)
        assert all(fleet.partitions())


@SOAK_ONLY
def test_an_entry_node_may_be_killed_at_any_time(
    one_node: KafkaCluster, servers: TwoServers, tmp_path: Path, oracle: Oracle
) -> None:
    """The data are on the first server; the workers go on through it when the second one is killed, and back."""
    topic, address = new_topic_on(one_node, partitions=4), one_node.bootstrap_servers
    feed = Feed(address, topic, poison_every=97)
    with ShardedFleet(tmp_path, address, topic, servers, "one") as fleet:
        fleet.settings["clickhouse_url"] = ",".join(node.url for node in reversed(servers.nodes))
        started(fleet, 2)
        with feed.running(_PER_SECOND):
            for _ in range(_ROUNDS):
                before = inserted(fleet)
                until(lambda before=before: inserted(fleet) > before, "more rows")  # type: ignore[misc]
                missed(fleet, servers.nodes[1])
                killed(fleet, servers.nodes[0])
        settled(fleet, feed, oracle)
        assert not fleet.partitions()[1]


@SOAK_ONLY
def test_ranges_of_both_shards_are_finished_there_after_a_third_was_added(
    one_node: KafkaCluster, tmp_path: Path, oracle: Oracle
) -> None:
    """They were inserted, nobody heard, and the worker was killed; what comes next goes where three shards have it."""
    topic, address = new_topic_on(one_node, partitions=4), one_node.bootstrap_servers
    feed = Feed(address, topic, poison_every=97)
    with (
        TwoServers(3) as servers,
        ShardedFleet(tmp_path, address, topic, servers, "two") as fleet,
        ExitStack() as stack,
    ):
        proxies = [stack.enter_context(FaultProxy("127.0.0.1", node.port)) for node in servers.nodes]
        fleet.settings["clickhouse_url"] = ",".join(proxy.url for proxy in proxies[:2])
        (member,) = started(fleet, 1)
        with feed.running(_PER_SECOND):
            for number in range(_ROUNDS):
                until(lambda: inserted(fleet) > _PER_SECOND, "rows")
                for proxy in proxies:
                    proxy.set(DropAnswer(), only=r"INSERT\+INTO\+events_all\+")
                until(lambda: {intent.shard for intent in fleet.intents().values()} >= {1, 2}, "intents of both shards")
                member.kill()
                left = {place.number: intent for place, intent in fleet.intents().items() if place.topic == topic}
                for proxy in proxies:
                    proxy.set(Pass())
                if number == 0:
                    fleet.grow("three")
                    fleet.settings["clickhouse_url"] = ",".join(proxy.url for proxy in proxies)
                    meant = left
                (member,) = started(fleet, 1)
        found = fleet.settle(feed, 120)
        oracle.say(rows=found.rows, letters=found.letters, missing=len(found.missing), left=sorted(meant))
        found.check()
        assert {intent.shard for intent in meant.values()} >= {1, 2}
        check_places(fleet, meant)


def check_places(fleet: ShardedFleet, meant: Mapping[int, Intent]) -> None:
    """Fail unless a partition's rows are on its shard of two up to what was unfinished, then on that of three."""
    query = """
    SELECT _partition AS p, min(_offset) AS low, max(_offset) + 1 AS end FROM events
    WHERE _topic = {topic:String} GROUP BY p
    """
    for shard, one in enumerate(fleet.servers.each(fleet.database), 1):
        for row in one.query(query, {"topic": fleet.topic}):
            before, after = row["p"] % 2 + 1, row["p"] % 3 + 1
            assert shard in (before, after), row
            if before != after and (intent := meant.get(row["p"])) is not None:
                assert intent.shard == before
                assert row["end"] <= intent.b if shard == before else row["low"] >= intent.b, (shard, row, intent)
