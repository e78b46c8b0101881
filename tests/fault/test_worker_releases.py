"""Workers of this release and of the one before in one group, under load: each record once, from either release."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import PARTITIONS, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster
from tests.support.one_partition import OnePartition, halts
from tests.support.proxy import DropAnswer, FaultProxy
from tests.support.release import former_release
from tests.support.rig import INSERT

_THIS = Path(__file__).resolve().parents[2]
_PER_SECOND = 100


class Rollout:
    """A group whose workers are of either release."""

    def __init__(self, fleet: Fleet, feed: Feed, former: Path) -> None:
        self.fleet, self.feed, self._former = fleet, feed, former

    def former(self, **settings: object) -> Member:
        """Start a worker of the release before."""
        self.fleet.root = self._former
        return self.fleet.start("", **settings)

    def this(self) -> Member:
        """Start a worker of this release."""
        self.fleet.root = _THIS
        return self.fleet.start()

    def await_more_rows(self, count: int = 200) -> None:
        """Wait until so many more records are rows."""
        before = self.fleet.rows()
        until(lambda: self.fleet.rows() > before + count, "rows")


@pytest.fixture
def rollout(broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Rollout]:
    """No worker yet."""
    topic = new_topic_on(broker)
    with Fleet(tmp_path, broker.bootstrap_servers, topic, clickhouse.url) as fleet:
        feed = Feed(broker.bootstrap_servers, topic, poison_every=40)
        yield Rollout(fleet, feed, former_release(tmp_path / "former"))


def test_an_upgrade_under_load(rollout: Rollout, clickhouse: ClickHouse) -> None:
    """One of the former workers dies behind inserts that it had no answer to: they are repeated under its tokens."""
    address = urlsplit(clickhouse.url)
    with FaultProxy(address.hostname or "", address.port or 0) as proxy:
        first, second = rollout.former(clickhouse_url=proxy.url, insert_timeout_s=2), rollout.former()
        with rollout.feed.running(_PER_SECOND):
            rollout.await_more_rows()
            proxy.set(DropAnswer(), only=INSERT)
            until(lambda: first.figure("headrace_consumer_retries_total", step="insert") > 0, "a lost answer")
            first.kill()
            third = rollout.this()
            rollout.await_more_rows()
            fourth = rollout.this()
            rollout.await_more_rows()
            assert second.stop() == 0
            rollout.await_more_rows()
        rollout.fleet.settle(rollout.feed, 90).check()
        assert [member.stop() for member in (third, fourth)] == [0, 0]


@SOAK_ONLY
def test_a_rollback_under_load(rollout: Rollout, broker: KafkaCluster) -> None:
    """The former workers hold what this release has committed, and say so, until it is handed to them."""
    group = OnePartition(broker, rollout.fleet)
    with rollout.feed.running(_PER_SECOND):
        this = rollout.this()
        rollout.await_more_rows()
        assert this.stop() == 0
        before = rollout.fleet.rows()

        too_early = rollout.former()
        until(lambda: len(halts(too_early)) >= PARTITIONS, "halts")
        assert all("a newer worker" in sentence for sentence in halts(too_early))
        code, said, _ = group.command("downgrade", "--go")
        assert (code, "stop them all first" in said) == (1, True)
        too_early.kill()
        assert rollout.fleet.rows() == before
        until(lambda: group.command("downgrade", "--go")[0] == 0, "a group without members")
        former = rollout.former()
        rollout.await_more_rows()
    rollout.fleet.settle(rollout.feed, 90).check()
    assert former.stop() == 0
    assert group.command("audit")[0] == 0
