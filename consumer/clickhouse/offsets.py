"""Reads the table `offsets`: which offsets of each partition were inserted, in which reading, of which leader epochs.

A view fills the table from each insert, with a row per million offsets of a reading. It is read when the group's
commits are not enough: when they have expired or were set back, when the log was cut, and before an insert is repeated.

Dead letters are not read: anybody who may write to their topic can forge one for any offset, which would halt a
partition, or let `resume` skip records. A dead letter that is read again becomes one again. Only for offsets that the
group itself says were left out, the dead letter is looked for.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.replication import Replicas
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Block, Partition, Record
from consumer.delivery.repeats import FENCE_S, Held

_CLOCKS_MS: Final = (
    3_600_000  # the producers' clocks may be ahead of ClickHouse's by this; Kafka 4 refuses more, by default
)
_BESIDE: Final = ("offsets", "erased_rows")
_MOVES: Final = ("0001_events.sql",)
"""The migrations that make the table of rows, or move them to a new one: it knows none of the tokens from before."""
_OF_PARTITION: Final = (
    "FROM {of_offsets:Identifier}"
    " WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}"
)
OWN_LETTER: Final = """
    startsWith(service, 'headrace-consumer/')
    AND letter_id = concat(
        origin_topic, '/', toString(origin_partition), '/', toString(origin_offset),
        if(origin_reading = 0, '', concat('@', toString(origin_leader_epoch)))
    )
"""
"""True for a dead letter as a worker of ours writes it: service and key are its own, see kafka/dead_letters.py."""
# ClickHouse rewrites max(last) + 1 to max(last + 1), which is 1 for no rows; hence the count().
_END: Final = f"""
SELECT if(count() = 0, 0, max(last) + 1) AS end {_OF_PARTITION} AND reading >= {{reading:UInt32}}
"""
_OFFSETS: Final = f"""
SELECT arrayJoin(bitmapToArray(bitmapSubsetInRange(groupBitmapMergeState(present), {{from:UInt64}}, {{to:UInt64}})))
    AS offset {_OF_PARTITION} AND reading = {{reading:UInt32}}
"""
OFFSET_END: Final = 2**63 - 1
"""Above every offset."""
_RANGE: Final = """
_topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
AND _offset >= {from:UInt64} AND _offset < {to:UInt64} AND _reading < {reading:UInt32}
"""
_FROM_ROWS: Final = """
FROM {table:Identifier}
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _reading = {reading:UInt32} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
"""
_FROM_ERASED: Final = """
FROM {of_erased_rows:Identifier}
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
    AND reading = {reading:UInt32} AND offset >= {from:UInt64} AND offset < {to:UInt64}
"""
_ROWS: Final = f"SELECT DISTINCT _offset AS offset {_FROM_ROWS} UNION ALL SELECT offset {_FROM_ERASED}"
"""Rows that are there, and rows that an operator has erased: neither is to be inserted again."""
_HELD: Final = f"""
SELECT _offset AS offset, max(_inserted_at < greatest(
    now64(3, 'UTC') - INTERVAL {{remembered_s:UInt32}} SECOND,
    (SELECT max(applied_at) FROM migrations WHERE name IN ({", ".join(map(repr, _MOVES))}))
)) AS is_old
{_FROM_ROWS} AND _inserted_at >= fromUnixTimestamp64Milli({{since_ms:Int64}}) GROUP BY offset
UNION ALL
SELECT offset, 1 {_FROM_ERASED}
"""  # noqa: S608  (our own text)
"""Rows that are there, or were erased, each with whether its token may be forgotten."""
_BURIED: Final = f"""
SELECT DISTINCT origin_offset AS offset FROM {{of_dead_letters:Identifier}}
WHERE origin_topic = {{topic:String}} AND origin_topic_id = {{topic_id:String}}
    AND origin_partition = {{partition:Int32}} AND origin_reading = {{reading:UInt32}}
    AND origin_offset IN {{offsets:Array(Int64)}} AND {OWN_LETTER}
