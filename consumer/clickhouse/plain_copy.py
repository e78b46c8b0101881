"""Plain copies of tables: rows are written into one, and its parts attached to the table, so that no view sees them."""

import re
from typing import Final

from consumer.clickhouse.client import Connection

_ENGINE: Final = """
SELECT engine_full AS text FROM system.tables WHERE database = {database:String} AND name = {table:String}
"""
_TEXT: Final = r"'(?:[^'\\]|\\.)*'"
_REPLICATED: Final = re.compile(rf"^Replicated(\w*MergeTree)\b(?:\({_TEXT}, {_TEXT}(?:, )?)?")


def definition_of_copy(connection: Connection, table: str) -> str:
    """Return what stands behind the name in CREATE TABLE for an empty copy of a table: plain, if that is Replicated.

    A Replicated copy would be the same replica of the same table in ClickHouse Keeper.

    Raises:
        Transient, Fatal: as errors.py says.
    """
    rows = connection.query(_ENGINE, {"database": connection.database, "table": table})
    engine = str(rows[0]["text"]) if rows else ""
    plain = plain_engine(engine)
    return f"AS {table}" if plain == engine else f"AS {table} ENGINE = {plain}"


def plain_engine(engine: str) -> str:
    """Return a table's engine, keys and settings without replication."""
    return _REPLICATED.sub(lambda found: found[1] + ("(" if "(" in found[0] else ""), engine)
