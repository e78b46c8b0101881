"""What `adopt` notes for audits: what the group has committed, and nothing that it has not."""

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import SINGLE
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.errors import Denied, Transient
from consumer.kafka.admin import Topic
from consumer.operations.facts import Plan
from consumer.operations.group import StoppedGroup
from consumer.recovery import Marks, Planner

PLACE, OTHER = Partition("events", 0), Partition("events", 1)
PLANS = [Plan(PLACE, "adopted", CommittedOffset(30, "intent")), Plan(OTHER, "nothing to do")]


class Tables:
    """The table `adoptions`, which refuses from some insert on."""

    layout = SINGLE

    def __init__(self, refuses_from: int = 100) -> None:
        self.refuses_from, self.inserts = refuses_from, list[list[dict[str, Any]]]()

    def command(self, _: str, __: object, data: bytes, ___: object) -> None:
        """Keep rows."""
        if len(self.inserts) >= self.refuses_from:
            raise Denied("INSERT ON headrace.adoptions")
        self.inserts.append([json.loads(line) for line in data.splitlines()])

    @property
    def rows(self) -> list[tuple[str, int, int]]:
        """Topic ID, partition and end of each row."""
        return [(row["topic_id"], row["partition"], row["end"]) for rows in self.inserts for row in rows]


class Group:
    """A stopped group, whose brokers may be away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away, self.marks = is_away, dict[Partition, CommittedOffset]()

    def check_stopped(self) -> None:
        """Return: it is."""

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Keep commits."""
        if self.is_away:
            raise Transient("no broker answers")
        self.marks |= marks


class Adopting(Marks):
    """The command over these."""

    def __init__(self, group: Group, tables: Tables) -> None:
        self._group, self._connection = cast("StoppedGroup", group), cast("Connection", tables)
        self._topics = {"events": Topic("copy", 2)}

    def partitions(self, arguments: Namespace) -> list[Partition]:
        """Return both."""
        del arguments
        return [PLACE, OTHER]

    def _plans(self, partitions: list[Partition], plan: Planner) -> Iterator[Plan]:
        del partitions, plan
        yield from PLANS


def adopt(group: Group, tables: Tables, *, is_done: bool = True) -> int:
    """Run the command."""
    marks = Adopting(group, tables)
    return marks.run(Namespace(go=is_done, json=True), lambda *_: PLANS[0], marks.note_adopted)


def test_what_was_committed_is_noted() -> None:
    """Of each partition that was adopted."""
    group, tables = Group(), Tables()
    assert adopt(group, tables) == 0
    assert (list(group.marks), tables.rows) == ([PLACE], [("copy", 0, 30)])


def test_nothing_is_noted_of_a_plan() -> None:
    """Without --go nothing is written at all."""
    group, tables = Group(), Tables()
    assert adopt(group, tables, is_done=False) == 0
    assert not group.marks
    assert not tables.inserts


def test_a_commit_that_fails_leaves_nothing_noted() -> None:
    """Audits would call offsets inserted that nobody has read."""
    tables = Tables()
    with pytest.raises(Transient):
        adopt(Group(is_away=True), tables)
    assert not tables.rows


def test_nothing_is_committed_where_it_can_not_be_noted() -> None:
    """It is tried before, with no rows."""
    group = Group()
    with pytest.raises(Denied):
        adopt(group, Tables(refuses_from=0))
    assert not group.marks


def test_a_note_that_fails_behind_the_commit_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With what to do before the workers start: the second run notes it."""
    group, tables = Group(), Tables(refuses_from=1)
    assert adopt(group, tables) == 1
    assert "run this command again before the workers start" in capsys.readouterr().err
    assert group.marks
    assert not tables.rows
