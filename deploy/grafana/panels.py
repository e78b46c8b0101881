"""What each dashboard shows: panels by dashboard and row, with their queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_I: Final = "headrace_ingest"
_C: Final = "headrace_consumer"
_B: Final = "headrace_canary"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        queries: PromQL by legend; a legend may name labels, {{like this}}.
        unit: Grafana's name of the unit.
        about: how to read it.
        is_stat: one number instead of curves.
    """

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    about: str = ""
    is_stat: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: rows of panels by the rows' titles."""

    title: str
    about: str
    rows: Mapping[str, tuple[Panel, ...]]


def _rate(metric: str, by: str = "") -> str:
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}[$__rate_interval]))"


def _quantiles(metric: str) -> dict[str, str]:
    return {
        f"p{percent}": f"histogram_quantile({percent / 100}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"
        for percent in (50, 99)
    }


def _processes(job: str) -> tuple[Panel, ...]:
    of = f'{{job="{job}"}}'
    return (
        Panel("Processor", {"{{instance}}": f"rate(process_cpu_seconds_total{of}[$__rate_interval])"}, about="Cores"),
        Panel("Memory", {"{{instance}}": f"process_resident_memory_bytes{of}"}, "bytes"),
        Panel("Open files", {"{{instance}}": f"process_open_fds{of}", "most": f"min(process_max_fds{of})"}),
        Panel("Up since", {"{{instance}}": f"time() - process_start_time_seconds{of}"}, "s"),
    )


INGRESS: Final = Board(
    "headrace: ingress",
    "What clients send, what they are told, and what waits on disk.",
    {
        "Requests": (
            Panel(
                "Events",
                {"{{outcome}}": _rate(f"{_I}_events_total", "outcome")},
                "eps",
                "docs/TELEMETRY.md, Event counts",
            ),
            Panel(
                "Requests by status", {"{{route}} {{status}}": _rate(f"{_I}_requests_total", "route, status")}, "reqps"
            ),
            Panel(
                "Refused requests",
                {"{{outcome}}": _rate(f'{_I}_requests_total{{status=~"[45].."}}', "outcome") + " > 0 or vector(0)"},
                "reqps",
                "By error code",
            ),
            Panel("Answer time", _quantiles(f"{_I}_request_seconds"), "s"),
            Panel("In flight", {"requests": f"sum({_I}_requests_in_flight)", "events": f"sum({_I}_events_in_flight)"}),
            Panel("Size of bodies", _quantiles(f"{_I}_body_bytes"), "bytes"),
        ),
        "Clients": (
            Panel("Events by client", {"{{client}}": _rate(f"{_I}_events_by_client_total", "client")}, "eps"),
            Panel("Events by type", {"{{event_type}}": _rate(f"{_I}_events_by_client_total", "event_type")}, "eps"),
            Panel("Rate-limited", {"requests": _rate(f"{_I}_rate_limited_total")}, "reqps"),
            Panel(
                "Admitted without a count",
                {"requests": _rate(f"{_I}_rate_limit_store_failures_total")},
                "reqps",
                "The rate limit's store did not answer",
            ),
        ),
        "Kafka": (
            Panel("Acknowledgements", _quantiles(f"{_I}_acknowledgement_seconds"), "s"),
            Panel("Awaiting acknowledgement", {"bytes": f"sum({_I}_producer_queue_bytes)"}, "bytes"),
            Panel("Records awaiting acknowledgement", {"records": f"sum({_I}_producer_queue_records)"}),
            Panel(
                "Breakers",
                {"open": f"sum({_I}_breaker_open)", "processes": f"sum({_I}_processes)"},
                about="Processes that do not send to Kafka",
            ),
            Panel("Breakers opened", {"times": f"sum(increase({_I}_breaker_opened_total[$__rate_interval]))"}),
            Panel("Producers replaced", {"times": f"sum(increase({_I}_producer_renewals_total[$__rate_interval]))"}),
        ),
        "Spool": (
            Panel("Size", {"used": f"sum({_I}_spool_bytes)", "bound": f"sum({_I}_spool_bytes_max)"}, "bytes"),
            Panel("Events on disk", {"events": f"sum({_I}_spool_events)", "parked": f"sum({_I}_spool_parked_events)"}),
            Panel("Oldest event", {"age": f"max({_I}_spool_oldest_seconds)"}, "s"),
            Panel("Drained", {"events": _rate(f"{_I}_spool_drained_events_total")}, "eps"),
            Panel("Commit with fsync", _quantiles(f"{_I}_spool_commit_seconds"), "s"),
            Panel(
                "Failures",
                {
                    "commits: {{reason}}": _rate(f"{_I}_spool_failures_total", "reason"),
                    "drains": _rate(f"{_I}_spool_drain_failures_total"),
                },
                "ops",
            ),
            Panel("Usable", {"processes": f"sum({_I}_spool_usable)", "of": f"sum({_I}_processes)"}),
            Panel("Files set aside", {"files": f"sum({_I}_spool_corrupt_files)"}),
        ),
        "Processes": _processes("headrace-ingest"),
    },
)

