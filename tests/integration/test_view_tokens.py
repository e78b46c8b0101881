"""A view's own tokens, across a restart of ClickHouse: a block that is sent again is counted once."""

import time

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database, migrate, migrations
from consumer.clickhouse.statements import PINNED
from tests.support.clickhouse import EmbeddedClickHouse
from tests.support.fixtures_consumer import open_database

COUNT = 10
TABLES = ("events", "dead_letters")


def made(clickhouse: EmbeddedClickHouse, name: str) -> Connection:
    """Return a new database with our tables."""
    first = open_database(clickhouse, "")
    create_database(first, name, time.sleep)
    first.close()
    database = open_database(clickhouse, name)
    migrate(database, migrations(), time.sleep)
    return database


def send(database: Connection, table: str) -> None:
    """Insert a block under its token, which is the same each time."""
    columns = "(_topic, _topic_id, _partition, _offset)"
    rows = f"SELECT '{table}', 'id', 0, number FROM numbers({COUNT})"
    database.command(f"INSERT INTO {table} {columns} {rows}", settings=PINNED | {"insert_deduplication_token": "token"})


def counts(database: Connection) -> dict[str, int]:
    """Return how many rows of each table the views have counted."""
    return {
        row["topic"]: row["n"] for row in database.query("SELECT topic, sum(rows) AS n FROM offsets GROUP BY topic")
    }


def test_a_block_that_is_sent_again_behind_a_restart_is_counted_once() -> None:
    """Of new tables, and of tables with a view that `migrate` has repaired: ClickHouse knows views by the same ids."""
    once = dict.fromkeys(TABLES, COUNT)
    with EmbeddedClickHouse() as clickhouse:
        databases = new, repaired = made(clickhouse, "new"), made(clickhouse, "repaired")
        repaired.command(
            "ALTER TABLE events_to_offsets MODIFY QUERY SELECT _topic AS topic FROM events WHERE _offset = 0"
        )
        assert migrate(repaired, migrations(), time.sleep).made
        for database in databases:
            for table in TABLES * 2:
                send(database, table)
        assert [counts(database) for database in databases] == [once, once]
        clickhouse.kill()
        clickhouse.start()
        for database in databases:
            for table in TABLES:
                send(database, table)

        assert [counts(database) for database in databases] == [once, once]
        for database in (new, repaired):
            database.close()
