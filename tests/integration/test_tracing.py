"""Traces from a request to its row, over OpenTelemetry's own exporter, and what an exporter that is away costs."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Message

from consumer.kafka.messages import record_of
from tests.conftest import SOAK_ONLY
from tests.support.ingress import Ingress
from tests.support.kafka_clients import consumer
from tests.support.log_members import until
from tests.support.operator import Operator, finish
from tests.support.otlp import INSTRUMENT, SpanCollector, environment

_CALLER: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_WAIT_S: Final = 60.0
_LINES_MAX: Final = 30


class Traced:
    """An ingress and a worker, each under `opentelemetry-instrument`."""

    def __init__(self, running: Ingress, operator: Operator, worker: subprocess.Popen[str]) -> None:
        self.ingress, self.operator, self.worker = running, operator, worker

    def post(self, event_id: str, traceparent: str = "") -> int:
        """Send an event; return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ingress.port, timeout=30)
        body = json.dumps({"messageBody": [{"eventType": "VIEW", "eventId": event_id}]})
        headers = {"traceparent": traceparent} if traceparent else {}
        try:
            connection.request("POST", "/collect/event", body, {"Content-Type": "application/json"} | headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def assert_quiet(self) -> None:
        """Stop both: they end well, have counted every event, and have said little of spans."""
        self.ingress.terminate()
        assert self.ingress.await_end(_WAIT_S) == 0
        told = self.ingress.log_lines()
        assert [line["balanced"] for line in told if "balanced" in line] == [True]
        self.operator.workers.remove(self.worker)
        code, lines = finish(self.worker)
        assert code == 0
        for of_spans in ([line for line in some if "opentelemetry" in str(line)] for some in (told, lines)):
            assert len(of_spans) <= _LINES_MAX, of_spans[-3:]

    def record_headers(self) -> dict[str, bytes]:
        """Return the headers of the topic's first record."""
        reader = consumer(self.operator.broker, f"{self.operator.topic}-reader")
        found: list[Message] = []
        try:
            reader.subscribe([self.operator.topic])
            until(lambda: bool(found), lambda: found.extend(reader.consume(1, 1.0)), timeout_s=_WAIT_S)
        finally:
            reader.close()
        return dict(record_of(found[0]).headers)


def _id(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


@pytest.fixture
def collector() -> Iterator[SpanCollector]:
    """A collector of spans."""
    with SpanCollector() as running:
        yield running


@pytest.fixture
def traced(
    operator: Operator, collector: SpanCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Traced]:
    """Both services, whose spans go to the collector."""
    operator.make_tables()
    for name, text in environment(collector.url, "headrace-ingest").items():
        monkeypatch.setenv(name, text)
    worker = subprocess.Popen(
        [INSTRUMENT, sys.executable, "-m", "consumer", "run"],
        env=operator.environ | environment(collector.url, "headrace-worker"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    operator.workers.append(worker)
    made = Ingress(
        tmp_path, operator.broker.bootstrap_servers, topic=operator.topic, dead_letter_topic=operator.dead_topic
    )
    made.prefix = (INSTRUMENT,)
    try:
        made.start()
        yield Traced(made, operator, worker)
    finally:
        made.end()


def test_a_trace_leads_from_the_request_to_the_row(traced: Traced, collector: SpanCollector) -> None:
    """The caller's trace, the ingress's span, the record's header, the insert's link and the row have one id.

    A collector that then takes spans and does not answer costs these spans and nothing else: all requests are answered,
    all events become rows, and the log is quiet.
    """
    name = f"insert {traced.operator.topic}"
    assert traced.post(_id(1), _CALLER) == 201
    traced.operator.await_rows(1)
    until(lambda: bool(collector.named(name) and collector.named("/collect/event")), timeout_s=_WAIT_S)

    (request,), (insert,) = collector.named("/collect/event"), collector.named(name)
    (row,) = traced.operator.database.query("SELECT trace_id FROM events")
    assert (request.service, insert.service) == ("headrace-ingest", "headrace-worker")
    assert request.span.trace_id.hex() == row["trace_id"] == _CALLER[3:35]
    assert request.span.parent_span_id.hex() == _CALLER[36:52]
    assert traced.record_headers()["traceparent"].decode() == request.traceparent
    (link,) = insert.span.links
    assert (link.trace_id, link.span_id) == (request.span.trace_id, request.span.span_id)
    assert insert.span.trace_id != request.span.trace_id

    with collector.silent():
        assert [traced.post(_id(number), _CALLER) for number in range(2, 32)] == [201] * 30
        traced.operator.await_rows(31)
        until(lambda: collector.held >= 2, timeout_s=_WAIT_S)  # a request of each service waits, and nobody for it
    traced.assert_quiet()


@SOAK_ONLY
def test_a_collector_that_is_gone_costs_nothing_but_spans(traced: Traced, collector: SpanCollector) -> None:
    """Nobody listens where it was, also when both services end."""
    collector.close()

    assert [traced.post(_id(number), _CALLER) for number in range(1, 101)] == [201] * 100
    traced.operator.await_rows(100)
    traced.assert_quiet()


_WITHOUT: Final = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Missing())
import consumer.service, consumer.tracing, ingest.service, ingest.tracing
assert ingest.tracing.open_spans() is None
assert consumer.tracing.open_spans() is None
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


def test_without_the_extra_nothing_is_imported() -> None:
    """Both services start, and begin no spans."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
