"""Spans of requests for OpenTelemetry (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), if it is there.

Only the API is used: a tracer provider comes from outside (`opentelemetry-instrument`, or OTEL_PYTHON_TRACER_PROVIDER).
Without the extra `tracing`, or without a provider, there are no spans, and a request pays for one comparison.

A span holds the route, the status, the outcome and the number of events, and nothing of what a client has sent.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
else:
    try:
        from opentelemetry import trace
        from opentelemetry.context import Context
    except ImportError:  # the extra is not installed
        trace = None

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})
_FIRST_FAILURE: Final = 500
_NAME: Final = "headrace.ingest"


class RequestSpan:
    """The span of one request; `end` it once.

    Attributes:
        trace_id: 32 hexadecimal digits.
        traceparent: the header with which what follows continues this span.
    """

    __slots__ = ("_span", "trace_id", "traceparent")

    def __init__(self, span: "trace.Span") -> None:
        self._span = span
        told = span.get_span_context()
        self.trace_id = f"{told.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{told.span_id:016x}-{int(told.trace_flags):02x}"

    def end(self, status: int, outcome: str, events: int) -> None:
        """Say how the request was answered."""
        span = self._span
        span.set_attributes(
            {"http.response.status_code": status, "headrace.outcome": outcome, "headrace.events": events}
        )
        if status >= _FIRST_FAILURE:
            span.set_status(trace.StatusCode.ERROR, outcome)
        span.end()


class RequestSpans:
    """Begins spans. One event loop uses it."""

    def __init__(self, tracer: "trace.Tracer") -> None:
        self._tracer = tracer

    def begin(self, method: str, route: str, traceparent: str) -> RequestSpan:
        """Return a request's span; it continues the caller's, whose `traceparent` is valid or ""."""
        attributes = {"http.request.method": method if method in _METHODS else "_OTHER", "http.route": route}
        kind, parent = trace.SpanKind.SERVER, _context_of(traceparent)
        return RequestSpan(self._tracer.start_span(route, parent, kind, attributes))


def _context_of(traceparent: str) -> "Context":
    """Return the caller's context; an empty one for none, so that nothing of this process becomes the parent."""
    if not traceparent:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")[:4]
    flags_of = trace.TraceFlags(int(flags, 16))
    caller = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags_of)
    return trace.set_span_in_context(trace.NonRecordingSpan(caller), Context())


def open_spans() -> RequestSpans | None:
    """Return what begins spans; None when nobody would record them. Call it after the fork."""
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return RequestSpans(provider.get_tracer(_NAME))
