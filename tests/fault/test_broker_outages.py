"""The broker goes away under load and comes back: clients get 201 all the time, and everything is there in the end."""

import time
from pathlib import Path

import pytest

from tests.conftest import IS_SOAK
from tests.fault.conftest import (
    Oracle,
    await_broker,
    bearable_ms,
    during,
    ended_before,
    p99_ms,
    statuses,
    wait_ms,
)
from tests.support.ingress import ingress
from tests.support.kafka import KafkaCluster
from tests.support.load import load

_FROZEN_S = 20.0 if IS_SOAK else 8.0
_AWAY_S = 4.0


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
        await_broker(clients, 300)
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
            clients.await_count(400)
            early = clients.so_far
            broker.nodes[0].start()
            drained_s = collector.await_drained(60)
            await_broker(clients, 300)
            requests = clients.stop()
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, early=len(early), early_p99_ms=p99_ms(early), drained_s=drained_s)
    assert ready == 200
    assert set(statuses(requests)) == {201}
    assert {request.durability for request in early} == {"disk"}
    assert wait_ms(early) < bearable_ms([request for request in requests if request.durability == "broker"])
