"""Brokers die, freeze or are not there yet while workers run: they wait, go on, and every record ends up once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, until
from tests.support.kafka import KafkaCluster

_PER_SECOND: Final = 120
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


def test_all_brokers_are_frozen(broker: KafkaCluster, fleet: Fleet, feed: Feed, oracle: Oracle) -> None:
    """SIGSTOP for 10 s, longer than a session: the worker stays, is no dead letter richer, and goes on."""
    member = fleet.start()
    with feed.running(_PER_SECOND):
        until(lambda: member.inserted() > _PER_SECOND, "rows")
        broker.nodes[0].pause()
        time.sleep(_FROZEN_S)
        health = member.page("/healthz")[0]
        broker.nodes[0].resume()
        resumed_s, before = time.monotonic(), member.inserted()
        until(lambda: member.inserted() > before + _PER_SECOND, "rows", 150)
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
        until(lambda: first.inserted() > _PER_SECOND, "rows")
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