PIPELINE: Final = Board(
    "headrace: pipeline",
    "From the 201 to the row, and the objectives of docs/SLO.md.",
    {
        "Now": (
            Panel("Accepted", {"events": _rate(f'{_I}_events_total{{outcome="accepted"}}')}, "eps", is_stat=True),
            Panel(
                "Inserted", {"rows": _rate(f'{_C}_records_total{{outcome="rows_inserted"}}')}, "rowsps", is_stat=True
            ),
            Panel("Behind", {"records": f"sum({_C}_lag_records)"}, is_stat=True),
            Panel("Freshness, p99", {"canary": _quantiles(f"{_B}_freshness_seconds")["p99"]}, "s", is_stat=True),
        ),
        "From the request to the row": (
            Panel(
                "Events",
                {
                    "accepted": _rate(f'{_I}_events_total{{outcome="accepted"}}'),
                    "read": _rate(f'{_C}_records_total{{outcome="read"}}'),
                    "inserted": _rate(f'{_C}_records_total{{outcome="rows_inserted"}}'),
                    "dead letters": _rate(f'{_C}_records_total{{outcome="dead_letters"}}'),
                },
                "eps",
            ),
            Panel(
                "Behind",
                {"{{topic}}/{{partition}}": f"{_C}_lag_records"},
                about="Records that are not in the table yet",
            ),
            Panel("Oldest waiting record", {"{{topic}}/{{partition}}": f"{_C}_freshness_seconds"}, "s"),
            Panel("Freshness by the canary", _quantiles(f"{_B}_freshness_seconds"), "s", "From the 201 to the row"),
        ),
        "Objectives": (
            Panel(
                "Availability: errors in an hour",
                {"{{seen_by}}": "headrace:availability_errors:ratio_rate1h"},
                "percentunit",
            ),
            Panel(
                "Freshness: later than 10 s in an hour",
                {"events": "headrace:freshness_errors:ratio_rate1h"},
                "percentunit",
            ),
            Panel(
                "Completeness: late in an hour", {"events": "headrace:completeness_errors:ratio_rate1h"}, "percentunit"
            ),
            Panel(
                "Canary",
                {
                    "{{outcome}}": _rate(f"{_B}_events_total", "outcome"),
                    "rows {{outcome}}": _rate(f"{_B}_rows_total", "outcome"),
                    "looks {{outcome}}": _rate(f"{_B}_lookups_total", "outcome"),
                },
                "ops",
            ),
            Panel("Oldest event of the canary without a row", {"age": f"max({_B}_oldest_waiting_seconds)"}, "s"),
            Panel("Answers to the canary", _quantiles(f"{_B}_answer_seconds"), "s"),
        ),
        "Versions": (
            Panel(
                "Versions",
                {
                    "ingress {{version}}": f"count by (version) ({_I}_build_info)",
                    "worker {{version}}": f"count by (version) ({_C}_build_info)",
                    "canary {{version}}": f"count by (version) ({_B}_build_info)",
                },
                about="Instances by version: two during a roll-out",
            ),
        ),
    },
)

