"""The metrics of the ingress (ingest/metric_table.py), added up over the worker processes.

prometheus-client keeps each process's values in files of the directory PROMETHEUS_MULTIPROC_DIR (gunicorn's master
makes it, deploy/gunicorn.conf.py) and adds them up at the scrape. It looks at that variable when it is imported, so
the master must not import this module before it has set it. Without the variable (tests, a single process) the values
stay in this process. ingest/metric_files.py manages the files.
"""

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from platform import python_version
from typing import Final, Literal, Protocol, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ingest.client_series import ClientSeries, added_up
from ingest.metric_table import (
    BUILD_INFO,
    BY_CLIENT,
    LABEL_SETS_MAX,
    METRICS,
    PREFIX,
    PROCESS_METRICS,
    REST,
    Metric,
    full_name,
)
from ingest.metric_values import Files, SharedValue

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_1_0_0
_ALL: Final[Mapping[str, Metric]] = {**METRICS, **PROCESS_METRICS}

# Without this each series has a second line, `_created`, with the time when it began: nothing reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client's


def count_as(number: int) -> None:
    """Use the files of this number instead of those of the process id; call it before the first PrometheusMetrics.

    No two living processes may have the same number.
    """
    values.ValueClass = partial(SharedValue, Files(number))
    _OWN.number = number


@dataclass(slots=True)
class _Own:
    """This process's number; its process id where it has none."""

    number: int = field(default_factory=os.getpid)


_OWN: Final = _Own()


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


class _BuildInfo(Collector):
    """The versions that run; all worker processes have the same, so they are in no file."""

    def __init__(self, *versions: str) -> None:
        self._versions = versions

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the one metric."""
        family = GaugeMetricFamily(f"{PREFIX}build_info", BUILD_INFO.help, labels=BUILD_INFO.labels)
        family.add_metric(self._versions, 1)
        yield family


class _ClientsCollector(Collector):
    """The events by client, which are in separate files (ingest/client_series.py)."""

    def __init__(self, series: ClientSeries) -> None:
        self._series = series

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the one metric."""
        metric = METRICS[BY_CLIENT]
        family = CounterMetricFamily(full_name(BY_CLIENT), metric.help, labels=metric.labels)
        for labels, events in added_up(self._series.read()).items():
            family.add_metric(labels, events)
        yield family


class PrometheusMetrics:
    """The `Metrics` of a process, for prometheus-client. Threads share it.

    A gauge is the sum over the living workers, or the largest of them. `clients` are the events by client.

    Args:
        librdkafka: the version of the library, which only the driver knows.
    """

    def __init__(self, librdkafka: str = "") -> None:
        self._registry = CollectorRegistry()
        self._families = {name: self._declare(name, metric) for name, metric in _ALL.items() if name != BY_CLIENT}
        self._series: dict[tuple[str, ...], _Series] = {}
        self._watched: list[tuple[Callable[[float], None], Callable[[], float]]] = []
        self._sizes = dict.fromkeys(_ALL, 0)
        self._lock = threading.Lock()
        self._build = _BuildInfo(version("headrace"), python_version(), librdkafka)
        self.clients = ClientSeries(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""), _OWN.number)
        self._by_client = _ClientsCollector(self.clients)
        self._registry.register(self._build)
        self._registry.register(self._by_client)

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

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Set a gauge to what `read` returns whenever `refresh` is called."""
        self._watched.append((self._find(name, {}).numbers[0].set, read))

    def refresh(self) -> None:
        """Set the watched gauges; other processes' scrapes see what the last call has set."""
        for put, read in self._watched:
            put(read())

    def adder(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return a function that adds to one counter."""
        return self._find(name, labels).numbers[0].inc

    def observer(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return a function that adds one observation to one histogram."""
        series = self._find(name, labels)
        total, *buckets = series.numbers
        if isinstance(total, SharedValue):
            return total.observer(cast("list[SharedValue]", buckets), series.bounds)
        return lambda value: self.observe(name, value, **labels)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, added up over the worker processes."""
        self.refresh()
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client's
            registry.register(self._build)
            registry.register(self._by_client)
        return generate_latest(registry)

    def _declare(self, name: str, metric: Metric) -> _Family:
        full = full_name(name)
        if metric.kind == "counter":
            return Counter(full, metric.help, metric.labels, registry=self._registry)
        if metric.kind == "gauge":
            mode: Literal["livesum", "livemax"] = "livesum" if metric.of_workers == "sum" else "livemax"
            return Gauge(full, metric.help, metric.labels, registry=self._registry, multiprocess_mode=mode)
        return Histogram(full, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets)

    def _find(self, name: str, labels: Mapping[str, str]) -> _Series:
        """Return the series of a label set; this lookup is faster than prometheus-client's."""
        key = (name, *labels.values())
        return self._series.get(key) or self._new_series(key, labels)

    def _new_series(self, key: tuple[str, ...], labels: Mapping[str, str]) -> _Series:
        name, declared, bounds = key[0], _ALL[key[0]].labels, _ALL[key[0]].buckets
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
                return _Series.of(family.labels(*(REST for _ in declared)), bounds)
            child = family.labels(*labels.values())
        series = self._series[key] = _Series.of(child, bounds)
        return series
