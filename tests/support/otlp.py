"""An OpenTelemetry collector for tests: takes spans over OTLP (http/protobuf), and decodes them.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import gzip
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.http_server import HttpServer

INSTRUMENT: Final = str(Path(sys.executable).parent / "opentelemetry-instrument")
"""The command that gives a program a tracer provider and an exporter; it stands before the program."""


class Told(NamedTuple):
    """A span, and the name of the service that it comes from."""

    service: str
    span: Span

    @property
    def traceparent(self) -> str:
        """The header with which what follows continues it; a later flag than "sampled" is left out."""
        return f"00-{self.span.trace_id.hex()}-{self.span.span_id.hex()}-01"


class SpanCollector(HttpServer):
    """A server to which exporters add /v1/traces. Spans are in `told`, in the order in which they came."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.held = 0
        self._answers = threading.Event()
        self._answers.set()
        super().__init__(_handler(self), "otlp")

    def close(self) -> None:
        """Answer what waits, and listen no more."""
        self._answers.set()
        super().close()

    def named(self, name: str) -> list[Told]:
        """Return the spans of a name."""
        return [one for one in list(self.told) if one.span.name == name]

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Answer nothing within the block; `held` counts the requests that wait."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    def take(self, body: bytes) -> None:
        """Decode a request."""
        self.held += not self._answers.is_set()
        self._answers.wait(60)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            self.told += [Told(names["service.name"], span) for span in spans]


def environment(endpoint: str, service: str) -> dict[str, str]:
    """Return the variables that INSTRUMENT reads; spans are sent several times a second."""
    return {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


def _handler(collector: SpanCollector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 90

        def do_POST(self) -> None:
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's signature)
            """Log nothing."""

    return Handler
