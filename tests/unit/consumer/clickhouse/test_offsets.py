"""What is asked of the table of offsets before a block is sent again."""

import re
import sqlite3
import time
from collections import deque
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clickhouse.client import Connection
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import SINGLE
from consumer.clickhouse.offsets import OffsetsTable, delete_rows, inserted_since_ms
from consumer.delivery.intent import Detour, Intent, Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.delivery.repeats import Held

PLACE = Partition("events", 0)
PACE = InsertPace(partitions=3, age_s=1.0, timeout_s=10.0, session_s=30.0)
BLOCK = Block(1, Origin("id-1"), "token", (3,), b"")
shares = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0))


def records() -> list[Record]:
    """Return a record that was written just now; a test run takes longer than tables surely know a token."""
    return [Record(PLACE, 3, time.time_ns() // 1_000_000, b"", b"")]


class Aged:
    """A connection to tables that got one row, some seconds ago."""

    layout = SINGLE

    def __init__(self, age_s: float) -> None:
        self._age_s = age_s

    def query(self, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Find the row, and say whether it came longer ago than is asked for."""
        del query
        return [{"offset": 3, "is_old": parameters["remembered_s"] < self._age_s}]


@pytest.mark.parametrize(("age_s", "is_remembered"), [(100, True), (569, True), (571, False), (1799, False)])
def test_a_token_is_called_remembered_for_as_long_as_preflight_makes_a_table_remember_it(
    age_s: float,
    is_remembered: bool,  # noqa: FBT001  (a case)
) -> None:
    """Longer, and a busy neighbour may have pushed it out: the same rows would come twice."""
    pace = InsertPace(partitions=1, age_s=1.0, timeout_s=60.0, session_s=30.0)
    known = OffsetsTable(cast("Connection", Aged(age_s)), {"events": "events"}, pace.late_s)

    assert known.held(PLACE, BLOCK, records()) == Held(frozenset({3}), is_remembered=is_remembered)


@pytest.mark.parametrize("ahead_s", [0, 5, 1800, 3600])
def test_rows_that_were_put_back_are_found_later(monkeypatch: pytest.MonkeyPatch, ahead_s: int) -> None:
    """Also where their producer's clock is ahead: what they say is then reckoned from the time of the repair."""
    repaired_s = 1_800_000_000
    monkeypatch.setattr(time, "time_ns", lambda: repaired_s * 10**9)
    records = [Record(PLACE, 3, (repaired_s + ahead_s) * 1000, b"", b"")]
    says_ms = inserted_since_ms(records)

    class Repaired(Aged):
        def query(self, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
            found = super().query(query, parameters)
            return found if "is_old" in query and says_ms >= parameters["since_ms"] else []

    for later_s in (1, 60, 3600, 86_400):
        monkeypatch.setattr(time, "time_ns", lambda: (repaired_s + later_s) * 10**9)  # noqa: B023  (called at once)
        known = OffsetsTable(cast("Connection", Repaired(4000)), {"events": "events"}, 10**6)
        assert known.held(PLACE, BLOCK, records).offsets == {3}


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
    if asked_s < noted_s or not known.held(PLACE, BLOCK, records()).is_remembered:
        return
    tokens = deque([BLOCK.token], maxlen=PACE.window)
    blocks_per_s = 2 * (PACE.partitions - 1) / PACE.age_s  # two at the turn of a month; its own partition waits
    tokens.extend(f"neighbour {number}" for number in range(int(blocks_per_s * (again_s - noted_s))))

    assert BLOCK.token in tokens


class Rows:
    """A connection to rows of two topics, of two partitions each, that were read three times."""

    def __init__(self) -> None:
        self.base = sqlite3.connect(":memory:")
        self.base.execute("CREATE TABLE t (_topic, _topic_id, _partition, _offset, _reading)")
        places = [(topic, f"{topic}-id", number) for topic in ("events", "others") for number in (0, 1)]
        rows = [(*place, offset, reading) for place in places for offset in range(10) for reading in range(3)]
        rows += [("events", "before", 0, offset, 0) for offset in range(10)]
        self.base.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)

    def left(self) -> set[tuple[Any, ...]]:
        """Return all rows."""
        return set(self.base.execute("SELECT * FROM t"))

    def query(self, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Count rows."""
        return [{"rows": self.base.execute(_plain(query), parameters).fetchone()[0]}]

    def command(self, query: str, parameters: dict[str, Any], settings: dict[str, Any]) -> None:
        """Delete rows, and wait for that."""
        assert settings["mutations_sync"] == 2
        self.base.execute(_plain(query).replace("ALTER TABLE t DELETE", "DELETE FROM t"), parameters)


def _plain(query: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r":\1", query.replace("{table:Identifier}", "t"))


@pytest.mark.parametrize(("detour", "end"), [(Detour(7, 10, 0, ""), 7), (None, 10)])
def test_only_earlier_rows_of_the_range_are_deleted(detour: Detour | None, end: int) -> None:
    """The rows of the new reading, of other offsets, partitions and topics stay, and so do a recreated topic's."""
    rows = Rows()
    before = rows.left()
    intent = Intent("events-id", 4, 4, reading=2, detour=detour)
    count = delete_rows(cast("Connection", rows), "t", PLACE, intent)

    gone = {("events", "events-id", 0, offset, reading) for offset in range(4, end) for reading in (0, 1)}
    assert before - rows.left() == gone
    assert count == len(gone)
