"""A worker's figures: one table, labels as it says, books that add up, and pages that tell the truth."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from consumer.delivery.halting import Step
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Partition
from consumer.errors import Cause, Fatal, Halt, HaltCode, Misconfigured, Reason
from consumer.health import HealthMonitor
from consumer.metrics import METRICS, PREFIX, PROCESS_METRICS, PrometheusMetrics, balances
from consumer.operations.canary import METRICS as CANARY_METRICS
from consumer.pages import Pages, serving
from consumer.parts import targets
from consumer.settings import load
from tests.support.fixtures_consumer import record
from tests.support.ports import free_port

CONSUMER = Path(__file__).resolve().parents[3] / "consumer"
PLACE = Partition("events", 3)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> HealthMonitor:
    """Return a watch that calls 60 seconds a standstill."""
    return HealthMonitor(60, clock)


def state(position: int, behind: int = 0, commit_attempt: int = 0) -> PartitionState:
    """Return a state at a position, with so many records in memory behind it, and failed commits."""
    made = PartitionState(PLACE, "incarnation", position, None, read_to=position, commit_attempt=commit_attempt)
    for number in range(behind):
        made.add(record(position + number, b"", partition=3), 0)
    return made


def test_every_metric_that_the_code_reports_is_in_the_table() -> None:
    """A name that is misspelt would be a KeyError in production; all literal names are looked up here."""
    named = {
        name
        for path in CONSUMER.rglob("*.py")
        for name in re.findall(r"metrics\.(?:count|observe|set|levels)\(\s*\"(\w+)\"", path.read_text("utf-8"))
    }

    assert named == set(METRICS) | set(CANARY_METRICS)


def test_a_name_or_a_label_that_the_table_lacks_is_an_error() -> None:
    """Figures that nobody declared are not made up on the way."""
    metrics = PrometheusMetrics()

    wrong: list[tuple[str, dict[str, str]]] = [
        ("recrods", {}),
        ("dead_letters", {}),
        ("dead_letters", {"reason": "frame", "topic": "events"}),
        ("lag_records", {"topic": "events", "partition": "0"}),
    ]
    for name, labels in wrong:
        with pytest.raises(KeyError):
            metrics.count(name, 1, **labels)


def test_the_page_shows_what_was_counted() -> None:
    """Counters, histograms and gauges under the prefix, in Prometheus's own form; alarms start at 0, not absent."""
    metrics = PrometheusMetrics()
    metrics.count("dead_letters", 2, reason="bad_avro")
    metrics.observe("insert_seconds", 0.3, table="events", outcome="inserted")

    lines = metrics.page().decode().splitlines()

    assert f'{PREFIX}dead_letters_total{{reason="bad_avro"}} 2.0' in lines
    assert f'{PREFIX}insert_seconds_bucket{{le="0.5",outcome="inserted",table="events"}} 1.0' in lines
    assert f"{PREFIX}audit_missing 0.0" in lines
    assert f"{PREFIX}audit_duplicates 0.0" in lines


def test_versions_and_the_process_are_shown_and_no_line_says_when_a_series_began() -> None:
    """One series of versions, Prometheus's usual ones of a process, and no `_created`, which nothing reads."""
    metrics = PrometheusMetrics(librdkafka="2.0")
    metrics.observe("insert_seconds", 0.3, table="events", outcome="inserted")
    page = metrics.page().decode()

    assert re.findall(
        rf'^{PREFIX}build_info{{librdkafka="2.0",python="3[^"]+",version="[^"]+"}} 1.0$', page, re.MULTILINE
    )
    assert {name for name in PROCESS_METRICS if f"\n{name}" in page} == set(PROCESS_METRICS)
    assert "_created" not in page


def test_what_code_can_list_begins_at_0() -> None:
    """Else Prometheus's increase() would not see the first event, and an alarm would stay silent for it."""
    lines = [line for line in PrometheusMetrics().page().decode().splitlines() if "_total{" in line]
    born = {line.removeprefix(PREFIX).partition(" ")[0] for line in lines}

    assert {line.rpartition(" ")[2] for line in lines} == {"0.0"}
    assert born >= {f'dead_letters_total{{reason="{reason}"}}' for reason in Reason}
    assert born >= {
        f'retries_total{{cause="{cause}",step="{step}"}}' for cause in Cause for step in ("prepare", "send", "insert")
    }
    assert born >= {
        f'{name}_total{{table="{target.table}"}}'
        for name in ("repaired_rows", "poison_probes")
        for target in targets(load({"CONSUMER_BOOTSTRAP_SERVERS": "x", "CONSUMER_CLICKHOUSE_URL": "http://x"}))
    }
    named = "".join(path.read_text("utf-8") for path in CONSUMER.rglob("*.py"))
    assert {name for name in born if name.startswith("intents")} == {
        f'intents_total{{outcome="{outcome}"}}' for outcome in re.findall(r'"intents", outcome="(\w+)"', named)
    }


