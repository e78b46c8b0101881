"""What a partition collects: it closes by rows, bytes or age, keeps order, and weighs what it holds."""

from dataclasses import replace
from itertools import pairwise
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.delivery.buffer import GROWTH, Buffer, BufferLimits
from consumer.delivery.ports import RECORD_OVERHEAD_BYTES, Partition, Record, total_bytes

AGE_S = 10.0
LIMITS = BufferLimits(rows_max=3, bytes_max=5000, age_s_max=AGE_S, waiting_bytes_max=0)


def small(offset: int, size: int = 1) -> Record:
    """Return a record whose value has so many bytes."""
    return Record(Partition("events", 0), offset, 0, b"", b"x" * size)


def filled(*arrivals: tuple[int, float]) -> Buffer:
    """Return a buffer that took these offsets at these moments."""
    buffer = Buffer()
    for offset, at_s in arrivals:
        buffer.add(small(offset), at_s)
    return buffer


def test_it_is_due_by_rows() -> None:
    """The third record closes a batch of three."""
    assert not filled((0, 0.0), (1, 0.0)).is_due(LIMITS, 0.0, AGE_S)
    assert filled((0, 0.0), (1, 0.0), (2, 0.0)).is_due(LIMITS, 0.0, AGE_S)


def test_it_is_due_by_bytes() -> None:
    """A record weighs its value, its key and what Python needs for it."""
    buffer = Buffer()
    buffer.add(small(0, 4999 - RECORD_OVERHEAD_BYTES), 0.0)
    assert not buffer.is_due(LIMITS, 0.0, AGE_S)
    buffer.add(small(1), 0.0)
    assert buffer.is_due(LIMITS, 0.0, AGE_S)


def test_it_is_due_by_the_age_of_its_oldest_record() -> None:
    """Nothing waits longer than the age, and an empty buffer is never due."""
    buffer = filled((0, 100.0), (1, 109.0))

    assert not buffer.is_due(LIMITS, 109.9, AGE_S)
    assert buffer.is_due(LIMITS, 110.0, AGE_S)
    assert not Buffer().is_due(LIMITS, 1e9, AGE_S)


def test_what_is_left_over_has_its_own_age() -> None:
    """After a full batch the rest is as old as its own arrival: no small batch behind every large one."""
    buffer = filled((0, 0.0), (1, 0.0), (2, 0.0), (3, 9.0), (4, 9.0))

    assert [record.offset for record in buffer.take(LIMITS)] == [0, 1, 2]
    assert not buffer.is_due(LIMITS, 18.9, AGE_S)
    assert buffer.is_due(LIMITS, 19.0, AGE_S)


def test_an_arrival_that_a_batch_splits_keeps_its_age() -> None:
    """The rest of what came together with a taken record is as old as that record."""
    buffer = filled((0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0), (4, 5.0))
    buffer.take(LIMITS)

    assert buffer.is_due(LIMITS, 10.0, AGE_S)


def test_a_record_larger_than_a_batch_is_taken_alone() -> None:
    """No record is too large to move."""
    buffer = Buffer()
    buffer.add(small(0, 9000), 0.0)
    buffer.add(small(1), 0.0)

    assert [record.offset for record in buffer.take(LIMITS)] == [0]


def test_records_below_an_offset_are_taken_however_many() -> None:
    """A predecessor's range does not follow our limits."""
    buffer = filled(*((offset, 0.0) for offset in range(10)))

    assert [record.offset for record in buffer.take_below(7)] == list(range(7))
    assert [record.offset for record in buffer.records] == [7, 8, 9]


def test_what_is_put_back_comes_first_and_at_once() -> None:
    """Records of a batch that was cut have waited already."""
    buffer = filled((0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0))
    taken = buffer.take(LIMITS)
    buffer.put_back(taken[1:])

    assert buffer.is_due(LIMITS, 0.0, AGE_S)
    assert [record.offset for record in buffer.take(LIMITS)] == [1, 2, 3]


def test_a_batch_ends_where_the_leader_epoch_changes() -> None:
    """However the records came: together, apart, or back from a batch that was made smaller."""
    first, second = [small(0), small(1)], [small(2)._replace(leader_epoch=5), small(3)._replace(leader_epoch=5)]
    apart = Buffer()
    apart.add_all(first, 0.0)
    apart.add_all(second, 0.0)
    back = Buffer()
    back.add_all(second, 0.0)
    back.put_back(first)
    for buffer in (apart, back):
        limits = replace(LIMITS, rows_max=10)
        assert [[record.offset for record in buffer.take(limits)] for _ in range(2)] == [[0, 1], [2, 3]]
        buffer.add_all([small(4)], 0.0)
        assert [record.offset for record in buffer.take(limits)] == [4]


