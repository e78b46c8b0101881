"""Every alarm of docs/OPERATIONS.md, evaluated by Prometheus over the series that the services really show."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Partition
from consumer.health import HealthMonitor
from consumer.metrics import PrometheusMetrics
from consumer.pages import Pages
from tests.support.collector import collector
from tests.support.kafka import Broker
from tests.support.promtool import Question, wrong_answers

OPERATIONS: Final = (Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md").read_text("utf-8")
_I, _C = "headrace_ingest_", "headrace_consumer_"
OF_THE_LOG: Final = {"event counts don't add up"}


@dataclass(frozen=True)
class Case:
    """What makes an alarm ring, and at which minute; before the tenth all is as at a start.

    Attributes:
        series: the values from then on, by series.
        minute: when it rings.
        number: what the operator puts at the expression's end.
    """

    series: Mapping[str, str]
    minute: int = 12
    number: str = ""


CASES: Final[dict[str, Case]] = {
    "the broker is away": Case({f"{_I}breaker_open": "1"}),
    "the spool fills": Case({f"{_I}spool_bytes": "0+60000000"}, 20, number="2147483648"),
    "the spool does not empty": Case({f"{_I}spool_oldest_seconds": "601"}),
    "a spool is unusable": Case({f"{_I}spool_usable": "0"}, number="1"),
    "no durable place": Case({f'{_I}spool_failures_total{{reason="spool_full"}}': "1", f"{_I}breaker_open": "1"}),
    "events are parked": Case({f"{_I}spool_parked_events": "1"}),
    "a file was set aside": Case({f"{_I}spool_corrupt_files": "1"}),
    "the disk is slow": Case(
        {f'{_I}spool_commit_seconds_bucket{{le="{le}"}}': "100" for le in ("0.4", "0.8", "1.5", "3.0", "5.0", "+Inf")}
    ),
    "the producer is replaced": Case({f"{_I}producer_renewals_total": "3"}),
    "overload": Case({f'{_I}events_total{{outcome="shed"}}': "1"}),
    "orphans": Case({f'{_I}events_total{{outcome="orphaned"}}': "1"}),
    "one client sends much": Case({f"{_I}rate_limited_total": "1"}),
    "rows are missing": Case({f"{_C}audit_missing": "1"}),
    "rows are double": Case({f"{_C}audit_duplicates": "1"}),
    "rows were put back": Case({f'{_C}repaired_rows_total{{table="events"}}': "7"}),
    "the audit is silent": Case({f"{_C}audit_timestamp_seconds": "0"}, 16),
    "not ready": Case({f"{_C}is_ready": "0"}, 16),
    "freshness": Case({f'{_C}freshness_seconds{{partition="3",topic="events"}}': "61"}),
    "retrying": Case({f"{_C}is_retrying": "1"}),
    "a view fails": Case({f'{_C}retries_total{{cause="view",step="insert"}}': "1"}),
    "dead letters": Case({f'{_C}dead_letters_total{{reason="bad_value"}}': "1"}),
    "halted": Case({f'{_C}partitions{{state="halted"}}': "1"}),
    "fenced often": Case({f'{_C}intents_total{{outcome="refused"}}': "5"}),
    "no workers": Case({f'{_C}partitions{{state="owned"}}': "3"}, number="4"),
}


def alarms() -> dict[str, str]:
    """Return the expressions of the two tables, and of the one in the text, as an operator copies them."""
    rows = re.findall(r"^\| ([^|`]+) \| `([^`]+)`[^|]*\|[^|]+\|$", OPERATIONS.replace("\\|", ""), re.MULTILINE)
    found = {name: expression for name, expression in rows if "headrace_" in expression}
    (limited,) = re.findall(r"Alarm: `([^`]+)`", OPERATIONS.split("### Open files")[0])
    return found | {"one client sends much": limited}


@pytest.fixture(scope="module")
def shown(embedded_broker: Broker) -> dict[str, float]:
    """Every series of an ingress and a worker that have just started, with its value then."""
    with collector(embedded_broker.bootstrap_servers) as running:
        figures = dict(running.figures())
    metrics, place = PrometheusMetrics(), Partition("events", 3)
    watch = HealthMonitor(60, lambda: 0.0)
    watch.turned({place: PartitionState(place, "id", 0, None)}, lambda _: 0)
    for state, count in (("owned", 4), ("paused", 0), ("halted", 0)):  # as the worker tells at each turn
        metrics.set("partitions", count, state=state)
    page = Pages(metrics, watch).answer("/metrics")[2].decode()
    return figures | {
        _named(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_every_alarm_rings_for_its_cause_and_for_nothing_else(shown: dict[str, float]) -> None:
    """Prometheus itself says so: a name, a label or a join that never meets would be an alarm that never rings."""
    rules = alarms()
    assert set(rules) == set(CASES)
    begun = {name: _value(name, value) for name, value in shown.items()}
    calm = {name: f"{value}x40" for name, value in begun.items()} | {
        f"{_C}audit_timestamp_seconds": "0+60x40"  # an audit a minute
    }
    questions = []
    for name, case in CASES.items():
        assert case.series.keys() <= shown.keys(), name
        expression = rules[name] + case.number
        risen = {item: f"{begun[item]}x9 {after}x30" for item, after in case.series.items()}
        questions.append(Question(name, expression, calm | risen, case.minute, fires=True))
        questions.append(Question(name, expression, calm, case.minute, fires=False))

    assert wrong_answers(questions) == ""


def test_what_is_no_expression_is_said_to_be_a_log_line() -> None:
    """An alarm without one is looked for in the log."""
    rows = re.findall(r"^\| ([^|`]+) \| a log line", OPERATIONS, re.MULTILINE)

    assert set(rows) == OF_THE_LOG


def _named(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}" if pairs else name


def _value(name: str, value: float) -> str:
    """Return a value as promtool takes it, whose clock begins at 0."""
    return "0" if name.endswith("_timestamp_seconds") else f"{value:g}"
