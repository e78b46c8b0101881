"""What every request passes: `RequestMiddleware.enter` is the list.

On the way in it sets the request's ids, finds the client's address and counts the request. On the way out it adds the
headers of every answer, counts the answer and logs a refused request.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from time import monotonic
from typing import Final
from urllib.parse import parse_qs

from ingest.access.control import AccessControl
from ingest.counters import EventCounters, Outcome
from ingest.errors import ErrorCode, Load
from ingest.http.body import Stream
from ingest.http.client_ip import Network, Privacy, client_address, private_form
from ingest.http.context import RequestContext
from ingest.http.cors import CorsPolicy
from ingest.http.errors import answer_to, error_answer
from ingest.http.headers import check_host, header_text, read_api_key
from ingest.http.inflight import LoadBound
from ingest.http.message import Answer, RequestHead
from ingest.http.operations import OperationsPort
from ingest.http.pixel import KEY, image_of
from ingest.http.trace import request_id_of, trace_id_like, trace_id_of
from ingest.logs import REFUSALS
from ingest.publishing.ports import SPOOL_FAULTS
from ingest.tracing import RequestSpans

log = logging.getLogger(REFUSALS)

_COLLECTING: Final = "/collect/"
COLLECT: Final = f"{_COLLECTING}event"
VALIDATE: Final = f"{_COLLECTING}validate"
PIXEL: Final = f"{_COLLECTING}pixel.gif"
COUNTED: Final = frozenset({COLLECT, VALIDATE, PIXEL})
"""The routes behind access control and the load bound."""
ELSEWHERE: Final = "other"
# In-app browsers send up to about 400 characters; each event of a request has a copy.
_USER_AGENT_LENGTH_MAX: Final = 1024
_FIRST_REFUSAL: Final = 400
_IMAGE_METHODS: Final = ("GET", "HEAD")
_LIMITED: Final = HTTPStatus.TOO_MANY_REQUESTS  # looking it up there takes 0.2 us
_SHED: Final = frozenset(Load)
_REASONS: Final = {status.value: status.name.lower() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class ProxyPolicy:
    """What to trust and keep of a client's address; each field is a setting."""

    trusted: tuple[Network, ...] = ()
    privacy: Privacy = "full"
    honours_signals: bool = True

    def describe(self, context: RequestContext) -> None:
        """Fill in the client's address and User-Agent.

        `Sec-GPC: 1` and `DNT: 1`, when honoured, mean: keep no address and no User-Agent header. What the page itself
        put into its events stays.
        """
        header = context.head.headers.get
        context.address = client_address(context.head.peer, header("x-forwarded-for", ""), self.trusted)
        if self.honours_signals and (header("sec-gpc") == "1" or header("dnt") == "1"):
            return
        context.ip = private_form(context.address, self.privacy)
        context.user_agent = header_text(header("user-agent", ""))[:_USER_AGENT_LENGTH_MAX]


@dataclass(frozen=True, slots=True)
class RequestPolicies:
    """What `RequestMiddleware` asks; each decides one thing."""

    access_control: AccessControl
    load_bound: LoadBound
    proxies: ProxyPolicy
    cors: CorsPolicy
    port: OperationsPort
    spans: RequestSpans | None = None


