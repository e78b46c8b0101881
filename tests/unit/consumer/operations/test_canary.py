"""The canary measures from the 201 to the row, and an outage of either end is a figure, not its end."""

import logging
from collections.abc import Collection, Mapping
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer.canary import CanaryPages
from consumer.errors import Halt, HaltCode, Transient
from consumer.metrics import PrometheusMetrics
from consumer.operations.canary import CLIENT_ID, METRICS, PREFIX, Canary, Outcome

PATIENCE_S = 300.0


class World:
    """A collector, a table and a clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.answers = Outcome.ACCEPTED
        self.sent: list[Mapping[str, str]] = []
        self.rows: set[str] = set()
        self.trouble: Exception | None = None
        self.metrics = PrometheusMetrics(METRICS, PREFIX)
        self.canary = Canary(self.post, self.find, self.metrics, PATIENCE_S, lambda: self.now_s)

    def post(self, event: Mapping[str, str]) -> Outcome:
        """Answer after two seconds."""
        self.sent.append(event)
        self.now_s += 2
        return self.answers

    def find(self, event_ids: Collection[str]) -> set[str]:
        """Return those that have a row."""
        if self.trouble:
            raise self.trouble
        return self.rows & set(event_ids)

    def insert(self) -> None:
        """Make rows of all that was sent."""
        self.rows = {event["eventId"] for event in self.sent}

    def figures(self) -> dict[str, float]:
        """Return the samples that are not 0 by name and label values, without the prefix."""
        families = text_string_to_metric_families(self.metrics.page().decode())
        return {
            "/".join((sample.name.removeprefix(PREFIX), *sample.labels.values())): sample.value
            for family in families
            if family.name.startswith(PREFIX)
            for sample in family.samples
            if sample.value
        }


@pytest.fixture
def world() -> World:
    """Return one in which all is well."""
    return World()


def test_freshness_counts_from_the_answer_to_the_row(world: World) -> None:
    """What the collector took is not in it."""
    world.canary.send()
    world.canary.look()
    world.now_s += 3
    world.insert()
    world.canary.look()
    figures = world.figures()

    assert (figures["events_total/accepted"], figures["rows_total/found"]) == (1, 1)
    assert (figures["freshness_seconds_count"], figures["freshness_seconds_sum"]) == (1, 3)
    assert figures["answer_seconds_sum/accepted"] == 2
    assert "oldest_waiting_seconds" not in figures


def test_its_events_are_its_own_and_spread_over_the_partitions(world: World) -> None:
    """They have the clientId that views leave out, and a visitor each, by whom records find their partition."""
    for _ in range(20):
        world.canary.send()

    assert {event["clientId"] for event in world.sent} == {CLIENT_ID}
    assert len({event["eventId"] for event in world.sent}) == len({event["anonId"] for event in world.sent}) == 20


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNANSWERED])
def test_what_was_not_accepted_is_not_looked_for(world: World, outcome: Outcome) -> None:
    """It is counted, and is no loss."""
    world.answers = outcome
    world.canary.send()
    world.trouble = AssertionError("nothing to look for")
    world.now_s += 2 * PATIENCE_S
    world.canary.look()

    assert world.figures()[f"events_total/{outcome}"] == 1
    assert "rows_total/late" not in world.figures()


def test_an_event_that_does_not_come_is_late_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Until then its age shows; then it is counted, its id is in the log, and it is forgotten."""
    world.canary.send()
    world.now_s += PATIENCE_S
    world.canary.look()
    assert world.figures()["oldest_waiting_seconds"] == PATIENCE_S
    world.now_s += 1
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            world.canary.look()

    assert world.figures()["rows_total/late"] == 1
    assert "oldest_waiting_seconds" not in world.figures()
    assert [record.event_id for record in caplog.records] == [world.sent[0]["eventId"]]  # type: ignore[attr-defined]  # an extra


@pytest.mark.parametrize("trouble", [Transient("away"), Halt("no such table", HaltCode.TABLE)])
def test_a_clickhouse_that_is_away_makes_nothing_late(
    world: World, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """What came meanwhile counts with the time for which it could not be read. The log has one line for the outage."""
    world.canary.send()
    world.trouble = trouble
    for _ in range(10):
        world.now_s += PATIENCE_S
        world.canary.look()
    failed = world.figures()
    world.trouble = None
    world.insert()
    world.canary.look()
    figures = world.figures()

    assert (failed["lookups_total/failed"], failed["oldest_waiting_seconds"]) == (10, 10 * PATIENCE_S)
    assert figures["rows_total/found"] == 1
    assert figures["freshness_seconds_sum"] == 10 * PATIENCE_S
    assert "rows_total/late" not in figures
    assert len(caplog.records) == 1


def after_an_outage(world: World, events: int) -> None:
    """Let events be accepted while ClickHouse is away; when it is back, a query may take 8 KiB of a URL."""
    find = world.canary._find  # noqa: SLF001  (the table behind a proxy)

    def asked_by_url(event_ids: Collection[str]) -> set[str]:
        if len(urlencode({"param_ids": str(list(event_ids))})) > 8192:
            raise Transient("Field value too long")
        return find(event_ids)

    world.canary._find = asked_by_url  # noqa: SLF001  (as above)
    world.trouble = Transient("away")
    for _ in range(events):
        world.canary.send()
    world.canary.look()
    world.trouble = None


def test_after_a_long_outage_all_rows_are_found(world: World) -> None:
    """However many ids have waited, no query is so large that it is refused."""
    after_an_outage(world, 3_400)
    world.insert()
    world.canary.look()
    figures = world.figures()

    assert figures["rows_total/found"] == 3_400
    assert "rows_total/late" not in figures
    assert "oldest_waiting_seconds" not in figures


def test_after_a_long_outage_what_has_no_row_is_late(world: World) -> None:
    """The few that came last are still waited for."""
    after_an_outage(world, 3_400)
    world.canary.look()

    assert world.figures()["rows_total/late"] == 3_400 - (PATIENCE_S / 2 + 1)
    assert world.figures()["lookups_total/failed"] == 1


def test_a_look_at_a_slow_table_ends(world: World) -> None:
    """Its health page would call it stuck; the next look goes on, for the oldest are found or late by then."""
    after_an_outage(world, 1_000)
    find = world.canary._find  # noqa: SLF001  (a slow table)

    def slowly(event_ids: Collection[str]) -> set[str]:
        world.now_s += 6
        return find(event_ids)

    world.canary._find = slowly  # noqa: SLF001  (as above)
    world.insert()
    began_s = world.now_s
    world.canary.look()
    assert (world.now_s - began_s, world.figures()["rows_total/found"]) == (12, 200)
    for _ in range(4):
        world.canary.look()

    assert world.figures()["rows_total/found"] == 1_000


def test_an_outage_of_days_does_not_fill_the_memory(world: World) -> None:
    """The oldest are given up as late."""
    world.trouble = Transient("away")
    for _ in range(10_100):
        world.canary.send()
    world.canary.look()

    assert world.figures()["rows_total/late"] == 100


def test_its_pages_fail_when_it_no_longer_looks(world: World) -> None:
    """A restart helps then, and only then."""
    pages = CanaryPages(world.metrics, lambda: world.now_s)
    assert [pages.answer(path)[0] for path in ("/healthz", "/readyz", "/metrics", "/")] == [200, 200, 200, 404]
    world.now_s += 61
    assert [pages.answer(path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [503, 503, 200]
    pages.turned()
    assert pages.answer("/healthz")[0] == 200