def test_a_worker_that_has_just_begun_is_not_silent() -> None:
    """The alarm on an audit that does not come counts from the process's start."""
    before_s = time.time()
    (line,) = (
        line for line in PrometheusMetrics().page().decode().splitlines() if line.startswith(f"{PREFIX}audit_timestamp")
    )

    assert before_s <= float(line.rpartition(" ")[2]) <= time.time()


def test_a_partition_that_went_takes_its_gauges_along() -> None:
    """Two workers never both show a lag for one partition."""
    metrics = PrometheusMetrics()
    metrics.levels("lag_records", {("events", "0"): 5, ("events", "1"): 7})
    metrics.levels("lag_records", {("events", "1"): 6})

    page = metrics.page().decode()

    assert f'{PREFIX}lag_records{{partition="1",topic="events"}} 6.0' in page
    assert 'lag_records{partition="0"' not in page


def test_the_books_add_up_per_partition() -> None:
    """Every record read is a row, a dead letter, or was given back; any other shows."""
    metrics = PrometheusMetrics()
    for outcome, count in {"read": 10, "rows_inserted": 6, "dead_letters": 1, "returned": 3}.items():
        metrics.count("records", count, topic="events", partition="0", outcome=outcome)
    metrics.count("records", 1, topic="events", partition="1", outcome="read")

    books = metrics.books()

    assert books["events/0"] == {"read": 10, "rows_inserted": 6, "dead_letters": 1, "returned": 3}
    assert balances(books["events/0"])
    assert not balances(books["events/1"])


def test_a_worker_that_waits_for_its_servers_is_healthy_and_not_ready(watch: HealthMonitor, clock: Clock) -> None:
    """A restart would not bring ClickHouse back."""
    clock.now_s += 3600

    pages = Pages(PrometheusMetrics(), watch)

    assert pages.answer("/healthz")[0] == 200
    assert pages.answer("/readyz")[0] == 503
    assert json.loads(pages.answer("/readyz")[2])["status"] == "starting"


def test_an_idle_worker_is_healthy_for_ever(watch: HealthMonitor, clock: Clock) -> None:
    """Nothing moves where there is nothing to move."""
    for _ in range(10):
        clock.now_s += 3600
        watch.turned({PLACE: state(7)}, lambda _: 7)

    assert watch.verdict().name == "idle"
    assert Pages(PrometheusMetrics(), watch).answer("/readyz")[0] == 200


def test_a_worker_that_gets_on_is_healthy(watch: HealthMonitor, clock: Clock) -> None:
    """Behind, however far, but moving."""
    for position in range(10):
        clock.now_s += 59
        watch.turned({PLACE: state(position, behind=5)}, lambda _: 10_000)

    assert watch.verdict().name == "moving"


def test_a_worker_that_is_behind_and_stands_still_is_not_healthy(watch: HealthMonitor, clock: Clock) -> None:
    """It polls, and nothing comes of it: the page names the partition."""
    for _ in range(4):
        clock.now_s += 30
        watch.turned({PLACE: state(7, behind=5)}, lambda _: 100)

    verdict = watch.verdict()

    assert (verdict.name, verdict.is_healthy) == ("stalled", False)
    assert Pages(PrometheusMetrics(), watch).answer("/readyz")[0] == 503
    assert "events/3 at offset 7, 93 behind" in verdict.detail


def test_an_outage_that_is_held_is_healthy_and_not_ready(watch: HealthMonitor, clock: Clock) -> None:
    """A restart would help nobody; the orchestrator learns it from readyz, people from the metric."""
    for _ in range(100):
        clock.now_s += 30
        watch.turned({PLACE: state(7, behind=5, commit_attempt=1)}, lambda _: 100)
    pages = Pages(PrometheusMetrics(), watch)

    assert json.loads(pages.answer("/healthz")[2])["status"] == "retrying"
    assert (pages.answer("/healthz")[0], pages.answer("/readyz")[0]) == (200, 503)
    assert f"{PREFIX}is_retrying 1.0" in pages.answer("/metrics")[2].decode()


