"""Every alarm of the documents is a rule, and Prometheus fires and clears it over the series that the services show."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Partition
from consumer.health import HealthMonitor
from consumer.metrics import PrometheusMetrics
from consumer.operations.canary import METRICS as CANARY_METRICS
from consumer.operations.canary import PREFIX as CANARY
from consumer.pages import Pages
from tests.support.alarm_series import BEGINS, Ramp, Value, scraped, values_of
from tests.support.collector import collector
from tests.support.kafka import Broker
from tests.support.promtool import Question, check, wrong_answers

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy/prometheus/headrace.rules.yml"
ANCHOR: Final = re.compile(r'<a id="(alarm-[a-z-]+)"></a>([^\n]*)')
OF_THE_LOG: Final = {"event counts don't add up"}
_I, _C, _B = "headrace_ingest_", "headrace_consumer_", CANARY
CREATED: Final = f'{_I}requests_total{{outcome="created",route="/collect/event",status="201"}}'
ACCEPTED: Final = f'{_B}events_total{{outcome="accepted"}}'
UNANSWERED: Final = f'{_B}events_total{{outcome="unanswered"}}'
OVERLOADED: Final = f'{_I}requests_total{{outcome="overloaded",route="/collect/event",status="503"}}'
LATE: Final = f'{_B}rows_total{{outcome="late"}}'
FAILED: Final = f'{_B}lookups_total{{outcome="failed"}}'
ANSWERED: Final = f'{_B}lookups_total{{outcome="answered"}}'
FRESH: Final = tuple(
    f'{_B}freshness_seconds_bucket{{le="{le}"}}'
    for le in (
        "1.0",
        "1.5",
        "2.0",
        "3.0",
        "5.0",
        "10.0",
        "20.0",
        "30.0",
        "60.0",
        "120.0",
        "300.0",
        "900.0",
        "3600.0",
        "+Inf",
    )
)
# What flows while all is well, by step.
FLOWS: Final = dict.fromkeys((ACCEPTED, ANSWERED, *FRESH, f'{_B}rows_total{{outcome="found"}}'), 12.0) | {CREATED: 60.0}


@dataclass(frozen=True)
class Case:
    """What makes an alarm ring.

    Attributes:
        series: the values during the cause, by series; of counters the growth in a step.
        lasts: steps of the cause.
        clears: the step at which it no longer rings.
        step_m: minutes of a step.
        flows: what flows while all is well, where it is not FLOWS.
    """

    series: Mapping[str, Value]
    lasts: int = 15
    clears: int = 45
    step_m: int = 1
    flows: Mapping[str, float] = field(default_factory=lambda: FLOWS)

    @property
    def rings(self) -> int:
        """The last step of the cause: it rings then at the latest."""
        return BEGINS + self.lasts - 1


def slow(series: Mapping[str, Value]) -> Case:
    """Return a case of half-hour steps, in which much flows and little of it is bad."""
    return Case(series, step_m=30, flows=dict.fromkeys(FLOWS, 100_000.0))


CASES: Final[Mapping[str, list[Case]]] = {
    "HeadraceBrokerAway": [Case({f"{_I}breaker_open": 1})],
    "HeadraceSpoolFills": [Case({f"{_I}spool_bytes": Ramp(60_000_000)})],
    "HeadraceSpoolNotEmptied": [Case({f"{_I}spool_oldest_seconds": 601})],
    "HeadraceSpoolUnusable": [Case({f"{_I}spool_usable": 0})],
    "HeadraceNoDurablePlace": [
        Case({f'{_I}spool_failures_total{{reason="spool_full"}}': 1, f"{_I}breaker_open": 1}),
    ],
    "HeadraceEventsParked": [Case({f"{_I}spool_parked_events": 1})],
    "HeadraceSpoolFileSetAside": [Case({f"{_I}spool_corrupt_files": 1})],
    "HeadraceDiskSlow": [
        Case(
            {f'{_I}spool_commit_seconds_bucket{{le="{le}"}}': 100 for le in ("0.4", "0.8", "1.5", "3.0", "5.0", "+Inf")}
        )
    ],
    "HeadraceProducerReplaced": [Case({f"{_I}producer_renewals_total": 1})],
    "HeadraceOverload": [Case({f'{_I}events_total{{outcome="shed"}}': 1})],
    "HeadraceOrphans": [Case({f'{_I}events_total{{outcome="orphaned"}}': 1})],
    "HeadraceRateLimited": [Case({f"{_I}rate_limited_total": 1})],
    "HeadraceRowsMissing": [Case({f"{_C}audit_missing": 1})],
    "HeadraceRowsDouble": [Case({f"{_C}audit_duplicates": 1})],
    "HeadraceRowsUncounted": [Case({f"{_C}audit_uncounted": 1})],
    "HeadraceRowsPutBack": [Case({f'{_C}repaired_rows_total{{table="events"}}': 7}, clears=90)],
    "HeadraceAuditSilent": [Case({f"{_C}audit_timestamp_seconds": 0}, lasts=20)],
    "HeadraceNotReady": [Case({f"{_C}is_ready": 0})],
    "HeadraceBehind": [Case({f'{_C}freshness_seconds{{partition="3",topic="events"}}': 61})],
    "HeadraceRetrying": [Case({f"{_C}is_retrying": 1})],
    "HeadraceViewFails": [Case({f'{_C}retries_total{{cause="view",step="insert"}}': 1})],
    "HeadraceDeadLetters": [Case({f'{_C}dead_letters_total{{reason="bad_value"}}': 1})],
    "HeadraceHalted": [Case({f'{_C}partitions{{state="halted"}}': 1})],
    "HeadraceFencedOften": [Case({f'{_C}intents_total{{outcome="refused"}}': 1})],
    "HeadraceNoWorkers": [
        Case({f'{_C}partitions{{state="owned"}}': 3}),
        Case(
            {
                f"{_C}build_info": None,
                f'{_C}partitions{{state="owned"}}': None,
                f'{_C}topic_partitions{{topic="events"}}': None,
            }
        ),
    ],
    "HeadraceUnseen": [Case({"up": 0})],
    "HeadraceFilesRunOut": [Case({"process_open_fds": 10_000_000})],
    "HeadraceAvailabilityBurnsFast": [
        Case({OVERLOADED: 60}, clears=60),
        Case({UNANSWERED: 12, ACCEPTED: 0}, clears=60),
    ],
    "HeadraceAvailabilityBurnsSlow": [slow({OVERLOADED: 200}), slow({UNANSWERED: 200})],
    "HeadraceFreshnessBurnsFast": [Case(dict.fromkeys(FRESH[:6], 0), clears=60)],
    "HeadraceFreshnessBurnsSlow": [slow(dict.fromkeys(FRESH[:6], 98_000))],
    "HeadraceCompletenessBurnsFast": [Case({LATE: 12}, clears=60)],
    "HeadraceCompletenessBurnsSlow": [slow({LATE: 20})],
    "HeadraceCanaryNotSeen": [Case({f"{_B}oldest_waiting_seconds": 61})],
    "HeadraceCanaryNotAccepted": [Case({UNANSWERED: 12, ACCEPTED: 0})],
    "HeadraceCanaryBlind": [Case({FAILED: 12, ANSWERED: 0})],
    "HeadraceCanarySilent": [
        Case({ACCEPTED: 0}),
        Case({f"{_B}build_info": None}),
    ],
}


def alerts() -> dict[str, Any]:
    """Return the alerting rules by their names."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def anchors(document: str) -> dict[str, str]:
    """Return the text behind each anchor of an alarm; its first code span that is PromQL is the expression."""
    return dict(ANCHOR.findall((ROOT / document).read_text("utf-8").replace("\\|", "|")))


