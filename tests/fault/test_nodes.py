"""Of three nodes one or two die under load: no client sees an error, workers go on, nothing is lost or doubled."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import (
    Oracle,
    bearable_ms,
    during,
    ended_before,
    new_topic_on,
    p99_ms,
    statuses,
    wait_ms,
)
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.ingress import ingress
from tests.support.kafka import KafkaCluster
from tests.support.kafka_node import KafkaNode
from tests.support.load import load

_PER_SECOND: Final = 120
_SETTLE_S: Final = 90.0


def test_the_death_of_a_leader(kafka_cluster: KafkaCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Three nodes, replication 3, min.insync 2: SIGKILL of a leader under load; no client sees an error."""
    topic = new_topic_on(kafka_cluster, partitions=4)
    with (
        ingress(tmp_path, kafka_cluster.bootstrap_servers, topic=topic) as collector,
        load(collector.port, tmp_path, rate=200) as clients,
    ):
        clients.await_count(200)
        leader = kafka_cluster.leader(topic, 0)
        leader.kill()
        kafka_cluster.leader(topic, 0, other_than=leader)
        clients.await_count(len(clients.so_far) + 600)
        drained_s = collector.await_drained(60)
        requests = clients.stop()
        account = oracle.prove(requests, kafka_cluster, topic)
        oracle.tell(
            account,
            requests,
            drained_s=drained_s,
            slowest_ms=max(request.took_s for request in requests) * 1000,
        )
    assert set(statuses(requests)) == {201}


@SOAK_ONLY
def test_too_few_replicas(kafka_cluster: KafkaCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Two of three nodes away: what one node alone has written down is no success, and goes to disk."""
    topic = new_topic_on(kafka_cluster, partitions=4)
    with (
        ingress(tmp_path, kafka_cluster.bootstrap_servers, topic=topic) as collector,
        load(collector.port, tmp_path, rate=200) as clients,
    ):
        clients.await_count(400)
        for node in kafka_cluster.nodes[:2]:
            node.kill()
        killed_at = time.time()
        time.sleep(10)
        healing_at = time.time()
        kafka_cluster.heal()
        drained_s = collector.await_drained(60)
        requests = clients.stop()
        account = oracle.prove(requests, kafka_cluster, topic)
        before = ended_before(requests, killed_at)
        outage = ended_before(during(requests, killed_at + 5, healing_at), healing_at)
        oracle.tell(
            account,
            requests,
            outage=len(outage),
            bearable_ms=bearable_ms(before),
            outage_p99_ms=p99_ms(outage),
            outage_slow=sum(request.took_s > 0.5 for request in outage),
            drained_s=drained_s,
        )
    assert set(statuses(requests)) == {201}
    assert {request.durability for request in outage} == {"disk"}
    assert wait_ms(outage) < bearable_ms(before)


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
            until(lambda: sum(map(Member.inserted, workers)) > _PER_SECOND, "rows")
            node = victim(kafka_cluster, fleet)
            node.kill()
            killed_s, before = time.monotonic(), len(feed.good)
            until(lambda: len(feed.good) > before + 2 * _PER_SECOND, "records")
            until(lambda: fleet.rows() > before + _PER_SECOND, "rows of records that came after the kill")
            again_s = time.monotonic() - killed_s
        found = fleet.settle(feed, _SETTLE_S)
        codes = [worker.stop() for worker in workers]
        oracle.say(node=node.node_id, again_s=again_s, rows=found.rows, letters=found.letters, exit_codes=codes)
        found.check()
    assert codes == [0, 0]
