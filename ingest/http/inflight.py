"""The bound on requests in flight: what is beyond it is told so at once, before its body is read.

The server decides (ingest/server/worker.py), for it knows who waits; here the decision becomes an answer. Only
collecting is bounded: probes and metrics are answered however busy the process is.
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
    """Refuse what this thread's requests want to collect, within the block."""
    _thread.is_overloaded = True
    try:
        yield
    finally:
        _thread.is_overloaded = False


class LoadBound:
    """WSGI middleware between the door, which counts, and the application. Threads share it.

    Args:
        app: what answers otherwise.
        routes: the paths that are bounded.
        headers_of: what the answer to a request on such a path bears, whatever it is.
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
        """Log that it is happening, not each time that it happens."""
        now_s = monotonic()
        if now_s - self._told_at_s > _TELL_S:
            self._told_at_s = now_s
            log.warning("overloaded: requests are turned away")
