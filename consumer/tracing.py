"""Spans of inserts for OpenTelemetry, if it is there: one for each try of a batch, linked to the requests it came from.

A batch has the events of many requests, so it continues none of them: it links to the spans that the records' headers
name (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/). Only the API is used, as in the ingress.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from re import fullmatch
from typing import TYPE_CHECKING, Final

from consumer.delivery.ports import Partition, Record

if TYPE_CHECKING:
    from opentelemetry import trace
else:
    try:
        from opentelemetry import trace
    except ImportError:  # the extra is not installed
        trace = None

LINKS_MAX: Final = 128
"""As many as the SDK keeps of a span by default."""
_NAME: Final = "headrace.consumer"
_HEADER: Final = "traceparent"
_SAMPLED: Final = 1


class InsertSpans:
    """An `InsertSpans` of the ports. Threads share it."""

    def __init__(self, tracer: "trace.Tracer") -> None:
        self._tracer = tracer

    @contextmanager
    def inserting(self, partition: Partition, records: Sequence[Record], *, is_repeated: bool) -> Iterator[None]:
        """Span the block: it inserts these records."""
        attributes: dict[str, str | int | bool] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "insert",
            "messaging.destination.name": partition.topic,
            "messaging.destination.partition.id": str(partition.number),
            "messaging.batch.message_count": len(records),
            "headrace.first_offset": records[0].offset if records else -1,
            "headrace.is_repeated": is_repeated,
        }
        span = self._tracer.start_span(
            f"insert {partition.topic}", None, trace.SpanKind.CONSUMER, attributes, links_of(records)
        )
        try:
            yield
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()


def links_of(records: Sequence[Record]) -> "list[trace.Link]":
    """Return links to the sampled requests that records came from: each once, LINKS_MAX at most."""
    found: dict[str, trace.Link] = {}
    for record in records:
        for name, value in record.headers:
            if name == _HEADER and (text := value.decode("latin-1")) not in found and (link := _link(text)):
                found[text] = link
        if len(found) >= LINKS_MAX:
            break
    return list(found.values())[:LINKS_MAX]


def _link(traceparent: str) -> "trace.Link | None":
    """Return a link to a sampled span; anybody may write to the topic, so the header may be anything."""
    parts = fullmatch(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", traceparent)
    if parts is None or not int(parts[3], 16) & _SAMPLED:
        return None
    context = trace.SpanContext(
        int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=trace.TraceFlags(int(parts[3], 16))
    )
    return trace.Link(context) if context.is_valid else None


def open_spans() -> InsertSpans | None:
    """Return what spans inserts; None when nobody would record the spans."""
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return InsertSpans(provider.get_tracer(_NAME))
