"""Rows that ClickHouse knows the token of and does not have: put back once, unheard by views."""

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.plain_copy import plain_engine
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.replication import Replicas
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Record
from consumer.errors import ConsumerError, Halt, Transient, Unseen
from schemas.registry import LocalSchemas
from tests.conftest import IS_SOAK
from tests.support.clickhouse import PASSWORD, USER
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import AT_MS, TOPIC, encoded, record

COUNT = 40
_MONTH_MS = 31 * 24 * 3600 * 1000


class Torn:
    """A block in the table, in two months; parts of it can be lost as a killed server loses them."""

    def __init__(self, database: Connection, at_ms: int = AT_MS) -> None:
        """Insert it, with this Kafka timestamp."""
        schemas = LocalSchemas()
        rows = EventRows(schemas)
        target = Target("events", "event", TOPIC, 30)
        self.database, self.metrics = database, Tally()
        self.table = ClickHouseTable(database, target, rows, schemas.schema_of, self.metrics)
        self.mender = ClickHouseRepairer(database, target, rows, self.metrics)
        self.records = [self._record(offset)._replace(timestamp_ms=at_ms) for offset in range(COUNT)]
        assert rows.screen(self.records) == []
        self.block = rows.blocks(self.records, Origin("incarnation"), "cluster/incarnation/0/0/40")[0]
        self.table.insert(self.block)

    def lose(self, table: str, where: str) -> None:
        """Delete rows as a mutation does: the table still knows their tokens, and drops a repeat."""
        self.database.command(f"SYSTEM START MERGES {table}")  # a mutation is one
        self.database.command(f"ALTER TABLE {table} DELETE WHERE {where}", settings={"mutations_sync": 2})
        self.database.command(f"SYSTEM STOP MERGES {table}")  # which would hide a double
        before = self.offsets()
        self.table.insert(self.block)
        assert self.offsets() == before

    def offsets(self) -> Counter[int]:
        """Count the rows of each offset in the table."""
        return Counter(row["_offset"] for row in self.database.query("SELECT _offset FROM events"))

    def counted(self) -> tuple[int, int]:
        """Return how many rows, and how many distinct offsets, the table of offsets has."""
        query = "SELECT sum(rows) AS n, bitmapCardinality(groupBitmapMergeState(present)) AS o FROM offsets"
        (row,) = self.database.query(query)
        return row["n"], row["o"]

    def is_whole(self) -> bool:
        """Tell whether everything is there once, and nothing is left of the repair."""
        tables = self.database.query("SELECT name FROM system.tables WHERE name LIKE '%_mend_%'")
        return self.offsets() == Counter(range(COUNT)) and self.counted() == (COUNT, COUNT) and not tables

    @staticmethod
    def _record(offset: int) -> Record:
        return record(offset, encoded(offset, receivedAt=AT_MS - _MONTH_MS * (offset % 2)))


@pytest.fixture
def torn(database: Connection) -> Torn:
    """A block that is in the table, whole so far."""
    return Torn(database)


def test_a_whole_block_is_left_alone(torn: Torn) -> None:
    """Nothing is written."""
    assert torn.mender.repair(torn.block, torn.records) == 0
    assert torn.is_whole()
    assert torn.metrics.counts["repaired_rows/events"] == 0