WORKERS: Final = Board(
    "headrace: workers",
    "Partitions, inserts, and what holds them up.",
    {
        "Partitions": (
            Panel(
                "Partitions",
                {
                    "{{state}}": f"sum by (state) ({_C}_partitions)",
                    "of the topics": f"sum(max by (topic) ({_C}_topic_partitions))",
                },
            ),
            Panel("Ready", {"{{instance}}": f"{_C}_is_ready"}),
            Panel("Retrying", {"{{instance}}": f"{_C}_is_retrying"}),
            Panel("Behind by worker", {"{{instance}}": f"sum by (instance) ({_C}_lag_records)"}),
            Panel(
                "Read by worker", {"{{instance}}": _rate(f'{_C}_records_total{{outcome="read"}}', "instance")}, "rowsps"
            ),
            Panel("Waiting in memory", {"{{instance}}": f"{_C}_waiting_bytes"}, "bytes"),
        ),
        "Inserts": (
            Panel("Time of an insert", _quantiles(f"{_C}_insert_seconds"), "s"),
            Panel("Inserts", {"{{table}} {{outcome}}": _rate(f"{_C}_insert_seconds_count", "table, outcome")}, "ops"),
            Panel("Rows of a batch", _quantiles(f"{_C}_batch_rows")),
            Panel("Intents", {"{{outcome}}": _rate(f"{_C}_intents_total", "outcome")}, "ops"),
        ),
        "Trouble": (
            Panel(
                "Retries",
                {"{{step}}: {{cause}}": _rate(f"{_C}_retries_total", "step, cause") + " > 0 or vector(0)"},
                "ops",
            ),
            Panel("Halts", {"{{code}}": _rate(f"{_C}_halts_total", "code") + " > 0 or vector(0)"}, "ops"),
            Panel("Searches for poison", {"{{table}}": _rate(f"{_C}_poison_probes_total", "table")}, "ops"),
            Panel(
                "Rows put back", {"{{table}}": f"sum by (table) (increase({_C}_repaired_rows_total[$__rate_interval]))"}
            ),
        ),
        "Processes": _processes("headrace-consumer"),
    },
)

QUALITY: Final = Board(
    "headrace: data quality",
    "What is refused, dead, missing or double. By day and client: the views data_quality and audit_daily.",
    {
        "Must be 0": (
            Panel("Rows missing", {"offsets": f"sum({_C}_audit_missing)"}, is_stat=True),
            Panel("Rows double", {"rows": f"sum({_C}_audit_duplicates)"}, is_stat=True),
            Panel("Rows uncounted", {"rows": f"sum({_C}_audit_uncounted)"}, is_stat=True),
            Panel(
                "Last audit",
                {"ago": f"time() - max({_C}_audit_timestamp_seconds)", "every": f"max({_C}_audit_interval_seconds)"},
                "s",
                is_stat=True,
            ),
        ),
        "Refused": (
            Panel(
                "Refused events",
                {"{{outcome}}": _rate(f'{_I}_events_total{{outcome=~"refused|limited|shed|orphaned"}}', "outcome")},
                "eps",
            ),
            Panel(
                "Refused requests by code",
                {"{{outcome}}": _rate(f'{_I}_requests_total{{status=~"4.."}}', "outcome") + " > 0 or vector(0)"},
                "reqps",
            ),
            Panel("Dead letters of workers", {"{{reason}}": _rate(f"{_C}_dead_letters_total", "reason")}, "ops"),
            Panel("Searches for poison", {"{{table}}": _rate(f"{_C}_poison_probes_total", "table")}, "ops"),
        ),
        "By client": (
            Panel(
                "Events by client and type",
                {"{{client}} {{event_type}}": _rate(f"{_I}_events_by_client_total", "client, event_type")},
                "eps",
                "A client or a type that stops or doubles",
            ),
            Panel(
                "Today against the same time a week ago",
                {
                    "{{client}}": f"sum by (client) (increase({_I}_events_by_client_total[1h]))",
                    "{{client}}, a week ago": f"sum by (client) (increase({_I}_events_by_client_total[1h] offset 1w))",
                },
            ),
        ),
        "Complete and fresh": (
            Panel(
                "Late events of the canary",
                {"late": f'sum(increase({_B}_rows_total{{outcome="late"}}[$__rate_interval]))'},
            ),
            Panel("Oldest waiting record", {"age": f"max({_C}_freshness_seconds)"}, "s"),
            Panel("Oldest event in a spool", {"age": f"max({_I}_spool_oldest_seconds)"}, "s", "Not in Kafka yet"),
        ),
    },
)

BOARDS: Final[Mapping[str, Board]] = {
    "headrace-ingress": INGRESS,
    "headrace-pipeline": PIPELINE,
    "headrace-workers": WORKERS,
    "headrace-quality": QUALITY,
}
"""The dashboards by uid, which is also the file's name."""
