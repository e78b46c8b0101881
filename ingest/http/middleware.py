"""WSGI middleware around every request and response.

On the way in it sets the request's ids, finds the client's address and opens its event counter. On the way out it adds
the CORS headers, counts the answer and logs a refused request.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from types import TracebackType
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ingest.counters import EventCounters, Outcome, RequestCounter
from ingest.errors import ErrorCode, Load
from ingest.http.client_ip import Network, Privacy, client_address, private_form
from ingest.http.cors import CorsPolicy, Headers
from ingest.http.headers import header_text
from ingest.http.trace import new_id, request_id_of, trace_id_of
from ingest.logs import REFUSALS
from ingest.publishing.ports import SPOOL_FAULTS

log = logging.getLogger(REFUSALS)

_COLLECTING: Final = "/collect/"
COLLECT: Final = f"{_COLLECTING}event"
_KEY: Final = "headrace.exchange"
_ELSEWHERE: Final = "other"
# In-app browsers send up to about 400 characters; each event of a request has a copy.
_USER_AGENT_LENGTH_MAX: Final = 1024
_FIRST_REFUSAL: Final = 400
_SHED: Final = frozenset(Load)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
_Write = Callable[[bytes], object]


class RequestContext:
    """One request and its answer: what the middleware knows, and what the application adds.

    Attributes:
        request_id: the caller's X-Request-Id when it is valid, else a fresh one.
        trace_id: from the caller's traceparent, else the request id if that is fresh, else a fresh one.
        traceparent: the caller's, when it is valid, else "".
        address: the client's full address, used for limits only.
        ip: the part of the address that a row may keep.
        user_agent: the header's beginning; "" when a privacy signal forbids to keep it.
        counter: the request's event counter.
        outcome: the error code; "" when the status says enough.
        status: the answer's status; 500 until there is an answer.
    """

    __slots__ = ("address", "counter", "ip", "outcome", "request_id", "status", "trace_id", "traceparent", "user_agent")

    def __init__(self, counter: RequestCounter) -> None:
        self.counter = counter
        self.request_id = self.trace_id = new_id()
        self.traceparent = self.address = self.ip = self.user_agent = self.outcome = ""
        self.status = 500

    def name(self, environ: WSGIEnvironment) -> None:
        """Take the caller's request id and trace id where they are valid."""
        self.request_id = request_id_of(environ.get("HTTP_X_REQUEST_ID", "")) or self.request_id
        trace_id = trace_id_of(environ.get("HTTP_TRACEPARENT", ""))
        if trace_id:
            self.trace_id, self.traceparent = trace_id, environ["HTTP_TRACEPARENT"]


def context_of(environ: WSGIEnvironment) -> RequestContext:
    """Return the context of a WSGI environment; a blank one when the request bypassed the middleware."""
    context = environ.get(_KEY)
    if not isinstance(context, RequestContext):
        context = environ[_KEY] = RequestContext(EventCounters().open())
    return context


@dataclass(frozen=True, slots=True)
class ProxyPolicy:
    """What to trust and keep of a client's address; each field is a setting."""

    trusted: tuple[Network, ...] = ()
    privacy: Privacy = "full"
    honours_signals: bool = True

    def describe(self, context: RequestContext, environ: WSGIEnvironment) -> None:
        """Fill in the client's address and User-Agent.

        `Sec-GPC: 1` and `DNT: 1`, when honoured, mean: keep no address and no User-Agent header. What the page itself
        put into its events stays.
        """
        context.address = client_address(
            environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", ""), self.trusted
        )
        if self.honours_signals and "1" in (environ.get("HTTP_SEC_GPC"), environ.get("HTTP_DNT")):
            return
        context.ip = private_form(context.address, self.privacy)
        context.user_agent = header_text(environ.get("HTTP_USER_AGENT", ""))[:_USER_AGENT_LENGTH_MAX]