def test_timestamps_ahead_of_the_clock_are_no_loss(
    database: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a producer, or of a worker whose own clock is ahead too: all rows are there, so nothing is said or counted."""
    day_ms = 24 * 3600 * 1000
    now_ms = time.time_ns() // 1_000_000
    torn = Torn(database, at_ms=now_ms + day_ms)
    assert torn.mender.repair(torn.block, torn.records) == 0
    monkeypatch.setattr(time, "time_ns", lambda: (now_ms + 2 * day_ms) * 1_000_000)
    assert torn.mender.repair(torn.block, torn.records) == 0

    assert torn.is_whole()
    assert torn.metrics.counts["repaired_rows/events"] == 0
    assert not caplog.records


def test_lost_rows_are_put_back_once(torn: Torn) -> None:
    """One month of the block was lost: only its rows come back, and the view, which had counted them, hears nothing."""
    torn.lose("events", "_offset % 2 = 1")
    assert sum(torn.offsets().values()) == COUNT // 2

    assert torn.mender.repair(torn.block, torn.records) == COUNT // 2
    assert torn.is_whole()
    assert torn.mender.repair(torn.block, torn.records) == 0
    assert torn.metrics.counts["repaired_rows/events"] == COUNT // 2


def test_lost_counts_are_put_back_once(torn: Torn) -> None:
    """The view's own part was lost: the audit would call all its offsets missing."""
    torn.lose("offsets", "1")
    assert torn.counted() == (0, 0)

    torn.mender.repair(torn.block, torn.records)
    assert torn.is_whole()


def test_other_batches_of_the_partition_are_none_of_its_business(torn: Torn) -> None:
    """Rows of other ranges stay as they are, lost or not."""
    torn.lose("events", "1")
    part = Block(**{name: getattr(torn.block, name) for name in ("schema_id", "origin", "token", "payload")},
                 offsets=tuple(range(10)))  # fmt: skip
    torn.mender.repair(part, torn.records)
    assert torn.offsets() == Counter(range(10))


def test_an_insert_that_still_runs_is_waited_for(torn: Torn) -> None:
    """Its client gave it up; it may have noted its token, and be about to bring its rows."""
    torn.lose("events", "1")
    slow = "INSERT INTO FUNCTION null('n UInt64') SELECT sleepEachRow(0.3) FROM numbers(100)"
    settings = {"insert_deduplication_token": torn.block.token, "max_block_size": 1}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(torn.database.command, slow, settings=settings)
        while not torn.database.query(f"SELECT 1 FROM system.processes WHERE query LIKE '{slow[:20]}%'"):
            assert not running.done()
        with pytest.raises(Transient, match="is still running"):
            torn.mender.repair(torn.block, torn.records)
        torn.database.command(f"KILL QUERY WHERE query LIKE '{slow[:20]}%' SYNC FORMAT Null")
        assert running.exception()
    assert not torn.offsets()
    assert torn.mender.repair(torn.block, torn.records) == COUNT
    assert torn.is_whole()


@pytest.mark.parametrize("table", ["events", "offsets"])
def test_an_earlier_repair_that_still_attaches_is_waited_for(torn: Torn, table: str) -> None:
    """Its client gave it up, and dropped its table: what it attaches would be there twice."""
    torn.lose(table, "1")
    attach, slow = torn.mender._attach, Slow(torn.database)  # noqa: SLF001  (to stand in the middle, as a busy server does)
    torn.mender._attach = slow  # type: ignore[method-assign]  # noqa: SLF001
    with pytest.raises(Transient, match="given up"):
        torn.mender.repair(torn.block, torn.records)
    torn.mender._attach = attach  # type: ignore[method-assign]  # noqa: SLF001
    with pytest.raises(Transient, match="is still running"):
        torn.mender.repair(torn.block, torn.records)
    slow.end()
    torn.mender.repair(torn.block, torn.records)

    assert torn.is_whole()


class Slow:
    """Attaches parts as a server does that its client gives up: the statement still runs, with the block's token."""

    def __init__(self, database: Connection) -> None:
        self._database = database
        self._pool = ThreadPoolExecutor(1)

    def __call__(self, table: str, beside: str, token: str) -> None:
        """Begin, and give up."""
        del table, beside
        running = "SELECT sleepEachRow(0.3) FROM numbers(100) SETTINGS max_block_size = 1"
        settings = {"insert_deduplication_token": token}
        self._running = self._pool.submit(self._database.command, f"{running} FORMAT Null", settings=settings)
        while not self._database.query("SELECT 1 FROM system.processes WHERE query LIKE 'SELECT sleepEachRow(0.3)%'"):
            assert not self._running.done()
        raise Transient("given up")

    def end(self) -> None:
        """Let it come to its end."""
        self._database.command("KILL QUERY WHERE query LIKE 'SELECT sleepEachRow(0.3)%' SYNC FORMAT Null")
        assert self._running.exception()
        self._pool.shutdown()


@pytest.mark.soak
def test_two_who_mend_at_once_put_back_once(torn: Torn) -> None:
    """An expelled worker and its successor: each row comes back once; who was overtaken tries again."""
    for _ in range(3 if IS_SOAK else 1):
        torn.lose("events", "_offset >= 7")
        start = threading.Barrier(4)

        def mend() -> int:
            start.wait()  # noqa: B023  (joined within the loop's body)
            while True:
                try:
                    return torn.mender.repair(torn.block, torn.records)
                except (Transient, Halt):  # both are tried again, by the same worker
                    continue

        with ThreadPoolExecutor(4) as pool:
            put_back = [pool.submit(mend) for _ in range(4)]
        assert sum(job.result() for job in put_back) == COUNT - 7
        assert torn.is_whole()


def test_who_died_while_mending_is_cleared_away(torn: Torn) -> None:
    """Its table goes, and with it its late attempt to attach."""
    torn.lose("events", "1")
    seen: list[str] = []
    attach = torn.mender._attach  # noqa: SLF001  (to stop in the middle, as a killed worker does)

    def die(table: str, beside: str, token: str) -> None:
        del token
        seen.append(f"ALTER TABLE {table} ATTACH PARTITION ALL FROM {beside}")
        raise KeyboardInterrupt

    torn.mender._attach = die  # type: ignore[method-assign]  # noqa: SLF001
    with pytest.raises(KeyboardInterrupt):
        torn.mender.repair(torn.block, torn.records)
    torn.mender._attach = attach  # type: ignore[method-assign]  # noqa: SLF001

    assert torn.mender.repair(torn.block, torn.records) == COUNT
    with pytest.raises(ConsumerError):
        torn.database.command(seen[0])
    assert torn.is_whole()


def test_two_records_of_one_event_are_two_rows_and_nothing_is_missing(database: Connection) -> None:
    """ClickHouse would drop one of them while it inserts, and a repeat would look for it."""
    schemas = LocalSchemas()
    rows, target, metrics = EventRows(schemas), Target("events", "event", TOPIC, 30), Tally()
    batch = [record(offset, encoded(7)) for offset in range(4)]
    rows.screen(batch)
    (block,) = rows.blocks(batch, Origin("incarnation"), "token")
    database.command("SYSTEM STOP MERGES events")
    ClickHouseTable(database, target, rows, schemas.schema_of, metrics).insert(block)

    assert database.query("SELECT count() AS n FROM events") == [{"n": 4}]
    assert ClickHouseRepairer(database, target, rows, metrics).repair(block, batch) == 0


class Posing(Connection):
    """A server that says of its tables that they are Replicated, with paths in Keeper."""

    def query(self, statement: str, *arguments: Any, **named: Any) -> list[dict[str, Any]]:
        """Answer as the server would with replicas."""
        found = super().query(statement, *arguments, **named)
        if "startsWith(engine, 'Replicated')" in statement:
            return []  # nothing to wait for: it has no replicas
        for row in found:
            if "engine" in row:
                row["engine"] = f"Replicated{row['engine']}"
            if "engine_full AS text" in statement:
                row["text"] = _replicated(row["text"])
        return found


def _replicated(engine: str) -> str:
    """Return an engine as ClickHouse writes it for a replica."""
    name, arguments, rest = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?(.*)", engine, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"Replicated{name}({_PATHS}{', ' + arguments if arguments else ''}){rest}"


_PATHS = "'/clickhouse/tables/{shard}/d/it\\'s', '{replica}'"


def test_what_no_replica_has_is_put_back_once_replicas_were_waited_for(torn: Torn) -> None:
    """A replica acknowledged it, and lost its disk: token and counts are known, and the rows are nowhere."""
    database = torn.database
    posing = Posing(f"http://{database.address}", USER, PASSWORD, database.database, 30)
    rows, replicas = EventRows(LocalSchemas()), Replicas(posing, "events")
    assert rows.screen(torn.records) == []
    repairer = ClickHouseRepairer(posing, Target("events", "event", TOPIC, 30), rows, torn.metrics, replicas)
    assert repairer.repair(torn.block, torn.records) == 0
    torn.lose("events", "_offset % 2 = 1")
    torn.lose("offsets", "1")

    with pytest.raises(Unseen):
        repairer.repair(torn.block, torn.records)
    with pytest.raises(Transient, match="not waited for yet"):
        repairer.repair(torn.block, torn.records, is_awaited=True)
    assert sum(torn.offsets().values()) == COUNT // 2
    replicas.wait(time.monotonic())
    assert repairer.repair(torn.block, torn.records, is_awaited=True) == COUNT // 2
    assert torn.is_whole()
    assert repairer.repair(torn.block, torn.records) == 0


@pytest.mark.parametrize(
    ("engine", "plain"),
    [
        (f"ReplicatedReplacingMergeTree({_PATHS}, v) ORDER BY a", "ReplacingMergeTree(v) ORDER BY a"),
        (f"ReplicatedMergeTree({_PATHS}) ORDER BY a", "MergeTree() ORDER BY a"),
        (f"ReplicatedSummingMergeTree({_PATHS}, (b, c)) ORDER BY a", "SummingMergeTree((b, c)) ORDER BY a"),
        ("ReplicatedMergeTree ORDER BY a", "MergeTree ORDER BY a"),
        ("ReplacingMergeTree(v) ORDER BY a", "ReplacingMergeTree(v) ORDER BY a"),
    ],
)
def test_a_copy_of_a_replicated_table_is_plain(engine: str, plain: str) -> None:
    """Its paths in Keeper are those of the table."""
    assert plain_engine(engine) == plain
