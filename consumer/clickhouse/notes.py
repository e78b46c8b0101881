"""Writes what workers and operators find out and do into small tables: heartbeats, audits, adoptions.

Each row is a mapping.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import FIRST_SHARD
from consumer.clickhouse.statements import PINNED

Rows = Sequence[Mapping[str, object]]
_NOW: Final = "SELECT toUnixTimestamp64Milli(now64(3)) AS now_ms"
# A claim of the future can only be wrong.
_HEARTBEATS: Final = """
INSERT INTO {of_heartbeats:Identifier}
    (topic, topic_id, partition, partitions, counted_at, position, log_end, complete_until, halted, beat_at)
SELECT topic, topic_id, partition, partitions, least(fromUnixTimestamp64Milli(counted_ms, 'UTC'), now64(3, 'UTC')),
    position, log_end, least(fromUnixTimestamp64Milli(complete_ms, 'UTC'), now64(3, 'UTC')), halted, now64(3, 'UTC')
FROM input('topic String, topic_id String, partition UInt32, partitions UInt32, counted_ms Int64, position UInt64,
    log_end UInt64, complete_ms Int64, halted String')
FORMAT JSONEachRow
"""
_AUDITS: Final = """
INSERT INTO {of_audits:Identifier}
SELECT now64(3, 'UTC'), audited_by, topic, topic_id, partition, low, end, rows, offsets, dead_letters, missing,
    missing_offsets, unknown, uncounted, duplicates, duplicate_offsets, expired
FROM input('audited_by String, topic String, topic_id String, partition UInt32, low UInt64, end UInt64, rows UInt64,
    offsets UInt64, dead_letters UInt64, missing UInt64, missing_offsets String, unknown UInt64, uncounted UInt64,
    duplicates UInt64, duplicate_offsets String, expired UInt64')
FORMAT JSONEachRow
"""
_ADOPTIONS: Final = """
INSERT INTO {of_adoptions:Identifier}
SELECT topic, topic_id, partition, end, adopted_by, now64(3, 'UTC')
FROM input('topic String, topic_id String, partition UInt32, end UInt64, adopted_by String')
FORMAT JSONEachRow
"""


def server_ms(connection: Connection) -> int:
    """Return the time by ClickHouse's clock, in Unix ms.

    Raises:
        Transient, Fatal: the server is away, or refuses.
    """
    return int(connection.query(_NOW)[0]["now_ms"])


def write_heartbeats(connection: Connection, rows: Rows) -> None:
    """Insert heartbeats: the columns of the table, with counted_ms and complete_ms in ms.

    Raises:
        Transient, Fatal: the server is away, or refuses.
    """
    _write(connection, _HEARTBEATS, rows)


def write_audits(connection: Connection, rows: Rows) -> None:
    """Insert what audits have found: the columns of the table but audited_at.

    Raises:
        Transient, Fatal: the server is away, or refuses.
    """
    _write(connection, _AUDITS, rows)


def write_adoptions(connection: Connection, rows: Rows) -> None:
    """Insert where copies of topics were adopted: the columns of the table but adopted_at. No rows: try whether it can.

    Raises:
        Transient, Fatal: the server is away, or refuses.
    """
    _write(connection, _ADOPTIONS, rows)


def _write(connection: Connection, statement: str, rows: Rows) -> None:
    lines = "\n".join(json.dumps(dict(row)) for row in rows)
    layout = connection.layout
    settings = PINNED | layout.of_insert(FIRST_SHARD)
    connection.command(statement, layout.names("heartbeats", "audits", "adoptions"), lines.encode(), settings)
