"""A ClickHouse database with headrace's tables, and events as they lie on the topic."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database
from consumer.delivery.ports import Partition, Record
from schemas.codec import Encoder, local_schema_id, read_schema
from tests.support.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.migrated import make_tables

TOPIC = "events"
AT_MS = 1_767_323_045_678
EVENT = read_schema("event")
SCHEMA_ID = local_schema_id(EVENT)
_ENCODER = Encoder(EVENT, SCHEMA_ID)


def open_database(clickhouse: ClickHouse, name: str, timeout_s: float = 30) -> Connection:
    """Return a connection to a database, which need not exist yet."""
    return Connection(clickhouse.url, USER, PASSWORD, name, timeout_s)


@pytest.fixture(scope="session")
def clickhouse_server(clickhouse: ClickHouse) -> Iterator[Connection]:
    """A connection to the server, in no database."""
    with closing(open_database(clickhouse, "")) as opened:
        yield opened


@pytest.fixture
def empty_database(clickhouse: ClickHouse, clickhouse_server: Connection) -> Iterator[Connection]:
    """A database of the test's own, without tables."""
    name = f"test_{uuid.uuid4().hex}"
    create_database(clickhouse_server, name, time.sleep)
    with closing(open_database(clickhouse, name)) as ours:
        yield ours
    clickhouse_server.command(f"DROP DATABASE {name}")


@pytest.fixture
def database(empty_database: Connection) -> Connection:
    """A database of the test's own, with what a migration makes."""
    make_tables(empty_database)
    return empty_database


def event(number: int, **fields: object) -> dict[str, object]:
    """Return an event whose id is its number."""
    own = str(uuid.UUID(int=number))
    return {
        "eventId": own,
        "pingId": own,
        "eventType": "VIEW",
        "receivedAt": AT_MS,
        "occurredAt": AT_MS,
        "properties": '{"n":1}',
        **fields,
    }


def encoded(number: int, **fields: object) -> bytes:
    """Return an event's framed bytes."""
    return _ENCODER.encode(event(number, **fields))


def encoded_loosely(number: int, **fields: object) -> bytes:
    """Return an event's framed bytes, its UUIDs unchecked."""
    schema = json.loads(EVENT)
    for field in schema["fields"]:
        if isinstance(field["type"], dict) and field["type"].get("logicalType") == "uuid":
            field["type"] = "string"
    return Encoder(json.dumps(schema), SCHEMA_ID).encode(event(number, **fields))


def record(offset: int, value: bytes | None = None, partition: int = 0) -> Record:
    """Return a record of the events topic; a good event by default."""
    return Record(Partition(TOPIC, partition), offset, AT_MS, b"key", encoded(offset) if value is None else value)


def records(offsets: Sequence[int], partition: int = 0) -> list[Record]:
    """Return good events at these offsets."""
    return [record(offset, partition=partition) for offset in offsets]
