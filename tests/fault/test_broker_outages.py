"""The broker goes away under load and comes back: clients get 201 all the time, and everything is there in the end."""

import time
from pathlib import Path

import pytest

from tests.conftest import IS_SOAK, SOAK_ONLY
from tests.fault.conftest import Oracle, bearable_ms, new_topic_on, p99_ms, statuses, wait_ms
from tests.support.fleet import until
from tests.support.ingress import ingress
from tests.support.kafka import KafkaCluster
from tests.support.load import Load, Request, load

_FROZEN_S = 20.0 if IS_SOAK else 8.0
_AWAY_S = 4.0


def during(requests: list[Request], since_s: float, until_s: float) -> list[Request]:
    """Return the requests that were sent between two moments (Unix time)."""
    return [request for request in requests if since_s <= request.at_s < until_s]


def ended_before(requests: list[Request], moment_s: float) -> list[Request]:
    """Return the requests that were answered before a moment (Unix time)."""
    return [request for request in requests if request.at_s + request.took_s < moment_s]


def await_broker(clients: Load) -> None:
    """Wait until all events of the latest requests went to the broker."""
    until(lambda: {request.durability for request in clients.so_far[-300:]} == {"broker"}, "with the broker again")


@pytest.mark.soak
def test_a_frozen_broker(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """SIGSTOP: 201 from the disk within 100 ms once the breaker is open; the spool empties by itself."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(500)
        frozen_at = time.time()
        broker.nodes[0].pause()
        time.sleep(_FROZEN_S)
        resumed_at = time.time()
        broker.nodes[0].resume()
        drained_s = collector.await_drained(60)
        await_broker(clients)
        requests = clients.stop()
        figures_at_end = collector.figures()
        account = oracle.prove(requests, broker, events)
        before = ended_before(requests, frozen_at)
        outage = ended_before(during(requests, frozen_at + 4, resumed_at), resumed_at)
        after = during(requests, resumed_at + drained_s + 0.5, time.time())
        oracle.tell(
            account,
            requests,
            slow=sum(request.took_s > 0.5 for request in requests),
            bearable_ms=bearable_ms(before),
            outage_p99_ms=p99_ms(outage),
            drained_s=drained_s,
            draining_p99_ms=p99_ms(during(requests, resumed_at, resumed_at + drained_s)),
            after_p99_ms=p99_ms(after),
            drained=figures_at_end["spool_drained_events_total"],
        )
    assert set(statuses(requests)) == {201}
    assert {request.durability for request in outage} == {"disk"}
    assert wait_ms(outage) < bearable_ms(before)


def test_a_broker_that_is_killed_and_restarted(
    broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle
) -> None:
    """SIGKILL, a few seconds of nothing, and a start: no client sees an error, and nothing is lost or doubled."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, workers=2) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(300)
        broker.nodes[0].kill()
        time.sleep(_AWAY_S)
        restarted_at = time.time()
        broker.nodes[0].start()
        drained_s = collector.await_drained(60)
        requests = clients.stop()
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, start_s=time.time() - restarted_at - drained_s, drained_s=drained_s)
    assert set(statuses(requests)) == {201}
    assert account.on_disk > 0


def test_a_broker_that_comes_later_than_the_ingress(
    broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle
) -> None:
    """Not there at the start: ready all the same, no client waits for it, and everything arrives once it is there."""
    broker.nodes[0].kill()
    with ingress(tmp_path, broker.bootstrap_servers, topic=events) as collector:
        ready = collector.status("/readyz")
        with load(collector.port, tmp_path) as clients:
            clients.await_count(1000)
            early = clients.so_far
            broker.nodes[0].start()
            drained_s = collector.await_drained(60)
            await_broker(clients)
            requests = clients.stop()
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, early=len(early), early_p99_ms=p99_ms(early), drained_s=drained_s)
    assert ready == 200
    assert set(statuses(requests)) == {201}
    assert {request.durability for request in early} == {"disk"}
    assert wait_ms(early) < bearable_ms([request for request in requests if request.durability == "broker"])


def test_the_death_of_a_leader(kafka_cluster: KafkaCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Three nodes, replication 3, min.insync 2: SIGKILL of a leader under load; no client sees an error."""
    topic = new_topic_on(kafka_cluster)
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
    topic = new_topic_on(kafka_cluster)
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
