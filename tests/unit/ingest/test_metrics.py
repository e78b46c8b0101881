"""The metrics of one process; several are in tests/integration/test_telemetry.py."""

import re
from pathlib import Path

import pytest
from prometheus_client import values

from ingest.events.client_counters import ClientCounters
from ingest.metric_table import LABEL_SETS_MAX, METRICS, PREFIX, PROCESS_METRICS, full_name
from ingest.metrics import PrometheusMetrics, count_as

keeps_files_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as a process does


def text_of(telemetry: PrometheusMetrics) -> str:
    """Return what a scrape would read."""
    return telemetry.exposition().decode()


def test_every_metric_of_the_table_can_be_scraped() -> None:
    """The table is the truth: what it declares is there, under one prefix, with its sentence."""
    text = text_of(PrometheusMetrics())

    for name, metric in {**METRICS, **PROCESS_METRICS}.items():
        family = full_name(name)
        assert f"# TYPE {family} {metric.kind}" in text
        assert f"# HELP {family} {metric.help}" in text
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    ours = {full_name(name) for name in (*METRICS, *PROCESS_METRICS)}
    assert families == ours | {f"{PREFIX}build_info"}


def test_no_line_says_when_a_series_began() -> None:
    """Nothing reads these lines, and they would double the page."""
    telemetry = PrometheusMetrics()
    telemetry.count("events_total", 1, outcome="received")
    telemetry.observe("acknowledgement_seconds", 0.005)

    assert "_created" not in text_of(telemetry)


def test_each_kind_does_its_arithmetic() -> None:
    """Counters add, gauges are set or read, histograms sort."""
    telemetry = PrometheusMetrics()

    telemetry.count("events_total", 2, outcome="received")
    telemetry.count("events_total", 3, outcome="received")
    in_flight = [1.0]
    telemetry.watch("requests_in_flight", lambda: in_flight[0])
    in_flight[0] = 3
    telemetry.set("producer_queue_bytes", 77)
    telemetry.observe("acknowledgement_seconds", 0.005)

    text = text_of(telemetry)
    assert 'headrace_ingest_events_total{outcome="received"} 5.0' in text
    assert "headrace_ingest_requests_in_flight 3.0" in text
    assert "headrace_ingest_producer_queue_bytes 77.0" in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.004"} 0.0' in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.006"} 1.0' in text


def test_an_adder_adds_to_the_same_series() -> None:
    """What is bound once and called for each request counts where `count` and `observe` do."""
    telemetry = PrometheusMetrics()

    add_received = telemetry.adder("events_total", outcome="received")
    observe_wait = telemetry.observer("acknowledgement_seconds")
    telemetry.count("events_total", 2, outcome="received")
    add_received(3)
    telemetry.observe("acknowledgement_seconds", 0.005)
    observe_wait(0.005)
    observe_wait(99)

    text = text_of(telemetry)
    assert 'headrace_ingest_events_total{outcome="received"} 5.0' in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.004"} 0.0' in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.006"} 2.0' in text
    assert "headrace_ingest_acknowledgement_seconds_count 3.0" in text
    assert "headrace_ingest_acknowledgement_seconds_sum 99.01" in text


