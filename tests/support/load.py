"""Many clients at once, in a separate process, that write down what they sent and what they were told.

Each client is one person on one connection: it sends requests of events with its own ids, and logs for each the
ids, the status, where the answer says the events are, and how long it took. It reconnects when it must, sends nothing
twice, and takes no answer for a 0. Run as a module it reads its orders as JSON from standard input.
"""

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_RECONNECT_S: Final = 0.05
_ANSWER_S: Final = 30.0
NO_ANSWER: Final = 0


@dataclass(frozen=True, slots=True)
class Orders:
    """What the clients do.

    Attributes:
        rate: of all clients together, in requests per second, whatever the answers take.
        requests_max: how many requests each client sends at most; 0 is no bound.
    """

    port: int
    log: str
    clients: int = 16
    rate: float = 300.0
    events: int = 2
    padding: int = 100
    requests_max: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its client knows it; `at_s` is Unix time when it was due, `status` 0 means no answer."""

    ids: tuple[str, ...]
    at_s: float
    took_s: float
    status: int
    durability: str
    retry_after: str


class Load:
    """Running clients; `stop` ends them after their last answers and returns the log."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        """Take over started clients."""
        self._process = process
        self._log = log
        self._read_bytes = 0
        self._ended: list[Request] = []

    @property
    def so_far(self) -> list[Request]:
        """The requests that have ended by now, in the order in which they ended."""
        with self._log.open("rb") as log:
            log.seek(self._read_bytes)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be half written
        self._read_bytes += len(whole)
        self._ended += [Request(tuple(ids), *rest) for ids, *rest in map(json.loads, whole.splitlines())]
        return self._ended.copy()

    def await_count(self, requests: int, timeout_s: float = 60.0) -> None:
        """Wait until so many requests have ended."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.so_far) < requests:
            assert self._process.poll() is None, "the clients have ended"
            assert time.monotonic() < deadline_s, f"{len(self.so_far)} requests, not {requests}"
            time.sleep(0.05)

    def stop(self) -> list[Request]:
        """Send nothing more, wait for the answers, and return all requests."""
        if self._process.poll() is None:
            self._process.communicate("stop\n", timeout=_ANSWER_S + 10)
        assert self._process.returncode == 0, f"the clients failed with {self._process.returncode}"
        return self.so_far

    def kill(self) -> None:
        """End the clients at once; once more does nothing."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def load(port: int, directory: Path, **orders: Any) -> Iterator[Load]:
    """Run clients against 127.0.0.1:`port`; orders by the names in `Orders`."""
    log = directory / f"clients-{uuid.uuid4().hex[:8]}.jsonl"
    log.touch()
    command = [sys.executable, "-m", "tests.support.load"]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, text=True)
    running = Load(process, log)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(Orders(port=port, log=str(log), **orders))) + "\n")
        process.stdin.flush()
        yield running
    finally:
        running.kill()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies; 0 of none."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else 0.0


class _Client:
    """One person: a connection, and requests on it when they are due."""

    def __init__(self, number: int, orders: Orders, log: Any) -> None:
        self._orders = orders
        self._log = log
        self._name = f"person-{uuid.uuid4().hex[:6]}-{number}"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._every_s = orders.clients / orders.rate
        self._offset_s = self._every_s * number / orders.clients

    async def run(self, stop: asyncio.Event) -> None:
        due_s, sent = time.monotonic() + self._offset_s, 0
        while not stop.is_set() and (not self._orders.requests_max or sent < self._orders.requests_max):
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if stop.is_set():
                break
            await self._request()
            sent += 1
            # A client that waits for an answer asks nothing meanwhile; it does not make up for it later.
            due_s = max(due_s + self._every_s, time.monotonic() - self._every_s)
        self._hang_up()

    async def _request(self) -> None:
        ids = [str(uuid.uuid4()) for _ in range(self._orders.events)]
        at_s, began_s = time.time(), time.monotonic()
        try:
            status, headers, given = await asyncio.wait_for(self._exchange(ids), _ANSWER_S)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            self._hang_up()
            status, headers, given = NO_ANSWER, {}, ids
            await asyncio.sleep(_RECONNECT_S)
        if status == 201 and given != ids:
            raise AssertionError(f"asked for {ids}, was given {given}")
        took_s = time.monotonic() - began_s
        entry = [ids, at_s, took_s, status, headers.get("x-durability", ""), headers.get("retry-after", "")]
        self._log.write(json.dumps(entry) + "\n")

    async def _exchange(self, ids: Sequence[str]) -> tuple[int, dict[str, str], list[str]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._orders.port)
        reader, writer = self._streams
        events = [
            {"eventType": "CLICK", "eventId": one, "anonId": self._name, "padding": "x" * self._orders.padding}
            for one in ids
        ]
        body = json.dumps({"messageBody": events}).encode()
        head = (
            f"POST /collect/event HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        answer = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self._hang_up()
        status = int(lines[0].split()[1])
        given = [json.loads(entry["value"])["pingId"] for entry in json.loads(answer)] if status == 201 else []
        return status, headers, given

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _main() -> None:
    orders = Orders(**json.loads(await asyncio.to_thread(sys.stdin.readline)))
    stop = asyncio.Event()
    with Path(orders.log).open("w", buffering=1) as log:  # noqa: ASYNC230  (before the first client)
        clients = [asyncio.create_task(_Client(n, orders, log).run(stop)) for n in range(orders.clients)]
        await asyncio.to_thread(sys.stdin.readline)
        stop.set()
        await asyncio.gather(*clients)


if __name__ == "__main__":
    asyncio.run(_main())
