"""Preflight on a real ClickHouse: what it lets pass, and the sentence for each thing that it does not."""

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.migrations import migrate, migrations, run
from consumer.clickhouse.statements import PINNED
from consumer.errors import Fatal, Transient
from consumer.operations.preflight import check_tables
from tests.conftest import cases
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import open_database
from tests.support.ports import free_port

EVENTS = Target("events", "event", "events", 30)
DEAD = Target("dead_letters", "dead_letter", "dead", 30)
PACE = InsertPace(partitions=5, age_s=1.0, timeout_s=30, session_s=30)

STATEMENTS = [statement for migration in migrations() for statement in migration.statements]


def check(database: Connection, target: Target = EVENTS, pace: InsertPace = PACE) -> None:
    """Run the check of one table."""
    check_tables(database, [(target, pace)])


def names(database: Connection) -> set[str]:
    """Return the tables there are."""
    query = "SELECT name FROM system.tables WHERE database = currentDatabase()"
    return {row["name"] for row in database.query(query)}


def test_what_migrate_makes_passes_and_nothing_is_left_behind(database: Connection) -> None:
    """Both tables, with the table of offsets behind them."""
    before = names(database)

    check_tables(database, [(EVENTS, PACE), (DEAD, PACE)])

    assert names(database) == before


def test_a_database_without_tables_says_what_to_run(empty_database: Connection) -> None:
    """The first thing that a new installation meets."""
    with pytest.raises(Fatal, match=r"there is no table .*\.events: run `python -m consumer migrate`"):
        check(empty_database)


def test_no_database_at_all_says_what_to_run(clickhouse: ClickHouse) -> None:
    """The same, a step before."""
    nowhere = open_database(clickhouse, "nowhere_at_all")

    with pytest.raises(Fatal, match="run `python -m consumer migrate`"):
        check(nowhere)


def test_a_column_that_is_not_there_yet_is_named(database: Connection) -> None:
    """A worker that is newer than the tables."""
    database.command("ALTER TABLE events DROP COLUMN os_name, DROP COLUMN browser")

    with pytest.raises(Fatal, match="lacks the columns browser, os_name: run `python -m consumer migrate`"):
        check(database)


def test_a_window_is_as_large_as_the_installation_needs(database: Connection) -> None:
    """Documented in docs/OPERATIONS.md: partitions / age x 2 table partitions x 2 x (session + 9 timeouts)."""
    assert InsertPace(5, 1.0, 60, 30).window == 5 * 2 * 2 * 570
    assert InsertPace(64, 0.5, 60, 30).window == 128 * 2 * 2 * 570

    with pytest.raises(Fatal, match="remembers 100000 blocks, but 291840 are needed"):
        check(database, pace=InsertPace(64, 0.5, 60, 30))


def test_a_view_behind_a_view_is_looked_at(database: Connection) -> None:
    """A repeated insert would count twice there, whatever else is right."""
    database.command("CREATE TABLE target (n UInt8, d UInt8) ENGINE = SummingMergeTree ORDER BY d")
    database.command("CREATE MATERIALIZED VIEW own TO target AS SELECT partition AS n, 2 AS d FROM offsets")

    with pytest.raises(Fatal, match=r"\.target remembers 0 blocks"):
        check(database)


def test_a_target_that_keeps_nothing_or_knows_no_deduplication(database: Connection) -> None:
    """A Null table passes blocks on, and its own views are looked at; a Log would double."""
    database.command("CREATE TABLE through (n UInt8) ENGINE = Null")
    database.command("CREATE MATERIALIZED VIEW one TO through AS SELECT 1 AS n FROM events")
    check(database)

    database.command("CREATE TABLE log (n UInt8) ENGINE = Log")
    database.command("CREATE MATERIALIZED VIEW two TO log AS SELECT n FROM through")
    with pytest.raises(Fatal, match=r"\.two writes to \S+\.log, whose engine Log can't deduplicate"):
        check(database)


def test_a_plain_view_on_the_table_is_no_target(database: Connection) -> None:
    """Analysts may have as many as they like."""
    database.command("CREATE VIEW reading AS SELECT count() FROM events")

    check(database)


def test_a_server_that_is_away_is_waited_for_and_not_refused() -> None:
    """Preflight says Transient, and the caller waits."""
    away = Connection(f"http://127.0.0.1:{free_port()}", "default", "", "headrace", 5)

    with pytest.raises(Transient):
        check(away)


def test_a_setting_that_the_server_does_not_take_stops_the_start(
    database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile's constraint answers 452, an old server 115: both are found before the first poll."""
    monkeypatch.setitem(PINNED, "async_insert", "neither")

    with pytest.raises(Fatal):
        check(database)


def test_a_token_that_does_not_count_once_stops_the_start(
    database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: two inserts under one token must be one row."""
    monkeypatch.setitem(PINNED, "insert_deduplicate", 0)
    monkeypatch.setitem(PINNED, "deduplicate_insert", "disable")

    with pytest.raises(Fatal, match="does not drop an insert with a repeated insert_deduplication_token"):
        check(database)


@pytest.mark.parametrize("done", cases(range(len(STATEMENTS) + 1), range(1, len(STATEMENTS) + 1, 4)))
def test_a_migration_that_died_half_way_does_not_pass(empty_database: Connection, done: int) -> None:
    """Wherever it died, whatever is missing: rows would not be counted, or read twice."""
    database = empty_database
    migrate(database, [], lambda _: None)
    for statement in STATEMENTS[:done]:
        run(database, statement)

    with pytest.raises(Fatal, match="run `python -m consumer migrate`"):
        check(database)
    migrate(database, migrations(), lambda _: None)
    check(database)
