"""The middleware: what every answer has and every request leaves behind."""

import logging
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from werkzeug.test import Client, TestResponse

from ingest.counters import EventCounters
from ingest.http.client_ip import read_networks
from ingest.http.context import RequestContext
from ingest.http.cors import CorsPolicy
from ingest.http.middleware import COLLECT, PIXEL, ProxyPolicy, RequestMiddleware
from ingest.http.wsgi import WsgiDoor, context_of
from ingest.logs import REFUSALS
from ingest.metrics import PrometheusMetrics
from tests.support.front import policies_for

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PAGE = "https://www.example.com"


class Application:
    """Answers what it is told to, and remembers the exchange it saw."""

    def __init__(self, status: str = "201 Created", outcome: str = "", events: int = 0) -> None:
        self.status = status
        self.outcome = outcome
        self.events = events
        self.seen: RequestContext

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer."""
        self.seen = context_of(environ)
        self.seen.outcome = self.outcome
        if self.events:
            self.seen.counter.set_total(self.events)
        if self.status == "201 Created":
            self.seen.counter.accept(self.events or 1)
        start_response(self.status, [("Content-Type", "application/json")])
        return [b"[]"]


class House:
    """A door in front of an application, with its books and figures."""

    def __init__(self, app: Any, origins: ProxyPolicy | None = None, pages: tuple[str, ...] = ("*",)) -> None:
        self.telemetry = PrometheusMetrics()
        self.ledger = EventCounters(self.telemetry)
        policies = policies_for(proxies=origins, pages=pages)
        self.door = WsgiDoor(app, RequestMiddleware([COLLECT, PIXEL, "/healthz"], self.ledger, policies))

    def ask(self, method: str = "POST", path: str = COLLECT, **headers: str) -> TestResponse:
        """Send a request from 10.0.0.1; a header's dashes are written as underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        client = Client(self.door)
        return client.open(path, method=method, headers=named, environ_base={"REMOTE_ADDR": "10.0.0.1"})

    def samples(self) -> list[str]:
        """Return the lines of a scrape."""
        return self.telemetry.exposition().decode().splitlines()


def test_a_request_without_names_gets_one_for_all_purposes() -> None:
    """Its fresh id is the answer's X-Request-Id and the rows' trace id: one id leads from the client to the row."""
    app = Application()

    answer = House(app).ask()

    assert answer.headers["X-Request-Id"] == app.seen.request_id == app.seen.trace_id
    assert app.seen.traceparent == ""


@pytest.mark.parametrize("status", ["404 Not Found", "413 Request Entity Too Large", "429 Too Many Requests"])
def test_the_status_line_has_its_reason(status: str) -> None:
    """Also behind servers other than ours."""
    assert House(Application(status)).ask().status == status


def test_the_callers_names_are_kept() -> None:
    """A sane X-Request-Id comes back, a valid traceparent gives the trace id and goes on as it came."""
    app = Application()

    answer = House(app).ask(X_Request_Id="mine-1", traceparent=TRACEPARENT)

    assert answer.headers["X-Request-Id"] == "mine-1"
    assert app.seen.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert app.seen.traceparent == TRACEPARENT


