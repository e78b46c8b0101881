"""What ops see: every metric of the ingress, declared in one table, and the figures of all worker processes as one.

prometheus-client keeps each process's values in files of the directory PROMETHEUS_MULTIPROC_DIR (gunicorn's master
makes it, deploy/gunicorn.conf.py) and adds them up at the scrape. It looks at that variable when it is imported, so
the master must not import this module before it has set it. Without the variable (tests, one plain process) the
values live in this process alone. ingest/metric_files.py says which files a worker counts in.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.multiprocess import MultiProcessCollector

PREFIX: Final = "headrace_ingest_"
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_1_0_0
# Code gives fewer; whatever goes wrong, a metric can't grow beyond this many label sets: the rest is counted as one.
LABEL_SETS_MAX: Final = 400
_REST: Final = "other"

# An answer takes about one linger (3 ms) and a round trip; 5 s is the default deadline of an answer.
_SECONDS: Final = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.035, 0.06, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 5.0)
# From one small event to the caps: 1 MiB as sent, 5 MiB inflated.
_BYTES: Final = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 5_242_880)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table; the label values come from code and settings, never from a client."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Final[Mapping[str, Metric]] = {
    "requests_total": Metric(
        "counter", "Answered requests by route, status and outcome", ("route", "status", "outcome")
    ),
    "request_seconds": Metric("histogram", "From a request's head to its answer", ("route",), _SECONDS),
    "requests_in_flight": Metric("gauge", "Requests being answered"),
    "body_bytes": Metric("histogram", "Bodies as sent and after inflating, in bytes", ("form",), _BYTES),
    "events_total": Metric("counter", "Events by outcome, see ingest/counters.py", ("outcome",)),
    "events_in_flight": Metric("gauge", "Events received whose request is not answered yet"),
    "acknowledgement_seconds": Metric(
        "histogram", "From enqueueing a request's events to their last acknowledgement", (), _SECONDS
    ),
    "producer_queue_records": Metric("gauge", "Records awaiting acknowledgement"),
    "producer_queue_bytes": Metric("gauge", "Bytes awaiting acknowledgement"),
    "producer_renewals_total": Metric("counter", "Producers replaced after a fatal error"),
    "breaker_open": Metric("gauge", "Worker processes that do not send to the broker now"),
    "breaker_opened_total": Metric("counter", "Times that a worker process stopped sending to the broker"),
    "spool_usable": Metric("gauge", "Worker processes whose spool takes events"),
    "spool_failures_total": Metric("counter", "Commits of the spool that failed, by reason", ("reason",)),
    "spool_commit_seconds": Metric("histogram", "A commit of the spool, with its fsync", (), _SECONDS),
    "spool_events": Metric("gauge", "Events in the spool directory, told by the process that drains it"),
    "spool_bytes": Metric("gauge", "Bytes in use in the spool's files"),
    "spool_oldest_seconds": Metric("gauge", "Age of the oldest event in the spool"),
    "spool_parked_events": Metric("gauge", "Spooled events that the broker refuses; they wait for a person"),
    "spool_corrupt_files": Metric("gauge", "Spool files that were set aside; they wait for a person"),
    "spool_drained_events_total": Metric("counter", "Spooled events that the broker has acknowledged"),
    "spool_drain_failures_total": Metric("counter", "Batches of the spool that the broker did not acknowledge"),
    "rate_limited_total": Metric("counter", "Requests refused by the rate limit"),
    "rate_limit_store_failures_total": Metric(
        "counter", "Requests let pass because the rate limit's store did not answer"
    ),
}
"""Every metric by its name without the prefix."""


def count_as(number: int) -> None:
    """Count in the files of this number from now on, instead of those of the process id; before the first `Telemetry`.

    No two living processes may have the same one.
    """
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]  # prometheus-client's


_Child = Counter | Gauge | Histogram


class PrometheusMetrics:
    """The `Meter` of a process, for prometheus-client. Threads share it.

    A gauge is the sum over the workers that live.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families = {name: self._declare(name, metric) for name, metric in METRICS.items()}
        self._children: dict[tuple[str, ...], _Child] = {}
        self._sizes = dict.fromkeys(METRICS, 0)
        self._lock = threading.Lock()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._child(name, labels).inc(amount)  # type: ignore[union-attr]  # the table says which kind

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        self._child(name, labels).observe(value)  # type: ignore[union-attr]  # as above

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)  # type: ignore[union-attr]  # as above

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Add to a gauge, or take from it."""
        self._child(name, labels).inc(amount)  # type: ignore[union-attr]  # as above

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, added up over the worker processes."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client's
        return generate_latest(registry)

    def _declare(self, name: str, metric: Metric) -> _Child:
        full = PREFIX + name
        if metric.kind == "counter":
            return Counter(full, metric.help, metric.labels, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(full, metric.help, metric.labels, registry=self._registry, multiprocess_mode="livesum")
        return Histogram(full, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets)

    def _child(self, name: str, labels: Mapping[str, str]) -> _Child:
        """Return the series of a label set; looking it up here costs less than prometheus-client's own lookup."""
        key = (name, *labels.values())
        child = self._children.get(key)
        return child if child is not None else self._new_child(key, labels)

    def _new_child(self, key: tuple[str, ...], labels: Mapping[str, str]) -> _Child:
        name, declared = key[0], METRICS[key[0]].labels
        if tuple(labels) != declared:
            raise ValueError(f"{name} has the labels {declared}, got {tuple(labels)}")
        family = self._families[name]
        if not declared:
            child = family
        else:
            with self._lock:
                full = self._sizes[name] >= LABEL_SETS_MAX
                self._sizes[name] += not full
            if full:
                return family.labels(*(_REST for _ in declared))
            child = family.labels(*labels.values())
        self._children[key] = child
        return child
