"""Migrations on a real ClickHouse: once, again, many at once, half way, and with an older program."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import Migration, create_database, migrate, migrations, run, sweep
from consumer.clickhouse.remake import Remake
from consumer.errors import Fatal, Transient
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import open_database
from tests.support.ports import free_port

NAMES = tuple(migration.name for migration in migrations())
_CREATED = re.compile(
    r"^CREATE (?:OR REPLACE )?(?:MATERIALIZED )?(?:TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)", re.MULTILINE
)
ALL = {"migrations"}.union(*(_CREATED.findall("\n".join(migration.statements)) for migration in migrations()))
"""The tables and views that a whole run leaves."""


def no_wait(_: float) -> None:
    """Try again at once."""


def tables(database: Connection) -> dict[str, str]:
    """Return each table's definition."""
    query = "SELECT name, create_table_query AS text FROM system.tables WHERE database = currentDatabase()"
    return {row["name"]: row["text"] for row in database.query(query)}


def test_a_second_run_applies_nothing_and_changes_nothing(empty_database: Connection) -> None:
    """Every start of a deployment may migrate."""
    first = migrate(empty_database, migrations(), no_wait)
    made = tables(empty_database)
    second = migrate(empty_database, migrations(), no_wait)

    assert (first.now, first.before) == (NAMES, ())
    assert (second.now, second.before) == ((), NAMES)
    assert tables(empty_database) == made
    assert {"events", "events_unique", "dead_letters", "offsets", "replays", "migrations"} <= set(made)


def test_the_tables_of_other_tests_are_those_of_a_migration(database: Connection, clickhouse: ClickHouse) -> None:
    """Most tests make them by the statements that the first migration left, and test what a migration makes."""
    name = f"{database.database}_migrated"
    create_database(database, name, no_wait)
    with closing(open_database(clickhouse, name)) as ours:
        migrate(ours, migrations(), no_wait)
        migrated = {table: text.replace(f"{name}.", f"{database.database}.") for table, text in tables(ours).items()}
    database.command(f"DROP DATABASE {name}")

    assert tables(database) == migrated
    outcome = migrate(database, migrations(), no_wait)
    assert (outcome.now, outcome.before, outcome.made) == ((), NAMES, ())


def test_eight_at_once_leave_what_one_leaves(empty_database: Connection, clickhouse: ClickHouse) -> None:
    """All succeed, every file is noted once, and the tables are those of a single run."""
    connections = [open_database(clickhouse, empty_database.database) for _ in range(8)]
    start_s = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda connection: migrate(connection, migrations(), time.sleep), connections))
    print(f"8 at once: {time.monotonic() - start_s:.1f} s")
    for connection in connections:
        connection.close()

    assert all(set(outcome.now) | set(outcome.before) == set(NAMES) for outcome in outcomes)
    noted = empty_database.query("SELECT name, count() AS n FROM migrations GROUP BY name ORDER BY name")
    assert [(row["name"], row["n"]) for row in noted] == [(name, 1) for name in NAMES]
    assert tables(empty_database).keys() == ALL


def test_a_run_that_died_half_way_is_finished_by_the_next(empty_database: Connection) -> None:
    """The first statements were applied, and nobody noted it."""
    for migration in migrations()[:3]:
        empty_database.command(migration.statements[0])

    assert migrate(empty_database, migrations(), no_wait).now == NAMES
    assert tables(empty_database).keys() == ALL


def test_an_older_program_leaves_newer_tables_alone(database: Connection) -> None:
    """A rollback of the workers is not stopped by what the newer version added."""
    made = tables(database)

    outcome = migrate(database, migrations()[:2], no_wait)

    assert (outcome.now, outcome.before, outcome.unknown) == ((), NAMES[:2], NAMES[2:])
    assert tables(database) == made


def test_a_file_that_changed_after_it_was_applied_is_refused_by_name(database: Connection) -> None:
    """Editing history would leave old and new installations with different tables."""
    first, *others = migrations()
    edited = Migration(first.name, (*first.statements, "DROP TABLE IF EXISTS replays"))

    with pytest.raises(Fatal, match=r"0001_events\.sql was changed"):
        migrate(database, [edited, *others], no_wait)
    assert "replays" in tables(database)


def test_a_new_file_is_applied_between_those_that_were(database: Connection) -> None:
    """Two branches may each bring one."""
    late = Migration("0002_a.sql", ("CREATE TABLE IF NOT EXISTS late (n Int8) ENGINE = Null",))

    outcome = migrate(database, sorted([*migrations(), late], key=lambda item: item.name), no_wait)

    assert outcome.now == ("0002_a.sql",)