@pytest.mark.parametrize("chosen", [{}, {"X_Request_Id": "no id"}])
def test_the_id_of_an_answer_finds_the_rows_of_a_trace(chosen: dict[str, str]) -> None:
    """Without a request id of the caller's own, the trace id is the request's."""
    app = Application()

    answer = House(app).ask(traceparent=TRACEPARENT, **chosen)

    assert answer.headers["X-Request-Id"] == app.seen.request_id == app.seen.trace_id
    assert app.seen.trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("chosen", "trace_id"),
    [
        ("0198C1F2-7d1e-7a60-9c39-6f0d1b6f8a11", "0198c1f27d1e7a609c396f0d1b6f8a11"),
        ("c523aa41-9f0f-4fc2-bc96-5a8ff5520b78", "c523aa419f0f4fc2bc965a8ff5520b78"),
        ("4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_a_chosen_request_id_that_can_be_a_trace_id_is_the_rows_too(chosen: str, trace_id: str) -> None:
    """So the id that a client or a proxy has chosen finds the rows; the answer has it as it came."""
    app = Application()

    answer = House(app).ask(X_Request_Id=chosen)

    assert answer.headers["X-Request-Id"] == app.seen.request_id == chosen
    assert app.seen.trace_id == trace_id
    House(app).ask(X_Request_Id=chosen, traceparent=TRACEPARENT)
    assert app.seen.trace_id == TRACEPARENT[3:35]


@pytest.mark.parametrize("chosen", ["order-4711", "0" * 32, "00000000-0000-0000-0000-000000000000", "4bf9-2f35" * 4])
def test_a_chosen_request_id_that_can_be_no_trace_id_is_not_the_rows(chosen: str) -> None:
    """They have a new one: zero is no trace id."""
    app = Application()

    House(app).ask(X_Request_Id=chosen)

    assert len(app.seen.trace_id) == 32
    assert int(app.seen.trace_id, 16)
    assert app.seen.request_id == chosen


def test_the_callers_bad_names_are_replaced() -> None:
    """An unfit id is not echoed, an invalid traceparent is as good as none."""
    app = Application()

    answer = House(app).ask(X_Request_Id='"><script>', traceparent=TRACEPARENT.upper())

    assert answer.headers["X-Request-Id"] == app.seen.request_id == app.seen.trace_id
    assert "script" not in app.seen.request_id


def test_limits_see_the_full_address_and_rows_the_private_one() -> None:
    """Behind a trusted proxy, the client's address counts in full and is kept in part."""
    app = Application()
    origins = ProxyPolicy(read_networks("10.0.0.0/8"), "truncated")

    House(app, origins).ask(X_Forwarded_For="203.0.113.7")

    assert app.seen.address == "203.0.113.7"
    assert app.seen.ip == "203.0.113.0"


@pytest.mark.parametrize("signal", ["Sec_GPC", "DNT"])
def test_a_privacy_signal_is_honoured(signal: str) -> None:
    """With a signal, the collector adds nothing of its own that tells people apart; limits still work."""
    app = Application()

    House(app).ask(**{signal: "1", "User_Agent": "Browser/1"})

    assert (app.seen.ip, app.seen.user_agent) == ("", "")
    assert app.seen.address == "10.0.0.1"


@pytest.mark.parametrize(("honours", "value"), [(False, "1"), (True, "0")])
def test_no_signal_is_no_reason(honours: bool, value: str) -> None:  # noqa: FBT001  (a table's column)
    """A signal that is off, or that the operator does not honour, changes nothing."""
    app = Application()

    House(app, ProxyPolicy(honours_signals=honours)).ask(Sec_GPC=value, User_Agent="Browser/1")

    assert (app.seen.ip, app.seen.user_agent) == ("10.0.0.1", "Browser/1")


def test_the_end_of_a_long_user_agent_is_cut() -> None:
    """Each event of the request has a copy; real ones have a few hundred characters."""
    app = Application()

    House(app).ask(User_Agent="x" * 8000)

    assert app.seen.user_agent == "x" * 1024


def test_every_answer_may_be_read_across_origins() -> None:
    """Errors too, or a page could not tell its author what went wrong; figures only without credentials."""
    house = House(Application("400 Bad Request"))

    answer = house.ask(Origin=PAGE)
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    assert house.ask(path="/nowhere", Origin=PAGE).headers["Access-Control-Allow-Credentials"] == "true"
    assert "Access-Control-Allow-Credentials" not in house.ask("GET", "/healthz", Origin=PAGE).headers


def test_a_preflight_is_answered_at_the_door() -> None:
    """The application never sees it, and the request is not counted."""
    house = House(Application("500 Internal Server Error"))

    answer = house.ask(
        "OPTIONS",
        Origin=PAGE,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="sentry-trace",
        Access_Control_Request_Private_Network="true",
    )

    assert answer.status_code == 204
    assert answer.headers["Access-Control-Max-Age"] == "86400"
    assert answer.headers["Access-Control-Allow-Headers"] == "sentry-trace"
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert answer.headers["X-Request-Id"]
    assert house.ledger.figures()["received"] == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("/collect%2fevent", 404),
        ("/collect%2Fevent?key=x", 404),
        ("http://a.example/collect%2fevent", 404),
        ("/collect/event?next=%2f", 201),
        ("/collect/%65vent", 201),
    ],
)
def test_an_encoded_slash_is_no_slash(sent: str, status: int) -> None:
    """The server has decoded the path already; such a request collects nothing, here and behind."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created" if environ["PATH_INFO"] == COLLECT else "404 Not Found", [])
        return []

    house = House(application)

    answer = Client(house.door).open(COLLECT, method="POST", environ_overrides={"RAW_URI": sent})

    assert answer.status_code == status
    assert house.ledger.figures()["received"] == (status == 201)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Größe/1 (应用)".encode(), "Größe/1 (应用)"),
        ("Größe/1".encode("latin-1"), "Größe/1"),
        (b"Browser/1", "Browser/1"),
        ("Größe ".encode() + b"\xff", "GrÃ¶Ã\x9fe ÿ"),
    ],
)
def test_the_browsers_name_is_read_as_utf_8_first(sent: bytes, kept: str) -> None:
    """What is no UTF-8 is Latin-1, in which every byte is a character."""
    app = Application()

    House(app).ask(User_Agent=sent.decode("latin-1"))

    assert app.seen.user_agent == kept


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/nowhere", {"Origin": PAGE, "Access_Control_Request_Method": "POST"}),
        (COLLECT, {"Origin": PAGE}),
        (COLLECT, {"Access_Control_Request_Method": "POST"}),
    ],
)
def test_another_options_request_is_the_applications(path: str, headers: dict[str, str]) -> None:
    """What is no preflight of a route goes on."""
    assert House(Application("404 Not Found")).ask("OPTIONS", path, **headers).status_code == 404


def test_requests_are_counted_by_route_status_and_outcome() -> None:
    """A path that is no route, which a client chooses, is never a label."""
    house = House(Application("404 Not Found"))

    house.ask("GET", "/etc/passwd")
    house.ask("GET", "/healthz")

    lines = house.samples()
    assert 'headrace_ingest_requests_total{outcome="not_found",route="other",status="404"} 1.0' in lines
    assert 'headrace_ingest_requests_total{outcome="not_found",route="/healthz",status="404"} 1.0' in lines
    assert "passwd" not in "".join(lines)
    assert "headrace_ingest_requests_in_flight 0.0" in lines
    assert 'headrace_ingest_request_seconds_count{route="/healthz"} 1.0' in lines


@pytest.mark.parametrize(
    ("app", "counted"),
    [
        (Application(events=3), {"accepted": 3}),
        (Application("400 Bad Request", "bad_json"), {"refused": 1}),
        (Application("400 Bad Request", "bad_event_enum", events=4), {"refused": 4}),
        (Application("429 Too Many Requests", "rate_limit"), {"limited": 1}),
        (Application("503 Service Unavailable", "overloaded"), {"shed": 1}),
        (Application("503 Service Unavailable", "memory_full"), {"shed": 1}),
        (Application("503 Service Unavailable", "queue_full", events=4), {"shed": 4}),
        (Application("503 Service Unavailable", "no_acknowledgement", events=2), {"refused": 2}),
    ],
)
def test_the_answer_decides_what_events_end_as(app: Application, counted: dict[str, int]) -> None:
    """Each request's events are counted once, under one outcome."""
    house = House(app)

    house.ask()

    figures = house.ledger.figures()
    ends = {name: figures[name] for name in ("accepted", "refused", "limited", "shed") if figures[name]}
    assert ends == counted
    assert figures["received"] == sum(counted.values())
    assert figures["in_flight"] == 0
    assert f"headrace_ingest_rate_limited_total {counted.get('limited', 0)}.0" in house.samples()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", COLLECT), ("HEAD", PIXEL), ("POST", PIXEL), ("POST", "/healthz"), ("POST", "/nowhere")]
)
def test_other_requests_bring_no_events(method: str, path: str) -> None:
    """Only what is posted to be collected is received, and what an image brings."""
    house = House(Application("405 Method Not Allowed"))

    house.ask(method, path)

    assert house.ledger.figures()["received"] == 0


