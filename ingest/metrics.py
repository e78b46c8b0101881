"""The metrics of the ingress, declared in one table and added up over the worker processes.

prometheus-client keeps each process's values in files of the directory PROMETHEUS_MULTIPROC_DIR (gunicorn's master
makes it, deploy/gunicorn.conf.py) and adds them up at the scrape. It looks at that variable when it is imported, so
the master must not import this module before it has set it. Without the variable (tests, a single process) the values
stay in this process. ingest/metric_files.py manages the files.
"""

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

PREFIX: Final = "headrace_ingest_"
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_1_0_0
# Code produces fewer; in case of a defect a metric still can't exceed this: further label sets are counted as one.
LABEL_SETS_MAX: Final = 400
_REST: Final = "other"

# An answer takes about one linger (3 ms) and a round trip; 5 s is the default deadline of an answer.
_SECONDS: Final = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.035, 0.06, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 5.0)
# From one small event to the limits: 1 MiB as sent, 5 MiB inflated.
_BYTES: Final = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 5_242_880)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table; label values come from code and settings, never from a client."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Final[Mapping[str, Metric]] = {
    "requests_total": Metric(
        "counter", "Answered requests by route, status and outcome", ("route", "status", "outcome")
    ),
    "request_seconds": Metric("histogram", "Time from a request's head to its answer", ("route",), _SECONDS),
    "requests_in_flight": Metric("gauge", "Requests being answered"),
    "body_bytes": Metric("histogram", "Size of bodies as sent and inflated, in bytes", ("form",), _BYTES),
    "events_total": Metric("counter", "Events by outcome; see ingest/counters.py", ("outcome",)),
    "events_in_flight": Metric("gauge", "Events received whose request is not answered yet"),
    "acknowledgement_seconds": Metric(
        "histogram", "Time from enqueueing a request's events to their last acknowledgement", (), _SECONDS
    ),
    "producer_queue_records": Metric("gauge", "Records awaiting acknowledgement"),
    "producer_queue_bytes": Metric("gauge", "Bytes awaiting acknowledgement"),
    "producer_renewals_total": Metric("counter", "Producers replaced after a fatal error"),
    "breaker_open": Metric("gauge", "Worker processes whose breaker is open: they do not send to the broker"),
    "breaker_opened_total": Metric("counter", "Times that a worker process's breaker opened"),
    "spool_usable": Metric("gauge", "Worker processes whose spool accepts events"),
    "spool_failures_total": Metric("counter", "Failed commits of the spool by reason", ("reason",)),
    "spool_commit_seconds": Metric("histogram", "Time of a spool commit with its fsync", (), _SECONDS),
    "spool_events": Metric("gauge", "Events in the spool directory, reported by the process that drains it"),
    "spool_bytes": Metric("gauge", "Bytes in use in the spool's files"),
    "spool_oldest_seconds": Metric("gauge", "Age of the oldest event in the spool"),
    "spool_parked_events": Metric("gauge", "Spooled events that the broker refuses; they wait for an operator"),
    "spool_corrupt_files": Metric("gauge", "Spool files that were set aside; they wait for an operator"),
    "spool_drained_events_total": Metric("counter", "Spooled events that the broker acknowledged"),
    "spool_drain_failures_total": Metric("counter", "Batches of spooled events that the broker did not acknowledge"),
    "rate_limited_total": Metric("counter", "Requests refused by the rate limit"),
    "rate_limit_store_failures_total": Metric(
        "counter", "Requests admitted because the rate limit's store did not answer"
    ),
}
"""All metrics by name, without the prefix."""


def count_as(number: int) -> None:
    """Use the files of this number instead of those of the process id; call it before the first PrometheusMetrics.

    No two living processes may have the same number.
    """
    values.ValueClass = partial(_SharedValue, _Files(number))


