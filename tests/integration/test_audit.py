"""The audit on a real ClickHouse: what is missing or double is named, what is neither is not."""

import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.notes import write_adoptions, write_audits
from consumer.clickhouse.offsets import OffsetsTable, Reading
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Intent, Origin
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import CommittedOffset, Partition, Record
from consumer.delivery.repeats import Held
from consumer.health import HealthMonitor
from consumer.kafka.admin import LogBounds, Topic
from consumer.kafka.dead_letters import SERVICE
from consumer.metrics import PrometheusMetrics
from consumer.operations.audit import Auditor
from consumer.operations.background_audit import BackgroundAudit, row_of
from consumer.operations.spans import Finding, Span
from schemas.registry import LocalSchemas
from tests.support.fixtures_consumer import TOPIC, encoded, record, records

PLACE = Partition(TOPIC, 0)
NOW = "incarnation-2"


class Nothing:
    """A `Meter` that takes no notice."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Take no notice."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Take no notice."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Take no notice."""


class Tables:
    """Inserts as the worker does, and audits; `held` is what the log is asked for."""

    def __init__(self, database: Connection) -> None:
        self.database = database
        schemas = LocalSchemas()
        self.rows = EventRows(schemas)
        target = Target("events", "event", TOPIC, 30)
        self.table = ClickHouseTable(database, target, self.rows, schemas.schema_of, Nothing())
        self.asked: list[int] = []
        self.holes: set[int] = set()

    def insert(self, batch: Sequence[Record], token: str, topic_id: str = NOW, *, reading: int = 0) -> None:
        """Insert one batch under a token; it is of the leader epoch that the reading's number is."""
        assert self.rows.screen(batch) == []
        for block in self.rows.blocks(batch, Origin(topic_id, reading, reading), token):
            self.table.insert(block)

    def bury(self, *offsets: int, reading: int = 0, service: str = SERVICE, key: str | None = None) -> None:
        """Put dead letters into their table, as a worker does, or with another service or key."""
        for offset in offsets:
            epoch = f"@{reading}" if reading else ""
            own = f"{TOPIC}/0/{offset}{epoch}" if key is None else key
            self.database.command(
                "INSERT INTO dead_letters (letter_id, origin_topic, origin_topic_id, origin_partition, origin_offset,"
                f" origin_reading, origin_leader_epoch, service, _topic) VALUES ('{own}', '{TOPIC}', '{NOW}', 0,"
                f" {offset}, {reading}, {reading}, '{service}', 'dead')"
            )

    def gaps(self, place: Partition, offsets: Sequence[int]) -> set[int]:
        """Be the log."""
        assert place.topic == TOPIC
        self.asked += offsets
        return set(offsets) & self.holes

    def audit(self, low: int, end: int, topic_id: str = NOW, *, number: int = 0) -> Finding:
        """Audit one span."""
        span = Span(Partition(TOPIC, number), topic_id, low, end)
        return Auditor(self.database, {TOPIC: "events"}, self.gaps).audit(span)


@pytest.fixture
def tables(database: Connection) -> Tables:
    """Tables of the test's own."""
    return Tables(database)


def test_batches_that_are_all_there_are_clean(tables: Tables) -> None:
    """Several batches, one of them sent three times under its token: rows are counted once."""
    tables.insert(records(range(100)), "a")
    for _ in range(3):
        tables.insert(records(range(100, 250)), "b")

    finding = tables.audit(0, 250)

    assert finding.is_clean
    assert (finding.rows, finding.offsets, finding.letters) == (250, 250, 0)
    assert tables.asked == []


def test_a_partition_that_never_had_a_record_is_clean(tables: Tables) -> None:
    """Nothing is expected, and nothing is there."""
    assert tables.audit(0, 0) == Finding(Span(PLACE, NOW, 0, 0), 0, 0, 0)


