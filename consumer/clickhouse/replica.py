"""Creates on a new replica the tables and views that another server has, as they are there.

The statements of the migrations would not do: what was altered since must be the same, or ClickHouse refuses the
replica (342: metadata differs). The rows of Replicated tables follow by themselves.
"""

from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.remake import again
from consumer.errors import Fatal, Halt

_TABLES: Final = """
SELECT name, create_table_query AS text FROM system.tables
WHERE database = {database:String} AND create_table_query != '' AND NOT is_temporary
    AND NOT match(name, '_(probe|mend_[0-9a-f]{12})_[0-9a-f]{12}$') AND NOT startsWith(name, '.inner')
ORDER BY engine LIKE '%View', engine = 'Distributed', name
"""


def copy_tables(source: Connection, target: Connection) -> list[str]:
    """Create what the source has and the target lacks, in databases of the same name; return a sentence for each.

    Raises:
        Transient: a server is away.
        Fatal: the source has no tables, or the target refuses one.
    """
    place = {"database": source.database}
    wanted = source.query(_TABLES, place)
    if not wanted:
        raise Fatal(f"there are no tables in the database {source.database} at {source.address}")
    there = {row["name"] for row in target.query(_TABLES, place)}
    missing = [row for row in wanted if row["name"] not in there]
    made: list[str] = []
    while missing:
        refused = [fault for row in missing if (fault := _create(target, row, source.database))]
        left = [row for row, _ in refused]
        made += [f"{row['name']} was created" for row in missing if row not in left]
        if len(left) == len(missing):
            raise refused[0][1]
        missing = left
    return made


def _create(target: Connection, row: dict[str, Any], database: str) -> tuple[dict[str, Any], Halt] | None:
    """Create one; None, or the refusal: a view may need another one, which comes later."""
    try:
        target.command(again(row["text"], database))
    except Halt as refusal:
        return row, refusal
    return None
