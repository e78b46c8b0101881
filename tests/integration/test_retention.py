"""Retention on a real ClickHouse: rows and addresses go when their days are over, and nothing takes that for a loss."""

import re
import time
from collections.abc import Sequence
from typing import Any

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.migrations import migrate, migrations
from consumer.clickhouse.offsets import OWN_LETTER, OffsetsTable
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.retention import Retention, apply_retention, expiry_of
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.errors import Fatal, Rejected
from consumer.kafka.dead_letters import SERVICE
from consumer.operations.audit import Auditor
from consumer.operations.preflight import check_tables
from consumer.operations.spans import Span
from schemas.registry import LocalSchemas
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, encoded, encoded_loosely, record

NOW_MS = int(time.time() * 1000)  # of the collection: a day may end before the tests do
DAY_MS = 86_400_000
PLACE = Partition(TOPIC, 0)
ID = "topic-id"
FOR_EVER = Retention(0, 0, 0)
EVENTS = Target("events", "event", TOPIC, 30)
DEAD = Target("dead_letters", "dead_letter", "dead", 30)


def no_wait(_: float) -> None:
    """Try again at once."""


def aged(offset: int, age_days: int, **fields: object) -> Record:
    """Return the record of an event that was received so many days ago."""
    return record(offset, encoded(offset, receivedAt=NOW_MS - age_days * DAY_MS, ip="192.0.2.1", **fields))


class Rows:
    """Inserts as a worker does."""

    def __init__(self, database: Connection) -> None:
        self.database, self.tally = database, Tally()
        self.rows = EventRows(LocalSchemas())
        self.table = ClickHouseTable(database, EVENTS, self.rows, LocalSchemas().schema_of, self.tally)

    def insert(self, batch: Sequence[Record], name: str = "a") -> Block:
        """Insert a batch under a token of this name; return its block."""
        assert self.rows.screen(batch) == []
        (block,) = self.rows.blocks(batch, Origin(ID), name)
        self.table.insert(block)
        return block

    def bury(self, offset: int, age_days: int) -> None:
        """Put a dead letter into its table."""
        self.database.command(
            "INSERT INTO dead_letters (letter_id, origin_topic, origin_topic_id, origin_partition, origin_offset,"
            f" service, _topic, _timestamp) VALUES ('{TOPIC}/0/{offset}', '{TOPIC}', '{ID}', 0, {offset}, '{SERVICE}',"
            f" 'dead', fromUnixTimestamp64Milli({NOW_MS - age_days * DAY_MS}))"
        )

    def left(self, columns: str = "_offset", table: str = "events") -> list[tuple[Any, ...]]:
        """Return what is left once the merges have been there."""
        self.database.command(f"OPTIMIZE TABLE {table} FINAL SETTINGS mutations_sync = 2")
        query = f"SELECT {columns} FROM {table} ORDER BY {columns}"
        return [tuple(row.values()) for row in self.database.query(query)]


@pytest.fixture
def rows(database: Connection) -> Rows:
    """Tables of the test's own."""
    return Rows(database)


