"""A predecessor's range is inserted again, whatever of it is there: each row is there once, and counted once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.batch import Attempt, Batch, Inserted
from consumer.delivery.intent import Intent
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Block, Partition
from schemas.registry import LocalSchemas
from tests.conftest import SOAK_ONLY
from tests.support.consumer_fakes import Tally
from tests.support.fake_group import FakeBroker
from tests.support.fake_table import FakeLetters
from tests.support.fixtures_consumer import AT_MS, TOPIC, encoded, record

PLACE = Partition(TOPIC, 0)
AGAIN = Attempt(0, lambda: True, is_repeated=True)
COUNT = 20
_MONTH_MS = 31 * 24 * 3600 * 1000
_REMEMBERED_S = 570


class Inherited:
    """A range of two months, even offsets in the one, odd ones in the other, that a predecessor may have inserted."""

    def __init__(self, database: Connection) -> None:
        schemas, self.database = LocalSchemas(), database
        target, metrics = Target("events", "event", TOPIC, 30), Tally()
        self.rows = EventRows(schemas)
        self.table = ClickHouseTable(database, target, self.rows, schemas.schema_of, metrics)
        records = [
            record(offset, encoded(offset, receivedAt=AT_MS - _MONTH_MS * (offset % 2))) for offset in range(COUNT)
        ]
        assert self.rows.screen(records) == []
        self.batch = Batch.of(PLACE, Intent("id", 0, COUNT), tuple(records))
        self.block = self._block(range(COUNT))
        repairer = ClickHouseRepairer(database, target, self.rows, metrics)
        offsets = OffsetsTable(database, {TOPIC: "events"}, _REMEMBERED_S)
        self.pipeline = Pipeline(self.rows, self.table, FakeLetters(), FakeBroker(1), repairer, offsets)
        database.command("SYSTEM STOP MERGES events")  # which would hide a double

    def _block(self, offsets: range) -> Block:
        records = [self.batch.records[offset] for offset in offsets]
        token = self.batch.token("kafka")
        (block,) = self.rows.blocks(records, self.batch.intent.origin, token)
        return block

    def insert(self, offsets: range, token: str = "") -> None:
        """Insert some of its rows, as a server does that is killed behind them."""
        block = self._block(offsets)
        self.table.insert(replace(block, token=token or block.token))

    def without_view(self) -> None:
        """Insert it, but let the server be killed before it is counted."""
        self.database.command("DETACH TABLE events_to_offsets SYNC")
        self.insert(range(COUNT))
        self.database.command("ATTACH TABLE events_to_offsets")

    def lose(self, table: str) -> None:
        """Delete what a killed server loses whose token it knows."""
        self._mutate(f"ALTER TABLE {table} DELETE WHERE 1")

    def _mutate(self, statement: str) -> None:
        self.database.command("SYSTEM START MERGES events")  # a mutation is one
        self.database.command(statement, settings={"mutations_sync": 2})
        self.database.command("SYSTEM STOP MERGES events")

    def grow_old(self) -> None:
        """Let so much time pass, and so many other blocks come, that no token of the range is known any more."""
        for table in ("events", "offsets"):
            self.database.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 1")
        for number in (0, 1):
            (other,) = self.rows.blocks(
                [record(90 + number, encoded(90 + number, receivedAt=AT_MS - _MONTH_MS * number), 7)],
                self.batch.intent.origin,
                f"other {number}",
            )
            self.table.insert(other)
        for table in ("events", "offsets"):
            self.database.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 100000")
        self._mutate(f"ALTER TABLE events UPDATE _inserted_at = _inserted_at - INTERVAL {_REMEMBERED_S} SECOND WHERE 1")

    def there(self) -> tuple[Counter[int], int]:
        """Return how often each offset is a row, and how many rows are counted."""
        rows = self.database.query("SELECT _offset AS o FROM events WHERE _partition = 0")
        (counted,) = self.database.query("SELECT sum(rows) AS n FROM offsets WHERE partition = 0")
        return Counter(row["o"] for row in rows), counted["n"]


def in_part(inherited: Inherited) -> None:
    """Insert the rows of one month."""
    inherited.insert(range(0, COUNT, 2))


def split(inherited: Inherited) -> None:
    """Insert some rows of both months under another token, as a release did that split batches otherwise."""
    inherited.insert(range(7), "another")


def lost(inherited: Inherited) -> None:
    """Lose the rows, counted as they are."""
    inherited.insert(range(COUNT))
    inherited.lose("events")


def uncounted(inherited: Inherited) -> None:
    """Lose the counts."""
    inherited.insert(range(COUNT))
    inherited.lose("offsets")


LEFT: dict[str, Callable[[Inherited], None]] = {
    "nothing": lambda _: None,
    "all of it": lambda inherited: inherited.insert(range(COUNT)),
    "one month": in_part,
    "some rows": split,
    "rows without counts": Inherited.without_view,
    "counts without rows": lost,
    "rows whose counts were lost": uncounted,
}


@pytest.mark.parametrize(
    ("left", "is_forgotten"),
    [
        *((left, True) for left in LEFT),
        *(pytest.param(left, False, marks=SOAK_ONLY) for left in LEFT if left != "some rows"),
    ],
)
def test_whatever_a_predecessor_left_each_row_is_there_once(
    database: Connection,
    left: str,
    is_forgotten: bool,  # noqa: FBT001  (a case)
) -> None:
    """Also when another worker repeats the range too, while the tables know its token again."""
    inherited = Inherited(database)
    LEFT[left](inherited)
    if is_forgotten:
        inherited.grow_old()

    for _ in range(2):
        inherited.pipeline.await_replicas(inherited.batch, monotonic(), always=False)
        assert inherited.pipeline.insert(inherited.batch, inherited.block, AGAIN) == Inserted()
        assert inherited.there() == (Counter(range(COUNT)), COUNT)
