"""The views data_quality and audit_daily: what was refused, what did not fit, what audits have found."""

import time
from dataclasses import replace

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.notes import write_audits
from consumer.clickhouse.products import make_products
from consumer.delivery.ports import Partition
from consumer.kafka.dead_letters import SERVICE
from consumer.operations.background_audit import row_of
from consumer.operations.people import Kind
from consumer.operations.runs import Runs
from consumer.operations.spans import Finding, Span
from tests.support.held import Held
from tests.support.migrated import make_tables

ZONE = "Asia/Kathmandu"  # days begin at a quarter past
SPAN = Span(Partition("events", 0), "id-1", 0, 100)


@pytest.fixture
def views(empty_database: Connection) -> Connection:
    """The views over tables without rows."""
    make_tables(empty_database)
    make_products(empty_database, ZONE, time.sleep)
    return empty_database


def bury(database: Connection, letter: str, at: str, **columns: str) -> None:
    """Put a dead letter into its table."""
    fields = {"letter_id": letter, "origin_at": at, "service": "headrace-ingest/1", **columns}
    values = ", ".join(f"{{{name}:String}}" for name in fields)
    database.command(f"INSERT INTO dead_letters ({', '.join(fields)}) SELECT {values}", fields)


def test_dead_letters_are_counted_once_by_day_client_and_reason(views: Connection) -> None:
    """The collector's name a client when the refused event does; those of workers are bytes."""
    one = '{"clientId": "web", "eventType": "VIEW"}'
    for at in ("2026-01-01 18:14:59.999", "2026-01-01 18:14:59.999"):  # sent twice
        bury(views, "a", at, reason="unknown_type", value=one)
    bury(views, "b", "2026-01-01 18:15:00.000", reason="unknown_type", value=one)
    bury(views, "c", "2026-01-01 18:15:00.000", reason="bad_field", value=one)
    bury(views, "events/0/1", "2026-01-01 19:00:00.000", reason="frame", value="\x00x", service=SERVICE)
    columns = "toString(day) AS on, client_id, records, events, refused, lost_to_table, dead_letters"

    rows = views.query(f"SELECT {columns} FROM data_quality ORDER BY day, client_id")
    assert [tuple(row.values()) for row in rows] == [
        ("2026-01-01", "web", 0, 0, 1, 0, {"unknown_type": 1}),
        ("2026-01-02", "", 0, 0, 0, 1, {"frame": 1}),
        ("2026-01-02", "web", 0, 0, 2, 0, {"unknown_type": 1, "bad_field": 1}),
    ]


def test_copies_late_events_and_values_that_do_not_fit(views: Connection) -> None:
    """Also when merges have removed the copies; a time that was not believed is told from none."""
    insert = (
        "INSERT INTO events (event_id, client_id, received_at, occurred_at, properties_text) SELECT"
        " toUUID(leftPad({id:String}, 32, '0')), 'web', {came:String}, {was:String}, {text:String}"
    )
    for number, was, text in (
        ("1", "2026-01-02 10:00:00.000", "{}"),
        ("1", "2026-01-02 10:00:00.000", "{}"),
        ("2", "2026-01-02 08:00:00.000", '{"amount": "ten", "counter": 1.5}'),
        ("3", "2026-01-02 10:00:01.000", '{"amount": 10}'),
        ("4", "2026-01-02 10:00:00.000", '{"timestamp": "2035-01-01"}'),
        ("5", "2026-01-02 10:00:00.000", '{"timestamp": 1}'),
        ("6", "2026-01-02 10:00:00.000", '{"timestamp": "yesterday"}'),
        ("7", "2026-01-02 10:00:00.000", '{"timestamp": null}'),
        ("8", "2026-01-02 10:00:00.000", '{"timestamp": 1767348000}'),
        ("9", "2026-01-02 10:00:00.000", '{"timestamp": "2026-01-02T11:00:00+01:00"}'),
        ("10", "2026-01-02 10:00:00.000", '{"timestamp": 1767348000000000}'),
    ):
        views.command(insert, {"id": number, "came": "2026-01-02 10:00:00.000", "was": was, "text": text})
    columns = "records, events, copies, late, ahead, unbelieved, median_delay_ms, misfits"
    wanted = [(11, 10, 1, 1, 1, 3, 0.0, 2)]

    for _ in range(2):
        rows = views.query(f"SELECT {columns} FROM data_quality")
        assert [tuple(row.values()) for row in rows] == wanted
        views.command("OPTIMIZE TABLE events FINAL")
    assert views.query("SELECT count() AS n FROM events") == [{"n": 10}]


def test_the_days_of_audits_have_a_line_each(views: Connection) -> None:
    """What was found at the last look of a day counts, not what was repaired before."""
    lost = replace(Finding(SPAN, 90, 90, 2), missing=Runs(range(92, 100)))
    write_audits(views, [row_of(lost, "worker")])
    time.sleep(0.01)
    other = Span(Partition("events", 1), "id-1", 0, 50)
    write_audits(
        views, [row_of(Finding(SPAN, 98, 98, 2), "command"), row_of(Finding(other, 52, 50, 0, duplicates=2), "worker")]
    )

    columns = "topic, audits, partitions, audited, missing, uncounted, duplicates"
    assert views.query(f"SELECT {columns} FROM audit_daily") == [
        {"topic": "events", "audits": 3, "partitions": 2, "audited": 150, "missing": 0, "uncounted": 0, "duplicates": 2}
    ]
    kept = views.query("SELECT audited_by, missing, missing_offsets FROM audits WHERE missing > 0")
    assert kept == [{"audited_by": "worker", "missing": 8, "missing_offsets": "92-99"}]


def test_events_that_were_erased_are_no_copies(views: Connection) -> None:
    """They are counted by themselves, also when their copies went with them, and once when a run is repeated."""
    held = Held(views)
    at = {"clientId": "web", "receivedAt": 1_767_348_000_000}
    events = held.events({"userId": "alice"} | at, {"userId": "bob"} | at, {"userId": "alice"} | at)
    views.command("SYSTEM STOP MERGES events")
    held.insert(events)
    held.insert([events[0]._replace(offset=9)])
    columns = "records, events, copies, erased"
    assert [tuple(row.values()) for row in views.query(f"SELECT {columns} FROM data_quality")] == [(4, 3, 1, 0)]
    views.command("SYSTEM START MERGES events")
    held.erase(Kind.USER, "alice")
    views.command("INSERT INTO erased_rows SELECT * REPLACE (generateUUIDv4() AS run) FROM erased_rows")

    assert [tuple(row.values()) for row in views.query(f"SELECT {columns} FROM data_quality")] == [(4, 1, 1, 2)]