@pytest.fixture(scope="module")
def shown(embedded_broker: Broker) -> dict[str, tuple[str, float]]:
    """Every series of an ingress, a worker and a canary that have just started, as Prometheus names it."""
    with collector(embedded_broker.bootstrap_servers) as running:
        ingress = running.ask("GET", "/metrics").body.decode()
    metrics, place = PrometheusMetrics(), Partition("events", 3)
    watch = HealthMonitor(60, lambda: 0.0)
    watch.turned({place: PartitionState(place, "id", 0, None)}, lambda _: 0)
    for state, count in (("owned", 4), ("paused", 0), ("halted", 0)):  # as the worker tells at each turn
        metrics.set("partitions", count, state=state)
    metrics.set("topic_partitions", 4, topic="events")
    metrics.set("audit_interval_seconds", 300)
    worker = Pages(metrics, watch).answer("/metrics")[2].decode()
    canary = PrometheusMetrics(CANARY_METRICS, CANARY).page().decode()
    pages = {"headrace-ingest": ingress, "headrace-consumer": worker, "headrace-canary": canary}
    series = {name: found for job, page in pages.items() for name, found in scraped(page, job)}
    infos = {re.sub(r"\{.*", "", name): found for name, found in series.items() if "build_info" in name}
    return series | infos | {"up": ('up{instance="headrace-ingest:80",job="headrace-ingest"}', 1.0)}


def test_prometheus_accepts_the_rules() -> None:
    """Expressions, templates and names."""
    assert check(RULES) == ""


def test_every_alert_leads_to_a_text_and_every_text_to_an_alert() -> None:
    """The runbook of an alert is an anchor in a document, behind which the same expression stands."""
    written = {f"docs/{name}": anchors(f"docs/{name}") for name in ("OPERATIONS.md", "SLO.md")}
    led = set()
    for name, rule in alerts().items():
        path, _, anchor = rule["annotations"]["runbook_url"].removeprefix("https://headrace.example/").partition("#")
        led.add((path, anchor))
        text = written[path][anchor]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        codes = [
            code
            for code in re.findall(r"`([^`]+)`", text)
            if "headrace_" in code or "process_" in code or "up{" in code
        ]
        assert not codes or codes[0] == rule["expr"], name

    assert led == {(path, anchor) for path, found in written.items() for anchor in found}


