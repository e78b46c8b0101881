"""The bound on requests in flight: excess requests get 503 at once, before their body is read.

The server decides (ingest/server/worker.py), because it knows the queue; here the decision becomes an answer. Only
collecting routes are bounded: probes and metrics are always answered.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from time import monotonic
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ingest.errors import Headers, Load
from ingest.http.middleware import context_of
from ingest.http.responses import JSON, error_body

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 1
_TELL_S: Final = 10.0
_thread: Final = threading.local()


@contextmanager
def overloaded() -> Iterator[None]:
    """Refuse this thread's requests to collecting routes within the block."""
    _thread.is_overloaded = True
    try:
        yield
    finally:
        _thread.is_overloaded = False


class LoadBound:
    """WSGI middleware between RequestMiddleware, which counts, and the application. Threads share it.

    Args:
        app: the application.
        routes: the bounded paths.
        headers_of: returns the headers of every answer on such a path.
    """

    def __init__(
        self,
        app: WSGIApplication,
        routes: Collection[str],
        headers_of: Callable[[WSGIEnvironment], Headers] = lambda _: (),
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._told_at_s = float("-inf")
        self._headers_of = headers_of

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not getattr(_thread, "is_overloaded", False) or environ.get("PATH_INFO") not in self._routes:
            return self._app(environ, start_response)
        context_of(environ).outcome = Load.OVERLOADED
        self._tell()
        status = HTTPStatus.SERVICE_UNAVAILABLE
        body = error_body(status, "too many requests are in flight; send it again")
        headers = [("Content-Type", JSON), ("Content-Length", str(len(body))), ("Retry-After", str(RETRY_AFTER_S))]
        headers.extend(self._headers_of(environ))
        start_response(f"{status:d} {status.phrase}", headers)
        return [body]

    def _tell(self) -> None:
        """Log an overload, at most once in _TELL_S."""
        now_s = monotonic()
        if now_s - self._told_at_s > _TELL_S:
            self._told_at_s = now_s
            log.warning("overloaded: requests are turned away")
