"""What is asked of the table of offsets before a block is sent again."""

from collections import deque
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import SINGLE
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.table_check import InsertPace
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Counted, Partition

PLACE = Partition("events", 0)
PACE = InsertPace(partitions=3, age_s=1.0, timeout_s=10.0, session_s=30.0)
BLOCK = Block(1, Origin("id-1"), "token", (3,), b"")
shares = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0))


class Aged:
    """A connection to tables that got one row, some seconds ago."""

    layout = SINGLE

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

    assert known.counted(PLACE, BLOCK) == Counted(frozenset({3}), is_remembered=is_remembered)


@given(first_late=shares, asked=st.floats(0.0, 1.5), second_late=shares)
def test_a_token_that_is_called_remembered_is_still_known_when_its_block_comes_again(
    first_late: float, asked: float, second_late: float
) -> None:
    """Neighbours insert as fast as they may, the first try is as late as it may be, and so is the second.

    A row tells when its try began; its token may be noted later. And the second try comes later than the answer.
    """
    noted_s, asked_s = first_late * PACE.late_s, asked * PACE.late_s
    again_s = asked_s + second_late * PACE.late_s
    known = OffsetsTable(cast("Connection", Aged(asked_s)), {"events": "events"}, PACE.late_s)
    if asked_s < noted_s or not known.counted(PLACE, BLOCK).is_remembered:
        return
    tokens = deque([BLOCK.token], maxlen=PACE.window)
    blocks_per_s = 2 * (PACE.partitions - 1) / PACE.age_s  # two at the turn of a month; its own partition waits
    tokens.extend(f"neighbour {number}" for number in range(int(blocks_per_s * (again_s - noted_s))))

    assert BLOCK.token in tokens
