"""Keeps the tables over all shards, and the views that read them, like the tables behind them."""

from collections.abc import Callable
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import comment_views, migrations, patiently

_COLUMNS: Final = """
SELECT table, groupArray((name, type, default_kind, default_expression)) AS columns
FROM (SELECT * FROM system.columns WHERE database = {database:String} ORDER BY table, position) GROUP BY table
"""
_TEXTS: Final = (
    "SELECT name, engine_full AS engine, as_select AS query FROM system.tables WHERE database = {database:String}"
)


def make_distributed(connection: Connection, wait: Callable[[float], object]) -> list[str]:
    """Create or replace each table over all shards that is missing, or differs; return a sentence for each.

    Raises:
        Transient: the server stays away.
        Fatal: it refuses a statement.
    """
    layout, database = connection.layout, connection.database
    if not layout.cluster:
        return []
    columns = {row["table"]: row["columns"] for row in connection.query(_COLUMNS, {"database": database})}
    there = {row["name"]: row for row in connection.query(_TEXTS, {"database": database})}
    said: list[str] = []
    for table in sorted(layout.tables & columns.keys()):
        name = layout.over_all(table)
        engine = f"Distributed('{layout.cluster}', '{database}', '{table}')"
        if name in there and there[name]["engine"] == engine and columns[name] == columns[table]:
            continue
        statement = layout.distributed(table, database, again=True)
        patiently(lambda statement=statement: connection.define(statement), wait)  # type: ignore[misc]  # bound now, not late
        said.append(f"the table {name} was {'made again' if name in there else 'created'}")
    return [*said, *_make_views(connection, there, wait)]


def _make_views(connection: Connection, there: dict[str, dict[str, Any]], wait: Callable[[float], object]) -> list[str]:
    """Create those views of the migrations again that read only the tables of one server."""
    said: list[str] = []
    for statement in (statement for migration in migrations() for statement in migration.statements):
        name = statement.removeprefix("CREATE OR REPLACE VIEW ").partition(" ")[0]
        if not statement.startswith("CREATE OR REPLACE VIEW ") or "_all" in there.get(name, {}).get("query", ""):
            continue
        patiently(lambda statement=statement: connection.define(statement), wait)  # type: ignore[misc]  # bound now, not late
        said.append(f"the view {name} reads all shards now")
    if said:
        patiently(lambda: comment_views(connection), wait)
    return said
