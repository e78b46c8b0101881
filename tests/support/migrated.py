"""Headrace's tables in a database of a test's own, for half of what a migration costs."""

import time
from typing import Final, NamedTuple

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import migrate, migrations

_STATEMENTS: Final = """
SELECT create_table_query AS text FROM system.tables
WHERE database = currentDatabase() ORDER BY endsWith(engine, 'View'), name
"""
_APPLIED: Final = "SELECT name, checksum, applied_by FROM migrations ORDER BY name"


class _Migrated(NamedTuple):
    """What a migration left in a database: the statements that make it again, and the rows of `migrations`."""

    database: str
    statements: tuple[str, ...]
    applied: list[tuple[str, ...]]


_of_server: Final[dict[tuple[object, ...], _Migrated]] = {}


def make_tables(connection: Connection) -> None:
    """Make the tables and views in an empty database: the first one of a server is migrated, the others are like it."""
    kept = connection.urls, connection.layout.cluster
    if kept not in _of_server:
        migrate(connection, migrations(), time.sleep)
        statements = tuple(str(row["text"]) for row in connection.query(_STATEMENTS))
        applied = [tuple(map(str, row.values())) for row in connection.query(_APPLIED)]
        _of_server[kept] = _Migrated(connection.database, statements, applied)
        return
    database, statements, applied = _of_server[kept]
    for statement in statements:
        own = statement.replace(f"{database}.", f"{connection.database}.")
        connection.command(own.replace(f"'{database}'", f"'{connection.database}'"))
    connection.command(
        f"INSERT INTO migrations SELECT row.1, row.2, row.3, now64(3) FROM (SELECT arrayJoin({applied}) AS row)"
    )
