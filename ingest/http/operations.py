"""Which port answers which route, when there is a separate port for operations."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ingest.http.responses import JSON, error_body

METRICS: Final = "/metrics"
_OPERATIONS: Final = frozenset({METRICS, "/healthz", "/readyz"})


class OperationsPort:
    """WSGI middleware inside RequestMiddleware. Threads share it.

    The operations port answers only /metrics and the probes. The public port answers everything but /metrics; it keeps
    the probes, because a load balancer probes the port that it sends to. Every worker process listens on both.

    Args:
        app: the application.
        port: the operations port.
    """

    def __init__(self, app: WSGIApplication, port: int) -> None:
        self._app = app
        self._port = str(port)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        is_here = path in _OPERATIONS if environ.get("SERVER_PORT") == self._port else path != METRICS
        if is_here:
            return self._app(environ, start_response)
        status = HTTPStatus.NOT_FOUND
        body = error_body(status, "there is no such route")
        start_response(f"{status:d} {status.phrase}", [("Content-Type", JSON), ("Content-Length", str(len(body)))])
        return [body]