def test_records_weigh_the_same_together_as_singly() -> None:
    """With headers and without."""
    records = [small(0), small(1)._replace(key=b"key"), small(2)._replace(headers=(("name", b"value"),))]

    assert total_bytes(records) == sum(record.size_bytes for record in records)


EARLY_S = (0.25, 5 / 12, 0.9)
"""Times between moments: the least, the default with four partitions and dead letters, and a long one."""


@given(st.integers(0, 1000), st.floats(0.01, 0.98), st.integers(0, 10**7), st.sampled_from(EARLY_S))
def test_early_batches_close_at_moments_of_their_partition(
    partition: int, part: float, intervals: int, early_s: float
) -> None:
    """All batches that begin between two moments close at the later one."""
    limits = replace(LIMITS, early_s=early_s)
    moment_s = limits.age_s(partition, 0.0, is_behind=False, is_cheap=True) + intervals * early_s
    for begun in (part, part / 2, (1 + part) / 2):
        age_s = limits.age_s(partition, moment_s + begun * early_s, is_behind=False, is_cheap=True)
        assert isclose(age_s, (1 - begun) * early_s, abs_tol=1e-6)


@pytest.mark.parametrize("early_s", EARLY_S)
@given(st.integers(0, 1000), st.integers(2, 20))
def test_moments_of_partitions_are_spread(early_s: float, first: int, count: int) -> None:
    """Those of partitions that follow each other, which are what one worker often has."""
    limits = replace(LIMITS, early_s=early_s)
    moments = sorted(
        limits.age_s(number, 0.0, is_behind=False, is_cheap=True) for number in range(first, first + count)
    )
    gaps = [after - before for before, after in pairwise([*moments, moments[0] + early_s])]
    assert min(gaps) > 0.4 / count * early_s
    assert max(gaps) < 2 / count * early_s


@pytest.mark.parametrize("is_cheap", [False, True])
def test_what_was_put_back_is_due_at_once(*, is_cheap: bool) -> None:
    """It has waited, and nothing else may come after it."""
    limits = replace(LIMITS, early_s=0.25)
    buffer = filled((1, 100.0))
    buffer.put_back([small(0)])
    age_s = limits.age_s(0, buffer.arrivals[0][1], is_behind=False, is_cheap=is_cheap)
    assert buffer.is_due(limits, 100.0, age_s)


def test_batches_that_are_not_to_close_early_have_their_full_age() -> None:
    """While inserts take long; under a backlog; when early is no sooner."""
    early = replace(LIMITS, early_s=2.0)
    assert early.age_s(1, 0.5, is_behind=False, is_cheap=False) == AGE_S
    assert early.age_s(1, 0.5, is_behind=True, is_cheap=True) == AGE_S * GROWTH
    for early_s in (AGE_S, float("inf")):
        assert replace(LIMITS, early_s=early_s).age_s(1, 0.5, is_behind=False, is_cheap=True) == AGE_S


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "below", "back"]), st.integers(1, 6)), max_size=40))
def test_order_and_weight_are_kept(steps: list[tuple[str, int]]) -> None:
    """Whatever is added and taken: offsets leave in order, once, and the weight is that of what is there."""
    buffer, offset, now_s, taken = Buffer(), 0, 0.0, list[Record]()
    for step, number in steps:
        now_s += 1
        if step == "add":
            for _ in range(number):
                buffer.add(small(offset, offset % 50), now_s)
                offset += 1
        elif step == "take":
            taken += buffer.take(LIMITS)
        elif step == "below" and buffer.records:
            taken += buffer.take_below(buffer.records[0].offset + number)
        elif step == "back":
            back = taken[-number:]
            del taken[-number:]
            buffer.put_back(back)
        assert buffer.size_bytes == sum(record.size_bytes for record in buffer.records)
        assert bool(buffer.arrivals) == bool(buffer.records)
        if buffer.records:
            assert buffer.arrivals[0][0] <= buffer.records[0].offset
    assert [record.offset for record in (*taken, *buffer.records)] == list(range(offset))