def test_a_halted_partition_is_healthy_and_not_ready_and_named(watch: HealthMonitor, clock: Clock) -> None:
    """A restart would help nobody, and nobody may take the worker for one whose partitions all make progress."""
    halted = state(7, behind=5)
    halted.halted(Step.INSERT, Halt("there is no table: run this", HaltCode.TABLE))
    other = Partition("events", 4)
    for position in range(100):
        clock.now_s += 30
        moving = PartitionState(other, "incarnation", position, None, read_to=position)
        watch.turned({PLACE: halted, other: moving}, lambda _: 1000)
    pages = Pages(PrometheusMetrics(), watch)
    told = json.loads(pages.answer("/readyz")[2])

    assert (pages.answer("/healthz")[0], pages.answer("/readyz")[0], told["status"]) == (200, 503, "halted")
    sentence = "events/3 is halted at offset 7: there is no table: run this"
    assert told["halted"] == [{"code": "table", "sentence": sentence}]


def test_a_halted_partition_hides_no_standstill_of_another(watch: HealthMonitor, clock: Clock) -> None:
    """A restart may help that one."""
    halted = state(7, behind=5)
    halted.halted(Step.READ, Halt("its log can't be read", HaltCode.TRUNCATED))
    still = PartitionState(Partition("events", 4), "incarnation", 7, None, read_to=7)
    for _ in range(4):
        clock.now_s += 30
        watch.turned({PLACE: halted, still.partition: still}, lambda _: 1000)

    assert watch.verdict().name == "stalled"
    assert "events/4" in watch.verdict().detail


def test_a_thread_that_does_not_come_round_is_not_healthy(watch: HealthMonitor, clock: Clock) -> None:
    """Whatever it last said, it is no longer true."""
    watch.turned({PLACE: state(7, commit_attempt=1)}, lambda _: 7)
    clock.now_s += 61

    assert watch.verdict().name == "poll_stuck"
    assert Pages(PrometheusMetrics(), watch).answer("/healthz")[0] == 503


def test_a_gap_at_the_end_is_no_lag(watch: HealthMonitor) -> None:
    """A transaction's marker is an offset without a record."""
    at_end = state(7)
    at_end.reached_end(9)

    watch.turned({PLACE: at_end}, lambda _: 9)

    assert watch.progress[PLACE].behind == 0


def test_the_pages_are_served_and_nothing_else() -> None:
    """Over real HTTP: figures as text, verdicts as JSON, anything else 404; and no thread stays behind."""
    port = free_port()
    watch = HealthMonitor(60, Clock())
    with serving("127.0.0.1", port, Pages(PrometheusMetrics(), watch)) as got:
        assert got == port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics?x=1", timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert f"{PREFIX}audit_missing".encode() in answer.read()
        for path, status in (("readyz", 503), ("nothing", 404)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60)
            with refused.value as answer:
                assert answer.code == status
                assert json.load(answer)["status"]


def test_a_port_that_is_taken_is_one_sentence() -> None:
    """Who starts a second worker on one host reads which setting it is."""
    port = free_port()
    pages = Pages(PrometheusMetrics(), HealthMonitor(60, Clock()))
    with (
        serving("127.0.0.1", port, pages),
        pytest.raises(Fatal, match=f"CONSUMER_HTTP_PORT: 127.0.0.1:{port}"),
        serving("127.0.0.1", port, pages),
    ):
        pass


@pytest.mark.parametrize("host", ["::1", "::", "localhost"])
def test_an_address_may_be_of_either_family(host: str) -> None:
    """`::` is all addresses, IPv4 too."""
    port = free_port()
    asked = {"::": ["[::1]", "127.0.0.1"]}.get(host, [f"[{host}]" if ":" in host else host])
    with serving(host, port, Pages(PrometheusMetrics(), HealthMonitor(60, Clock()))):
        for address in asked:
            with urllib.request.urlopen(f"http://{address}:{port}/healthz", timeout=60) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "256.1.1.1", "a..b"])
def test_an_address_that_is_not_ours_is_one_sentence(host: str) -> None:
    """With the setting's name."""
    with (
        pytest.raises(Misconfigured, match=f"CONSUMER_HTTP_HOST: {host}"),
        serving(host, free_port(), Pages(PrometheusMetrics(), HealthMonitor(60, Clock()))),
    ):
        pass


def test_port_0_is_no_server() -> None:
    """Several workers on one machine need not choose ports."""
    with serving("127.0.0.1", 0, Pages(PrometheusMetrics(), HealthMonitor(60, Clock()))) as port:
        assert port == 0