def test_an_image_brings_an_event() -> None:
    """It is counted like a posted one, whatever its answer."""
    house = House(Application("403 Forbidden", "prefetch"))

    answer = house.ask("GET", PIXEL)

    assert (house.ledger.figures()["received"], house.ledger.figures()["refused"]) == (1, 1)
    assert (answer.content_type, answer.headers["X-Error-Code"]) == ("image/gif", "prefetch")


def test_an_application_that_raises_leaves_balanced_books() -> None:
    """A defect below the application's own error handling is counted as the 500 that the server will answer."""

    def broken(_: WSGIEnvironment, __: StartResponse) -> Iterable[bytes]:
        raise ZeroDivisionError

    house = House(broken)

    with pytest.raises(ZeroDivisionError):
        house.ask()

    assert house.ledger.figures()["refused"] == 1
    assert "headrace_ingest_requests_in_flight 0.0" in house.samples()
    assert any('status="500"} 1.0' in line for line in house.samples())


def test_an_answer_that_can_not_be_finished_leaves_balanced_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect on the way out is counted like one on the way in, and no request stays in flight."""
    house = House(Application())
    monkeypatch.setattr(CorsPolicy, "answer_headers", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        house.ask()

    assert house.ledger.figures()["in_flight"] == 0
    assert "headrace_ingest_requests_in_flight 0.0" in house.samples()


def test_what_can_become_of_a_request_is_shown_before_it_happens() -> None:
    """Each slug of the code at 0: an alarm on a rate sees the first one."""
    lines = House(Application()).samples()

    for outcome, status in (("created", 201), ("bad_json", 400), ("byte_limit", 429), ("spool_full", 503)):
        labels = f'outcome="{outcome}",route="{COLLECT}",status="{status}"'
        assert f"headrace_ingest_requests_total{{{labels}}} 0.0" in lines
    assert not any('route="/healthz"' in line for line in lines)


def test_a_refused_request_leaves_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the request, its trace and its reason, and nothing that the client wrote."""
    house = House(Application("400 Bad Request", "bad_json"), ProxyPolicy(privacy="none"))

    with caplog.at_level(logging.INFO, REFUSALS):
        house.ask(X_Request_Id="mine-1", X_API_Key="s3cret", User_Agent="Browser/1")

    (record,) = caplog.records
    line = record.__dict__
    assert (line["request_id"], line["status"], line["outcome"]) == ("mine-1", 400, "bad_json")
    assert (line["route"], line["ip"]) == (COLLECT, "")
    assert not any(word in str(line) for word in ("s3cret", "Browser", "10.0.0.1"))


def test_a_taken_request_leaves_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """What goes well is in the metrics."""
    with caplog.at_level(logging.DEBUG, REFUSALS):
        House(Application()).ask()

    assert not caplog.records
