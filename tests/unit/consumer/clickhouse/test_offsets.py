"""What is asked of the table of offsets before a block is sent again."""

from typing import Any, cast

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.table_check import InsertPace
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Counted, Partition

PLACE = Partition("events", 0)


class Aged:
    """A connection to tables that got one row, some seconds ago."""

    def __init__(self, age_s: float) -> None:
        self._age_s = age_s

    def query(self, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Find the row, if it came as lately as is asked for."""
        is_there = "_inserted_at" not in query or parameters["remembered_s"] >= self._age_s
        return [{"offset": 3}] if is_there else []


@pytest.mark.parametrize(("age_s", "is_remembered"), [(100, True), (569, True), (571, False), (1799, False)])
def test_a_token_is_called_remembered_for_as_long_as_preflight_makes_a_table_remember_it(
    age_s: float,
    is_remembered: bool,  # noqa: FBT001  (a case)
) -> None:
    """Longer, and a busy neighbour may have pushed it out: the same rows would come twice."""
    pace = InsertPace(partitions=1, age_s=1.0, timeout_s=60.0, session_s=30.0)
    known = OffsetsTable(cast("Connection", Aged(age_s)), {"events": "events"}, pace.late_s)
    block = Block(1, Origin("id-1"), "token", (3,), b"")

    assert known.counted(PLACE, block) == Counted(frozenset({3}), is_remembered=is_remembered)
    assert pace.window == 2 * pace.late_s
