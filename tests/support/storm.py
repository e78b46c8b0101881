"""A collector in bad weather: a front that passes requests on, refuses them, or cuts them, in a given order."""

import http.client
import threading
import time
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Final, Self

_COLLECT: Final = "/collect/event"
_HOP_BY_HOP: Final = {"connection", "transfer-encoding", "date", "server"}


class Weather(Enum):
    """What happens to one request for /collect/event."""

    FAIR = auto()
    OVERLOADED = auto()  # 503 with Retry-After: 0
    LIMITED = auto()  # 429 with Retry-After: 1
    PROXY = auto()  # 502 of a proxy in between: HTML, without CORS
    OFFLINE = auto()  # the connection ends before anything is passed on
    LOST = auto()  # the collector takes the events, and the connection ends before its answer


_STATUS: Final = {Weather.OVERLOADED: (503, "0"), Weather.LIMITED: (429, "1"), Weather.PROXY: (502, "")}


class Storm:
    """A front on 127.0.0.1 before a collector.

    Attributes:
        url: its address, without a slash at its end.
        seen: of each request for /collect/event, when it came (monotonic), its weather and its body.
    """

    def __init__(self, port: int, weather: Iterable[Weather]) -> None:
        self.seen: list[tuple[float, Weather, bytes]] = []
        self._weather = chain(weather, repeat(Weather.FAIR))
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"storm": self, "port": port})
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="storm")
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> Weather:
        """Note a request and return its weather."""
        with self._lock:
            weather = next(self._weather)
            self.seen.append((time.monotonic(), weather, body))
            return weather

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    storm: Storm
    port: int
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        weather = self.storm.take(body) if self.path.startswith(_COLLECT) else Weather.FAIR
        if weather in _STATUS:
            self._refuse(*_STATUS[weather])
        elif weather is Weather.OFFLINE:
            self._cut()
        else:
            self._pass_on(body, is_lost=weather is Weather.LOST)

    def _pass_on(self, body: bytes, *, is_lost: bool = False) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(self.command, self.path, body or None, dict(self.headers.items()))
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if is_lost:
            self._cut()
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _refuse(self, status: int, retry_after: str) -> None:
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
            self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
            self.send_header("Access-Control-Allow-Credentials", "true")
            self.send_header("Access-Control-Expose-Headers", "Retry-After")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _cut(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


def rough(rounds: int) -> Iterator[Weather]:
    """Return so many rounds of every weather, with spells of being offline between them.

    It begins with all that fails, so that a client which sends everything in its first request that succeeds has seen
    each of them.
    """
    yield from (weather for weather in Weather if weather is not Weather.FAIR)
    for _ in range(rounds):
        yield from (Weather.OFFLINE, Weather.OFFLINE, Weather.FAIR, Weather.LOST, Weather.OVERLOADED)
        yield from (Weather.FAIR, Weather.PROXY, Weather.LOST, Weather.LIMITED, Weather.FAIR)
