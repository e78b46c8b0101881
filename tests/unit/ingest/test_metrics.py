"""The metrics of one process; several are in tests/integration/test_telemetry.py."""

import re

import pytest

from ingest.metrics import LABEL_SETS_MAX, METRICS, PREFIX, PrometheusMetrics


def text_of(telemetry: PrometheusMetrics) -> str:
    """Return what a scrape would read."""
    return telemetry.exposition().decode()


def test_every_metric_of_the_table_can_be_scraped() -> None:
    """The table is the truth: what it declares is there, under one prefix, with its sentence."""
    text = text_of(PrometheusMetrics())

    for name, metric in METRICS.items():
        family = PREFIX + name
        assert f"# TYPE {family} {metric.kind}" in text
        assert f"# HELP {family} {metric.help}" in text
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    assert {name for name in families if not name.endswith("_created")} == {PREFIX + name for name in METRICS}


def test_each_kind_does_its_arithmetic() -> None:
    """Counters add, gauges move and are set, histograms sort."""
    telemetry = PrometheusMetrics()

    telemetry.count("events_total", 2, outcome="received")
    telemetry.count("events_total", 3, outcome="received")
    telemetry.move("requests_in_flight", 5)
    telemetry.move("requests_in_flight", -2)
    telemetry.set("producer_queue_bytes", 77)
    telemetry.observe("acknowledgement_seconds", 0.005)

    text = text_of(telemetry)
    assert 'headrace_ingest_events_total{outcome="received"} 5.0' in text
    assert "headrace_ingest_requests_in_flight 3.0" in text
    assert "headrace_ingest_producer_queue_bytes 77.0" in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.004"} 0.0' in text
    assert 'headrace_ingest_acknowledgement_seconds_bucket{le="0.006"} 1.0' in text


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