def test_what_is_missing_is_named_wherever_it_is(tables: Tables) -> None:
    """At the head, in the middle, and behind the last row up to the committed offset."""
    tables.insert(records([*range(2, 50), *range(53, 90)]), "a")

    finding = tables.audit(0, 93)

    assert (finding.missing.count, str(finding.missing)) == (8, "0-1, 50-52, 90-92")
    assert not finding.is_clean


def test_rows_that_are_not_committed_yet_are_not_missing(tables: Tables) -> None:
    """The audit asks for what the group has committed; more may be there."""
    tables.insert(records(range(100)), "a")

    assert tables.audit(0, 60).is_clean


def test_a_dead_letter_fills_its_place(tables: Tables) -> None:
    """The identity: offsets read = rows inserted + dead letters."""
    tables.insert(records([offset for offset in range(100) if offset not in (7, 50)]), "a")
    tables.bury(7, 50, 50)

    finding = tables.audit(0, 100)

    assert finding.is_clean
    assert (finding.offsets, finding.letters) == (98, 2)


def test_a_gap_of_the_log_is_not_missing(tables: Tables) -> None:
    """The marker of a transaction has an offset and no record; the log is asked about what is missing alone."""
    tables.insert(records([*range(10), *range(11, 20)]), "a")
    tables.holes = {10, 20}

    assert tables.audit(0, 21).is_clean
    assert tables.asked == [10, 20]


def test_of_a_topic_that_is_gone_nobody_can_tell_gaps_from_loss(tables: Tables) -> None:
    """The log of its successor is not asked about offsets that are not its own; doubles are doubles all the same."""
    tables.insert(records([*range(5), *range(6, 11)]), "a", "incarnation-1")
    tables.insert(records([3]), "b", "incarnation-1")

    span = Span(PLACE, "incarnation-1", 0, 12, is_gone=True)
    finding = Auditor(tables.database, {TOPIC: "events"}, tables.gaps).audit(span)

    assert (finding.missing.count, str(finding.untold)) == (0, "5, 11")
    assert (finding.duplicates, finding.is_clean) == (1, False)
    assert tables.asked == []


def test_a_double_row_is_named(tables: Tables) -> None:
    """The same offsets under two tokens: what a worker without intents does."""
    tables.insert(records(range(100)), "a")
    tables.insert(records([*range(98, 103)]), "b")

    finding = tables.audit(0, 103)

    assert (finding.duplicates, str(finding.duplicates_shown)) == (2, "98-99")
    assert (finding.rows, finding.offsets, finding.missing.count) == (105, 103, 0)


def test_a_double_row_is_counted_also_when_a_merge_has_hidden_it(tables: Tables, database: Connection) -> None:
    """The table is a ReplacingMergeTree: the table of offsets counts rows that it replaced."""
    tables.insert(records(range(10)), "a")
    tables.insert(records(range(9, 12)), "b")
    database.command("OPTIMIZE TABLE events FINAL")

    finding = tables.audit(0, 12)

    assert (finding.duplicates, str(finding.duplicates_shown)) == (1, "")


def test_one_event_at_two_offsets_is_neither_missing_nor_double(tables: Tables, database: Connection) -> None:
    """A client's retry: merges keep one of the rows, and both offsets were inserted once."""
    tables.insert([record(0), record(1, encoded(0)), record(2)], "a")
    database.command("OPTIMIZE TABLE events FINAL")

    assert database.query("SELECT count() AS n FROM events") == [{"n": 2}]
    assert tables.audit(0, 3).is_clean


def test_an_offset_that_is_row_and_dead_letter_is_double(tables: Tables) -> None:
    """Exactly one of the two, under one topic ID."""
    tables.insert(records(range(10)), "a")
    tables.insert(records(range(10)), "b", "incarnation-1")
    tables.bury(4)

    assert tables.audit(0, 10).duplicates == 1
    assert tables.audit(0, 10, "incarnation-1").duplicates == 0


