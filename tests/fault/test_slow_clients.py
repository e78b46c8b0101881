"""Clients that connect and say little or nothing: others are served, and no process dies of them."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.fleet import until
from tests.support.ingress import Ingress, ingress
from tests.support.mock_cluster import MockCluster

_SOON_S = 10.0  # a collector closes a connection that says nothing after 15 s
_MANY = 1100
_FILES = 1024


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """Let the test itself open more files than it gives the collector."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 4 * _FILES), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Ingress]:
    """A collector before a broker that is well."""
    with MockCluster() as mock:
        mock.create_topic("events", partitions=2)
        with ingress(tmp_path, mock.bootstrap_servers, topic="events") as running:
            yield running


def connect(opened: ExitStack, port: int, count: int) -> list[socket.socket]:
    """Open connections, as many as the listener's queue takes; they end with the stack."""
    connections = []
    for _ in range(count):
        connection = opened.enter_context(socket.socket())
        connection.settimeout(2)
        try:
            connection.connect(("127.0.0.1", port))
        except TimeoutError:  # the queue is full, too
            break
        connections.append(connection)
    return connections


def soon(collector: Ingress) -> int:
    """Ask for /healthz; 0 when there is no answer soon."""
    return collector.status("/healthz", _SOON_S)


def await_answer(collector: Ingress) -> None:
    """Wait until /healthz is answered."""
    deadline_s = time.monotonic() + 60
    while soon(collector) != 200:
        assert time.monotonic() < deadline_s, collector.log_path.read_text()[-2000:]


def test_a_worker_without_a_file_to_open_lives_on(collector: Ingress) -> None:
    """It accepts nobody for the moment; once connections have ended it serves as before."""
    (pid,) = collector.workers
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (200, 200))
    with ExitStack() as opened:
        connect(opened, collector.port, 400)
        until(lambda: complaints(collector) > 0, "out of files")

        assert collector.workers == [pid]
    await_answer(collector)
    assert collector.workers == [pid]
    assert complaints(collector) < 20  # not one for each of two hundred connections


def complaints(collector: Ingress) -> int:
    """Count the log lines about connections that can't be accepted."""
    said = "no connection can be accepted now: Too many open files"
    return sum(said in line["message"] for line in collector.log_lines())


def test_more_connections_than_files(tmp_path: Path) -> None:
    """With `ulimit -n 1024` the start says how many connections that leaves, and 1,100 kill nobody."""
    with MockCluster() as mock, ExitStack() as opened:
        mock.create_topic("events", partitions=2)
        collector = Ingress(tmp_path, mock.bootstrap_servers, topic="events")
        collector.prefix = ("prlimit", f"--nofile={_FILES}:{_FILES}")
        opened.callback(collector.end)
        collector.start()
        (pid,) = collector.workers
        with ExitStack() as silent:
            connect(silent, collector.port, _MANY)
            until(lambda: files_of(pid) > 800, "connections")
            files = files_of(pid)

            assert collector.workers == [pid]
        await_answer(collector)
        assert collector.workers == [pid]
        said = [line["message"] for line in collector.log_lines()]
    assert files < _FILES - 40
    assert any("only 1024 are allowed (ulimit -Hn): it accepts 896 connections" in message for message in said)
    assert not any("Too many open files" in message for message in said)


def files_of(pid: int) -> int:
    """Count the files that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_heads_that_drip(collector: Ingress) -> None:
    """Forty connections that send a byte a second of their head don't hold up a probe."""
    is_over = threading.Event()

    def drip(connections: list[socket.socket]) -> None:
        for connection in connections:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        while not is_over.wait(1):
            for connection in connections:
                connection.send(b"x")

    with ExitStack() as opened:
        slow = threading.Thread(target=drip, args=(connect(opened, collector.port, 40),))
        slow.start()
        time.sleep(1)
        status = soon(collector)
        is_over.set()
        slow.join()
    assert status == 200


def test_connections_that_say_nothing_and_are_more_than_the_setting(tmp_path: Path) -> None:
    """Eleven hundred silent connections don't lock a probe out of a collector that takes a thousand."""
    with MockCluster() as mock, ExitStack() as opened:
        mock.create_topic("events", partitions=2)
        with ingress(tmp_path, mock.bootstrap_servers, topic="events", connections_max=1000) as collector:
            connect(opened, collector.port, _MANY)
            time.sleep(1)
            status = soon(collector)
    assert status == 200
