"""A client, a small events table, events for it as Avro, and the insert that brings them in as the worker does."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import clickhouse_connect
import fastavro
from clickhouse_connect.driver.httputil import get_pool_manager_options

from consumer.clickhouse.pool import NotingPool
from tests.support.clickhouse import PASSWORD, USER

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from tests.support.clickhouse import ClickHouse

EVENTS = """CREATE TABLE events (
    id UUID, name String DEFAULT concat('event ', toString(n)), n UInt32, at DateTime64(3, 'UTC'),
    tags Map(String, String), properties JSON, CONSTRAINT small CHECK n < 1000000
) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100"""
AVRO = fastavro.parse_schema(
    {
        "type": "record",
        "name": "event",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "n", "type": "long"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "tags", "type": {"type": "map", "values": "string"}},
            {"name": "properties", "type": "string"},
        ],
    }
)
_POOL = NotingPool(**get_pool_manager_options())
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
FROM_AVRO = (
    "INSERT INTO events (id, n, at, tags, properties) SELECT toUUID(id), n, at, tags, properties::JSON FROM"
    " input('id String, n Int64, at DateTime64(3), tags Map(String, String), properties String') FORMAT Avro"
)


def avro(numbers: range) -> bytes:
    """Return events with these numbers as an Avro object container."""
    container = io.BytesIO()
    rows = (
        {
            "id": str(uuid.UUID(int=n)),
            "n": n,
            "at": AT,
            "tags": {"k": "v"},
            "properties": '{"price": 1.5, "items": [1, 2]}',
        }
        for n in numbers
    )
    fastavro.writer(container, AVRO, rows, codec="null")
    return container.getvalue()


def connect(clickhouse: ClickHouse, **options: Any) -> Client:
    """Return a client without a session, which many threads may use; times come with their zone."""
    where = urlsplit(clickhouse.url)
    account = {"username": USER, "password": PASSWORD}
    options = {"autogenerate_session_id": False, "tz_mode": "aware", "pool_mgr": _POOL, **account, **options}
    return clickhouse_connect.get_client(host=where.hostname, port=where.port or 8123, **options)