class _Files:
    """This process's files by their kind, and the lock of all values in them."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._files: dict[str, MmapedDict] = {}
        self.lock = threading.Lock()

    def place(self, kind: str, key: str) -> tuple[Any, int]:
        """Return a file's memory as doubles, and a value's index there; a new value is added as 0."""
        with self.lock:
            file = self._files.get(kind)
            if file is None:
                path = os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"{kind}_{self._number}.db")  # noqa: PTH118
                file = self._files[kind] = MmapedDict(path)  # type: ignore[no-untyped-call]  # prometheus-client's
            file.read_value(key)  # type: ignore[no-untyped-call]
            return memoryview(file._m).cast("d"), file._positions[key] // 8  # noqa: SLF001  (no public way)


class _SharedValue:
    """A number in a file of the metrics, written where it stands: prometheus-client's own takes twice as long at least.

    Aligned and written at once, it is never seen half written by the process that reads the file.
    """

    _multiprocess = True

    def __init__(  # noqa: PLR0913, PLR0917  (prometheus-client calls it)
        self,
        files: _Files,
        kind: str,
        metric: str,
        name: str,
        labels: Sequence[str],
        label_values: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
    ) -> None:
        key = mmap_key(metric, name, list(labels), list(label_values), help_text)
        file_kind = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        self._doubles, self._at = files.place(file_kind, key)
        self._lock = files.lock

    def inc(self, amount: float) -> None:
        """Add."""
        with self._lock:
            self._doubles[self._at] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002  (prometheus-client's form)
        """Replace."""
        self._doubles[self._at] = value

    def get(self) -> float:
        """Return it."""
        return float(self._doubles[self._at])

    def get_exemplar(self) -> None:
        """Return none: files hold none."""


_Family = Counter | Gauge | Histogram


class _Value(Protocol):
    """One of prometheus-client's numbers, in a file or not."""

    def inc(self, amount: float) -> None:
        """Add."""

    def set(self, value: float) -> None:
        """Replace."""


@dataclass(frozen=True, slots=True)
class _Series:
    """The numbers of one label set: one of a counter or gauge; of a histogram the sum, then one for each bucket."""

    numbers: tuple[_Value, ...]
    bounds: tuple[float, ...] = ()

    @classmethod
    def of(cls, child: _Family, bounds: tuple[float, ...]) -> "_Series":
        """Take them from a metric, whose own methods check its state and look for the bucket from the first one on."""
        if isinstance(child, Histogram):
            return cls((child._sum, *child._buckets), bounds)  # noqa: SLF001  (as above)
        return cls((child._value,))  # noqa: SLF001


class PrometheusMetrics:
    """The `Metrics` of a process, for prometheus-client. Threads share it.

    A gauge is the sum over the living workers.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families = {name: self._declare(name, metric) for name, metric in METRICS.items()}
        self._series: dict[tuple[str, ...], _Series] = {}
        self._sizes = dict.fromkeys(METRICS, 0)
        self._lock = threading.Lock()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._find(name, labels).numbers[0].inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        series = self._find(name, labels)
        series.numbers[0].inc(value)
        series.numbers[1 + bisect_left(series.bounds, value)].inc(1)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._find(name, labels).numbers[0].set(value)

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Add to a gauge; a negative amount subtracts."""
        self._find(name, labels).numbers[0].inc(amount)

    def adder(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return a function that adds to one counter or gauge."""
        return self._find(name, labels).numbers[0].inc

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, added up over the worker processes."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client's
        return generate_latest(registry)

    def _declare(self, name: str, metric: Metric) -> _Family:
        full = PREFIX + name
        if metric.kind == "counter":
            return Counter(full, metric.help, metric.labels, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(full, metric.help, metric.labels, registry=self._registry, multiprocess_mode="livesum")
        return Histogram(full, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets)

    def _find(self, name: str, labels: Mapping[str, str]) -> _Series:
        """Return the series of a label set; this lookup is faster than prometheus-client's."""
        key = (name, *labels.values())
        return self._series.get(key) or self._new_series(key, labels)

    def _new_series(self, key: tuple[str, ...], labels: Mapping[str, str]) -> _Series:
        name, declared, bounds = key[0], METRICS[key[0]].labels, METRICS[key[0]].buckets
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
                return _Series.of(family.labels(*(_REST for _ in declared)), bounds)
            child = family.labels(*labels.values())
        series = self._series[key] = _Series.of(child, bounds)
        return series