class RequestMiddleware:
    """WSGI middleware around the application. Threads share it.

    Args:
        app: the application.
        routes: the paths that are routes; they are metric labels, and only their preflights are answered.
        counters: counts the events.
        origins: which proxies to trust, and what to keep of addresses.
        cors_policy: what to tell browsers.
    """

    def __init__(
        self,
        app: WSGIApplication,
        routes: Collection[str],
        counters: EventCounters,
        origins: ProxyPolicy,
        cors_policy: CorsPolicy,
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._counters = counters
        self._metrics = counters.metrics
        self._uncounted = EventCounters()
        self._origins = origins
        self._cors_policy = cors_policy
        for route in self._routes:
            self._begin_counting(route)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        since_s = monotonic()
        path = _path_of(environ)
        route = path if path in self._routes else _ELSEWHERE
        is_collecting = route == COLLECT and environ["REQUEST_METHOD"] == "POST"
        self._metrics.move("requests_in_flight", 1)
        with (self._counters if is_collecting else self._uncounted).open() as counter:
            context = environ[_KEY] = RequestContext(counter)
            context.name(environ)
            self._origins.describe(context, environ)
            try:
                if route != _ELSEWHERE and _is_preflight(environ):
                    return self._answer_preflight(context, environ, start_response)
                return self._app(environ, self._start(context, environ, start_response))
            finally:
                self._close(context, route, monotonic() - since_s)

    def _begin_counting(self, route: str) -> None:
        """Create a series for each outcome of a collecting route: a rate needs a series that exists beforehand."""
        if not route.startswith(_COLLECTING):
            return
        outcomes = [(code, code.status) for code in ErrorCode] + [(fault, 503) for fault in (*Load, *SPOOL_FAULTS)]
        for outcome, status in (*outcomes, ("created", 201), ("ok", 200)):
            self._metrics.count("requests_total", 0, route=route, status=str(status), outcome=outcome)

    def _start(self, context: RequestContext, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        """Return a start_response that adds the headers of every answer."""
        origin, path = environ.get("HTTP_ORIGIN", ""), environ.get("PATH_INFO", "")
        is_shared = path.startswith(_COLLECTING) or path not in self._routes

        def start(status: str, headers: Headers, exc_info: _ExcInfo | None = None, /) -> _Write:
            context.status = int(status[:3])
            ours = [
                ("X-Request-Id", context.request_id),
                *self._cors_policy.answer_headers(origin, is_shared=is_shared),
            ]
            return start_response(status, headers + ours, exc_info)

        return start

    def _answer_preflight(
        self, context: RequestContext, environ: WSGIEnvironment, start_response: StartResponse
    ) -> list[bytes]:
        context.status = 204
        permission = self._cors_policy.preflight_headers(
            environ["HTTP_ORIGIN"],
            environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", ""),
            is_private=environ.get("HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK") == "true",
        )
        start_response("204 No Content", [("X-Request-Id", context.request_id), *permission])
        return []

    def _close(self, context: RequestContext, route: str, took_s: float) -> None:
        """Count the answer, set the outcome of its remaining events, and log a refusal."""
        outcome = context.outcome or HTTPStatus(context.status).name.lower()
        if context.status == HTTPStatus.TOO_MANY_REQUESTS:
            context.counter.rest = Outcome.LIMITED
        elif outcome in _SHED:
            context.counter.rest = Outcome.SHED
        self._metrics.move("requests_in_flight", -1)
        self._metrics.count("requests_total", 1, route=route, status=str(context.status), outcome=outcome)
        self._metrics.observe("request_seconds", took_s, route=route)
        if context.status >= _FIRST_REFUSAL and outcome not in _SHED:  # a log line for each would add load
            log.info("request refused", extra=_line(context, route, outcome, took_s))


def _path_of(environ: WSGIEnvironment) -> str:
    """Return the path to route, and store it for the application.

    Servers decode percent-encoding, but an encoded slash is no path separator (RFC 3986, section 2.2): /collect%2fevent
    is not /collect/event. WSGI lacks the path as sent (PEP 3333); gunicorn and werkzeug have it in RAW_URI.
    """
    sent = environ.get("RAW_URI", "").partition("?")[0]
    if "%2f" in sent or "%2F" in sent:
        environ["PATH_INFO"] = sent
    return str(environ.get("PATH_INFO", ""))


def _is_preflight(environ: WSGIEnvironment) -> bool:
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    )


def _line(context: RequestContext, route: str, outcome: str, took_s: float) -> dict[str, object]:
    return {
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "route": route,
        "status": context.status,
        "outcome": outcome,
        "ip": context.ip,
        "took_ms": round(took_s * 1000, 1),
    }
