"""What the console makes of metrics: sums, rates, and the reasons of refusals."""

import pytest

from deploy.embedded.console.database import Answer
from deploy.embedded.console.live import Recent, ages_of, refusals_of
from deploy.embedded.console.metrics import Page, Rates, read_page

TEXT = """# HELP headrace_ingest_requests_total Answered requests
# TYPE headrace_ingest_requests_total counter
headrace_ingest_requests_total{outcome="bad_json",route="/collect/event",status="400"} 2.0
headrace_ingest_requests_total{outcome="bad_json",route="/collect/validate",status="400"} 50.0
headrace_ingest_requests_total{outcome="overloaded",route="/collect/event",status="503"} 3.0
headrace_ingest_requests_total{outcome="rate_limit",route="/collect/event",status="429"} 0.0
headrace_ingest_requests_total{outcome="accepted",route="/collect/event",status="201"} 70.0
"""


def test_a_metric_is_summed_over_the_labels_that_are_not_asked_for() -> None:
    """A name or label that is not there gives 0."""
    page = Page(TEXT)

    assert page.total("headrace_ingest_requests_total", route="/collect/event") == 75
    assert page.total("headrace_ingest_requests_total", route="/") == 0
    assert page.total("other") == 0


def test_refusals_are_those_of_the_collecting_route() -> None:
    """By code, the most frequent first; what was accepted, and dry runs, do not count."""
    assert list(refusals_of(Page(TEXT)).items()) == [("overloaded", 3.0), ("bad_json", 2.0)]


def test_a_server_that_is_away_has_no_page() -> None:
    """And neither has an address that is not written yet."""
    assert read_page("http://127.0.0.1:9/metrics") is None
    assert read_page("/metrics") is None


def test_a_rate_is_the_rise_of_the_last_seconds() -> None:
    """Older counters are forgotten."""
    rates = Rates(10)
    for now_s, count in ((0, 0), (100, 1000), (105, 1010), (110, 1050)):
        rates.add(now_s, {"n": count, "sum": count / 2})

    assert rates.per_s("n") == 5
    assert rates.mean("sum", "n") == 0.5


@pytest.mark.parametrize("second", [{"n": 3.0}, {}], ids=["restarted", "away"])
def test_a_counter_that_fell_or_is_gone_has_no_rate(second: dict[str, float]) -> None:
    """A restart is no negative rate, and an outage is no zero."""
    rates = Rates(10)
    rates.add(0, {"n": 50.0})
    assert rates.per_s("n") is None
    rates.add(1, second)

    assert rates.per_s("n") is None
    assert rates.mean("n", "n") is None


def test_recent_rows_are_told_apart_and_bounded() -> None:
    """What is read again is there once; the newest are kept."""
    recent = Recent("", 40)
    rows = [{"key": f"k{n}", "inserted_ms": n, "received_ms": n} for n in range(100)]
    recent.add(rows[:60])
    recent.add(rows[50:])

    kept = [row["key"] for row in recent.rows]
    assert kept == [f"k{n}" for n in range(99, 59, -1)]


def test_ages_without_events_are_unknown() -> None:
    """No event, no freshness."""
    columns = (("second", "UInt32"), ("events", "UInt64"), ("ages", "Array(Float64)"))

    assert ages_of(Answer(columns, [[0, 0, [None, None]]])) == {"seconds": [], "p50_s": None, "p99_s": None}
    assert ages_of(Answer(columns, [[0, 3, [200, 900]], [7, 3, [200, 900]]])) == {
        "seconds": [(7, 3)],
        "p50_s": 0.2,
        "p99_s": 0.9,
    }
