"""The load bound: what is turned away, and how."""

import json
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from ingest.access.origins import read_origins
from ingest.counters import EventCounters
from ingest.http.cors import CorsPolicy
from ingest.http.inflight import LoadBound, overloaded
from ingest.http.middleware import COLLECT, ProxyPolicy, RequestMiddleware


class UnreadBody:
    """A body that must not be asked for."""

    def read(self, *_: object) -> bytes:
        """Fail."""
        raise AssertionError("the body was read")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer everything."""
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]


def ask(path: str, ledger: EventCounters) -> tuple[str, dict[str, str], bytes]:
    """Send one request through the middleware and the bound; return status, headers and body."""
    heard: list[Any] = []
    door = RequestMiddleware(
        LoadBound(app, [COLLECT]), [COLLECT, "/readyz"], ledger, ProxyPolicy(), CorsPolicy(read_origins("*"))
    )
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "wsgi.input": UnreadBody()}
    body = b"".join(door(environ, lambda *given: heard.extend(given) or bytes))  # type: ignore[func-returns-value]  # enough of start_response
    return heard[0], dict(heard[1]), body


def test_within_the_bound_everything_passes() -> None:
    """The bound is the server's to find; here nothing is counted."""
    assert ask(COLLECT, EventCounters())[0] == "200 OK"


def test_beyond_it_a_request_to_collect_is_told_to_come_again_before_its_body_is_read() -> None:
    """503 with the house's document, a time to wait, and the headers of every answer."""
    ledger = EventCounters()

    with overloaded():
        status, headers, body = ask(COLLECT, ledger)

    assert status == "503 Service Unavailable"
    assert (headers["Retry-After"], headers["Content-Type"]) == ("1", "application/json")
    assert headers["X-Request-Id"]
    assert json.loads(body)["statusCode"] == 503
    figures = ledger.figures()
    assert (figures["shed"], figures["refused"], figures["balanced"]) == (1, 0, True)


def test_beyond_it_probes_are_answered() -> None:
    """A balancer must not think that a busy process is a dead one."""
    with overloaded():
        assert ask("/readyz", EventCounters())[0] == "200 OK"


def test_the_bound_ends_with_its_block() -> None:
    """The thread's next request is judged anew."""
    with overloaded():
        pass

    assert ask(COLLECT, EventCounters())[0] == "200 OK"
