"""Brokers die, freeze or are not there yet while workers run: they wait, go on, and every record ends up once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster
from tests.support.kafka_node import KafkaNode

_PER_SECOND: Final = 300
_FROZEN_S: Final = 10.0
_DRAIN_S: Final = 4.0
_SETTLE_S: Final = 90.0


@pytest.fixture
def fleet(broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Fleet]:
    """Workers of a topic of their own on one node."""
    with Fleet(tmp_path, broker.bootstrap_servers, new_topic_on(broker), clickhouse.url) as started:
        yield started


@pytest.fixture
def feed(broker: KafkaCluster, fleet: Fleet) -> Feed:
    """Records to that topic, some of them poison."""
    return Feed(broker.bootstrap_servers, fleet.topic, poison_every=40)


def rows_of(member: Member) -> float:
    """Return how many rows a worker has inserted."""
    return member.figure("headrace_consumer_records_total", outcome="rows_inserted")


def leader(cluster: KafkaCluster, fleet: Fleet) -> KafkaNode:
    """Return the node that leads a partition of the events."""
    return cluster.leader(fleet.topic, 0)


def coordinator(cluster: KafkaCluster, fleet: Fleet) -> KafkaNode:
    """Return the node that coordinates the group."""
    group_id = str(fleet.settings["group_id"])
    admin = cluster.admin()
    found = admin.describe_consumer_groups([group_id])[group_id].result()
    return cluster.node(found.coordinator.id)


@pytest.mark.parametrize("victim", [pytest.param(leader, marks=SOAK_ONLY), coordinator])
def test_the_death_of_a_node(
    victim: Callable[[KafkaCluster, Fleet], KafkaNode],
    kafka_cluster: KafkaCluster,
    clickhouse: ClickHouse,
    tmp_path: Path,
    oracle: Oracle,
) -> None:
    """SIGKILL under load, three nodes: two workers go on with the ones that are left."""
    topic = new_topic_on(kafka_cluster)
    with Fleet(tmp_path, kafka_cluster.bootstrap_servers, topic, clickhouse.url) as fleet:
        feed = Feed(kafka_cluster.bootstrap_servers, topic, poison_every=40)
        workers = [fleet.start(), fleet.start()]
        with feed.running(_PER_SECOND):
            until(lambda: sum(map(rows_of, workers)) > 300, "rows")
            node = victim(kafka_cluster, fleet)
            node.kill()
            killed_s, before = time.monotonic(), len(feed.good)
            until(lambda: len(feed.good) > before + 2 * _PER_SECOND, "records")
            until(lambda: fleet.look(feed).rows > before + _PER_SECOND, "rows of records that came after the kill")
            again_s = time.monotonic() - killed_s
        found = fleet.settle(feed, _SETTLE_S)
        codes = [worker.stop() for worker in workers]
        oracle.say(node=node.node_id, again_s=again_s, rows=found.rows, letters=found.letters, exit_codes=codes)
        found.check()
    assert codes == [0, 0]


def test_all_brokers_are_frozen(broker: KafkaCluster, fleet: Fleet, feed: Feed, oracle: Oracle) -> None:
    """SIGSTOP for 10 s, longer than a session: the worker stays, is no dead letter richer, and goes on."""
    member = fleet.start()
    with feed.running(_PER_SECOND):
        until(lambda: rows_of(member) > 300, "rows")
        broker.nodes[0].pause()
        time.sleep(_FROZEN_S)
        health = member.page("/healthz")[0]
        broker.nodes[0].resume()
        resumed_s, before = time.monotonic(), rows_of(member)
        until(lambda: rows_of(member) > before + 300, "rows", 150)
        again_s = time.monotonic() - resumed_s
    found = fleet.settle(feed, _SETTLE_S)
    oracle.say(again_s=again_s, rows=found.rows, letters=found.letters)
    found.check()
    assert health == 200
    assert member.stop() == 0


def test_a_worker_is_stopped_and_another_started_while_the_broker_is_away(
    broker: KafkaCluster, fleet: Fleet, feed: Feed, oracle: Oracle
) -> None:
    """The first ends within its time; the second waits, healthy and not ready; then it makes what was left."""
    first = fleet.start("", drain_s_max=_DRAIN_S)
    with feed.running(_PER_SECOND):
        until(lambda: rows_of(first) > 300, "rows")
    feed.send(400)
    broker.nodes[0].kill()
    code = first.stop()
    second = fleet.start()
    until(lambda: second.page("/healthz")[0] == 200, "pages")
    until(lambda: "waiting for a server" in second.said(), "a word")
    pages = second.page("/healthz")[0], second.page("/readyz")[0]
    broker.nodes[0].start()
    found = fleet.settle(feed, _SETTLE_S)
    oracle.say(exit_code=code, rows=found.rows, letters=found.letters)
    found.check()
    assert (code, pages) == (0, (200, 503))
