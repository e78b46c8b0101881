"""Inserts rows again that ClickHouse lost when it was killed during an insert.

A MergeTree stores a block's token before it renames the block's part into place. Killed in between, it has the token
but not the rows, and drops every repeat (seen on 26.9: tests/fault/test_worker_soak.py kills it under load). So after
each repeated insert the worker checks that its rows are there, and counted. Missing rows are inserted into a temporary
table whose parts are then attached: views do not see that, and they have accepted the repeat under their own tokens. A
row that a merge has replaced meanwhile looks missing; it is inserted again, and replaced again. A row that an operator
has erased is listed in `erased_rows`, and is not missing. Rows that were put back have as `_inserted_at` the earliest
moment at which they can have been inserted: an hour before their records.

Two workers may repair at once, one of them expelled, or one again after it gave up. Each creates its own table, then
drops the other's, waits until no statement for the same block runs, and only then looks for missing rows. So the later
one sees what the other attached, and the one whose table was dropped can't attach.

On a cluster all this happens on a server of the shard itself. Replicated tables store token and part in one step, but a
replica may have acknowledged rows and lose its disk before another one has fetched them. Their rows are believed to be
lost only when replicas were waited for after the acknowledgement, and no one has them.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from typing import Any, Final

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.layout import FIRST_SHARD, WHO_ANSWERS
from consumer.clickhouse.offsets import inserted_since_ms
from consumer.clickhouse.plain_copy import definition_of_copy
from consumer.clickhouse.replication import Replicas
from consumer.clickhouse.retention import expiry_of
from consumer.clickhouse.servers import server_of_shard
from consumer.clickhouse.statements import PINNED, SENT_NOW
from consumer.delivery.ports import Block, Metrics, Record, Rows
from consumer.errors import Cause, ConsumerError, Halt, HaltCode, Rejected, Transient, Unseen

log = logging.getLogger(__name__)

_ENGINE: Final = "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}"
_THERE: Final = """
SELECT _offset AS offset FROM %(table)s
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _offset BETWEEN {first:UInt64} AND {last:UInt64} AND _reading = {reading:UInt32}
    AND _inserted_at >= fromUnixTimestamp64Milli({since_ms:Int64})
UNION ALL
SELECT offset FROM %(erased_rows)s
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
    AND offset BETWEEN {first:UInt64} AND {last:UInt64} AND reading = {reading:UInt32}
"""
_COUNTED: Final = """
SELECT arrayJoin(bitmapToArray(bitmapSubsetInRange(groupBitmapMergeState(present), {first:UInt64}, {last:UInt64} + 1)))
    AS offset
FROM %(offsets)s
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
    AND reading = {reading:UInt32}
"""
_COUNT: Final = """
INSERT INTO {table:Identifier}
    (topic, topic_id, partition, million, rows, present, first, last, newest_at, reading, epochs)
SELECT {topic:String}, {topic_id:String}, {partition:UInt32}, intDiv(offset, 1000000) AS million, count(),
    groupBitmapState(offset), min(offset), max(offset), fromUnixTimestamp64Milli({newest_ms:Int64}),
    {reading:UInt32}, map({leader_epoch:Int32}, min(offset))
