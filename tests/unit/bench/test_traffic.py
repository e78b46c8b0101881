"""The sender of traffic: every event is answered or counted as failed, at the rate that was asked for."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.readers import Sent, traffic
from bench.traffic import Collector, Run, Tally, live, past, within

NOW_MS = 1_767_225_600_000
REFUSED: dict[str, Any] = {"headers": {"statusCode": "400"}, "value": "{}"}


class Answers(BaseHTTPRequestHandler):
    """A collector that answers as its list says, and refuses events of the type NONE."""

    protocol_version = "HTTP/1.1"
    statuses: list[int]
    got: list[str]

    def do_POST(self) -> None:
        """Answer one request; status 0 is none."""
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messageBody"]
        status = self.statuses.pop(0) if self.statuses else 201
        if status == 0:
            self.close_connection = True
            return
        elements = [REFUSED if event["eventType"] == "NONE" else {"headers": {}, "value": "{}"} for event in events]
        body = json.dumps(elements).encode() if status == 201 else b"{}"
        self.got += [event["eventId"] for event in events if status == 201]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Where the answers are."""
    Answers.statuses, Answers.got = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def events(count: int, event_type: str = "VIEW") -> list[Sent]:
    """Return events with ids."""
    return [Sent(NOW_MS + n, {"eventType": event_type, "eventId": str(n)}, "") for n in range(count)]


def send(url: str, some: list[Sent]) -> Tally:
    """Send events one after the other, three in a request."""
    tally = Tally()
    run = Run(NOW_MS, NOW_MS + 1000, is_live=False, rate=0, batch=3, connections=1)
    with closing(Collector(url, "", tally)) as collector:
        run.send_all(some, collector, tally)
    return tally


def test_every_event_is_sent_and_counted_by_its_answer(url: str) -> None:
    """A refused event of a lenient request is no failure."""
    tally = send(url, [*events(7), *events(1, "NONE")])

    assert (tally.events, tally.refused, tally.failed) == (7, 1, 0)
    assert Answers.got == ["0", "1", "2", "3", "4", "5", "6", "0"]


def test_a_busy_or_silent_collector_gets_the_request_again(url: str) -> None:
    """Events have ids, so nothing is doubled."""
    Answers.statuses = [503, 0, 429]

    tally = send(url, events(5))

    assert (tally.events, tally.failed, tally.tried_again) == (5, 0, 3)
    assert Answers.got == ["0", "1", "2", "3", "4"]


def test_a_request_that_is_refused_for_what_it_is_is_not_repeated(url: str) -> None:
    """A wrong key stays wrong."""
    Answers.statuses = [401, 400]

    tally = send(url, events(7))

    assert (tally.events, tally.refused, tally.failed, tally.tried_again) == (1, 3, 3, 0)


def test_live_traffic_has_the_rate_that_was_asked_for() -> None:
    """From the first second on, because visits begin before."""
    plan = live(rate=50, seconds=300, readers=1000, now_ms=NOW_MS, seed=7)
    sent = list(within(traffic(plan), NOW_MS, plan.end_ms))
    first = [one for one in sent if one.at_ms < NOW_MS + 60_000]

    assert 0.85 < len(sent) / 300 / 50 < 1.15
    assert 0.7 < len(first) / 60 / 50 < 1.3


def test_the_past_ends_now() -> None:
    """Late events and copies of the last hours come after it."""
    plan = past(days=0.5, readers=200, now_ms=NOW_MS)

    assert (plan.start_ms, plan.end_ms) == (NOW_MS - 43_200_000, NOW_MS)
    assert {sent.event["timestamp"] < NOW_MS + 1_800_000 for sent in traffic(plan)} == {True}
