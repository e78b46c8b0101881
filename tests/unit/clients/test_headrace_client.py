"""The Python client over a transport that answers as it is told: each event once, whatever the answers are."""

import json
import logging
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from clients.python.headrace_client import Answer, Client, Event, HttpTransport, Undelivered, new_id

LOST = Answer(-1)  # the events are taken, and the client hears nothing
TAKEN = Answer(201, [])


class Collector:
    """A transport that takes events, or gives the next answer of a list instead.

    Attributes:
        bodies: of all requests.
        taken: the events by id, as a table that keeps one of each.
        is_away: every request fails.
    """

    def __init__(
        self, answers: Iterable[Answer] = (), poison: tuple[int, ...] = (), *, names_faults: bool = True
    ) -> None:
        self.bodies: list[bytes] = []
        self.asked_s: list[float] = []
        self.taken: dict[str, Event] = {}
        self.is_away = False
        self._answers = iter(answers)
        self._poison = poison
        self._names_faults = names_faults

    def post(self, body: bytes) -> Answer:
        """Answer one request."""
        self.bodies.append(body)
        self.asked_s.append(time.monotonic())
        answer = Answer() if self.is_away else next(self._answers, TAKEN)
        if answer not in (TAKEN, LOST):
            return answer
        return self._take(json.loads(body)["messageBody"], answer)

    def _take(self, events: list[Event], answer: Answer) -> Answer:
        bad = [index for index, event in enumerate(events) if event.get("n") in self._poison]
        if bad:
            faults = [{"index": index, "message": "n is bad"} for index in bad] if self._names_faults else []
            return Answer(400, {"statusCode": 400, "message": "the request is bad", "details": faults})
        self.taken |= {event["eventId"]: event for event in events}
        return answer if answer is TAKEN else Answer()

    def close(self) -> None:
        """Nothing is open."""


def client_of(collector: Collector, **more: Any) -> Client:
    """Return a client without pauses."""
    return Client("http://unused", transport=collector, **({"flush_s": 0.0, "backoff_s": 0.0} | more))


def test_events_arrive_in_batches_and_in_order() -> None:
    """A closed client has delivered everything: 250 events in three requests."""
    collector = Collector()
    client = client_of(collector, client_id="shop", flush_s=60.0)
    ids = [client.track("CLICK", {"n": n}, clickAction="CONTENT") for n in range(250)]

    assert client.close() == []
    events = [event for body in collector.bodies for event in json.loads(body)["messageBody"]]
    assert [event["eventId"] for event in events] == ids
    assert [event["n"] for event in events] == list(range(250))
    assert events[0].items() >= {"eventType": "CLICK", "clientId": "shop", "clickAction": "CONTENT"}.items()
    assert all(len(json.loads(body)["messageBody"]) <= 100 for body in collector.bodies)
    assert abs(events[0]["timestamp"] - time.time() * 1000) < 60_000


def test_a_retry_is_the_same_bytes() -> None:
    """After an overload, a lost answer, and a proxy's page that looks like a refusal."""
    collector = Collector([Answer(503), Answer(), Answer(400, None), Answer(413, {"statusCode": 500}), Answer(401, {})])
    client = client_of(collector, flush_s=60.0)
    client.track("VIEW")

    assert client.close() == []
    assert len(collector.bodies) == 6
    assert len(set(collector.bodies)) == 1


def test_a_retry_waits_as_long_as_it_is_told() -> None:
    """Retry-After beats a shorter pause."""
    collector = Collector([Answer(429, {"statusCode": 429}, retry_after_s=0.05)])
    client = client_of(collector)
    client.track("VIEW")
    client.close()

    assert collector.asked_s[1] - collector.asked_s[0] >= 0.05


@pytest.mark.parametrize("names_faults", [True, False], ids=["named", "unnamed"])
def test_a_refused_event_costs_itself_alone(*, names_faults: bool) -> None:
    """Whether the answer names it or only refuses the request; who asked hears of it, and `close` returns it."""
    heard: list[Undelivered] = []
    collector = Collector(poison=(3, 77), names_faults=names_faults)
    client = client_of(collector, flush_s=60.0, on_refused=heard.append)
    for n in range(100):
        client.track("CLICK", n=n)

    undelivered = client.close()

    assert [event["n"] for event in collector.taken.values()] == [n for n in range(100) if n not in (3, 77)]
    assert [item.event["n"] for item in undelivered] == [3, 77]
    assert {item.reason for item in undelivered} == {"n is bad" if names_faults else "the request is bad"}
    assert heard == undelivered