def test_incarnations_and_partitions_are_told_apart(tables: Tables, database: Connection) -> None:
    """The same offsets in another partition, or of the topic before it was recreated, are other records."""
    tables.insert(records(range(10)), "a", "incarnation-1")
    tables.insert(records(range(5)), "b")
    tables.insert(records(range(7), partition=3), "c")

    assert tables.audit(0, 10, "incarnation-1").is_clean
    assert tables.audit(0, 5).is_clean
    assert tables.audit(0, 7, number=3).is_clean
    known = Auditor(database, {TOPIC: "events"}, None).topic_ids()
    assert [(span.partition.number, span.topic_id, span.low, span.end) for span in known] == [
        (0, "incarnation-1", 0, 10),
        (0, NOW, 0, 5),
        (3, NOW, 0, 7),
    ]


def test_a_million_is_no_border(tables: Tables) -> None:
    """Rows of the table of offsets end there, records do not; an audit that begins late asks for less."""
    tables.insert(records([*range(999_990, 1_000_004), *range(1_000_005, 1_000_010)]), "a")

    finding = tables.audit(999_990, 1_000_010)
    later = tables.audit(1_000_005, 1_000_010)

    assert str(finding.missing) == "1000004"
    assert later.is_clean
    assert later.offsets == 9


def test_what_was_read_again_is_there_once_of_each_reading(tables: Tables) -> None:
    """A range, and later all from an offset on: neither is a double, and each is complete."""
    tables.insert(records(range(100)), "a")
    tables.insert(records(range(20, 40)), "b", reading=1)
    tables.insert(records(range(60, 120)), "c", reading=2)

    finding = tables.audit(0, 120)

    assert (finding.missing.count, finding.duplicates, finding.rows) == (0, 0, 180)


def test_a_double_row_of_a_second_reading_is_one(tables: Tables) -> None:
    """Of one reading an offset is there once, whatever the others have."""
    tables.insert(records(range(100)), "a")
    tables.insert(records(range(20, 40)), "b", reading=1)
    tables.insert(records(range(39, 42)), "c", reading=1)

    assert (tables.audit(0, 100).duplicates, str(tables.audit(0, 100).duplicates_shown)) == (1, "39")


def test_the_newest_reading_over_an_offset_must_have_it(tables: Tables) -> None:
    """A log that was cut has another record there: the row of the former one does not stand for it."""
    tables.insert(records([*range(24), *range(25, 30)]), "a")
    tables.insert(records([*range(20, 24), *range(26, 35)]), "b", reading=1)
    assert str(tables.audit(0, 35).missing) == "24-25"

    tables.bury(24)  # of the former record
    assert str(tables.audit(0, 35).missing) == "24-25"
    tables.bury(24, reading=1)
    assert str(tables.audit(0, 35).missing) == "25"
    tables.insert(records([25]), "c", reading=2)
    assert tables.audit(0, 35).is_clean


def test_a_record_that_was_refused_once_and_is_a_row_of_the_next_reading_is_no_double(tables: Tables) -> None:
    """The constraint was dropped in between, or the record is another one."""
    tables.insert(records([*range(5), *range(6, 10)]), "a")
    tables.bury(5)
    tables.insert(records(range(4, 8)), "b", reading=1)

    finding = tables.audit(0, 10)

    assert (finding.missing.count, finding.duplicates, finding.letters) == (0, 0, 1)
    tables.bury(6, reading=1)
    assert tables.audit(0, 10).duplicates == 1