def settled(database: Connection) -> None:
    """Wait until parts of before have taken the new TTL."""
    deadline_s = time.monotonic() + 60
    while database.query("SELECT 1 FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def ttls(database: Connection) -> dict[str, list[str]]:
    """Return how many days each table names."""
    query = "SELECT name, create_table_query AS text FROM system.tables WHERE database = currentDatabase()"
    found = {row["name"]: re.findall(r"toIntervalDay\((\d+)\)", row["text"]) for row in database.query(query)}
    return {name: days for name, days in found.items() if days and name in ("events", "dead_letters")}


def test_each_setting_is_set_changed_and_removed_and_a_second_run_changes_nothing(database: Connection) -> None:
    """Every deployment migrates: what is as it should be is not touched, and nothing is said of it."""
    steps: list[tuple[Retention, list[str], dict[str, list[str]]]] = [
        (Retention(), [], {}),
        (
            Retention(90, 30, 7),
            [
                "rows of events now stay 90 days",
                "addresses in events now stay 7 days",
                "rows of dead_letters now stay 30 days",
            ],
            {"events": ["7", "90"], "dead_letters": ["30"]},
        ),
        (Retention(91, 30, 7), ["rows of events now stay 91 days"], {"events": ["7", "91"], "dead_letters": ["30"]}),
        (Retention(0, 30, 7), ["rows of events now stay for ever"], {"events": ["7"], "dead_letters": ["30"]}),
        (
            Retention(0, 0, 8),
            ["addresses in events now stay 8 days", "rows of dead_letters now stay for ever"],
            {"events": ["8"]},
        ),
        (Retention(), [], {"events": ["8"]}),  # a `migrate` that lacks the variables
        (FOR_EVER, ["addresses in events now stay for ever"], {}),
    ]
    for retention, said, there in steps:
        assert apply_retention(database, retention, no_wait) == said
        assert ttls(database) == there
        assert apply_retention(database, retention, no_wait) == []
        assert migrate(database, migrations(), no_wait).made == ()


def test_a_ttl_that_an_operator_has_set_is_left_alone(database: Connection) -> None:
    """It may move parts to another disk: what is not ours is never replaced."""
    database.command("ALTER TABLE events MODIFY TTL toDate(received_at) + INTERVAL 1 YEAR")

    assert apply_retention(database, Retention(), no_wait) == []
    (said,) = apply_retention(database, FOR_EVER, no_wait)
    assert said == ("events has a TTL that migrate has not set, and leaves: toDate(received_at) + toIntervalYear(1)")
    with pytest.raises(Fatal, match=r"events has another TTL \(toDate.*set the days of rows of events to 0"):
        apply_retention(database, Retention(events_days=3), no_wait)
    assert expiry_of(database, "events") == ""


def test_settings_of_the_table_that_an_operator_has_set_stay(database: Connection) -> None:
    """Who wants merges for a TTL every hour has decided that; what nobody has set is set once."""
    database.command("ALTER TABLE events MODIFY SETTING merge_with_ttl_timeout = 3600")
    apply_retention(database, Retention(90, 30, 7), no_wait)
    apply_retention(database, Retention(91, 31, 8), no_wait)

    query = "SELECT engine_full AS text FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
    found = {}
    for table in ("events", "dead_letters"):
        (row,) = database.query(query, {"table": table})
        found[table] = dict(
            re.findall(r"(merge_with_ttl_timeout|materialize_ttl_recalculate_only) = (\d+)", row["text"])
        )
    assert found == {
        "events": {"merge_with_ttl_timeout": "3600", "materialize_ttl_recalculate_only": "1"},
        "dead_letters": {"merge_with_ttl_timeout": "86400", "materialize_ttl_recalculate_only": "1"},
    }


@pytest.mark.parametrize("is_first", [True, False])
def test_rows_and_addresses_go_when_their_days_are_over(rows: Rows, *, is_first: bool) -> None:
    """Rows of before the setting too, at the next merge; whenever their event happened, and however far ahead it is."""
    retention = Retention(events_days=30, ip_days=7)
    if is_first:
        apply_retention(rows.database, retention, no_wait)
    far = record(9, encoded(9, receivedAt=10_000_000_000_000, ip="192.0.2.1"))  # the year 2286
    batch = [aged(0, 0), aged(1, 5), aged(2, 8), aged(3, 28), aged(4, 31), aged(5, 2, occurredAt=1000), aged(6, 400)]
    rows.insert([*batch, far])
    if not is_first:
        apply_retention(rows.database, retention, no_wait)
        settled(rows.database)

    ip = "192.0.2.1"
    assert rows.left("_offset, ip") == [(0, ip), (1, ip), (2, ""), (3, ""), (5, ip), (9, ip)]


def test_what_has_expired_is_not_missing_and_is_counted(rows: Rows) -> None:
    """Rows and dead letters; a real hole is one all the same."""
    apply_retention(rows.database, Retention(30, 10, 0), no_wait)
    rows.insert([aged(offset, 40) for offset in range(5)], "a")
    rows.insert([aged(offset, 1) for offset in (*range(7, 10), *range(11, 15))], "b")
    rows.bury(5, 20)
    rows.bury(6, 2)
    auditor = Auditor(rows.database, {TOPIC: "events"}, lambda *_: set())
    span = Span(PLACE, ID, 0, 15)
    before = auditor.audit(span)
    assert len(rows.left()) == 7
    assert rows.left("origin_offset", "dead_letters") == [(6,)]

    after = auditor.audit(span)

    assert after == before
    assert (str(after.missing), after.duplicates, after.letters) == ("10", 0, 2)
    assert auditor.expired(span) == 6
    assert auditor.expired(Span(PLACE, "other-id", 0, 15)) == 0
    apply_retention(rows.database, FOR_EVER, no_wait)
    assert auditor.expired(span) == 1  # rows that are gone without a retention are a loss, which nothing hides
    assert OffsetsTable(rows.database, {TOPIC: "events"}).end(PLACE, ID, 0) == 15


def test_all_of_a_partition_may_expire(rows: Rows) -> None:
    """Nothing is left to say where it ended, but the table of offsets."""
    apply_retention(rows.database, Retention(30), no_wait)
    rows.insert([aged(offset, 40) for offset in range(5)])
    auditor = Auditor(rows.database, {TOPIC: "events"}, lambda *_: set())

    assert rows.left() == []
    assert auditor.audit(Span(PLACE, ID, 0, 5)).is_clean
    assert auditor.expired(Span(PLACE, ID, 0, 5)) == 5


def test_a_repeated_insert_of_rows_that_have_expired_repairs_nothing(rows: Rows) -> None:
    """A merge took them, not a kill; what is lost beside them comes back."""
    apply_retention(rows.database, Retention(30), no_wait)
    batch = [aged(0, 40), aged(1, 40), aged(2, 1)]
    block = rows.insert(batch)
    repairer = ClickHouseRepairer(rows.database, EVENTS, rows.rows, rows.tally)
    assert rows.left() == [(2,)]

    assert repairer.repair(block, batch) == 0
    assert rows.tally.counts["repaired_rows/events"] == 0
    rows.database.command("DELETE FROM events WHERE _offset = 2")
    assert repairer.repair(block, batch) == 1
    assert rows.left() == [(2,)]


def test_preflight_and_the_search_for_poison_work_beside_ttls(rows: Rows) -> None:
    """Both make tables after the pattern of the real one."""
    apply_retention(rows.database, Retention(30, 10, 7), no_wait)
    pace = InsertPace(1, 1.0, 30, 30)
    check_tables(rows.database, [(EVENTS, pace), (DEAD, pace)])
    bad = encoded_loosely(1, eventId="x" * 36)
    batch = [aged(0, 1), record(1, bad), aged(2, 1)]
    assert rows.rows.screen(batch) == []
    (block,) = rows.rows.blocks(batch, Origin(ID), "a")

    with pytest.raises(Rejected) as refused:
        rows.table.insert(block)
    assert [item.offset for item in rows.table.find_poison(block, refused.value, batch)] == [1]


def test_the_tables_condition_for_a_workers_own_dead_letter_is_that_of_the_program() -> None:
    """The view of dead_letter_origins has it as text: both must be changed together."""
    (text,) = [item.statements[1] for item in migrations() if item.name == "0005_dead_letter_origins.sql"]

    assert " ".join(OWN_LETTER.split()) in " ".join(text.split())