class RequestMiddleware:
    """What every request passes. One event loop uses `enter`; `leave` may be called from any thread.

    Args:
        routes: the paths that are routes; they are metric labels, and preflights of others are not answered.
        counters: count the events.
        policies: decide.
        now_s: Unix time.
    """

    def __init__(
        self,
        routes: Collection[str],
        counters: EventCounters,
        policies: RequestPolicies,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._routes = frozenset(routes)
        self._counters = counters
        self._metrics = counters.metrics
        self._in_flight: set[RequestContext] = set()
        counters.metrics.watch("requests_in_flight", self._in_flight.__len__)
        self._uncounted = EventCounters()
        self._policies = policies
        self._access_control = policies.access_control
        self._spans = policies.spans
        self._now_s = now_s
        self._count = cache(
            lambda route, status, outcome: self._metrics.adder(
                "requests_total", route=route, status=str(status), outcome=outcome
            )
        )
        self._observe_time = cache(lambda route: self._metrics.observer("request_seconds", route=route))
        for route in self._routes:
            self._begin_counting(route)

    def open(self, head: RequestHead, stream: Stream) -> RequestContext:
        """Return the context of a request that has come in; `leave` is its other end."""
        route = head.path if head.path in self._routes else ELSEWHERE
        takes = (route == COLLECT and head.method == "POST") or (route == PIXEL and head.method == "GET")
        counters = self._counters if takes else self._uncounted
        context = RequestContext(head, stream, route, counters.open())
        self._in_flight.add(context)
        return context

    async def enter(self, context: RequestContext) -> Answer | None:
        """Pass a request through every step; an answer ends its way."""
        try:
            self._name(context)
            self._policies.proxies.describe(context)
            answer = self._answer_preflight(context) or self._refuse_port(context)
            if answer is None:
                if context.route in COUNTED:
                    key = "" if self._access_control.is_open else _key_of(context)
                    context.admission = await self._access_control.admit(
                        key, context.header("origin"), context.address, self._now_s()
                    )
                    self._policies.load_bound.check(context.head.received_s)
                check_host(context.head.headers.get("host"), context.head.protocol)
        except Exception as error:  # noqa: BLE001  (defects are logged there)
            return answer_to(error, context)
        return answer

    def leave(self, context: RequestContext, answer: Answer) -> Answer:
        """Return the answer with the headers that all answers bear; count it, and log a refusal."""
        if context.route == PIXEL and context.head.method in _IMAGE_METHODS:
            answer = image_of(answer, _outcome(context, answer.status))
        headers = [*answer.headers, ("X-Request-Id", context.request_id)]
        if not context.is_preflight:
            headers += context.admission.headers
            headers += self._policies.cors.answer_headers(context.header("origin"), is_shared=self._is_shared(context))
        self.close(context, answer.status)
        return Answer(answer.status, answer.body, headers)

    def close(self, context: RequestContext, status: int) -> None:
        """Count a request that is over, decide what its events end as, and log a refusal."""
        took_s = monotonic() - context.head.received_s
        outcome = _outcome(context, status)
        if status == _LIMITED:
            context.counter.rest = Outcome.LIMITED
            self._metrics.count("rate_limited_total")
        elif outcome in _SHED:
            context.counter.rest = Outcome.SHED
        context.counter.close()
        self._in_flight.discard(context)
        self._count(context.route, status, outcome)(1)
        self._observe_time(context.route)(took_s)
        if context.span is not None:
            context.span.end(status, outcome, context.counter.events)
        if status >= _FIRST_REFUSAL and outcome not in _SHED:  # a line for each would be more load
            log.info("request refused", extra=_line(context, status, outcome, took_s))

    def _name(self, context: RequestContext) -> None:
        """Take the caller's request id and trace id where they are valid."""
        header = context.head.headers.get
        request_id, traceparent = header("x-request-id"), header("traceparent")
        chosen = request_id_of(request_id) if request_id else ""
        if traceparent and (trace_id := trace_id_of(traceparent)):
            context.trace_id, context.traceparent = trace_id, traceparent
            context.request_id = trace_id  # so that the answer's id finds the rows
        elif chosen:
            context.trace_id = trace_id_like(chosen) or context.trace_id  # for the same reason
        context.request_id = chosen or context.request_id
        if self._spans is not None and context.route in COUNTED:
            self._begin_span(context, self._spans, is_chosen=bool(chosen))

    @staticmethod
    def _begin_span(context: RequestContext, spans: RequestSpans, *, is_chosen: bool) -> None:
        """Let the records continue the request's span; an id that the caller did not choose stays the same for both."""
        context.span = span = spans.begin(context.head.method, context.route, context.traceparent)
        context.trace_id, context.traceparent = span.trace_id, span.traceparent
        if not is_chosen:
            context.request_id = span.trace_id

    def _answer_preflight(self, context: RequestContext) -> Answer | None:
        headers = context.head.headers
        is_asked = context.head.method == "OPTIONS" and "access-control-request-method" in headers
        if not is_asked or "origin" not in headers or context.route == ELSEWHERE:
            return None
        context.is_preflight = True
        permission = self._policies.cors.preflight_headers(
            headers["origin"],
            context.header("access-control-request-headers"),
            is_private=context.header("access-control-request-private-network") == "true",
        )
        return Answer(HTTPStatus.NO_CONTENT, b"", permission)

    def _refuse_port(self, context: RequestContext) -> Answer | None:
        if self._policies.port.serves(context.head.path, context.head.port):
            return None
        return error_answer(HTTPStatus.NOT_FOUND, "there is no such route")

    def _is_shared(self, context: RequestContext) -> bool:
        """Tell whether a page may read the answer with credentials: not what a proxy may guard with a cookie."""
        return context.route == ELSEWHERE or context.route.startswith(_COLLECTING)

    def _begin_counting(self, route: str) -> None:
        """Create a series for each outcome of a collecting route: a rate needs a series that exists beforehand."""
        if not route.startswith(_COLLECTING):
            return
        outcomes = [(code, code.status) for code in ErrorCode] + [(fault, 503) for fault in (*Load, *SPOOL_FAULTS)]
        for outcome, status in (*outcomes, ("created", 201), ("ok", 200)):
            self._count(route, status, outcome)


def _outcome(context: RequestContext, status: int) -> str:
    return context.outcome or _REASONS.get(status, str(status))


def _key_of(context: RequestContext) -> str:
    """Return a request's API key, "" when it has none."""
    query = parse_qs(context.head.query).get(KEY, ("",))[0]
    return read_api_key(context.header("x-api-key"), context.header("authorization"), query)


def _line(context: RequestContext, status: int, outcome: str, took_s: float) -> dict[str, object]:
    return {
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "route": context.route,
        "status": status,
        "outcome": outcome,
        "ip": context.ip,
        "took_ms": round(took_s * 1000, 1),
    }
