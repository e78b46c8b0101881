"""Rows of people in a database of the test's own, inserted as a worker does, and dead letters beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.clickhouse.client import Target
from consumer.clickhouse.rows import DeadLetterRows, EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.operations.erasure import Eraser
from consumer.operations.erasure_key import ErasureKey
from consumer.operations.people import Kind, Person, with_visitors
from schemas.codec import LETTER_HEADER
from schemas.registry import LocalSchemas
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import AT_MS, TOPIC, encoded, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.clickhouse.client import Connection

KEY = ErasureKey(b"a key of sixteen bytes or more")
DEAD = "dead"
LATER_MS = 10_000_000_000_000
"""After every event of the tests."""


class Held:
    """The tables, and an eraser of what they hold."""

    def __init__(self, database: Connection) -> None:
        self.database, self.schemas = database, LocalSchemas()
        self.rows, self.target = EventRows(self.schemas), Target("events", "event", TOPIC, 30)
        self.table = ClickHouseTable(database, self.target, self.rows, self.schemas.schema_of, Tally())
        self.said: list[str] = []
        self.eraser = Eraser(database, self.schemas.schema_of, self.said.append, lambda _: None)

    def events(self, *events: dict[str, Any]) -> list[Record]:
        """Return records of events, which have their place in the order as id and offset."""
        return [record(number, encoded(number, **fields)) for number, fields in enumerate(events)]

    def insert(self, records: Sequence[Record], reading: int = 0, topic_id: str = "t") -> Block:
        """Insert records as one block; return it."""
        assert self.rows.screen(records) == []
        offsets = f"{records[0].offset}/{records[-1].offset}"
        (block,) = self.rows.blocks(records, Origin(topic_id, -1, reading), f"{topic_id}/{reading}/{offsets}")
        self.table.insert(block)
        return block

    def bury(self, values: Sequence[bytes], reading: int = 0, key: bytes = b"") -> None:
        """Put these bytes into the table of dead letters."""
        headers = ((f"{LETTER_HEADER}reason", b"frame"), (f"{LETTER_HEADER}origin_key", key))
        letters = [
            Record(Partition(DEAD, 0), offset, AT_MS, f"ingress/{offset}".encode(), value, headers)
            for offset, value in enumerate(values)
        ]
        rows = DeadLetterRows()
        table = ClickHouseTable(self.database, Target("dead_letters", "dead_letter", DEAD, 30), rows, None, Tally())
        for block in rows.blocks(letters, Origin("d", -1, reading), f"dead/{reading}/{len(values)}"):
            table.insert(block)

    def people(self, kind: Kind, *values: str, until_ms: int = LATER_MS) -> list[Person]:
        """Return people with the visitor ids of users."""
        return with_visitors(self.database, [Person(kind, value, until_ms) for value in values])

    def erase(self, kind: Kind, *values: str, until_ms: int = LATER_MS) -> tuple[int, int]:
        """Erase people."""
        return self.eraser.erase(self.people(kind, *values, until_ms=until_ms), KEY, "tester@here")

    def offsets(self) -> list[int]:
        """Return the offsets of the rows of events."""
        query = "SELECT _offset AS offset FROM events ORDER BY offset"
        return [row["offset"] for row in self.database.query(query)]

    def contents(self) -> list[bytes]:
        """Return the content of each dead letter in order, copies too."""
        query = "SELECT hex(value) AS value FROM dead_letters ORDER BY _offset, _reading"
        return [bytes.fromhex(row["value"]) for row in self.database.query(query)]

    def counted(self) -> tuple[int, int]:
        """Return how many rows, and how many distinct offsets, the table of offsets has."""
        query = "SELECT sum(rows) AS n, bitmapCardinality(groupBitmapMergeState(present)) AS o FROM offsets"
        (row,) = self.database.query(f"{query} WHERE topic = '{TOPIC}'")
        return row["n"], row["o"]
