"""A connection that the server may be about to close is not used: what is sent then is lost, run or not."""

from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from consumer.clickhouse import pool
from consumer.clickhouse.driver import close_pool
from tests.support.certificates import Authority
from tests.support.http_server import HttpServer
from tests.support.tls_front import tls_front


class Clock:
    """A time that only the test moves."""

    now_s = 100.0

    def monotonic(self) -> float:
        """Return it."""
        return self.now_s


class Server(BaseHTTPRequestHandler):
    """Answers, with the header that the test has set, and the port that the client came from."""

    protocol_version = "HTTP/1.1"
    keep_alive = ""

    def do_GET(self) -> None:
        """Answer with the client's port."""
        port = str(self.client_address[1]).encode()
        self.send_response(200)
        if self.keep_alive:
            self.send_header("Keep-Alive", self.keep_alive)
        self.send_header("Content-Length", str(len(port)))
        self.send_header("X-ClickHouse-Server-Display-Name", "one")
        self.end_headers()
        self.wfile.write(port)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the signature of the base)
        """Say nothing."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that connections read."""
    made = Clock()
    monkeypatch.setattr(pool, "time", made)
    return made


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A server that keeps connections for ten seconds, and says so."""
    monkeypatch.setattr(Server, "keep_alive", "timeout=10, max=9999")
    with HttpServer(Server, "keep-alive") as running:
        yield running


def connection_of(connections: pool.NotingPool, url: str) -> bytes:
    """Send a request; return what tells its connection from others."""
    return connections.request("GET", url).data


@pytest.mark.parametrize(
    ("keep_alive", "idle_s"),
    [
        ("timeout=30, max=9999", 25),
        ("timeout=10", 5),
        ("Timeout=2", 1),
        ("max=5, timeout=3", 1.5),
        ("timeout=0", 0),
        ("", float("inf")),
        ("max=5", float("inf")),
        ("timeout=soon", float("inf")),
        ('timeout = "10"', 5),
        ("x-timeout=1, timeout=10", 5),
        ("timeout=" + "9" * 5000, float("inf")),
    ],
)
def test_a_connection_is_used_as_long_as_the_server_surely_keeps_it(keep_alive: str, idle_s: float) -> None:
    """Five seconds or half of the timeout are left for the way there."""
    assert pool.reusable_s(keep_alive) == idle_s


@pytest.mark.parametrize("has_tls", [False, True], ids=["http", "https"])
def test_a_connection_that_was_idle_for_too_long_is_replaced(
    clock: Clock, server: HttpServer, tmp_path: Path, *, has_tls: bool
) -> None:
    """Each answer gives it its whole time again."""
    authority = Authority(tmp_path)
    with ExitStack() as stack:
        options, url = {}, server.url
        if has_tls:
            front = stack.enter_context(tls_front(server.port, authority.server(authority.pair("server"))))
            options, url = {"ca_certs": str(authority.file)}, f"https://127.0.0.1:{front.port}"
        connections = pool.NotingPool(**options)
        first = connection_of(connections, url)
        for _ in range(3):
            clock.now_s += 4.9
            assert connection_of(connections, url) == first
        clock.now_s += 5
        second = connection_of(connections, url)
        assert second != first
        assert connection_of(connections, url) == second
        connections.clear()


def test_without_the_header_a_connection_stays(
    clock: Clock, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy may keep its own times to itself."""
    monkeypatch.setattr(Server, "keep_alive", "")
    connections = pool.NotingPool()
    first = connection_of(connections, server.url)
    clock.now_s += 1_000_000

    assert connection_of(connections, server.url) == first
    connections.clear()


def test_a_pool_knows_who_answered_and_closes_what_is_idle(server: HttpServer) -> None:
    """A host that was left, or is closed, keeps no connection."""
    connections = pool.NotingPool()
    assert connections.answered_by == ""
    first = connection_of(connections, server.url)
    assert connections.answered_by == "one"
    assert connection_of(connections, server.url) == first

    close_pool(connections)

    assert connection_of(connections, server.url) != first
    connections.clear()
