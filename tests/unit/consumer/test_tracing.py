"""Spans of inserts, recorded by OpenTelemetry's own SDK in memory."""

from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from consumer import tracing
from consumer.delivery.batch import Attempt, Inserted
from consumer.delivery.ports import Partition, Record
from consumer.errors import Transient
from consumer.tracing import LINKS_MAX, InsertSpans, links_of, open_spans
from tests.support.fake_table import InsertFault, value
from tests.support.pipelines import PLACE, Around


def _record(traceparent: str, number: int = 0) -> Record:
    return Record(Partition("events", 0), number, 0, b"", b"", (("traceparent", traceparent.encode()),))


def _named(trace_number: int, flags: str = "01") -> str:
    return f"00-{trace_number:032x}-{trace_number:016x}-{flags}"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What was recorded."""
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InsertSpans:
    """Spans that are recorded."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return InsertSpans(provider.get_tracer("test"))


def test_a_batch_links_to_each_request_once() -> None:
    """A request's events have one header; many requests make a batch."""
    links = links_of([_record(_named(number)) for number in (1, 1, 2, 3, 2)])

    assert [link.context.trace_id for link in links] == [1, 2, 3]
    assert all(link.context.is_remote for link in links)


def test_links_are_bounded() -> None:
    """A batch has up to a hundred thousand requests."""
    assert len(links_of([_record(_named(number)) for number in range(1, 1000)])) == LINKS_MAX


@pytest.mark.parametrize(
    "text",
    ["", "x", _named(1, "00"), _named(0), _named(1).replace("00-", "ff-", 1), "\xff", _named(1, "zz"), "00-1-1-01"],
)
def test_what_names_no_recorded_span_is_no_link(text: str) -> None:
    """Anybody may write to the topic."""
    assert links_of([Record(Partition("events", 0), 0, 0, b"", b"", (("traceparent", text.encode("latin-1")),))]) == []


def test_an_insert_is_a_span_with_the_batch_in_it(spans: InsertSpans, exporter: InMemorySpanExporter) -> None:
    """Where it inserts, how much, and whether for the first time; nothing of the records."""
    with spans.inserting(Partition("events", 3), [_record(_named(7), number=12)], is_repeated=False):
        assert exporter.get_finished_spans() == ()

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("insert events", trace.SpanKind.CONSUMER)
    assert [link.context.trace_id for link in span.links] == [7]
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "insert",
        "messaging.destination.name": "events",
        "messaging.destination.partition.id": "3",
        "messaging.batch.message_count": 1,
        "headrace.first_offset": 12,
        "headrace.is_repeated": False,
    }


def test_each_try_of_a_pipeline_is_a_span(spans: InsertSpans, exporter: InMemorySpanExporter) -> None:
    """One that fails is an error, by the name of its kind; the error goes on as it was."""
    around = Around()
    pipeline = replace(around.pipeline, spans=spans)
    prepared = pipeline.prepare(around.draft(value(1), value(1)), "cluster")
    around.table.faults.append(InsertFault.NOT_APPLIED)

    with pytest.raises(Transient):
        pipeline.insert(prepared.batch, prepared.blocks[0], Attempt(0, lambda: True))
    inserted = pipeline.insert(prepared.batch, prepared.blocks[0], Attempt(0, lambda: True, is_repeated=True))

    assert inserted == Inserted()
    first, second = exporter.get_finished_spans()
    assert (first.status.status_code, first.status.description) == (trace.StatusCode.ERROR, "Transient")
    assert second.status.status_code is trace.StatusCode.UNSET
    assert (second.attributes or {})["messaging.destination.name"] == PLACE.topic


def test_without_a_provider_or_without_the_api_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then an insert pays for one comparison."""
    assert open_spans() is None
    monkeypatch.setattr(tracing, "trace", None)
    assert open_spans() is None


def test_with_a_provider_inserts_are_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has set it up."""
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)

    assert isinstance(open_spans(), InsertSpans)
