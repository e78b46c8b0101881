"""Sends the traffic of a newspaper's readers to a collector: visits as they happen, or the past at once.

    python -m bench.traffic --rate 200 --minutes 5            # live: as many events a second, PINGs every 15 s
    python -m bench.traffic --days 14 --readers 5000          # the last 14 days, as fast as answers come

Some events are copies, late, or refused, as clients send them; refused ones become dead letters (`Prefer:
handling=lenient`). Every event has an id, so a request without an answer is sent again. The exit code is 1 if some of
them failed. bench/readers.py makes the events; the same --seed and times give the same ones.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import dropwhile, islice, takewhile
from typing import Any, Final
from urllib.parse import urlsplit

from bench.readers import DAY_MS, VISITS_PER_DAY, Plan, Sent, traffic

_TRIES: Final = 8
_PAUSE_S_MAX: Final = 60.0
_TIMEOUT_S: Final = 30.0
_BUSY: Final = (429, 503)
_STEADY_MS: Final = 600_000  # so long before now live visits begin, so that the rate is right from the first second
_BAR: Final = 30
_SHOWN_S: Final = 0.5


@dataclass(slots=True)
class Tally:
    """What was answered; threads share it."""

    events: int = 0
    refused: int = 0
    failed: int = 0
    tried_again: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, events: int = 0, refused: int = 0, failed: int = 0, tried_again: int = 0) -> None:
        """Count."""
        with self._lock:
            self.events += events
            self.refused += refused
            self.failed += failed
            self.tried_again += tried_again


class Collector:
    """Sends batches of events to a collector's URL; each thread has its own connection."""

    def __init__(self, url: str, key: str, tally: Tally) -> None:
        self._url = urlsplit(url)
        self._headers = {"Content-Type": "application/json", "Prefer": "handling=lenient"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._tally = tally
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []

    def send(self, batch: list[Sent]) -> None:
        """Send events until they are answered, a few times at most, and count them."""
        body = json.dumps({"messageBody": [sent.event for sent in batch]}).encode()
        for attempt in range(_TRIES):
            status, pause_s, answers = self._try(body)
            if status not in (0, *_BUSY):
                break
            self._tally.add(tried_again=1)
            time.sleep(min(pause_s or 0.1 * 2**attempt, _PAUSE_S_MAX))
        if status == http.HTTPStatus.CREATED:
            refused = sum("statusCode" in answer["headers"] for answer in answers)
            self._tally.add(events=len(batch) - refused, refused=refused)
        elif status == http.HTTPStatus.BAD_REQUEST:  # none of them is good
            self._tally.add(refused=len(batch))
        else:
            self._tally.add(failed=len(batch))

    def _try(self, body: bytes) -> tuple[int, float, list[Any]]:
        """Return the status (0: no answer), for how long to wait, and the answers."""
        connection = self._connection()
        try:
            connection.request("POST", "/collect/event", body, self._headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):  # also a connection that was idle for too long
            connection.close()  # it opens itself again
            return 0, 0.0, []
        answers = json.loads(text) if answer.status == http.HTTPStatus.CREATED else []
        return answer.status, float(answer.headers.get("Retry-After") or 0), answers

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            connection = self._own.connection = kind(self._url.netloc, timeout=_TIMEOUT_S)
            self._all.append(connection)
        return connection

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.close()


def past(days: float, readers: int, now_ms: int) -> Plan:
    """Return the plan of the days before now."""
    return Plan(now_ms - int(days * DAY_MS), now_ms, readers)


def live(rate: float, seconds: float, readers: int, now_ms: int, seed: int) -> Plan:
    """Return the plan of visits that give on average so many events a second from now on."""
    per_day = rate * DAY_MS / 1000 / events_per_visit(seed)
    return Plan(now_ms - _STEADY_MS, now_ms + int(seconds * 1000), readers, per_day, is_curved=False)


def within(events: Iterable[Sent], start_ms: int, end_ms: int) -> Iterator[Sent]:
    """Yield the events that are sent in a time."""
    later = dropwhile(lambda sent: sent.at_ms < start_ms, events)
    return takewhile(lambda sent: sent.at_ms < end_ms, later)


def events_per_visit(seed: int) -> float:
    """Return the mean of a few thousand visits."""
    visits = 3000
    plan = Plan(0, int(visits / (1000 * VISITS_PER_DAY) * DAY_MS), 1000, is_curved=False)
    return sum(1 for _ in traffic(plan, seed)) / visits


def batches(events: Iterable[Sent], size: int) -> Iterator[list[Sent]]:
    """Yield events in groups of so many."""
    iterator = iter(events)
    while batch := list(islice(iterator, size)):
        yield batch


def bar(share: float, tally: Tally, elapsed_s: float) -> str:
    """Return the line that shows how far it is."""
    done = min(_BAR, int(share * _BAR))
    counts = f"{tally.events:,} events, {tally.events / max(elapsed_s, 0.001):,.0f}/s"
    return f"[{'#' * done}{'.' * (_BAR - done)}] {counts}, {tally.refused:,} refused, {tally.failed:,} failed"


@dataclass(frozen=True, slots=True)
class Run:
    """Events on their way: from `start_ms` to `end_ms` of their own time; live ones wait for it.

    Attributes:
        rate: events a second at most; 0 is no bound.
    """

    start_ms: int
    end_ms: int
    is_live: bool
    rate: float
    batch: int
    connections: int

    def send_all(self, events: Iterable[Sent], collector: Collector, tally: Tally) -> None:
        """Send events over several connections, and show how far it is twice a second."""
        slots = threading.BoundedSemaphore(self.connections * 2)
        began_s, shown_s, count = time.monotonic(), 0.0, 0

        def send(batch: list[Sent]) -> None:
            try:
                collector.send(batch)
            finally:
                slots.release()

        with ThreadPoolExecutor(self.connections) as pool:
            for batch in batches(events, self.batch):
                count += len(batch)
                self._wait(batch[-1], began_s, count)
                slots.acquire()
                pool.submit(send, batch)
                if time.monotonic() - shown_s > _SHOWN_S:
                    shown_s = time.monotonic()
                    share = (batch[-1].at_ms - self.start_ms) / (self.end_ms - self.start_ms)
                    print("\r" + bar(share, tally, shown_s - began_s), end="", file=sys.stderr, flush=True)
        print("\r" + bar(1.0, tally, time.monotonic() - began_s), file=sys.stderr)

    def _wait(self, last: Sent, began_s: float, count: int) -> None:
        """Wait until an event is due."""
        due_s = (last.at_ms / 1000 - time.time()) if self.is_live else 0.0
        if self.rate and not self.is_live:
            due_s = began_s + count / self.rate - time.monotonic()
        if due_s > 0:
            time.sleep(due_s)


def main() -> None:
    """Send what was asked for."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.traffic", description=__doc__, formatter_class=form)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the collector (%(default)s)")
    parser.add_argument("--key", default="", help="API key, when the collector has a client registry")
    parser.add_argument("--rate", type=float, help="events a second: 50 when live; the past has no bound by default")
    parser.add_argument("--minutes", type=float, default=5, help="how long to send live events (%(default)s)")
    parser.add_argument(
        "--days",
        type=float,
        default=0,
        help="send so many past days instead; clients' times older than"
        " INGEST_CLOCK_PAST_S_MAX (30 days) are not believed",
    )
    parser.add_argument("--readers", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("--batch", type=int, default=20, help="events in one request (%(default)s)")
    parser.add_argument("--connections", type=int, default=8, help="requests at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="other visits for another number (%(default)s)")
    asked, now_ms, tally = parser.parse_args(), time.time_ns() // 1_000_000, Tally()
    if asked.days:
        plan = past(asked.days, asked.readers, now_ms)
        events, rate = traffic(plan, asked.seed), asked.rate or 0.0
    else:
        rate = asked.rate or 50.0
        plan = live(rate, asked.minutes * 60, asked.readers, now_ms, asked.seed)
        events = within(traffic(plan, asked.seed), now_ms, plan.end_ms)
    start_ms = plan.start_ms if asked.days else now_ms
    run = Run(start_ms, plan.end_ms, not asked.days, rate, asked.batch, asked.connections)
    with closing(Collector(asked.url, asked.key, tally)) as collector:
        run.send_all(events, collector, tally)
    if tally.failed:
        sys.exit(f"headrace: {tally.failed} events had no answer that says where they are")


if __name__ == "__main__":
    main()
