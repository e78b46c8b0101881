"""Spans of requests, recorded by OpenTelemetry's own SDK in memory; without a provider nothing changes."""

from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from werkzeug.test import Client, TestResponse

from ingest import tracing
from ingest.counters import EventCounters
from ingest.http.middleware import COLLECT, RequestMiddleware
from ingest.http.wsgi import WsgiDoor
from ingest.tracing import RequestSpans, open_spans
from tests.support.front import policies_for
from tests.unit.ingest.http.test_middleware import TRACEPARENT, Application


class Traced:
    """The middleware around an application, and what the SDK has recorded."""

    def __init__(self, app: Application, provider: TracerProvider | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        provider = provider or TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        policies = replace(policies_for(), spans=RequestSpans(provider.get_tracer("test")))
        self._client = Client(WsgiDoor(app, RequestMiddleware([COLLECT, "/healthz"], EventCounters(), policies)))

    def ask(self, path: str = COLLECT, method: str = "POST", **headers: str) -> TestResponse:
        """Send a request; a header's dashes are written as underscores."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self._client.open(path, method=method, headers=named)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self._exporter.get_finished_spans()


def _is_sampled(traceparent: str) -> bool:
    """Tell whether the first flag is set; a later one says that the id is random."""
    return bool(int(traceparent[-2:], 16) & 1)


def test_a_request_is_a_span_that_its_records_continue() -> None:
    """The span's ids are the records' traceparent, the rows' trace id, and the answer's X-Request-Id."""
    app = Application(events=3)
    traced = Traced(app)

    answer = traced.ask()

    (span,) = traced.spans
    assert span.context is not None
    told = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    assert app.seen.traceparent.startswith(told)
    assert _is_sampled(app.seen.traceparent)
    assert app.seen.trace_id == told[3:35]
    assert answer.headers["X-Request-Id"] == told[3:35]
    assert (span.name, span.kind, span.parent) == (COLLECT, trace.SpanKind.SERVER, None)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": COLLECT,
        "http.response.status_code": 201,
        "headrace.outcome": "created",
        "headrace.events": 3,
    }


def test_a_request_continues_the_span_of_its_caller() -> None:
    """The trace stays the caller's, and so does a request id."""
    app = Application()
    traced = Traced(app)

    answer = traced.ask(traceparent=TRACEPARENT, X_Request_Id="mine-1")

    (span,) = traced.spans
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    assert app.seen.trace_id == TRACEPARENT[3:35]
    assert app.seen.traceparent != TRACEPARENT
    assert answer.headers["X-Request-Id"] == "mine-1"


def test_a_request_id_that_looks_like_a_trace_id_stays_the_callers() -> None:
    """The span has its own trace, and so have the records."""
    app = Application()
    traced = Traced(app)

    answer = traced.ask(X_Request_Id="4bf92f3577b34da6a3ce929d0e0e4736")

    (span,) = traced.spans
    assert span.context is not None
    assert answer.headers["X-Request-Id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert app.seen.trace_id == f"{span.context.trace_id:032x}" != "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_sampled_out_request_says_so_to_what_follows() -> None:
    """Nothing is recorded, and the records' header lacks the flag; the trace id is in the rows all the same."""
    app = Application()
    traced = Traced(app, TracerProvider(sampler=ALWAYS_OFF))

    traced.ask()

    assert traced.spans == ()
    assert not _is_sampled(app.seen.traceparent)
    assert app.seen.trace_id == app.seen.traceparent[3:35]


def test_a_failure_of_ours_is_an_error_and_a_refusal_is_not() -> None:
    """As the conventions say of servers."""
    statuses = {}
    for status, outcome in (("503 Service Unavailable", "spool_full"), ("400 Bad Request", "bad_json")):
        traced = Traced(Application(status, outcome))
        traced.ask()
        (span,) = traced.spans
        statuses[outcome] = span.status.status_code

    assert statuses == {"spool_full": trace.StatusCode.ERROR, "bad_json": trace.StatusCode.UNSET}


def test_probes_have_no_spans_and_odd_methods_no_names() -> None:
    """Nothing of what a client sends becomes a label."""
    traced = Traced(Application("405 Method Not Allowed"))

    traced.ask("/healthz", "GET")
    traced.ask(method="BREW")

    (span,) = traced.spans
    assert (span.attributes or {})["http.request.method"] == "_OTHER"


def test_without_a_provider_or_without_the_api_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a request pays for one comparison."""
    assert open_spans() is None
    monkeypatch.setattr(tracing, "trace", None)
    assert open_spans() is None


def test_with_a_provider_requests_are_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has set it up: the command `opentelemetry-instrument`, or a variable."""
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)

    assert isinstance(open_spans(), RequestSpans)
