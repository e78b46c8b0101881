"""SIGTERM under load: in order, in time, and without losing what was answered 201, with a broker or without."""

import signal
import time
from pathlib import Path
from typing import Any, Final

from tests.fault.conftest import Oracle, await_broker, on_disk, statuses
from tests.support.fleet import until
from tests.support.ingress import Ingress, ingress
from tests.support.kafka import KafkaCluster
from tests.support.load import NO_ANSWER, load

_GRACE_S: Final = 3
_CLIENTS: Final = 24
_PATIENT: Final[dict[str, object]] = {"answer_deadline_s": 30, "delivery_timeout_ms": 29_000}
_ENDED_S_MAX: Final = 20.0  # of an end that waits for nothing; a frozen broker's requests have the time above


def books(collector: Ingress) -> list[dict[str, Any]]:
    """Return the last log lines of the workers that ended in order."""
    return [line for line in collector.log_lines() if line["message"] == "final event counts"]


def await_stuck(collector: Ingress, clients: int) -> None:
    """Wait until so many clients have a request of two events that waits for the broker."""
    until(lambda: collector.figures()["events_in_flight"] >= 2 * clients, "clients that wait")


def test_the_end_with_a_dead_broker(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """Requests are waiting for a frozen broker: each is answered, and the next start sends what lies in the spool."""
    with (
        # Without a bound for slow acknowledgements: the disk has then no event that it is rid of again before the end.
        ingress(tmp_path, broker.bootstrap_servers, topic=events, workers=2, ack_slow_s=30) as collector,
        load(collector.port, tmp_path, clients=_CLIENTS) as clients,
    ):
        clients.await_count(200)
        broker.nodes[0].pause()
        await_stuck(collector, _CLIENTS // 2)
        began_s = time.monotonic()
        collector.terminate()
        code = collector.await_end(60)
        ended_s = time.monotonic() - began_s
        requests = clients.stop()
        in_spool, said = collector.spooled(), books(collector)
        broker.nodes[0].resume()
        collector.start()
        drained_s = collector.await_drained(60)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, ended_s=ended_s, in_spool=in_spool, drained_s=drained_s)
    assert code == 0
    # A request of two events says "disk" when one of them is there: the broker may have acknowledged the other.
    assert in_spool >= account.on_disk / 2 > 0
    assert len(said) == 2
    assert all(line["balanced"] and not line["in_flight"] for line in said)
    assert sum(line["accepted"] for line in said) == account.taken


def test_the_end_with_a_broker_that_is_well(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """Not ready at once, serving on for the grace time, then gone without one request cut off or one event spooled."""
    with (
        ingress(
            tmp_path, broker.bootstrap_servers, topic=events, shutdown_grace_s=_GRACE_S, ack_slow_s=30
        ) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(200)
        await_broker(clients, 100)
        began_s = time.monotonic()
        at_s = time.time()
        collector.terminate()
        while (ready := collector.status("/readyz")) == 200:
            pass
        not_ready_s = time.monotonic() - began_s
        healthy = collector.status("/healthz")
        code = collector.await_end(60)
        ended_s = time.monotonic() - began_s
        requests = clients.stop()
        served = sum(request.status == 201 and request.at_s > at_s + 1 for request in requests)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, not_ready_s=not_ready_s, served_after_1s=served, ended_s=ended_s)
    assert (code, ready, healthy) == (0, 503, 200)
    assert served > 0
    assert ended_s > _GRACE_S
    assert on_disk(requests, at_s) == 0
    assert account.unclaimed == 0
    assert not list(collector.spool.glob("*.db*"))
    assert {request.status for request in requests if request.at_s < at_s + _GRACE_S - 1} == {201}
    assert set(statuses(requests)) <= {201, NO_ANSWER}


def test_the_quick_end(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """SIGQUIT, as Ctrl-C: at once, but requests that wait for a frozen broker are spooled and answered."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, ack_slow_s=60, **_PATIENT) as collector,
        load(collector.port, tmp_path, clients=_CLIENTS) as clients,
    ):
        clients.await_count(200)
        broker.nodes[0].pause()
        await_stuck(collector, _CLIENTS)
        quit_at = time.time()
        collector.process.send_signal(signal.SIGQUIT)
        code = collector.await_end(60)
        ended_s = time.time() - quit_at
        requests = clients.stop()
        waiting = [request for request in requests if request.at_s < quit_at < request.at_s + request.took_s]
        in_spool, said = collector.spooled(), books(collector)
        broker.nodes[0].resume()
        collector.start()
        collector.await_drained(60)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, waiting=statuses(waiting), in_spool=in_spool, ended_s=ended_s)
    assert code == 0
    assert ended_s < _ENDED_S_MAX
    assert statuses(waiting) == {201: _CLIENTS}
    assert all(line["balanced"] and not line["in_flight"] for line in said)