def test_the_table_of_offsets_knows_readings_and_epochs(tables: Tables, database: Connection) -> None:
    """Where each ends, and where each leader epoch began: what a halted partition is judged by."""
    known = OffsetsTable(database, {TOPIC: "events"})
    assert (known.end(PLACE, NOW, 0), known.readings(PLACE, NOW)) == (0, [])
    tables.insert(records(range(999_990, 1_000_010)), "a")
    tables.insert(records(range(1_000_010, 1_000_020)), "b", reading=1)
    tables.insert(records(range(5)), "c", "incarnation-1", reading=1)

    assert (known.end(PLACE, NOW, 0), known.end(PLACE, NOW, 1), known.end(PLACE, NOW, 2)) == (1_000_020, 1_000_020, 0)
    assert known.readings(PLACE, NOW) == [
        Reading(0, 999_990, 1_000_009, {0: 999_990}),
        Reading(1, 1_000_010, 1_000_019, {1: 1_000_010}),
    ]
    tables.bury(1_000_012)
    database.command("DELETE FROM events WHERE _offset = 1000006")  # as a kill may
    there = known.kept(PLACE, Intent(NOW, 1_000_005, 1_000_015, (1_000_011, 1_000_012)))
    assert there == {1_000_005, 1_000_007, 1_000_008, 1_000_009, 1_000_012}


def test_the_table_of_offsets_says_what_is_counted_and_how_long_ago_it_came(tables: Tables) -> None:
    """Of a block that is sent again: a table forgets tokens in time, and where rows were moved, at once."""
    known = OffsetsTable(tables.database, {TOPIC: "events"}, 570.0)
    batch = records(range(10))
    assert tables.rows.screen(batch) == []
    (block,) = tables.rows.blocks(batch, Origin(NOW), "a")
    known.await_replicas(batch, monotonic(), always=False)
    assert known.held(PLACE, block, batch) == Held(frozenset())
    tables.insert(records(range(5)), "part")
    assert known.held(PLACE, block, batch) == Held(frozenset(range(5)))
    tables.insert(records(range(5, 10)), "rest")
    tables.insert(records(range(20, 25)), "other")
    assert known.held(PLACE, block, batch) == Held(frozenset(range(10)), is_remembered=True)

    moved = "ALTER TABLE migrations UPDATE applied_at = applied_at + INTERVAL {hours:Int8} HOUR WHERE 1"
    for hours, is_remembered in ((1, False), (-1, True)):
        tables.database.command(f"{moved} SETTINGS mutations_sync = 2", {"hours": hours})
        assert known.held(PLACE, block, batch).is_remembered is is_remembered
    aged = "_inserted_at = _inserted_at - INTERVAL 570 SECOND"
    tables.database.command(f"ALTER TABLE events UPDATE {aged} WHERE _offset < 5 SETTINGS mutations_sync = 2")
    assert known.held(PLACE, block, batch) == Held(frozenset(range(10)), is_remembered=False)
    tables.database.command("DELETE FROM events WHERE _offset < 10")  # as retention, or a merge
    assert known.held(PLACE, block, batch) == Held(frozenset(range(10)), is_remembered=False)


@pytest.mark.parametrize("forged", [{}, {"reading": 2**31 - 1}, {"service": "nobody/1"}, {"key": "x"}])
def test_a_forged_dead_letter_halts_nothing_and_hides_nothing(tables: Tables, forged: dict[str, Any]) -> None:
    """Anybody who may write to the topic of dead letters can name any offset in one, and any reading."""
    known = OffsetsTable(tables.database, {TOPIC: "events"})
    tables.insert(records(range(5)), "a")
    before = known.end(PLACE, NOW, 0), known.readings(PLACE, NOW)

    tables.bury(7, 8, 2**62, **forged)

    assert (known.end(PLACE, NOW, 0), known.readings(PLACE, NOW)) == before
    assert known.kept(PLACE, Intent(NOW, 5, 10)) == set()
    if "reading" not in forged and forged:
        assert known.kept(PLACE, Intent(NOW, 5, 10, (8,))) == set()
        assert tables.audit(0, 10).missing.count == 5
    assert tables.audit(0, 5) == Finding(Span(PLACE, NOW, 0, 5), 5, 5, 0)


