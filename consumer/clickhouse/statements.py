"""The insert statement with which ClickHouse reads Avro: its columns, types, text and settings."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from schemas.codec import COORDINATES, read_schema
from schemas.event import read_catalogue

_TYPES: Final = {
    "string": "String",
    "bytes": "String",
    "int": "Int32",
    "long": "Int64",
    "uuid": "UUID",
    "timestamp-millis": "DateTime64(3, 'UTC')",
}
_EXPRESSIONS: Final = {
    # INSERT … SELECT casts like C: 5000 would become -120 in an Int8.
    "active": "accurateCast(active, 'Int8')",
}

# One insert must be one block, or the token does not cover it. ClickHouse splits at these bounds.
_ONE_BLOCK: Final = {
    "max_insert_threads": 1,
    "max_threads": 1,
    "max_block_size": 1_048_448,
    "max_insert_block_size": 1_048_448,
    "min_insert_block_size_rows": 1_048_448,
    "min_insert_block_size_bytes": 268_402_944,
    "input_format_parallel_parsing": 0,
}
PINNED: Final = _ONE_BLOCK | {
    "async_insert": 0,  # the default is 1 since 26.x; it deduplicates differently
    "wait_end_of_query": 1,
    "insert_deduplicate": 1,
    "max_partitions_per_insert_block": 0,  # unlimited: a client may send timestamps of many months
    "optimize_on_insert": 0,  # keep a row per record: otherwise one of two records of the same event is dropped
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    "input_format_avro_allow_missing_fields": 1,  # an older writer schema lacks the newer fields
}
"""The settings of every insert, without the token."""

SENT_NOW: Final = "now64(3, 'UTC')"
"""The expression of `_inserted_at`."""


def column_of(field: str) -> str:
    """Return the column of an Avro field: eventId -> event_id; properties are kept as text, not parsed."""
    return "properties_text" if field == "properties" else re.sub(r"(?<!^)(?=[A-Z])", "_", field).lower()


TYPED: Final = {
    column_of(name): member.type for name, member in read_catalogue().properties.items() if member.type != "any"
}
"""The columns for documented members of `properties`, which the table fills itself, with the catalogue's type."""
PROMOTED: Final = "promoted: "
"""The comment of a column that an operator has added for a member of `properties` begins so."""
_COMPUTED: Final = {"event": frozenset({"properties", "_known", "_precedence"}) | TYPED.keys()}


def type_of(avro: Any) -> str:
    """Return the ClickHouse type that reads an Avro type of our schemas."""
    if isinstance(avro, str):
        return _TYPES[avro]
    return "Map(String, String)" if avro["type"] == "map" else _TYPES[avro["logicalType"]]


def targets_of(schema_name: str, topic: str) -> dict[str, str]:
    """Return each column that an insert fills, with its expression."""
    fields = [field["name"] for field in _fields(schema_name)]
    targets = {column_of(name) if name[0] != "_" else name: name for name in fields}
    targets |= {name: text for name, text in _EXPRESSIONS.items() if name in targets}
    return targets | {
        "_topic": f"'{topic}'",
        "_topic_id": "{topic_id:String}",
        "_leader_epoch": "{leader_epoch:Int32}",
        "_reading": "{reading:UInt32}",
        "_inserted_at": SENT_NOW,
    }


def columns_of_table(schema_name: str, topic: str) -> frozenset[str]:
    """Return each column that a table must have: those an insert fills, and those the table computes."""
    return _COMPUTED.get(schema_name, frozenset()) | targets_of(schema_name, topic).keys()


def insert_statement(table: str, schema_name: str, topic: str) -> str:
    """Return the statement that inserts containers of a schema, with the coordinates, into a table."""
    structure = ", ".join(f"{field['name']} {type_of(field['type'])}" for field in _fields(schema_name))
    structure = structure.replace("'", "\\'")
    targets = targets_of(schema_name, topic)
    return (
        f"INSERT INTO {table} ({', '.join(targets)}) SELECT {', '.join(targets.values())} "  # noqa: S608  (our own names)
        f"FROM input('{structure}') FORMAT Avro"
    )


def _fields(schema_name: str) -> list[dict[str, Any]]:
    return [*COORDINATES, *json.loads(read_schema(schema_name))["fields"]]


@dataclass(frozen=True, slots=True)
class Target:
    """The table that blocks are inserted into.

    Attributes:
        table: its name, in the connection's database.
        schema_name: the name of the schema file that its columns come from.
        topic: the value of its rows' `_topic`.
        timeout_s: an unanswered insert is given up after this.
    """

    table: str
    schema_name: str
    topic: str
    timeout_s: float

    @property
    def statement(self) -> str:
        """The insert statement."""
        return insert_statement(self.table, self.schema_name, self.topic)
