"""The metrics of the ingress: names, labels and meaning, in two tables.

Label values come from code and settings, with one exception: the clients of `events_by_client_total`
(ingest/events/client_counters.py bounds them, ingest/client_series.py keeps them).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "headrace_ingest_"
# Code produces fewer; in case of a defect a metric still can't exceed this: further label sets are counted as one.
LABEL_SETS_MAX: Final = 400
REST: Final = "other"
"""The label of what is not told apart."""

# An answer takes about one linger (3 ms) and a round trip; 5 s is the default deadline of an answer.
_SECONDS: Final = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.035, 0.06, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 5.0)
# From one small event to the limits: 1 MiB as sent, 5 MiB inflated.
_BYTES: Final = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 5_242_880)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of a table.

    Attributes:
        kind: counter, gauge or histogram.
        help: what it measures.
        labels: the names of its labels.
        buckets: a histogram's buckets.
        of_workers: what becomes of the gauges of several worker processes.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    of_workers: Literal["sum", "max"] = "sum"


BY_CLIENT: Final = "events_by_client_total"

METRICS: Final[Mapping[str, Metric]] = {
    "processes": Metric("gauge", "Worker processes"),
    "processes_compiled": Metric("gauge", "Worker processes that write events with compiled code"),
    "requests_total": Metric(
        "counter", "Answered requests by route, status and outcome", ("route", "status", "outcome")
    ),
    "request_seconds": Metric("histogram", "Time from a request's head to its answer", ("route",), _SECONDS),
    "requests_in_flight": Metric("gauge", "Requests being answered"),
    "body_bytes": Metric("histogram", "Size of bodies as sent and inflated, in bytes", ("form",), _BYTES),
    "events_total": Metric("counter", "Events by outcome; see ingest/counters.py", ("outcome",)),
    BY_CLIENT: Metric(
        "counter", "Accepted events by client and type; clients beyond a bound are `other`", ("client", "event_type")
    ),
    "events_in_flight": Metric("gauge", "Events received whose request is not answered yet"),
    "acknowledgement_seconds": Metric(
        "histogram", "Time from enqueueing a request's events to their last acknowledgement", (), _SECONDS
    ),
    "producer_queue_records": Metric("gauge", "Records awaiting acknowledgement"),
    "producer_queue_bytes": Metric("gauge", "Bytes awaiting acknowledgement"),
    "producer_renewals_total": Metric(
        "counter",
        "Producers replaced: after a fatal error, or because they reached no broker or nothing was acknowledged",
    ),
    "producer_missing_offsets_total": Metric("counter", "Records reported as stored without an offset, and sent again"),
    "breaker_open": Metric("gauge", "Worker processes whose breaker is open: they do not send to the broker"),
    "breaker_opened_total": Metric("counter", "Times that a worker process's breaker opened"),
    "spool_usable": Metric("gauge", "Worker processes whose spool accepts events"),
    "spool_failures_total": Metric("counter", "Failed commits of the spool by reason", ("reason",)),
    "spool_commit_seconds": Metric("histogram", "Time of a spool commit with its fsync", (), _SECONDS),
    "spool_events": Metric("gauge", "Events in the spool directory, reported by the process that drains it"),
    "spool_bytes": Metric("gauge", "Bytes in use in the spool's files"),
    "spool_bytes_max": Metric("gauge", "Bound of the spool's files, INGEST_SPOOL_BYTES_MAX", of_workers="max"),
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
"""The metrics of our own by name, without the prefix."""

PROCESS_METRICS: Final[Mapping[str, Metric]] = {
    "process_cpu_seconds_total": Metric("counter", "Processor time of all worker processes since the start"),
    "process_resident_memory_bytes": Metric(
        "gauge", "Resident memory of the worker processes; shared pages count twice"
    ),
    "process_open_fds": Metric("gauge", "Open files of the worker processes"),
    "process_max_fds": Metric("gauge", "Open files that the worker processes may have"),
    "process_start_time_seconds": Metric("gauge", "Start of the youngest worker process (Unix time)", of_workers="max"),
}
"""Those that Prometheus's clients have in common, under their usual names, without our prefix."""

BUILD_INFO: Final = Metric("gauge", "1; the labels are the versions that run", ("version", "python", "librdkafka"))


def full_name(name: str) -> str:
    """Return the name under which a metric of either table is scraped."""
    return name if name in PROCESS_METRICS else PREFIX + name
