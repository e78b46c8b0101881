"""ClickHouse, seen from the worker: one insert per block, under its token, and what each failure means.

The engine reads the Avro of the log itself: `INSERT … SELECT … FROM input('…') FORMAT Avro`. Every setting that the
protocol rests on is pinned in each insert, for servers' defaults move.
"""

import json
import re
import threading
from collections.abc import Sequence
from typing import Any, Final

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, Error

from consumer.errors import ConsumerError, Fatal, Rejected, Transient
from consumer.ports import Block, Poison, Record
from schemas.codec import COORDINATES, read_schema

# One insert must be one block, or the token does not cover it: ClickHouse splits at these bounds.
_ONE_BLOCK: Final = {
    "max_insert_threads": 1,
    "max_threads": 1,
    "max_block_size": 1_048_448,
    "max_insert_block_size": 1_048_448,
    "min_insert_block_size_rows": 1_048_448,
    "min_insert_block_size_bytes": 268_402_944,
    "input_format_parallel_parsing": 0,
}
_PINNED: Final = _ONE_BLOCK | {
    "async_insert": 0,  # the default is 1 since 26.x; its deduplication is another path
    "wait_end_of_query": 1,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    "input_format_avro_allow_missing_fields": 1,  # an older writer schema lacks the newer fields
    "json_type_escape_dots_in_keys": 1,  # {"a.b": 1} and {"a": {"b": 1}} stay two things
    "input_format_try_infer_dates": 0,  # a string stays a string
    "input_format_try_infer_datetimes": 0,
}
# The same insert may succeed later. Source: ClickHouse, src/Common/ErrorCodes.cpp.
_OUTAGE_CODES: Final = frozenset(
    {3, 74, 75, 76, 107, 159, 164, 198, 202, 203, 209, 210, 236, 241, 242, 243, 252, 285, 319, 394, 425, 439, 999}
)
# The table refuses the data, and has written none of it.
_DATA_CODES: Final = frozenset(
    {
        6,
        25,
        26,
        27,
        32,
        33,
        38,
        41,
        53,
        69,
        70,
        72,
        117,
        130,
        131,
        321,
        349,
        376,
        407,
        441,
        469,
        611,
        675,
        676,
        691,
        1001,
    }
)
# Nothing but an operator helps: unknown table, column, setting, database; no access; a statement that can't run.
_CONFIG_CODES: Final = frozenset({10, 16, 20, 36, 44, 47, 60, 62, 81, 115, 192, 193, 194, 195, 497, 516})
_TOO_MANY_PARTITIONS: Final = "Too many partitions"
_VIEW: Final = ("while pushing to view", "while write prefix to view")
_ROW: Final = re.compile(r"(?:at row |row )(\d+)")
_TYPES: Final = {
    "string": "String",
    "bytes": "String",
    "int": "Int32",
    "long": "Int64",
    "uuid": "UUID",
    "timestamp-millis": "DateTime64(3, 'UTC')",
}


def column_of(field: str) -> str:
    """Return the column of an Avro field: eventId -> event_id."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", field).lower()


def type_of(avro: Any) -> str:
    """Return the ClickHouse type that reads an Avro type of our schemas."""
    if isinstance(avro, str):
        return _TYPES[avro]
    return "Map(String, String)" if avro["type"] == "map" else _TYPES[avro["logicalType"]]


def insert_statement(table: str, schema_name: str, topic: str) -> str:
    """Return the statement that inserts containers of a schema, with the coordinates, into a table."""
    fields = [*COORDINATES, *json.loads(read_schema(schema_name))["fields"]]
    structure = ", ".join(f"{field['name']} {type_of(field['type'])}" for field in fields).replace("'", "\\'")
    targets = {
        column_of(field["name"]) if field["name"][0] != "_" else field["name"]: field["name"] for field in fields
    }
    if "properties" in targets:
        targets |= {"properties": "properties::JSON", "properties_text": "properties"}
    targets |= {"_topic": f"'{topic}'", "_topic_id": "{topic_id:String}", "_inserted_at": "now64(3, 'UTC')"}
    return (
        f"INSERT INTO {table} ({', '.join(targets)}) SELECT {', '.join(targets.values())} "  # noqa: S608  (our own names)
        f"FROM input('{structure}') FORMAT Avro"
    )


class Connection:
    """The way to one ClickHouse server, opened at first use, so that a server may be away at the start."""

    def __init__(self, url: str, user: str, password: str, database: str, timeout_s: float) -> None:
        self._options: dict[str, Any] = {
            "dsn": url,
            "username": user,
            "password": password,
            "database": database,
            "send_receive_timeout": timeout_s,
            "connect_timeout": 5,
            "autogenerate_session_id": False,  # a session serialises its queries
            "query_retries": 0,
        }
        self._client: Client | None = None
        self._lock = threading.Lock()

    def client(self) -> Client:
        """Return the driver's client; threads share it.

        Raises:
            Transient, Fatal: the server is away, or refuses us.
        """
        with self._lock:
            if self._client is None:
                try:
                    self._client = clickhouse_connect.get_client(**self._options)
                except ClickHouseError as error:
                    raise translate(error) from error
            return self._client

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


class ClickHouseTable:
    """One table, as the target of blocks in one schema."""

    def __init__(self, connection: Connection, statement: str, timeout_s: float) -> None:
        self._connection = connection
        self._statement = statement
        # The server gives up before the client does, so that no insert runs on unseen.
        self._settings = _PINNED | {"max_execution_time": max(1, int(timeout_s * 0.9))}

    def insert(self, block: Block) -> None:
        """Insert a block under its token."""
        settings = self._settings | {"insert_deduplication_token": block.token}
        client = self._connection.client()
        try:
            client.command(self._statement, {"topic_id": block.topic_id}, block.payload, settings)
        except ClickHouseError as error:
            raise translate(error) from error

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> list[Poison]:
        """Stop: rows that the table refuses are not searched yet."""
        raise Fatal(f"the table refuses rows of {len(records)}, token {block.token}: {refusal}")


def translate(error: Exception) -> ConsumerError:
    """Return what the worker does about an error of the driver; its `code` is None when the server never answered."""
    message = str(error)
    code = error.code if isinstance(error, Error) else None
    if code is None:
        return Transient(message) if isinstance(error, DatabaseError) else Fatal(message)
    if code in _CONFIG_CODES or _TOO_MANY_PARTITIONS in message:
        return Fatal(message)
    if code in _DATA_CODES and not any(text in message for text in _VIEW):
        row = _ROW.search(message)
        return Rejected(message, code, int(row[1]) if row else None)
    return Transient(message)
