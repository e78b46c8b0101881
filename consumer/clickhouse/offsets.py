"""Reads the table `offsets`: which offsets of each partition were inserted, in which reading, of which leader epochs.

A view fills the table from each insert, with a row per million offsets of a reading. It is read when the group's
commits are not enough: when they have expired or were set back, and when the log was cut.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.delivery.ports import Partition

_OF_PARTITION: Final = (
    "FROM offsets WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}"
)
_LETTERS: Final = """
FROM dead_letters WHERE origin_topic = {topic:String} AND origin_topic_id = {topic_id:String}
    AND origin_partition = {partition:Int32} AND origin_offset >= 0
"""
# ClickHouse rewrites max(last) + 1 to max(last + 1), which is 1 for no rows; hence the count().
_END: Final = f"""
SELECT max(end) AS end FROM (
    SELECT if(count() = 0, 0, max(last) + 1) AS end {_OF_PARTITION} AND reading >= {{reading:UInt32}}
    UNION ALL
    SELECT if(count() = 0, 0, toUInt64(max(origin_offset)) + 1) AS end {_LETTERS}
        AND origin_reading >= {{reading:UInt32}}
)
"""  # noqa: S608  (our own text)
_OFFSETS: Final = f"""
SELECT arrayJoin(bitmapToArray(bitmapSubsetInRange(groupBitmapMergeState(present), {{from:UInt64}}, {{to:UInt64}})))
    AS offset {_OF_PARTITION} AND reading = {{reading:UInt32}}
"""
_ROWS: Final = """
SELECT DISTINCT _offset AS offset FROM {table:Identifier}
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _reading = {reading:UInt32} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
"""
_BURIED: Final = f"""
SELECT DISTINCT origin_offset AS offset {_LETTERS}
    AND origin_reading = {{reading:UInt32}} AND origin_offset >= {{from:Int64}} AND origin_offset < {{to:Int64}}
"""
_LAST_LETTERS: Final = f"SELECT origin_reading AS reading, max(origin_offset) AS last {_LETTERS} GROUP BY reading"
_READINGS: Final = f"""
SELECT reading, min(first) AS first, max(last) AS last, minMap(epochs) AS epochs {_OF_PARTITION}
GROUP BY reading ORDER BY reading
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading has inserted.

    Attributes:
        number: 0, and one more each time an operator had offsets read again.
        first: the lowest offset of a row; -1 when there is none.
        last: the highest one.
        epochs: the first offset of each leader epoch; the epoch is -1 where it was unknown.
        last_letter: the highest offset of a dead letter; -1 when there is none.
    """

    number: int
    first: int
    last: int
    epochs: Mapping[int, int]
    last_letter: int = -1

    @property
    def end(self) -> int:
        """The offset after the last row or dead letter."""
        return max(self.last, self.last_letter) + 1


class OffsetsTable:
    """An `InsertedOffsets`. Threads share it. `tables` maps each topic to the table of its rows."""

    def __init__(self, connection: Connection, tables: Mapping[str, str]) -> None:
        self._connection = connection
        self._tables = tables

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return the offset after the last row or dead letter of this reading or a later one, 0 when there is none.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        (row,) = self._connection.query(_END, _parameters(partition, topic_id) | {"reading": reading})
        return int(row["end"])

    def readings(self, partition: Partition, topic_id: str) -> list[Reading]:
        """Return all readings of a partition, under one topic ID.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        where = _parameters(partition, topic_id)
        rows = {row["reading"]: row for row in self._connection.query(_READINGS, where)}
        letters = {row["reading"]: row["last"] for row in self._connection.query(_LAST_LETTERS, where)}
        none = {"first": -1, "last": -1, "epochs": {}}
        found = ((number, rows.get(number, none)) for number in sorted(rows.keys() | letters.keys()))
        return [
            Reading(number, row["first"], row["last"], dict(row["epochs"]), letters.get(number, -1))
            for number, row in found
        ]

    def offsets(self, partition: Partition, topic_id: str, reading: int, among: range) -> frozenset[int]:
        """Return which of these offsets are counted rows or dead letters of one reading.

        The rows themselves are checked too, because a killed ClickHouse may have counted rows that it lost. That reads
        a column of the whole table.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        bounds = {"reading": reading, "from": among.start, "to": among.stop}
        where = _parameters(partition, topic_id) | bounds
        counted, rows, buried = (
            frozenset(row["offset"] for row in self._connection.query(query, where | {"table": table}))
            for query, table in ((_OFFSETS, "offsets"), (_ROWS, self._tables[partition.topic]), (_BURIED, ""))
        )
        return (counted & rows) | buried


def _parameters(partition: Partition, topic_id: str) -> dict[str, object]:
    return {"topic": partition.topic, "topic_id": topic_id, "partition": partition.number}
