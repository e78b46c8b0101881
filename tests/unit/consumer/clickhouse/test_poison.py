"""A search for poison where the server answers inserts, and not all queries."""

from collections.abc import Sequence
from unittest.mock import Mock

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.explain import Explanation
from consumer.clickhouse.poison import PoisonSearch
from consumer.clickhouse.rows import EventRows
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Record
from consumer.errors import Cause, ConsumerError, Halt, HaltCode, Rejected, TooLarge, Transient
from schemas.registry import LocalSchemas
from tests.support.fixtures_consumer import TOPIC, record, records

COLUMNS = [{"part": "column", "name": "event_id", "text": "UUID"}]


class Search(PoisonSearch):
    """Asks a table that refuses two offsets, and does not answer the query that would tell which."""

    failure: ConsumerError

    def faults(self, explanation: Explanation, part: Block) -> dict[int, list[int]]:
        """Give no answer."""
        del explanation, part
        raise self.failure

    def probe(self, probe_table: tuple[Connection, str], part: Block) -> Rejected | None:
        """Refuse what has one of the two."""
        del probe_table
        return Rejected("refused", 6) if {3, 7} & set(part.offsets) else None

    def part(self, block: Block, schema: str, records: Sequence[Record]) -> Block:
        """Return a block that has no offsets without records."""
        made = super().part(block, schema, records)
        return made if records else Block(made.schema_id, made.origin, made.token, (), made.payload)


@pytest.mark.parametrize(
    "failure",
    [
        Transient("HTTP 403: a proxy blocks forms", Cause.UNKNOWN),
        TooLarge("HTTP 413", 10),
        Rejected("a constraint throws", 395),
        Halt("no such function", HaltCode.TABLE),
    ],
)
def test_a_query_without_an_answer_does_not_end_the_search(failure: ConsumerError) -> None:
    """Else the batch would be refused and searched for ever."""
    schemas = LocalSchemas()
    rows, batch = EventRows(schemas), records(range(10))
    assert rows.screen([record(0)]) == []
    (block,) = rows.blocks(batch, Origin("id"), "token")
    connection = Mock(database="headrace", query=lambda *_, **__: COLUMNS)
    search = Search(connection, Target("events", "event", TOPIC, 30), rows, schemas.schema_of, Mock())
    search.failure = failure

    assert [item.offset for item in search.run(block, batch)] == [3, 7]
