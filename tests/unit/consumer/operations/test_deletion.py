"""Rows that are read again are deleted only as long as the log has the record of each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from consumer.clickhouse.offsets import Reading
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Partition
from consumer.errors import Transient
from consumer.operations.deletion import Deleted, delete_read_again
from consumer.operations.divergence import Found, RecordAt
from consumer.operations.facts import Facts, Plan
from consumer.operations.plans import reprocess
from tests.unit.consumer.operations.test_plans import PLACE, cut, mark

READ = Reading(0, 0, 79, {1: 0})


def whole(offset: int) -> Found | None:
    """Find records of a log with eighty records of epoch 1."""
    return Found(offset, 1) if offset < 80 else None


class Log:
    """A log that is as it is at the moment."""

    def __init__(self, record_at: RecordAt, end: int = 80, low: int = 0) -> None:
        self._record_at, self._end, self._low = record_at, end, low

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return where it begins and ends."""
        return dict.fromkeys(partitions, (self._low, self._end))

    @contextmanager
    def reading(self, partition: Partition) -> Iterator[RecordAt]:
        """Find records."""
        assert partition == PLACE
        yield self._record_at


def plan(first: int, stop: int | None) -> Plan:
    """Return a plan that was made while the log was whole."""
    made = reprocess(Facts(PLACE, "id", 0, 80, mark(80, epoch=1), [READ]), first, stop, whole, is_deleting=True)
    assert made.mark is not None
    return made


def deleted(log: Log, *plans: Plan) -> tuple[list[Deleted], list[int]]:
    """Return what is said, and at which offsets deleting began."""
    begun: list[int] = []

    def delete(_: Partition, intent: Intent) -> int:
        begun.append(intent.a)
        return 7

    return list(delete_read_again(plans, log, lambda *_: [READ], delete, lambda _: None)), begun


@pytest.mark.parametrize(("first", "stop"), [(10, 40), (60, 70), (0, None)])
def test_rows_whose_records_are_still_there_are_deleted(first: int, stop: int | None) -> None:
    """From the first offset that is read again."""
    assert deleted(Log(whole), plan(first, stop)) == ([Deleted(PLACE, 7)], [first])


@pytest.mark.parametrize(("first", "stop"), [(40, 60), (60, 70), (0, None)])
@pytest.mark.parametrize("log", [Log(cut), Log(lambda offset: whole(offset) if offset < 50 else None, 50)])
def test_a_log_that_was_cut_since_the_plan_keeps_its_rows(log: Log, first: int, stop: int | None) -> None:
    """An unclean election between the plan and the deletion: other records stand there now, or none."""
    (told,), begun = deleted(log, plan(first, stop))

    assert begun == []
    assert "can't give back" in told.why_not


@pytest.mark.parametrize(("low", "is_deleted"), [(10, True), (11, False), (39, False), (50, False)])
def test_a_log_whose_beginning_was_deleted_since_the_plan_keeps_its_rows(low: int, is_deleted: bool) -> None:  # noqa: FBT001  (a table's column)
    """Behind what retention has deleted, a reader finds the next record, of the same epoch."""
    (told,), begun = deleted(Log(lambda offset: whole(max(offset, low)), low=low), plan(10, 40))

    assert begun == ([10] if is_deleted else [])
    assert ("can't give back" in told.why_not) is not is_deleted


@pytest.mark.parametrize(("faults", "is_deleted"), [(1, True), (10_000, False)])
def test_a_log_that_can_not_be_asked_for_long_keeps_its_rows(faults: int, is_deleted: bool) -> None:  # noqa: FBT001  (a table's column)
    """It has no leader while brokers elect one."""
    left = iter(range(faults))

    def away(offset: int) -> Found | None:
        if next(left, None) is not None:
            raise Transient("no leader")
        return whole(offset)

    (told,), begun = deleted(Log(away), plan(10, 40))

    assert begun == ([10] if is_deleted else [])
    assert ("can't be asked now" in told.why_not) is not is_deleted


def test_rows_below_the_cut_are_deleted_all_the_same() -> None:
    """The log still has their records."""
    assert deleted(Log(cut), plan(10, 40)) == ([Deleted(PLACE, 7)], [10])


def test_a_partition_for_which_nothing_was_planned_is_left_alone() -> None:
    """Its rows do not come again."""
    assert deleted(Log(whole), Plan(PLACE, "nothing")) == ([], [])
