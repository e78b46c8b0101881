"""Where every request comes in and every answer goes out, whoever answers: Flask, a preflight, an error.

It names the request (X-Request-Id, trace), finds out who asks (address, privacy signals), opens its account in the
ledger, and on the way out adds the cross-origin headers, the metrics and the one log line of a refused request.
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
# Browsers inside other apps name themselves with up to some 400 characters; each event of a request has a copy.
_USER_AGENT_LENGTH_MAX: Final = 1024
_FIRST_REFUSAL: Final = 400
_SHED: Final = frozenset(Load)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
_Write = Callable[[bytes], object]


class RequestContext:
    """One request and its answer: what is known at the door, and what the application says on the way.

    Attributes:
        request_id: the caller's X-Request-Id when it is sane, else a fresh one.
        trace_id: of the caller's traceparent, else the request id if that is fresh, else a fresh one.
        traceparent: the caller's, when it is valid, else "".
        address: the client's full address, for limits alone.
        ip: what a row may keep of the address.
        user_agent: the header's beginning; "" when a privacy signal asks to keep nothing that the page did not send.
        account: the request's account in the ledger.
        outcome: the slug; "" means that the status says enough.
        status: of the answer; 500 until there is one.
    """

    __slots__ = ("address", "counter", "ip", "outcome", "request_id", "status", "trace_id", "traceparent", "user_agent")

    def __init__(self, counter: RequestCounter) -> None:
        self.counter = counter
        self.request_id = self.trace_id = new_id()
        self.traceparent = self.address = self.ip = self.user_agent = self.outcome = ""
        self.status = 500

    def name(self, environ: WSGIEnvironment) -> None:
        """Take the caller's names for the request and its trace, where they are valid."""
        self.request_id = request_id_of(environ.get("HTTP_X_REQUEST_ID", "")) or self.request_id
        trace_id = trace_id_of(environ.get("HTTP_TRACEPARENT", ""))
        if trace_id:
            self.trace_id, self.traceparent = trace_id, environ["HTTP_TRACEPARENT"]


def context_of(environ: WSGIEnvironment) -> RequestContext:
    """Return the exchange that a WSGI environment belongs to; a blank one when it did not come through a door."""
    context = environ.get(_KEY)
    if not isinstance(context, RequestContext):
        context = environ[_KEY] = RequestContext(EventCounters().open())
    return context


@dataclass(frozen=True, slots=True)
class ProxyPolicy:
    """What is believed and kept of a request's origin; every one is a setting."""

    trusted: tuple[Network, ...] = ()
    privacy: Privacy = "full"
    honours_signals: bool = True

    def describe(self, context: RequestContext, environ: WSGIEnvironment) -> None:
        """Fill in who asks.

        `Sec-GPC: 1` and `DNT: 1`, when honoured, mean: keep no address, and add nothing of the browser's to what the
        page sent. What the page itself puts into its events is the page's to decide.
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
        app: what answers.
        routes: the paths that are routes; they are metric labels, and preflights of others are not answered.
        ledger: keeps account of the events.
        origins: what to believe of a request's origin.
        cross_origin: what to tell browsers.
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
        """Show each outcome that a request to collect can have: a rate needs a series that was there before."""
        if not route.startswith(_COLLECTING):
            return
        outcomes = [(code, code.status) for code in ErrorCode] + [(fault, 503) for fault in (*Load, *SPOOL_FAULTS)]
        for outcome, status in (*outcomes, ("created", 201), ("ok", 200)):
            self._metrics.count("requests_total", 0, route=route, status=str(status), outcome=outcome)

    def _start(self, context: RequestContext, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        """Return a start_response that adds what every answer bears."""
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
        """Count the answer, decide what its events end as, and log a refusal."""
        outcome = context.outcome or HTTPStatus(context.status).name.lower()
        if context.status == HTTPStatus.TOO_MANY_REQUESTS:
            context.counter.rest = Outcome.LIMITED
        elif outcome in _SHED:
            context.counter.rest = Outcome.SHED
        self._metrics.move("requests_in_flight", -1)
        self._metrics.count("requests_total", 1, route=route, status=str(context.status), outcome=outcome)
        self._metrics.observe("request_seconds", took_s, route=route)
        if context.status >= _FIRST_REFUSAL and outcome not in _SHED:  # a line for each would be more load
            log.info("request refused", extra=_line(context, route, outcome, took_s))


def _path_of(environ: WSGIEnvironment) -> str:
    """Return the path that is routed, and put it where the application finds it.

    Servers undo percent-encoding, but an encoded slash is no slash (RFC 3986, section 2.2): /collect%2fevent is another
    path than /collect/event. PEP 3333 does not have the request's own spelling; gunicorn and werkzeug do, as RAW_URI.
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