@pytest.mark.parametrize(("seconds", "bound"), [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.002"), (99.0, "+Inf")])
def test_an_observation_is_in_the_first_bucket_that_holds_it(seconds: float, bound: str) -> None:
    """A bound belongs to its bucket, and the last bucket holds everything."""
    telemetry = PrometheusMetrics()
    telemetry.observe("acknowledgement_seconds", seconds)

    counts = re.findall(r'acknowledgement_seconds_bucket\{le="(\S+)"\} (\S+)', text_of(telemetry))
    assert next(le for le, count in counts if count == "1.0") == bound
    assert f"headrace_ingest_acknowledgement_seconds_sum {seconds}" in text_of(telemetry)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Count in files, as gunicorn's workers do; return their directory."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # the test replaces it
    return tmp_path


@keeps_files_open
def test_events_by_client_are_those_of_all_workers(shared: Path) -> None:
    """Each has its file, which its successor continues; a file that is broken is no share."""
    for number in (1, 2, 1):
        count_as(number)
        telemetry = PrometheusMetrics()
        counters = ClientCounters(telemetry.clients)
        counters.count([("web", "VIEW"), ("web", "VIEW"), ("", "PING")])
        counters.flush()
    (shared / "clients_3.json").write_text("{")

    text = text_of(telemetry)
    assert 'headrace_ingest_events_by_client_total{client="web",event_type="VIEW"} 6.0' in text
    assert 'headrace_ingest_events_by_client_total{client="other",event_type="PING"} 3.0' in text
    assert text.count("# TYPE headrace_ingest_events_by_client_total counter") == 1


@keeps_files_open
def test_a_scrape_adds_up_what_the_workers_wrote_into_their_files(shared: Path) -> None:
    """Each value is in its file at once, also in one that has outgrown its first size."""
    for number in (1, 2):
        count_as(number)
        telemetry = PrometheusMetrics(librdkafka="2.0")
        for outcome in range(LABEL_SETS_MAX):
            telemetry.count("events_total", number, outcome=f"{outcome}")
        telemetry.count("events_total", number, outcome="0")
        telemetry.watch("requests_in_flight", lambda of=number: of)  # type: ignore[misc]  # a default that binds
        telemetry.refresh()
        telemetry.set("breaker_open", 1)
        telemetry.set("spool_bytes_max", 100 * number)
        telemetry.observe("acknowledgement_seconds", 0.005)
        observe_wait = telemetry.observer("acknowledgement_seconds")
        observe_wait(0.006)  # a bound belongs to its bucket
        observe_wait(99)

    text = text_of(telemetry)
    assert 'headrace_ingest_events_total{outcome="0"} 6.0' in text
    assert f'headrace_ingest_events_total{{outcome="{LABEL_SETS_MAX - 1}"}} 3.0' in text
    assert "headrace_ingest_requests_in_flight 3.0" in text
    assert "headrace_ingest_breaker_open 2.0" in text
    assert "headrace_ingest_spool_bytes_max 200.0" in text  # one directory, one bound
    assert re.findall(r'^headrace_ingest_build_info\{.*librdkafka="2.0".*\} (.*)$', text, re.MULTILINE) == ["1.0"]
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.006"} 4.0' in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="+Inf"} 6.0' in text
    assert "headrace_ingest_acknowledgement_seconds_sum 198.022" in text
    assert {path.name for path in shared.iterdir()} == {
        f"{kind}_{number}.db"
        for kind in ("counter", "gauge_livesum", "gauge_livemax", "histogram")
        for number in (1, 2)
    }


@keeps_files_open
def test_a_worker_continues_in_the_files_of_the_dead_one_whose_number_it_has(shared: Path) -> None:
    """Its counts go on, so no event is forgotten."""
    for _ in range(3):
        count_as(1)
        PrometheusMetrics().count("events_total", 1, outcome="received")

    assert 'headrace_ingest_events_total{outcome="received"} 3.0' in text_of(PrometheusMetrics())
    assert len(list(shared.glob("counter_*"))) == 1


def test_a_label_that_is_not_declared_is_an_error() -> None:
    """A slip in code is found by its first call, not in a dashboard."""
    with pytest.raises(ValueError, match="has the labels"):
        PrometheusMetrics().count("events_total", 1, slug="x")


def test_label_sets_are_bounded() -> None:
    """Even a defect that puts clients' text into a label can't fill the memory; the rest is counted as one."""
    telemetry = PrometheusMetrics()

    for number in range(LABEL_SETS_MAX + 500):
        telemetry.count("events_total", 1, outcome=f"defect {number}")

    series = re.findall(r"^headrace_ingest_events_total\{.*$", text_of(telemetry), re.MULTILINE)
    assert len(series) == LABEL_SETS_MAX + 1
    assert 'headrace_ingest_events_total{outcome="other"} 500.0' in series