def test_all_statements_can_be_repeated_over_full_tables(database: Connection) -> None:
    """Not only in theory: the engine takes each of them again, rows and all."""
    database.command("INSERT INTO events (event_id, _topic) VALUES (generateUUIDv4(), 'events')")
    made = tables(database)
    for migration in migrations():
        for statement in migration.statements:
            run(database, statement)
    migrate(database, migrations(), no_wait)  # a view that was made again has no comments until then

    assert tables(database) == made
    assert database.query("SELECT count() AS n FROM events") == [{"n": 1}]


def test_a_server_that_is_away_is_waited_for_and_then_named() -> None:
    """The number of tries is bounded, each waits longer, and the message says what is away."""
    waits: list[float] = []
    away = Connection(f"http://127.0.0.1:{free_port()}", "default", "", "", 5)

    with pytest.raises(Transient, match="refused"):
        create_database(away, "never", waits.append)
    assert len(waits) == 29
    assert max(waits) <= 15
    assert waits[-1] > waits[0]


def test_what_a_killed_worker_left_is_swept_when_it_is_old(database: Connection) -> None:
    """A search or a repair that runs now keeps its table; the tables that stay are no orphans."""
    orphans = {"events_probe_0123456789ab", "offsets_mend_0123456789ab_0123456789ab"}
    before = tables(database).keys() - orphans
    for orphan in orphans:
        database.command(f"CREATE TABLE {orphan} AS events ENGINE = Null")

    migrate(database, migrations(), no_wait)
    assert tables(database).keys() >= orphans

    sweep(database, age_s=0)
    assert tables(database).keys() == before


def test_every_table_and_view_that_was_dropped_is_made_again_as_it_was(database: Connection) -> None:
    """One after the other, and all at once; what is there is left alone, rows and all."""
    made = tables(database)
    database.command("INSERT INTO replays (letter_id) VALUES ('kept')")
    for name in sorted(made.keys() - {"migrations"}):
        database.command(f"DROP TABLE IF EXISTS {name} SYNC")
        outcome = migrate(database, migrations(), no_wait)
        assert (outcome.now, outcome.made[0]) == ((), f"{name} was missing and has been created again")
        assert tables(database) == made
        if name < "replays":
            assert database.query("SELECT letter_id FROM replays") == [{"letter_id": "kept"}]
    for name in made.keys() - {"migrations"}:
        database.command(f"DROP TABLE IF EXISTS {name} SYNC")
    migrate(database, migrations(), no_wait)

    assert tables(database) == made
    assert migrate(database, migrations(), no_wait).made == ()
    assert not database.query("SELECT name FROM system.databases WHERE position(name, '_reference_') > 0")


def test_a_view_of_the_ledger_that_counts_otherwise_counts_as_it_should_again(database: Connection) -> None:
    """Somebody has changed its query; where it brings its rows is right."""
    made = tables(database)
    database.command("ALTER TABLE events_to_offsets MODIFY QUERY SELECT _topic AS topic FROM events WHERE _offset = 0")

    (said,) = migrate(database, migrations(), no_wait).made
    assert said == "the query of events_to_offsets was changed and has been restored"
    assert tables(database) == made


def test_a_view_that_a_killed_program_left_under_its_other_name_gets_it_back(database: Connection) -> None:
    """Were it made again, both would count."""
    made = tables(database)
    for view in ("events_to_offsets", "dead_letters_offsets"):
        database.command(f"RENAME TABLE {view} TO {view}_renamed")

    assert migrate(database, migrations(), no_wait).made == ()
    assert tables(database) == made


def test_a_column_that_no_longer_computes_is_named_with_the_statement_that_helps(database: Connection) -> None:
    """Analysts would read empty objects."""
    made = tables(database)
    database.command("ALTER TABLE events MODIFY COLUMN properties REMOVE ALIAS")

    with pytest.raises(Fatal, match="does not compute the column properties: run `ALTER TABLE") as named:
        migrate(database, migrations(), no_wait)
    database.command(str(named.value).split("`")[1])

    assert migrate(database, migrations(), no_wait).made == ()
    assert tables(database) == made


def test_tables_of_a_newer_program_are_not_made_again_as_they_were(database: Connection) -> None:
    """An older program does not know what stands there now."""
    database.command("DROP VIEW events_unique")

    assert migrate(database, migrations()[:2], no_wait).made == ()
    assert "events_unique" not in tables(database)


def test_beside_replicated_tables_no_plain_one_is_made(database: Connection) -> None:
    """It would be a table of one replica alone."""
    rows = [{"name": "events", "engine": "ReplicatedReplacingMergeTree"}]
    with pytest.raises(Fatal, match=r"\.offsets is missing, and the other tables are replicated"):
        Remake(database, lambda _: None)._check([{"name": "offsets", "engine": "AggregatingMergeTree"}], rows)  # noqa: SLF001  (no Keeper runs here)