class Group:
    """The cluster as a background audit asks it: one partition, and where it is committed."""

    def __init__(self) -> None:
        self.mark = CommittedOffset(0, Intent(NOW, 0, 0).encode())
        self.low = 0
        self.is_there = True

    def committed(self, places: Sequence[Partition]) -> dict[Partition, CommittedOffset]:
        """Return the one mark."""
        return dict.fromkeys(places, self.mark)

    def bounds(self, places: Sequence[Partition]) -> dict[Partition, LogBounds]:
        """Return bounds whose end nobody needs."""
        return dict.fromkeys(places, LogBounds(self.low, 10**9, 10**9))

    def topic(self, name: str) -> Topic | None:
        """Return the topic of now."""
        assert name == TOPIC
        return Topic(NOW, 1) if self.is_there else None


@pytest.fixture
def patrol(tables: Tables) -> tuple[BackgroundAudit, Group, PrometheusMetrics]:
    """A background audit of a worker that owns the partition."""
    watch = HealthMonitor(60, lambda: 0.0)
    watch.turned({PLACE: PartitionState(PLACE, NOW, 0, None)}, lambda _: 0)
    group, metrics = Group(), PrometheusMetrics()
    return (
        BackgroundAudit(Auditor(tables.database, {TOPIC: "events"}, tables.gaps), group, watch, metrics),
        group,
        metrics,
    )


def alarms(metrics: PrometheusMetrics) -> tuple[int, int]:
    """Return what the two metrics that must stay 0 show: missing, duplicates."""
    shown = dict(
        line.split(" ") for line in metrics.page().decode().splitlines() if line.startswith("headrace_consumer_audit")
    )
    return int(float(shown["headrace_consumer_audit_missing"])), int(float(shown["headrace_consumer_audit_duplicates"]))


def test_a_patrol_rings_when_two_rounds_miss_the_same(
    tables: Tables, patrol: tuple[BackgroundAudit, Group, PrometheusMetrics]
) -> None:
    """A dead letter is on its topic before it is in its table: one round alone is no alarm."""
    walker, group, metrics = patrol
    tables.insert(records([*range(5), *range(6, 10)]), "a")
    group.mark = CommittedOffset(10, Intent(NOW, 10, 10).encode())

    assert (walker.run_once(), alarms(metrics)) == ([], (0, 0))
    tables.bury(5)
    assert (walker.run_once(), alarms(metrics)) == ([], (0, 0))

    tables.insert(records(range(12, 15)), "b")
    group.mark = CommittedOffset(15, "")
    walker.run_once()
    (finding,) = walker.run_once()
    assert str(finding.missing) == "10-11"
    assert alarms(metrics) == (2, 0)


def test_what_was_inserted_of_the_original_is_not_missed_of_its_copy(
    tables: Tables, patrol: tuple[BackgroundAudit, Group, PrometheusMetrics]
) -> None:
    """After a failover to another Kafka cluster, where `adopt` has noted from which offset on the copy is read."""
    walker, group, metrics = patrol
    noted = {"topic": PLACE.topic, "partition": PLACE.number, "adopted_by": "me"}
    for topic_id, end in ((NOW, 6), ("a", 9), (NOW, 4)):  # the last one counts
        write_adoptions(tables.database, [noted | {"topic_id": topic_id, "end": end}])
    write_audits(tables.database, [row_of(Finding(Span(PLACE, NOW, 0, 9), 0, 0, 0), "worker")])
    tables.insert(records([4, 5, 7]), "a")
    group.mark = CommittedOffset(8, Intent(NOW, 8, 8).encode())

    walker.run_once()
    (finding,) = walker.run_once()
    assert str(finding.missing) == "6"
    assert alarms(metrics) == (1, 0)


def test_a_patrol_asks_only_for_what_the_log_has(
    tables: Tables, patrol: tuple[BackgroundAudit, Group, PrometheusMetrics]
) -> None:
    """Records that were deleted unread, and a topic that is gone, are for the command: an alarm would ring for ever."""
    walker, group, metrics = patrol
    tables.insert(records([*range(5), *range(8, 10)]), "a")
    group.mark = CommittedOffset(10, Intent(NOW, 10, 10).encode())
    walker.run_once()
    assert len(walker.run_once()) == 1

    group.low = 8
    assert (walker.run_once(), alarms(metrics)) == ([], (0, 0))
    group.low, group.mark = 0, CommittedOffset(20, Intent("incarnation-1", 20, 20).encode())
    assert [walker.run_once() for _ in range(2)] == [[], []]
    group.is_there, group.mark = False, CommittedOffset(20, "")
    assert [walker.run_once() for _ in range(2)] == [[], []]
    assert alarms(metrics) == (0, 0)


