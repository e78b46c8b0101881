"""The disk of the spool is full, read-only or gone while the broker is away: 503, and nothing that may be lost."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, statuses
from tests.support.ingress import Ingress, ingress
from tests.support.kafka import KafkaCluster
from tests.support.load import Load, Request, load

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts its own file system")

_MIB = 1024 * 1024


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[None]:
    """Mount a file system of that size in memory; ends with the block."""
    path.mkdir()
    options = ["-o", f"size={size_bytes}"]
    made = subprocess.run(["mount", "-t", "tmpfs", *options, "spool", str(path)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"may not mount: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def await_status(clients: Load, status: int, timeout_s: float = 60.0) -> None:
    """Wait until the clients hear a status in their latest requests."""
    deadline_s = time.monotonic() + timeout_s
    while status not in {request.status for request in clients.so_far[-5:]}:
        assert time.monotonic() < deadline_s, f"no {status} heard"
        time.sleep(0.05)


def await_durability(clients: Load, durability: str, timeout_s: float = 60.0) -> None:
    """Wait until the clients hear where their latest events are."""
    deadline_s = time.monotonic() + timeout_s
    while durability not in {request.durability for request in clients.so_far[-5:]}:
        assert time.monotonic() < deadline_s, f"no {durability} heard"
        time.sleep(0.05)


def check_refusals(requests: list[Request]) -> None:
    """Every refusal says when to come again, and nothing but 201 and 503 is ever heard."""
    assert set(statuses(requests)) == {201, 503}
    assert {request.retry_after for request in requests if request.status == 503} == {"5"}


def finish(collector: Ingress, broker: KafkaCluster, clients: Load) -> tuple[list[Request], float]:
    """Bring the broker back, wait until everything is drained and well, and return the requests."""
    broker.nodes[0].resume()
    drained_s = collector.await_drained(60)
    clients.await_count(len(clients.so_far) + 100)
    return clients.stop(), drained_s


@pytest.mark.parametrize("bound", ["spool_bytes_max", pytest.param("spool_free_bytes_min", marks=SOAK_ONLY)])
def test_a_full_spool(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle, bound: str) -> None:
    """Full by its own bound, or by the space that it must leave to others: 503 until the drainer has made room."""
    bounds = {
        "spool_free_bytes_min": 16 * _MIB,
        bound: {"spool_bytes_max": 2, "spool_free_bytes_min": 28}[bound] * _MIB,
    }
    with (
        small_disk(tmp_path / "spool", {"spool_bytes_max": 128, "spool_free_bytes_min": 32}[bound] * _MIB),
        ingress(tmp_path, broker.bootstrap_servers, topic=events, **bounds) as collector,
        load(collector.port, tmp_path, padding=2000) as clients,
    ):
        clients.await_count(100)
        broker.nodes[0].pause()
        await_status(clients, 503)
        clients.await_count(len(clients.so_far) + 300)
        ready = collector.status("/readyz")
        in_spool = collector.spooled()
        size_mib = sum(path.stat().st_size for path in collector.spool.iterdir()) / _MIB
        requests, drained_s = finish(collector, broker, clients)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, in_spool=in_spool, size_mib=size_mib, ready=ready, drained_s=drained_s)
    check_refusals(requests)
    assert ready == 503
    assert in_spool > 100
    assert size_mib < 10  # the bound, and SQLite's log before it is folded in
    assert [request.status for request in requests[-50:]] == [201] * 50


def test_a_disk_that_others_fill(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """Not one byte left, though the spool kept to its bound: 503; and when the others have gone, all is well again."""
    with (
        small_disk(tmp_path / "spool", 32 * _MIB),
        ingress(tmp_path, broker.bootstrap_servers, topic=events, spool_free_bytes_min=16 * _MIB) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(100)
        broker.nodes[0].pause()
        clients.await_count(len(clients.so_far) + 300)
        others = tmp_path / "spool" / "others"
        fill(others)
        await_status(clients, 503)
        clients.await_count(len(clients.so_far) + 200)
        broker.nodes[0].resume()
        await_durability(clients, "broker")
        others.unlink()
        requests, drained_s = finish(collector, broker, clients)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, drained_s=drained_s)
    check_refusals(requests)


def fill(path: Path) -> None:
    """Write a file until the disk has no more room."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x")


def test_a_read_only_disk(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """Read-only from the start: the broker alone answers, without it nobody; writable again, the spool takes over."""
    disk = tmp_path / "spool"
    with small_disk(disk, 64 * _MIB):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with (
            ingress(
                tmp_path, broker.bootstrap_servers, topic=events, spool_free_bytes_min=16 * _MIB, ack_slow_s=30
            ) as collector,
            load(collector.port, tmp_path) as clients,
        ):
            clients.await_count(200)
            before = clients.so_far
            broker.nodes[0].pause()
            await_status(clients, 503)
            clients.await_count(len(clients.so_far) + 200)
            ready = collector.status("/readyz")
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            await_status(clients, 201)
            requests, drained_s = finish(collector, broker, clients)
            account = oracle.prove(requests, broker, events)
            oracle.tell(account, requests, ready=ready, drained_s=drained_s)
    check_refusals(requests)
    assert {request.durability for request in before} == {"broker"}
    assert ready == 503


def test_a_removed_directory(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """Taken away under the process (moved, as a lost mount): 503 at once, 201 when it is back, and nothing is lost."""
    spool, away = tmp_path / "spool", tmp_path / "away"
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(100)
        broker.nodes[0].pause()
        clients.await_count(len(clients.so_far) + 300)
        spool.rename(away)
        await_status(clients, 503)
        clients.await_count(len(clients.so_far) + 200)
        ready = collector.status("/readyz")
        away.rename(spool)
        await_status(clients, 201)
        requests, drained_s = finish(collector, broker, clients)
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, ready=ready, drained_s=drained_s)
    check_refusals(requests)
    assert ready == 503


def test_a_deleted_file(broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle) -> None:
    """Somebody deletes the spool in an outage: what lay in it is gone; what comes after is in a file that exists."""
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(100)
        broker.nodes[0].pause()
        clients.await_count(len(clients.so_far) + 300)
        for path in collector.spool.glob("*.db*"):
            path.unlink()
        deleted_at = time.time()
        clients.await_count(len(clients.so_far) + 300)
        requests, drained_s = finish(collector, broker, clients)
        after = [r if r.durability == "broker" or r.at_s > deleted_at else replace(r, status=0) for r in requests]
        account = oracle.prove(after, broker, events)
        oracle.tell(account, requests, drained_s=drained_s)
    assert set(statuses(requests)) <= {201, 503}
    assert account.on_disk > 100


def test_without_a_spool_the_broker_alone_answers(
    broker: KafkaCluster, events: str, tmp_path: Path, oracle: Oracle
) -> None:
    """A directory that never was is loud and does not stop the service."""
    missing = tmp_path / "no" / "spool"
    with (
        ingress(tmp_path, broker.bootstrap_servers, topic=events, spool_dir=missing, ack_slow_s=30) as collector,
        load(collector.port, tmp_path) as clients,
    ):
        clients.await_count(300)
        ready, usable = collector.status("/readyz"), collector.figures()["spool_usable"]
        requests = clients.stop()
        account = oracle.prove(requests, broker, events)
        oracle.tell(account, requests, ready=ready, usable=usable)
    assert statuses(requests) == {201: len(requests)}
    assert (ready, usable) == (200, 0)
    assert any(line["level"] == "ERROR" and "spool" in line["message"] for line in collector.log_lines())
