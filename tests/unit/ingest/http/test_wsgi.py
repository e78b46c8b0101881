"""Requests of the event loop to Flask, and requests of a WSGI server to the loop."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, request

from ingest.counters import EventCounters
from ingest.http.context import RequestContext
from ingest.http.cors import CorsPolicy
from ingest.http.handler import RequestHandler
from ingest.http.message import Answer, RequestHead
from ingest.http.middleware import COLLECT, RequestMiddleware
from ingest.http.wsgi import call_flask
from tests.support.front import Shelf, front, policies_for


class NoBody:
    """A body of nothing."""

    def take(self) -> bytes:
        """Be there."""
        return b""

    async def read(self, _: int, /) -> bytes:
        """Be at its end."""
        return b""


def context(method: str = "GET", path: str = "/", **headers: str) -> RequestContext:
    """Return a request; a header's dashes are written as two underscores."""
    named = {name.replace("__", "-"): value for name, value in headers.items()}
    head = RequestHead(method, path, "a=b", "HTTP/1.1", {"host": "a.example"} | named, 0, "192.0.2.1", "8080")
    return RequestContext(head, NoBody(), "other", EventCounters().open())


@pytest.fixture
def app() -> Flask:
    """An application that tells what it sees."""
    app = Flask("told", static_folder=None)

    @app.get("/<path:_>")
    def tell(_: str) -> Any:
        kept = {name: value for name, value in request.environ.items() if isinstance(value, str)}
        return {name: value for name, value in kept.items() if not name.startswith(("wsgi.", "werkzeug."))}

    return app


def test_flask_sees_the_request_as_pep_3333_has_it(app: Flask) -> None:
    """Method, path, query, headers, and both ends of the connection."""
    answer = call_flask(app.wsgi_app, context("GET", "/a/ö".encode().decode("latin-1"), content__type="x/y", x__b="c"))

    assert answer.status == 200
    assert json.loads(answer.body) == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/ö".encode().decode("latin-1"),
        "QUERY_STRING": "a=b",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": "a.example",
        "CONTENT_TYPE": "x/y",
        "HTTP_X_B": "c",
    }


@pytest.mark.parametrize("name", ["script_name", "content_length", "x_forwarded_for", "path_info", "wsgi.input"])
def test_no_header_poses_as_something_else(app: Flask, name: str) -> None:
    """An underscore in a header's name makes it nobody's; others are prefixed."""
    answer = call_flask(app.wsgi_app, context("GET", "/a", **{name: "/evil"}))

    environ = json.loads(answer.body)
    assert (environ["PATH_INFO"], environ["SCRIPT_NAME"]) == ("/a", "")
    assert "/evil" not in {value for key, value in environ.items() if key != "HTTP_WSGI.INPUT"}


def test_the_answer_to_head_is_flasks() -> None:
    """With the length of what GET would be told, and nothing of it."""
    app = front(Shelf())
    with app.test_client() as client:
        whole = client.get("/healthz")
        empty = client.head("/healthz")

    assert (empty.status_code, empty.data) == (200, b"")
    assert empty.headers["Content-Length"] == whole.headers["Content-Length"]


def handler(app: Any) -> tuple[RequestHandler, EventCounters]:
    """Return the loop's door before an application, and what it counts."""

    class Endpoints:
        async def collect(self, _: RequestContext) -> Answer:
            raise asyncio.CancelledError

        async def validate(self, _: RequestContext) -> Answer:
            return Answer(200)

        async def pixel(self, _: RequestContext) -> Answer:
            return Answer(200)

    counters = EventCounters()
    middleware = RequestMiddleware([COLLECT], counters, policies_for())
    return RequestHandler(middleware, Endpoints(), app, ThreadPoolExecutor(1)), counters  # type: ignore[arg-type]  # enough of them


def test_an_application_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """The document of every error, and the cause in the log."""

    def broken(_: object, __: object) -> list[bytes]:
        raise ZeroDivisionError("secret")

    answer = asyncio.run(handler(broken)[0](RequestHead("GET", "/", headers={"host": "x"}), NoBody()))

    assert answer.status == 500
    assert b"secret" not in answer.body
    assert any("secret" in str(record.exc_info) for record in caplog.records)


def test_a_request_that_is_cut_off_is_counted() -> None:
    """The end of the process, while it was being answered: the sums hold."""
    handle, counters = handler(None)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(handle(RequestHead("POST", COLLECT, headers={"host": "x"}), NoBody()))

    assert (counters.figures()["refused"], counters.figures()["in_flight"]) == (1, 0)


def test_a_request_whose_answer_cannot_be_finished_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect behind the endpoint ends the request all the same."""
    monkeypatch.setattr(CorsPolicy, "answer_headers", lambda *_, **__: 1 / 0)
    handle, counters = handler(Flask("pages"))

    with pytest.raises(ZeroDivisionError):
        asyncio.run(handle(RequestHead("GET", "/nowhere", headers={"host": "x"}), NoBody()))

    assert counters.figures()["in_flight"] == 0
    assert not handle._middleware._in_flight  # noqa: SLF001  (the gauge's own)
