"""Ten times more than the collector can take: accepted requests are answered in time, the others are told at once."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import IS_SOAK
from tests.fault.conftest import Oracle, p99_ms, statuses, wait_ms
from tests.support.ingress import Ingress, ingress
from tests.support.kafka import KafkaCluster
from tests.support.load import Load, Request, load, percentile
from tests.support.mock_cluster import MockCluster

_OVERLOAD_S = 30.0 if IS_SOAK else 10.0
_STORM_S = 8.0 if IS_SOAK else 4.0  # takes all of the processor
_QUEUE_S = 0.5  # as in production
_WAIT_MS_MAX = 3000  # without shedding, the wait grows to the length of the overload
_GROWTH_MIB = 40  # threads' stacks and librdkafka's buffers fill once; a queue that grows is gigabytes in this time


def memory_mib(collector: Ingress) -> float:
    """Return the resident memory of the workers (MiB)."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in collector.workers)
    return pages * 4096 / 1024**2


def overload(collector: Ingress, clients: Load, seconds: float) -> tuple[float, float, list[float]]:
    """Wait, and return the memory before and at its highest, and how long probes took (s)."""
    time.sleep(1)
    before = highest = memory_mib(collector)
    probes: list[float] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        assert collector.status("/readyz") == 200
        probes.append(time.monotonic() - began_s)
        highest = max(highest, memory_mib(collector))
        time.sleep(0.5)
    assert clients.so_far
    return before, highest, probes


def by_status(requests: list[Request], status: int) -> list[Request]:
    """Return the requests that were answered so."""
    return [request for request in requests if request.status == status]


def test_ten_times_what_a_slow_broker_allows(tmp_path: Path, oracle: Oracle) -> None:
    """Eight requests in work and a broker 200 ms away make 40 a second; 400 come."""
    with MockCluster() as mock:
        mock.create_topic("events", partitions=2)
        mock.set_rtt(1, 200)
        with (
            ingress(
                tmp_path, mock.bootstrap_servers, topic="events", requests_max=8, ack_slow_s=30, queue_wait_s=_QUEUE_S
            ) as collector,
            load(collector.port, tmp_path, clients=400, rate=400) as clients,
        ):
            before, highest, probes = overload(collector, clients, _OVERLOAD_S)
            requests = clients.stop()
            mock.set_rtt(1, 0)
            collector.await_drained(60)
            shed = collector.figures()['events_total{outcome="shed"}']
            account = oracle.settle(requests, mock.bootstrap_servers, "events")
        taken, refused = by_status(requests, 201), by_status(requests, 503)
        oracle.tell(
            account,
            requests,
            taken_p99_ms=p99_ms(taken),
            refused_p99_ms=p99_ms(refused),
            slowest_probe_ms=max(probes) * 1000,
            memory_mib=f"{before:.0f}->{highest:.0f}",
        )
    assert set(statuses(requests)) == {201, 503}
    assert len(taken) > _OVERLOAD_S  # a quiet machine: 40 a second
    assert wait_ms(taken) < _WAIT_MS_MAX
    assert wait_ms(refused) < _WAIT_MS_MAX
    assert {request.retry_after for request in refused} == {"1"}
    assert shed == len(refused)
    assert highest - before < _GROWTH_MIB


def test_more_clients_than_the_processor_can_serve(
    broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle
) -> None:
    """Four hundred clients that never pause, and never heed Retry-After: nobody waits long, and nothing is lost."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, requests_max=128, queue_wait_s=_QUEUE_S) as collector,
        load(collector.port, tmp_path, clients=400, rate=100_000) as clients,
    ):
        before, highest, probes = overload(collector, clients, _STORM_S)
        requests = clients.stop()
        collector.await_drained(60)
        account = oracle.prove(requests, broker, events)
        taken, refused = by_status(requests, 201), by_status(requests, 503)
        oracle.tell(
            account,
            requests,
            taken_p99_ms=p99_ms(taken),
            refused_p99_ms=p99_ms(refused),
            slowest_probe_ms=max(probes) * 1000,
            memory_mib=f"{before:.0f}->{highest:.0f}",
        )
    assert set(statuses(requests)) == {201, 503}
    assert wait_ms(taken) < _WAIT_MS_MAX
    assert wait_ms(refused) < _WAIT_MS_MAX
    assert percentile(probes, 0.5) * 1000 < _WAIT_MS_MAX
    assert highest - before < _GROWTH_MIB


def test_connections_that_say_nothing(broker: KafkaCluster, events: str, tmp_path: Path) -> None:
    """A hundred, as balancers open them in advance, hold nobody up, and the end does not wait for them."""
    patient = {"receive_timeout_s": 600, "keepalive_s": 600}  # so long they may say nothing
    with ExitStack() as opened, ingress(tmp_path, broker.bootstrap_servers, topic=events, **patient) as collector:
        for _ in range(100):
            opened.enter_context(socket.create_connection(("127.0.0.1", collector.port)))
        statuses_of_probes = [collector.status("/readyz") for _ in range(20)]
        collector.terminate()
        collector.await_end(60)
    assert set(statuses_of_probes) == {200}