def test_a_listener_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The other events arrive, and the log has the cause."""

    def fail(_: Undelivered) -> None:
        raise ValueError("mine")

    collector = Collector(poison=(0,))
    client = client_of(collector, flush_s=60.0, on_refused=fail)
    client.track("CLICK", n=0)
    client.track("CLICK", n=1)

    assert [item.event["n"] for item in client.close()] == [0]
    assert [event["n"] for event in collector.taken.values()] == [1]
    assert "on_refused failed" in caplog.text


def test_close_returns_what_was_not_delivered(caplog: pytest.LogCaptureFixture) -> None:
    """Each event with its id, so that it can be kept and sent again; closing twice says the same."""
    collector = Collector()
    collector.is_away = True
    client = client_of(collector, backoff_s=60.0)
    ids = [client.track("PURCHASE", n=n) for n in range(3)]

    with caplog.at_level(logging.WARNING):
        undelivered = client.close(timeout_s=0.01)

    assert [item.event["eventId"] for item in undelivered] == ids
    assert {item.reason for item in undelivered} == {"the client was closed before an answer confirmed it"}
    assert client.close(timeout_s=0.01) == undelivered
    assert "3 events were not delivered" in caplog.text
    with pytest.raises(RuntimeError, match="closed"):
        client.track("VIEW")


def test_a_full_queue_gives_up_the_new_event() -> None:
    """Memory is bounded; what waits is kept, and the rest is told."""
    collector = Collector()
    collector.is_away = True
    client = client_of(collector, queue_max=2, backoff_s=60.0)
    for n in range(3):
        client.track("VIEW", n=n)

    undelivered = client.close(timeout_s=0.01)

    assert (undelivered[0].event["n"], undelivered[0].reason) == (2, "the queue is full")
    assert [item.event["n"] for item in undelivered[1:]] == [0, 1]


def test_flush_waits_for_the_confirmation() -> None:
    """True once the queue is empty; False when an outage lasts longer."""
    collector = Collector()
    client = client_of(collector, flush_s=60.0, backoff_s=60.0)
    client.track("VIEW")

    assert client.flush()
    assert client.pending == 0
    collector.is_away = True
    client.track("VIEW")
    assert not client.flush(timeout_s=0.01)
    assert client.pending == 1
    client.close(timeout_s=0)


@pytest.mark.parametrize("seed", range(20))
def test_every_event_is_taken_once_in_any_weather(seed: int) -> None:
    """Threads track while answers fail, are lost and refuse: each event is taken or told, and none is both."""
    chance = random.Random(seed)
    bad = (Answer(), Answer(500), Answer(503, None, 0.001), Answer(413, None), LOST)
    collector = Collector(chance.choices((*bad, TAKEN), k=60), poison=(5, 17), names_faults=bool(seed % 2))
    client = client_of(collector)
    tracked: list[str] = []

    def track() -> None:
        tracked.extend(client.track("CLICK", n=n) for n in range(30))

    threads = [threading.Thread(target=track) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [item.event["eventId"] for item in client.close()]

    assert len(set(tracked)) == 90
    assert sorted([*collector.taken, *told]) == sorted(tracked)
    assert len(told) == 6


def test_an_event_keeps_what_it_names() -> None:
    """Its own id, time and client count."""
    collector = Collector()
    own = str(new_id())
    with client_of(collector, client_id="shop") as client:
        assert client.track("VIEW", {"eventId": own, "timestamp": 1, "clientId": "other"}) == own

    assert collector.taken[own] == {"eventType": "VIEW", "eventId": own, "timestamp": 1, "clientId": "other"}


def test_a_wrong_key_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The events are kept meanwhile: somebody may put it right."""
    collector = Collector([Answer(401, {"message": "no such key"})] * 3)
    with client_of(collector) as client:
        told = client.track("VIEW")

    assert list(collector.taken) == [told]
    assert [record.message.count("no such key") for record in caplog.records] == [1]


@pytest.mark.parametrize("absent", [None, ""])
def test_an_event_that_names_no_id_gets_one(absent: str | None) -> None:
    """Or the collector would give each try of it another id."""
    collector = Collector([LOST])
    with client_of(collector) as client:
        told = client.track("VIEW", eventId=absent)

    assert list(collector.taken) == [told]


@pytest.mark.parametrize("value", [float("nan"), {1}, object()])
def test_what_is_not_json_is_told_at_once(value: object) -> None:
    """To the caller, not to a thread."""
    with client_of(Collector()) as client, pytest.raises((TypeError, ValueError)):
        client.track("VIEW", value=value)


def test_ids_are_uuid7() -> None:
    """Version, variant and time are in their places."""
    ids = [new_id() for _ in range(1000)]

    assert {(item.version, item.variant) for item in ids} == {(7, "specified in RFC 4122")}
    assert len(set(ids)) == 1000
    assert abs((ids[0].int >> 80) - time.time() * 1000) < 60_000


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://a", ""),
        ("collector:8080", ""),
        ("http://", ""),
        ("http://a/ä", ""),
        ("http://a/b c", ""),
        ("http://a", "k\r\nX: y"),
        ("http://a", "ö"),
    ],
)
def test_a_wrong_address_or_key_is_told_at_once(url: str, key: str) -> None:
    """Not by a thread later."""
    with pytest.raises(ValueError, match=r"must be"):
        HttpTransport(url, key)


class _Idle(BaseHTTPRequestHandler):
    """Answers once per connection and closes it without saying so, as a server does with one that was idle."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, self.headers.get("X-API-Key")))
        self.send_response(429)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "19")
        self.end_headers()
        self.wfile.write(b'{"statusCode": 429}')
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


@pytest.fixture
def idle_server() -> Iterator[str]:
    """The address of a server that closes each connection after an answer."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Idle)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_connection_that_was_closed_meanwhile_costs_no_pause(idle_server: str) -> None:
    """The request is sent at once on a new one; the answer arrives with its Retry-After."""
    transport = HttpTransport(f"{idle_server}/events/", "secret", timeout_s=30)

    answers = [transport.post(b"{}") for _ in range(3)]
    transport.close()

    assert answers == [Answer(429, {"statusCode": 429}, 7.0)] * 3
    assert _Idle.asked == [("/events/collect/event", "secret")] * 3


def test_a_server_that_is_away_is_no_answer() -> None:
    """No exception: status 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        transport = HttpTransport(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout_s=30)

        assert transport.post(b"{}") == Answer()
    transport.close()


def test_a_name_that_can_not_be_looked_up_is_no_answer() -> None:
    """The thread goes on: the name may be right tomorrow, and close() returns the events."""
    assert HttpTransport("http://a..b").post(b"{}") == Answer()
