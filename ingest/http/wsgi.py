"""Adapters between the event loop and WSGI, in both directions.

On our own server (ingest/server) `call_flask` passes every request that carries no events to Flask. On any other WSGI
server, and in the test client, `WsgiDoor` wraps Flask, and Flask's routes run the coroutines on a background loop.
"""

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final, TypeVar
from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

from ingest.http.context import RequestContext
from ingest.http.message import Answer, RequestHead
from ingest.http.middleware import RequestMiddleware
from ingest.http.responses import PHRASES

T = TypeVar("T")

_KEY: Final = "headrace.context"
_UNPREFIXED: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def context_of(environ: WSGIEnvironment) -> RequestContext:
    """Return the request that a WSGI environment belongs to."""
    context: RequestContext = environ[_KEY]
    return context


def call_flask(app: WSGIApplication, context: RequestContext) -> Answer:
    """Let Flask answer a request; its body is not passed on."""
    return _call(app, _environ_of(context))


def _call(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
        told[:] = [int(status[:3]), headers]
        return lambda _: None

    pieces = app(environ, start_response)
    try:
        body = b"".join(pieces)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    return Answer(told[0], body, told[1])


def _environ_of(context: RequestContext) -> WSGIEnvironment:
    """Return a request as PEP 3333 has it. Headers with an underscore are dropped: they could pose as others."""
    head = context.head
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": head.port,
        "SERVER_PROTOCOL": head.protocol,
        "REMOTE_ADDR": head.peer,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        _KEY: context,
    }
    for name, value in head.headers.items():
        if "_" not in name:
            environ[_UNPREFIXED.get(name) or f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ


class _InputStream:
    """A WSGI server's input stream; a thread reads it, because that may block."""

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream

    def take(self) -> None:
        return None

    async def read(self, size: int, /) -> bytes:
        return await asyncio.to_thread(self._stream.read, size)


def _head_of(environ: WSGIEnvironment) -> RequestHead:
    """Return the head of a request of a WSGI server.

    Servers undo percent-encoding; PEP 3333 does not have the request's own spelling, gunicorn and werkzeug do, as
    RAW_URI: of a path with an encoded slash that one counts.
    """
    sent = str(environ.get("RAW_URI", "")).partition("?")[0]
    path = str(environ.get("PATH_INFO", ""))
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers |= {name: environ[key] for name, key in _UNPREFIXED.items() if environ.get(key)}
    return RequestHead(
        method=environ["REQUEST_METHOD"],
        path=sent if "%2f" in sent.lower() else path,
        query=environ.get("QUERY_STRING", ""),
        protocol=environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
        headers=headers,
        length=_length_of(environ),
        peer=environ.get("REMOTE_ADDR", ""),
        port=str(environ.get("SERVER_PORT", "")),
    )


def _length_of(environ: WSGIEnvironment) -> int | None:
    """Return a body's length; None when only its end is marked (PEP 3333: otherwise there is no body)."""
    if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
        return None
    text = str(environ.get("CONTENT_LENGTH") or "0")
    return int(text) if text.isascii() and text.isdigit() else 0


class WsgiDoor:
    """WSGI middleware around Flask, for other servers than ours. Threads share it."""

    def __init__(self, app: WSGIApplication, middleware: RequestMiddleware) -> None:
        self._app = app
        self._middleware = middleware

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        head = _head_of(environ)
        environ["PATH_INFO"] = head.path
        context = self._middleware.open(head, _InputStream(environ["wsgi.input"]))
        environ[_KEY] = context
        try:
            answer = run_on_loop(self._middleware.enter(context)) or _call(self._app, environ)
            answer = self._middleware.leave(context, answer)
        except BaseException:
            self._middleware.close(context, HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        is_whole = answer.status == HTTPStatus.NO_CONTENT or any(name == "Content-Length" for name, _ in answer.headers)
        length = [] if is_whole else [("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {PHRASES[answer.status]}", [*answer.headers, *length])
        return [] if head.method == "HEAD" else [answer.body]


@cache
def _background_loop() -> asyncio.AbstractEventLoop:
    """Return the background loop; its thread lives as long as the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="wsgi-loop", daemon=True).start()
    return loop


def run_on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background loop and return its result; call it from another thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, _background_loop()).result()
