"""The table `offsets`: which offsets of each partition are in the tables, in which reading, of which leader epochs.

A view fills it from each insert. It is asked where the group's own memory ends: when its offsets have expired or were
set back, and where a log that was cut parts from what was read of it. A row for each million offsets of a reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse import Connection
from consumer.ports import Partition

_OF_PARTITION: Final = (
    "FROM offsets WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}"
)
_END: Final = f"SELECT max(last) AS last, count() AS n {_OF_PARTITION} AND reading >= {{reading:UInt32}}"
_OFFSETS: Final = f"""
SELECT arrayJoin(bitmapToArray(bitmapSubsetInRange(groupBitmapMergeState(present), {{from:UInt64}}, {{to:UInt64}})))
    AS offset {_OF_PARTITION} AND reading = {{reading:UInt32}}
"""
_ROWS: Final = """
SELECT DISTINCT _offset AS offset FROM {table:Identifier}
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _reading = {reading:UInt32} AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
"""
_BURIED: Final = """
SELECT DISTINCT origin_offset AS offset FROM dead_letters
WHERE origin_topic = {topic:String} AND origin_topic_id = {topic_id:String} AND origin_partition = {partition:Int32}
    AND origin_reading = {reading:UInt32} AND origin_offset >= {from:Int64} AND origin_offset < {to:Int64}
"""
_READINGS: Final = f"""
SELECT reading, min(first) AS first, max(last) AS last, minMap(epochs) AS epochs {_OF_PARTITION}
GROUP BY reading ORDER BY reading
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading has brought into the tables.

    Attributes:
        number: 0, and one more each time that an operator had offsets read again.
        first: the lowest offset.
        last: the highest.
        epochs: the first offset of each leader epoch; -1 where it was not known.
    """

    number: int
    first: int
    last: int
    epochs: Mapping[int, int]


class OffsetsTable:
    """Reads the table; an `InsertedOffsets`. Threads share it. `tables` says where each topic's records become rows."""

    def __init__(self, connection: Connection, tables: Mapping[str, str]) -> None:
        self._connection = connection
        self._tables = tables

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return the offset behind the last one that is there of this reading or a later one, 0 when none is.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        (row,) = self._connection.query(_END, _parameters(partition, topic_id) | {"reading": reading})
        return int(row["last"]) + 1 if row["n"] else 0

    def readings(self, partition: Partition, topic_id: str) -> list[Reading]:
        """Return every reading of a partition, in one incarnation of its topic.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        rows = self._connection.query(_READINGS, _parameters(partition, topic_id))
        return [Reading(row["reading"], row["first"], row["last"], dict(row["epochs"])) for row in rows]

    def offsets(self, partition: Partition, topic_id: str, reading: int, among: range) -> frozenset[int]:
        """Return which of these offsets are rows that were counted, or dead letters, of one reading.

        The rows themselves are looked for too: a ClickHouse that was killed may have counted what it has lost. That
        reads a column of the whole table.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        bounds = {"reading": reading, "from": among.start, "to": among.stop}
        place = _parameters(partition, topic_id) | bounds
        counted, rows, buried = (
            frozenset(row["offset"] for row in self._connection.query(query, place | {"table": table}))
            for query, table in ((_OFFSETS, "offsets"), (_ROWS, self._tables[partition.topic]), (_BURIED, ""))
        )
        return (counted & rows) | buried


def _parameters(partition: Partition, topic_id: str) -> dict[str, object]:
    return {"topic": partition.topic, "topic_id": topic_id, "partition": partition.number}