"""  # noqa: S608  (our own text)
_READINGS: Final = f"""
SELECT reading, min(first) AS first, max(last) AS last, minMap(epochs) AS epochs {_OF_PARTITION}
GROUP BY reading ORDER BY reading
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading has inserted.

    Attributes:
        number: 0, and one more each time an operator had offsets read again.
        first: the lowest offset of a row.
        last: the highest one.
        epochs: the first offset of each leader epoch; the epoch is -1 where it was unknown.
    """

    number: int
    first: int
    last: int
    epochs: Mapping[int, int]

    @property
    def end(self) -> int:
        """The offset behind the last row."""
        return self.last + 1


class OffsetsTable:
    """An `InsertedOffsets`. Threads share it.

    `tables` maps each topic to the table of its rows. A token is known for `remembered_s`, at the least: preflight
    checks that the tables' windows are so large. With 0 no token is. `replicas` are those of these tables.
    """

    def __init__(
        self,
        connection: Connection,
        tables: Mapping[str, str],
        remembered_s: float = 0.0,
        replicas: Replicas | None = None,
    ) -> None:
        self._connection = connection
        layout = connection.layout
        self._names = layout.names("offsets", "erased_rows", "dead_letters")
        self._tables = {topic: layout.over_all(table) for topic, table in tables.items()}
        self._remembered_s = int(remembered_s)
        self._replicas = replicas or Replicas(connection, *tables.values(), *_BESIDE, remembered_s=remembered_s)

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return the offset behind the last row of this reading or a later one, 0 when there is none.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        (row,) = self._connection.query(_END, self._parameters(partition, topic_id) | {"reading": reading})
        return int(row["end"])

    def held(self, partition: Partition, block: Block, records: Sequence[Record]) -> Held:
        """Return which of a block's offsets are counted or are rows, and whether the table still knows its token.

        It does not when the rows were moved here from another table, and perhaps not when they came long ago; of erased
        rows nobody knows when they came. Rows are younger than their records, so finding them reads little: there is an
        index. Where tokens may be forgotten, replicas must have been waited for: one that lags would look like a loss.

        Raises:
            Transient, Fatal: as errors.py says; Transient too when replicas must be waited for first.
        """
        since_ms = inserted_since_ms(records)
        bounds = {"reading": block.origin.reading, "from": block.offsets[0], "to": block.offsets[-1] + 1}
        where = self._parameters(partition, block.origin.topic_id) | bounds
        # Rows that were put back have what this was then: up to an hour earlier, if their records' clock is ahead.
        where |= {"since_ms": max(0, since_ms - _CLOCKS_MS)}
        where |= {"table": self._tables[partition.topic], "remembered_s": self._remembered_s}
        connection = self._replicas.reader if self._may_be_forgotten(since_ms) else self._connection
        counted = {row["offset"] for row in connection.query(_OFFSETS, where)}
        mine = frozenset(block.offsets)
        found = [row for row in connection.query(_HELD, where) if row["offset"] in mine]
        rows = {row["offset"] for row in found}
        offsets = mine & (counted | rows)
        return Held(offsets, not offsets or (bool(rows) and not any(row["is_old"] for row in found)))

    def known_until_s(self, records: Sequence[Record], asked_s: float) -> float | None:
        """Return by when an intent must be committed that needs no wait for replicas; see `InsertedOffsets`."""
        young_s = self._young_for_s(inserted_since_ms(records)) - FENCE_S
        return asked_s + young_s if young_s > 0 else None

    def await_replicas(self, records: Sequence[Record], asked_s: float, *, always: bool) -> float:
        """Wait for replicas if tokens of these records may be forgotten soon, or always; see `InsertedOffsets`."""
        until_s = None if always else self.known_until_s(records, asked_s)
        return self._replicas.wait(asked_s) if until_s is None else until_s

    def _may_be_forgotten(self, since_ms: int) -> bool:
        return self._young_for_s(since_ms) < 0

    def _young_for_s(self, since_ms: int) -> float:
        """Return for how long tables surely know all tokens of rows that were not inserted before a moment."""
        return (since_ms + _CLOCKS_MS - time.time_ns() // 1_000_000) / 1000 + self._remembered_s

    def present(self, partition: Partition, block: Block) -> frozenset[int]:
        """Return which of a block's offsets are counted, or are rows that a killed server did not come to count.

        That reads a column of the whole table.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        bounds = {"reading": block.origin.reading, "from": block.offsets[0], "to": block.offsets[-1] + 1}
        where = self._parameters(partition, block.origin.topic_id) | bounds | {"table": self._tables[partition.topic]}
        found = [row["offset"] for query in (_OFFSETS, _ROWS) for row in self._connection.query(query, where)]
        return frozenset(found).intersection(block.offsets)

    def readings(self, partition: Partition, topic_id: str) -> list[Reading]:
        """Return all readings of a partition, under one topic ID.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        rows = self._connection.query(_READINGS, self._parameters(partition, topic_id))
        return [Reading(row["reading"], row["first"], row["last"], dict(row["epochs"])) for row in rows]

    def kept(self, partition: Partition, intent: Intent) -> frozenset[int]:
        """Return which offsets of an intent's range are rows that were counted, or were left out and are dead letters.

        The rows themselves are checked too, because a killed ClickHouse may have counted rows that it lost. That reads
        a column of the whole table.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        bounds = {"reading": intent.reading, "from": intent.a, "to": intent.b, "offsets": list(intent.excluded)}
        where = self._parameters(partition, intent.topic_id) | bounds
        counted, rows, buried = (
            frozenset(row["offset"] for row in self._connection.query(query, where | {"table": table}))
            for query, table in ((_OFFSETS, ""), (_ROWS, self._tables[partition.topic]), (_BURIED, ""))
        )
        return (counted & rows) | buried

    def _parameters(self, partition: Partition, topic_id: str) -> dict[str, object]:
        return {**self._names, "topic": partition.topic, "topic_id": topic_id, "partition": partition.number}


def inserted_since_ms(records: Sequence[Record]) -> int:
    """Return a moment before which no row of these records was inserted, as ClickHouse's clock has it."""
    now_ms = time.time_ns() // 1_000_000
    return max(0, min(now_ms, *(record.timestamp_ms for record in records)) - _CLOCKS_MS)


def delete_rows(connection: Connection, table: str, partition: Partition, intent: Intent) -> int:
    """Delete a partition's rows that this second reading inserts again, wait for that, and return how many.

    Of the server that is asked, and of its replicas, which are waited for. The offsets stay counted: the later
    reading counts for itself. It rewrites each part that has such rows.

    Raises:
        Transient, Fatal: as errors.py says.
    """
    end = intent.detour.end if intent.detour else OFFSET_END
    where = {"topic": partition.topic, "topic_id": intent.topic_id, "partition": partition.number, "table": table}
    where |= {"reading": intent.reading, "from": intent.a, "to": end}
    (row,) = connection.query(f"SELECT count() AS rows FROM {{table:Identifier}} WHERE {_RANGE}", where)  # noqa: S608  (our own text)
    if row["rows"]:
        statement = f"ALTER TABLE {{table:Identifier}} DELETE WHERE {_RANGE}"
        connection.command(statement, where, settings={"mutations_sync": 2})
    return int(row["rows"])
