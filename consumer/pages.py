"""The worker's own HTTP port: /metrics for Prometheus, /healthz and /readyz for an orchestrator."""

import errno
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Protocol

from consumer.errors import Misconfigured
from consumer.health import HealthMonitor
from consumer.metrics import CONTENT_TYPE, PrometheusMetrics

JSON: Final = "application/json"
_REQUEST_S: Final = 5.0


class Answers(Protocol):
    """What a port of this package serves."""

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""


class Pages:
    """The answers of each path.

    /healthz is 503 when a restart would help (consumer/health.py has the table), and 200 through an outage.
    /readyz is 200 once the worker polls and while every partition makes progress; else its body names the halted ones.
    """

    def __init__(self, metrics: PrometheusMetrics, monitor: HealthMonitor) -> None:
        self._metrics = metrics
        self._monitor = monitor

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._page()
        if path == "/healthz":
            verdict = self._monitor.verdict()
            return 200 if verdict.is_healthy else 503, JSON, self._told(verdict.name, verdict.detail)
        if path == "/readyz":
            return self._ready()
        return 404, JSON, body_of("not found", "there are /metrics, /healthz and /readyz")

    def _ready(self) -> tuple[int, str, bytes]:
        verdict = self._monitor.verdict()
        if not verdict.is_ready:
            return 503, JSON, self._told(verdict.name, verdict.detail)
        return 200, JSON, body_of("ready", verdict.detail)

    def _told(self, status: str, detail: str) -> bytes:
        halts = [{"code": halt.code, "sentence": halt.sentence} for halt in self._monitor.halts]
        return body_of(status, detail, halts)

    def _page(self) -> bytes:
        behind: dict[tuple[str, ...], float] = {}
        ages_s: dict[tuple[str, ...], float] = {}
        for partition, item in self._monitor.progress.items():
            labels = (partition.topic, str(partition.number))
            ages_s[labels] = self._monitor.age_s(item)
            if item.behind is not None:
                behind[labels] = item.behind
        self._metrics.levels("lag_records", behind)
        self._metrics.levels("freshness_seconds", ages_s)
        self._metrics.set("is_retrying", self._monitor.is_retrying)
        self._metrics.set("is_ready", self._monitor.verdict().is_ready)
        return self._metrics.page()


@contextmanager
def serving(host: str, port: int, pages: Answers) -> Iterator[int]:
    """Serve on a thread until the block is left; yield the port. Port 0 starts no server, and yields 0.

    Raises:
        Misconfigured: the address or the port can't be used.
    """
    if port == 0:
        yield 0
        return
    try:
        server = _listening(host, port, pages)
    except OSError as error:
        name = "HTTP_PORT" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "HTTP_HOST"
        raise Misconfigured(f"CONSUMER_{name}: {host}:{port} can't be listened on: {error.strerror}") from error
    except UnicodeError as error:
        raise Misconfigured(f"CONSUMER_HTTP_HOST: {host} is no host") from error
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listening(host: str, port: int, pages: Answers) -> ThreadingHTTPServer:
    """Return a server at an IPv4 or IPv6 address; `::` accepts IPv4 too where the system allows it."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    class Server(ThreadingHTTPServer):
        address_family = family

        def server_bind(self) -> None:
            if family is socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    return Server((str(address[0]), int(address[1])), _handler(pages))


def _handler(pages: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S
        server_version = "headrace-consumer"
        sys_version = ""

        def do_GET(self) -> None:
            status, content_type, body = pages.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's signature)
            """Log nothing: probes arrive every few seconds."""

    return Handler


def body_of(status: str, detail: str, halts: Sequence[Mapping[str, str]] = ()) -> bytes:
    """Return a page's body: one line of JSON."""
    told: dict[str, object] = {"status": status, "detail": detail}
    return json.dumps(told | ({"halted": list(halts)} if halts else {})).encode() + b"\n"