FROM input('offset UInt64') GROUP BY million FORMAT CSV
"""
_OTHERS: Final = """
SELECT name FROM system.tables
WHERE database = {database:String} AND startsWith(name, {prefix:String}) AND name != {own:String}
"""
_UNDER_WAY: Final = "SELECT count() AS n FROM %s WHERE Settings['insert_deduplication_token'] = {token:String}"
_LEDGER: Final = "offsets"
_READ_TOO: Final = (_LEDGER, "erased_rows")
_UNSEEN: Final = "rows or counts of an acknowledged insert are on no replica that answers: its replicas are waited for"
# Their token is as old as the first try, and may be forgotten soon: see OffsetsTable.held.
_LONG_AGO: Final = "fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')"


class ClickHouseRepairer:
    """A `Repairer` of one table, and of its counts in the table `offsets`. Threads share it.

    `rows` makes the blocks of missing rows. `replicas` are those of the table, of the counts and of the erased rows.
    """

    def __init__(
        self, connection: Connection, target: Target, rows: Rows, metrics: Metrics, replicas: Replicas | None = None
    ) -> None:
        self._connection = connection
        self._replicas = replicas or Replicas(connection, target.table, *_READ_TOO)
        self._target = target
        self._rows = rows
        self._metrics = metrics
        self._engine = ""

    def repair(self, block: Block, records: Sequence[Record], *, is_awaited: bool = False) -> int:
        """Insert again the missing rows of a block whose repeated insert succeeded; return how many.

        Args:
            block: the block as it was sent.
            records: the records of its batch.
            is_awaited: whether replicas were waited for since it succeeded.

        Raises:
            Unseen: see `Repairer`.
            Transient: as errors.py says; also when a table is missing, because another worker that repairs may have
                dropped it.
            Halt: a permission is missing, or the rows are refused.
        """
        try:
            return self._repair(block, records, is_awaited=is_awaited)
        except Halt as error:
            if error.code is HaltCode.TABLE:
                raise Transient(f"rows may be missing and can't be repaired yet: {error}", Cause.BUSY) from error
            raise Halt(f"rows may be missing and can't be repaired: {error}", error.code) from error
        except Rejected as error:
            raise Halt(f"rows may be missing and can't be repaired: {error}", HaltCode.REFUSED) from error

    def is_under_way(self, block: Block) -> bool:
        """Tell whether the server is inserting a block; see `Repairer`."""
        layout = self._connection.layout
        settings = WHO_ANSWERS if layout.cluster else {}
        query = _UNDER_WAY % layout.everywhere("system.processes")
        return bool(self._connection.query(query, {"token": block.token}, settings=settings)[0]["n"])

    def _repair(self, block: Block, records: Sequence[Record], *, is_awaited: bool) -> int:
        """Repair where the rows lie: a table over all shards can't attach parts."""
        engine = self._engine_of_table()
        if not engine.endswith("MergeTree") or engine.startswith("Shared"):
            return 0
        connection = self._connection
        if engine.startswith("Replicated"):
            connection = self._replicas.reader if is_awaited else connection
            if self._at(connection).is_seen(block, records):
                return 0
            if not is_awaited:
                raise Unseen(_UNSEEN)
        if not connection.layout.cluster:
            return self._at(connection.sticky()).repair_here(block, records)
        with server_of_shard(connection, max(block.shard, FIRST_SHARD)) as one:
            return self._at(one).repair_here(block, records)

    def is_seen(self, block: Block, records: Sequence[Record]) -> bool:
        """Tell whether all rows of a block, and their counts, are on replicas that answer."""
        parameters = self._parameters_of(block, self._mine(block, records))
        layout, database = self._connection.layout, self._connection.database
        names = {name: layout.everywhere(f"{database}.{name}") for name in (self._target.table, *_READ_TOO)}
        settings = WHO_ANSWERS if layout.cluster else {}
        for query in (_THERE, _COUNTED):
            text = query % (names | {"table": names[self._target.table]})
            found = {row["offset"] for row in self._connection.query(text, parameters, settings=settings)}
            if not found.issuperset(block.offsets):
                return False
        return True

    def _at(self, one: Connection) -> "ClickHouseRepairer":
        other = copy(self)
        other._connection = one  # noqa: SLF001  (of the same class)
        return other

    def repair_here(self, block: Block, records: Sequence[Record]) -> int:
        """Do so at the connection's own server."""
        mine = self._mine(block, records)
        parameters = self._parameters_of(block, mine)
        if not self._missing(block, parameters) and not self._uncounted(block, parameters):
            return 0
        put_back = self._put_back(block, mine, parameters)
        counted = self._count(block, parameters)
        if not put_back and not counted:  # the time window was too short: the producers' clocks are ahead
            return 0
        self._metrics.count("repaired_rows", max(put_back, counted), table=self._target.table)
        facts = {"table": self._target.table, "rows": put_back, "counts": counted, "token": block.token}
        log.error("rows or counts were missing after a repeated insert: repaired", extra=facts)
        return put_back

    def _put_back(self, block: Block, records: Sequence[Record], parameters: dict[str, Any]) -> int:
        with self._taken(self._target.table, block) as beside:
            missing = self._missing(block, parameters | {"since_ms": 0})
            if missing:
                lost = [record for record in records if record.offset in missing]
                (part,) = self._rows.blocks(lost, block.origin, block.token)
                statement = replace(self._target, table=beside).statement.replace(SENT_NOW, _LONG_AGO)
                when = {"since_ms": parameters["since_ms"]}
                self._connection.command(statement, part.origin._asdict() | when, part.payload, PINNED)
                missing = self._lasting(beside, missing)
            if missing:
                self._attach(self._target.table, beside, block.token)
        return len(missing)

    def _lasting(self, beside: str, missing: frozenset[int]) -> frozenset[int]:
        """Return the missing rows that the table would keep: a merge has removed the others, and may have here."""
        expiry = expiry_of(self._connection, self._target.table)
        if not expiry:
            return missing
        query = f"SELECT _offset AS offset FROM {beside} WHERE {expiry} > now()"  # noqa: S608  (our own text)
        return frozenset(row["offset"] for row in self._connection.query(query))

    def _count(self, block: Block, parameters: dict[str, Any]) -> int:
        with self._taken(_LEDGER, block) as beside:
            uncounted = self._uncounted(block, parameters)
            if uncounted:
                lines = "\n".join(map(str, sorted(uncounted))).encode()
                self._connection.command(_COUNT, parameters | {"table": beside}, lines, PINNED)
                self._attach(_LEDGER, beside, block.token)
        return len(uncounted)

    def _engine_of_table(self) -> str:
        if not self._engine:
            parameters = {"database": self._connection.database, "table": self._target.table}
            self._engine = "".join(row["engine"] for row in self._connection.query(_ENGINE, parameters))
        return self._engine

    @staticmethod
    def _mine(block: Block, records: Sequence[Record]) -> list[Record]:
        among = frozenset(block.offsets)
        return [record for record in records if record.offset in among]

    def _parameters_of(self, block: Block, records: Sequence[Record]) -> dict[str, Any]:
        times_ms = [record.timestamp_ms for record in records]
        return {
            "table": self._target.table,
            "topic": self._target.topic,
            **block.origin._asdict(),
            "partition": records[0].partition.number,
            "first": block.offsets[0],
            "last": block.offsets[-1],
            "since_ms": inserted_since_ms(records),
            "newest_ms": max(0, *times_ms),
        }

    def _missing(self, block: Block, parameters: Mapping[str, Any]) -> frozenset[int]:
        return frozenset(block.offsets) - self._found(_THERE, parameters)

    def _uncounted(self, block: Block, parameters: Mapping[str, Any]) -> frozenset[int]:
        return frozenset(block.offsets) - self._found(_COUNTED, parameters)

    def _found(self, query: str, parameters: Mapping[str, Any]) -> set[int]:
        names = {name: name for name in _READ_TOO}
        return {
            row["offset"] for row in self._connection.query(query % (names | {"table": self._target.table}), parameters)
        }

    def _attach(self, table: str, beside: str, token: str) -> None:
        """Attach the parts of a copy; the token does nothing but name the block that this statement is for."""
        settings = {"insert_deduplication_token": token}
        self._connection.command(f"ALTER TABLE {table} ATTACH PARTITION ALL FROM {beside}", settings=settings)

    @contextmanager
    def _taken(self, table: str, block: Block) -> Iterator[str]:
        """Create an empty copy of a table; nobody else inserts the block or attaches parts of it any more.

        Raises:
            Transient: a statement that its client gave up still does.
        """
        connection = self._connection
        prefix = f"{table}_mend_{hashlib.sha256(block.token.encode()).hexdigest()[:12]}_"
        own = connection.create(prefix, definition_of_copy(connection, table))
        try:
            parameters = {"database": connection.database, "prefix": prefix, "own": own}
            for other in connection.query(_OTHERS, parameters):
                connection.command(f"DROP TABLE IF EXISTS {other['name']} SYNC")
            if self.is_under_way(block):
                raise Transient("an earlier insert or repair of the same rows is still running", Cause.BUSY)
            yield own
        finally:
            with suppress(ConsumerError):  # the next repair of this block drops it, or `migrate` does
                connection.command(f"DROP TABLE IF EXISTS {own} SYNC")