def test_every_alert_fires_for_its_cause_and_clears_when_it_is_gone(
    shown: Mapping[str, tuple[str, float]], tmp_path: Path
) -> None:
    """Prometheus itself says so: a name, a label or a join that never meets would be an alarm that never rings."""
    assert set(CASES) == set(alerts())
    calm = Question("", series_of(shown, Case({})), dict.fromkeys((0, 5, 20), False))
    some = few(shown)
    asked = [
        Question(name, series_of(some, case), {BEGINS - 1: False, case.rings: True, case.clears: False}, case.step_m)
        for name, cases in CASES.items()
        for case in cases
    ]

    wrong = wrong_answers(RULES, [calm])
    for group in yaml.safe_load(RULES.read_text("utf-8"))[
        "groups"
    ]:  # one by one: the others would cost most of the time
        alone, names = tmp_path / "group.yml", {rule.get("alert") for rule in group["rules"]}
        alone.write_text(yaml.safe_dump({"groups": [group]}), "utf-8")
        wrong += wrong_answers(alone, [question for question in asked if question.alert in names])

    assert wrong == ""


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        ("HeadraceNotReady", {f'{_C}is_ready{{instance="a"}}': "0x3 1x60"}),
        ("HeadraceNotReady", {f'{_C}is_ready{{instance="a"}}': "1x9 0x3 1x60"}),
        ("HeadraceRetrying", {f'{_C}is_retrying{{instance="a"}}': "0x9 1x2 0x9 1 0x60"}),
        ("HeadraceBrokerAway", {f'{_I}breaker_open{{instance="a"}}': "0x9 1 0x60"}),
        ("HeadraceBrokerAway", {f'{_I}breaker_open{{instance="a"}}': "0x9 1x2 0x5 1 0x60"}),
        ("HeadraceCanarySilent", {f'{_C}build_info{{instance="a"}}': "1x60"}),
    ],
)
def test_no_alert_fires_for_a_start_a_short_trouble_or_a_canary_that_nobody_wants(
    alert: str, series: dict[str, str], tmp_path: Path
) -> None:
    """A worker that has just started is not ready yet, and a server that is restarted is away for half a minute."""
    alone = tmp_path / "rule.yml"
    alone.write_text(yaml.safe_dump({"groups": [{"name": "alone", "rules": [alerts()[alert]]}]}), "utf-8")

    assert wrong_answers(alone, [Question(alert, series, dict.fromkeys(range(40), False))]) == ""


def test_a_breaker_that_closes_for_one_scrape_clears_nothing(tmp_path: Path) -> None:
    """It probes the broker again and again; the alert clears when the broker has been there for minutes."""
    alone = tmp_path / "rule.yml"
    rule = alerts()["HeadraceBrokerAway"]
    alone.write_text(yaml.safe_dump({"groups": [{"name": "alone", "rules": [rule]}]}), "utf-8")
    scrapes = "0x9 1x7 0 1x7 _ 1x7 0x20"
    fires = dict.fromkeys(range(15), False) | dict.fromkeys(range(15, 36), True) | dict.fromkeys(range(38, 50), False)

    series = {f'{_I}breaker_open{{instance="a"}}': scrapes}
    assert wrong_answers(alone, [Question("HeadraceBrokerAway", series, fires)]) == ""


def few(shown: Mapping[str, tuple[str, float]]) -> dict[str, tuple[str, float]]:
    """Return the series that a rule can see; of answers by route and outcome, which are hundreds, those of a case."""
    text = RULES.read_text("utf-8")
    seen = {name: found for name, found in shown.items() if name.partition("{")[0] in text}
    answers = f"{_I}requests_total{{"
    return {
        name: found for name, found in seen.items() if not name.startswith(answers) or name in {CREATED, OVERLOADED}
    }


def series_of(shown: Mapping[str, tuple[str, float]], case: Case) -> dict[str, str]:
    """Return all series with a case's cause in them."""
    assert case.series.keys() <= shown.keys()
    assert case.flows.keys() <= shown.keys()
    made = {}
    for name, (full, first) in shown.items():
        calm = case.flows.get(name, 0.0) if is_counter(name) else first
        made[full] = values_of(name, calm, case.series.get(name, calm), case.lasts, first if is_counter(name) else 0.0)
    return made


def is_counter(name: str) -> bool:
    """Tell whether a series only grows."""
    return name.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum"))


def test_what_is_no_expression_is_said_to_be_a_log_line() -> None:
    """An alarm without one is looked for in the log."""
    text = (ROOT / "docs/OPERATIONS.md").read_text("utf-8")

    assert set(re.findall(r"^\| ([^|`]+) \| a log line", text, re.MULTILINE)) == OF_THE_LOG