def test_a_patrol_rings_at_once_for_a_double_row_and_does_not_stop(
    tables: Tables, patrol: tuple[BackgroundAudit, Group, PrometheusMetrics]
) -> None:
    """Nothing that is still on its way can double a row; the alarm stays until somebody has looked."""
    walker, group, metrics = patrol
    tables.insert(records(range(10)), "a")
    group.mark = CommittedOffset(10, Intent(NOW, 10, 10).encode())
    assert walker.run_once() == []
    tables.insert(records(range(3)), "b")

    for _ in range(3):
        (finding,) = walker.run_once()
        assert alarms(metrics) == (0, 3)
    assert str(finding.duplicates_shown) == "0-2"


def test_millions_that_are_missing_are_counted_without_being_listed(tables: Tables) -> None:
    """Loss is told as loss: ten thousand questions to the log for each million, and not a list of thirty millions."""
    tables.insert(records([5, 12_000_007, *range(30_000_000, 30_000_005)]), "a")
    tables.asked = []
    tracemalloc.start()
    finding = tables.audit(0, 30_000_005)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert finding.missing.count == 29_999_998
    assert str(finding.missing) == "0-4, 6-12000006, 12000008-29999999"
    assert len(tables.asked) <= 30 * 10_000
    assert peak_bytes < 64_000_000


def test_a_gap_for_each_record_is_no_loss_however_many_there_are(tables: Tables) -> None:
    """Transactions of one record each: the log explains half of its offsets, some ten thousand at a time."""
    tables.insert(records(range(0, 50_000, 2)), "a")
    tables.holes = set(range(1, 50_000, 2)) - {44_445}

    finding = tables.audit(0, 50_000)

    assert str(finding.missing) == "44445"


def test_rows_that_the_ledger_lacks_are_uncounted_and_no_loss(tables: Tables, database: Connection) -> None:
    """Its view was gone for a time: counted again, once, all is clean, and what is lost is still missing."""
    low, end, there = 999_000, 1_000_010, {*range(999_010, 999_900, 49), 1_000_000, 1_000_001, 1_000_009}
    tables.insert(records(range(low, low + 10)), "a")
    database.command("DROP VIEW events_to_offsets")
    tables.insert(records([*sorted(there - {1_000_009}), 1_000_001, 1_000_009]), "b")
    tables.holes = set(range(low + 10, end)) - there - {1_000_005}
    finding = tables.audit(low, end)
    assert (str(finding.missing), finding.uncounted.count, finding.is_clean) == ("1000005", len(there), False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Auditor(database, {TOPIC: "events"}, tables.gaps).recount, [finding] * 8))
    after = tables.audit(low, end)

    assert (str(after.missing), after.uncounted.count) == ("1000005", 0)
    assert (after.rows, after.offsets, after.duplicates) == (len(there) + 11, len(there) + 10, 1)


def test_a_patrol_rings_for_what_is_uncounted(
    tables: Tables, patrol: tuple[BackgroundAudit, Group, PrometheusMetrics]
) -> None:
    """And not for a loss: nothing is lost."""
    walker, group, metrics = patrol
    tables.database.command("DROP VIEW events_to_offsets")
    tables.insert(records(range(10)), "a")
    group.mark = CommittedOffset(10, Intent(NOW, 10, 10).encode())
    (finding,) = walker.run_once()

    assert (str(finding.uncounted), alarms(metrics)) == ("0-9", (0, 0))
    assert "headrace_consumer_audit_uncounted 10.0" in metrics.page().decode()
