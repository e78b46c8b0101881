"""An even load of one-event requests, whatever the answers take. Run by `python -m bench.ingress`.

A request's time counts from the moment at which it was due: one that waits for a free connection is late too.
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from statistics import quantiles
from typing import Final

import uvloop

_CONNECTIONS: Final = 64
_DRAIN_S: Final = 10.0


class _Connection(asyncio.Protocol):
    """One request at a time; every answer here fits into a few packets."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._due_s = 0.0
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._load.is_free(self)

    def send(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(request)  # type: ignore[attr-defined]  # it is one of a stream

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, end, body = self._seen.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) >= int(length):
            self._seen = b""
            self._load.is_answered(self._due_s, is_good=head.startswith(b"HTTP/1.1 201"))
            self._load.is_free(self)


class Load:
    """Requests that are due, and connections that are free."""

    def __init__(self, requests: list[bytes]) -> None:
        self.took_s: list[float] = []
        self.refused = 0
        self._requests = requests
        self._sent = 0
        self._due: deque[float] = deque()
        self._free: deque[_Connection] = deque()

    def is_due(self, due_s: float) -> None:
        """Send a request, now or when a connection is free."""
        self._due.append(due_s)
        self._send()

    def is_free(self, connection: _Connection) -> None:
        """Let a connection send the next request."""
        self._free.append(connection)
        self._send()

    def is_answered(self, due_s: float, *, is_good: bool) -> None:
        """Count an answer."""
        self.took_s.append(time.perf_counter() - due_s)
        self.refused += not is_good

    def _send(self) -> None:
        while self._due and self._free:
            self._sent += 1
            self._free.popleft().send(self._requests[self._sent % len(self._requests)], self._due.popleft())


async def main(port: int, per_s: float, seconds: float, bodies: list[bytes]) -> None:
    """Send, and print what was seen as JSON."""
    head = (
        b"POST /collect/event HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    load = Load([head % len(body) + body for body in bodies])
    loop = asyncio.get_running_loop()
    for _ in range(_CONNECTIONS):
        await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port)
    began_s, total = time.perf_counter() + 0.1, int(per_s * seconds)
    for number in range(total):
        due_s = began_s + number / per_s
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        load.is_due(due_s)
    until_s = time.perf_counter() + _DRAIN_S
    while len(load.took_s) < total and time.perf_counter() < until_s:  # noqa: ASYNC110  (a deadline is enough)
        await asyncio.sleep(0.01)
    cuts = quantiles(load.took_s, n=100)
    seen = {"requests": len(load.took_s), "refused": load.refused, "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}
    print(json.dumps(seen | {"unanswered": total - len(load.took_s)}))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]).read_bytes().splitlines())
        )
