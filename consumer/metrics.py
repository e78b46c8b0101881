"""A worker's JSON log lines, and its metrics, declared in one table.

Counters and histograms count since the process began. A partition's gauges vanish when the worker gives it up, so that
only its owner shows its lag.
"""

import logging
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from platform import python_version
from typing import Final, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from pythonjsonlogger.json import JsonFormatter

from consumer.delivery.halting import Step
from consumer.errors import Cause, HaltCode, Reason
from schemas.transport.librdkafka_log import LIBRARY, LineFilter

_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)

PREFIX: Final = "headrace_consumer_"
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_1_0_0
_CHATTY: Final = ("urllib3", "httpx", "clickhouse_connect")  # they log each try of ours, which we log ourselves

# An insert of 100,000 rows takes about 0.3 s on one core (measured); 60 s is the default timeout.
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Without this each series has a second line, `_created`, with the time when it began: nothing reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client's

_ROWS: Final = (1, 10, 100, 1000, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table; label values come from code, settings and the broker, never from a record.

    Attributes:
        kind: counter, gauge or histogram.
        help: what it measures.
        labels: the names of its labels.
        buckets: a histogram's buckets.
        values: the values of each label, where they are known: a counter begins at 0 for each combination, because
            Prometheus's increase() misses the first step of a new series.
        first: what a gauge begins at; None: it is not shown until it is set.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    first: float | None = None


_PARTITION: Final = ("topic", "partition")
_TABLES: Final = ("events", "dead_letters")
_STEPS: Final = (Step.PREPARE, Step.SEND, Step.AWAIT, Step.INSERT)
METRICS: Final[Mapping[str, Metric]] = {
    "records": Metric(
        "counter",
        "Records by outcome: read = rows_inserted + dead_letters + returned once a partition is given up",
        (*_PARTITION, "outcome"),
    ),
    "dead_letters": Metric(
        "counter",
        "Dead letters sent by reason; a repeated try sends them again",
        ("reason",),
        values=(tuple(Reason),),
    ),
    "intents": Metric(
        "counter",
        "Intents by outcome: written, replayed, refused (fenced)",
        ("outcome",),
        values=(("written", "replayed", "refused"),),
    ),
    "retries": Metric(
        "counter",
        "Tries that failed and are retried later, by step and cause; see consumer/errors.py",
        ("step", "cause"),
        values=(_STEPS, tuple(Cause)),
    ),
    "halts": Metric(
        "counter",
        "Times that a partition was found halted, by code; each failed try counts",
        ("code",),
        values=(tuple(HaltCode),),
    ),
    "insert_seconds": Metric("histogram", "Inserts by table and outcome", ("table", "outcome"), _SECONDS),
    "batch_rows": Metric("histogram", "Rows of inserted batches", ("topic",), _ROWS),
    "repaired_rows": Metric(
        "counter",
        "Rows inserted again that ClickHouse lost when it was killed during an insert",
        ("table",),
        values=(_TABLES,),
    ),
    "poison_probes": Metric(
        "counter", "Probes in searches for rows that a table refuses", ("table",), values=(_TABLES,)
    ),
    "lag_records": Metric("gauge", "Offsets that can be read and are not in a table yet", _PARTITION),
    "freshness_seconds": Metric(
        "gauge", "Age in the log of the oldest waiting record; 0 when nothing is behind", _PARTITION
    ),
    "partitions": Metric("gauge", "Partitions by state: owned, paused, halted", ("state",)),
    "topic_partitions": Metric("gauge", "Partitions of the topic, as the brokers say", ("topic",)),
    "waiting_bytes": Metric("gauge", "Memory of records that are read but not yet committed", first=0),
    "is_retrying": Metric(
        "gauge", "1 while a step is being retried: a server is away or busy; nothing is lost", first=0
    ),
    "is_compiled": Metric("gauge", "1 when compiled code reads and writes records; 0: it is done in Python", first=0),
    "is_ready": Metric("gauge", "1 while /readyz is 200: every partition makes progress"),
    "audit_missing": Metric("gauge", "Committed offsets that are neither rows nor dead letters: must stay 0", first=0),
    "audit_uncounted": Metric(
        "gauge", "Offsets that have a row but are not in the table offsets: must stay 0", first=0
    ),
    "audit_duplicates": Metric("gauge", "Rows of an offset beyond the first: must stay 0", first=0),
    "audit_interval_seconds": Metric("gauge", "CONSUMER_AUDIT_EVERY_S; 0: no audits"),
    "audit_timestamp_seconds": Metric(
        "gauge", "When the last audit ended (Unix time); before the first one, when the process began"
    ),
}
"""A worker's metrics by name, without the prefix; a counter's name gets the suffix `_total`."""
BUILD_INFO: Final = Metric("gauge", "1; the labels are the versions that run", ("version", "python", "librdkafka"))
PROCESS_METRICS: Final[Mapping[str, Metric]] = {
    "process_cpu_seconds": Metric("counter", "Processor time since the start"),
    "process_resident_memory_bytes": Metric("gauge", "Resident memory"),
    "process_virtual_memory_bytes": Metric("gauge", "Virtual memory"),
    "process_open_fds": Metric("gauge", "Open files"),
    "process_max_fds": Metric("gauge", "Open files that the process may have"),
    "process_start_time_seconds": Metric("gauge", "Start of the process (Unix time)"),
}
"""What prometheus-client reports of a process on Linux, under its own names."""


def start_logging(level: str) -> None:
    """Send the process's logs to standard error, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("{levelname}{name}{message}", style="{", timestamp="at"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(LIBRARY).filters[:] = [LineFilter()]


class PrometheusMetrics:
    """A `Metrics` for prometheus-client. Threads share it; a name or label that the table lacks is a KeyError.

    Args:
        table: the metrics; a worker's by default.
        prefix: of their names.
        librdkafka: the version of the library, which only the driver knows.
    """

    def __init__(self, table: Mapping[str, Metric] = METRICS, prefix: str = PREFIX, librdkafka: str = "") -> None:
        self._table = table
        self._registry = CollectorRegistry()
        build = Gauge(f"{prefix}build_info", BUILD_INFO.help, BUILD_INFO.labels, registry=self._registry)
        build.labels(version("headrace"), python_version(), librdkafka).set(1)
        ProcessCollector(registry=self._registry)
        self._metrics = {name: _build(prefix + name, metric, self._registry) for name, metric in table.items()}
        self._lock = threading.Lock()
        for name, metric in table.items():
            if metric.first is not None:
                self.set(name, metric.first)
        if "audit_timestamp_seconds" in table:
            self.set("audit_timestamp_seconds", time.time())  # a new worker's audit is not overdue

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._of(name, Counter, labels).inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        self._of(name, Histogram, labels).observe(value)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._of(name, Gauge, labels).set(value)

    def levels(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set a gauge for these labels, in the table's order, and remove all others."""
        gauge = self._metrics[name]
        with self._lock:
            gauge.clear()
            for labels, value in values.items():
                gauge.labels(*labels).set(value)  # type: ignore[union-attr]  # the table says that it is a gauge

    def page(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        with self._lock:
            return generate_latest(self._registry)

    def books(self) -> dict[str, dict[str, int]]:
        """Return each partition's records by outcome; the keys are topic/partition."""
        books: dict[str, dict[str, int]] = {}
        for family in self._metrics["records"].collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    partition = f"{sample.labels['topic']}/{sample.labels['partition']}"
                    books.setdefault(partition, {})[sample.labels["outcome"]] = int(sample.value)
        return dict(sorted(books.items()))

    def _of(self, name: str, kind: type[_Kind], labels: Mapping[str, str]) -> _Kind:
        metric = self._metrics[name]
        if not isinstance(metric, kind) or set(self._table[name].labels) != set(labels):
            raise KeyError(f"{name}{sorted(labels)}: the table says {self._table[name]}")
        return metric.labels(**labels) if labels else metric


def balances(book: Mapping[str, int]) -> bool:
    """Tell whether a partition's counts add up: each record read became a row or a dead letter, or was returned."""
    return book.get("read", 0) == sum(book.get(name, 0) for name in ("rows_inserted", "dead_letters", "returned"))


def _build(full: str, metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        counter = Counter(full, metric.help, metric.labels, registry=registry)
        for values in product(*metric.values) if metric.values else ():
            counter.labels(*values)
        return counter
    if metric.kind == "gauge":
        return Gauge(full, metric.help, metric.labels, registry=registry)
    return Histogram(full, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
