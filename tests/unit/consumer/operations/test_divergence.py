"""Where a log parts from what was read of it, whatever elections made of it."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.clickhouse.offsets import Reading
from consumer.operations.divergence import Found, RecordAt, is_other_below, last_below, last_read, parting

Log = list[tuple[int, int]]
"""Offset and epoch of each record."""


def log_of(*stretches: tuple[int, range]) -> Log:
    """Return a log of epochs and their offsets."""
    return [(offset, epoch) for epoch, offsets in stretches for offset in offsets]


def reader(log: Log) -> RecordAt:
    """Return what finds its records."""
    return lambda offset: next((Found(at, epoch) for at, epoch in log if at >= offset), None)


def table_of(log: Log, number: int = 0) -> list[Reading]:
    """Return the readings of tables that hold a log."""
    if not log:
        return []
    epochs = {epoch: min(at for at, its in log if its == epoch) for _, epoch in log}
    return [Reading(number, log[0][0], log[-1][0], epochs)]


def parts_at(read: Log, now: Log, low: int = 0) -> int:
    """Return where a log parts from what was read."""
    return parting(last_read(table_of(read)), low, now[-1][0] + 1 if now else low, reader(now))


def test_a_log_that_was_cut_parts_where_it_was_cut() -> None:
    """Grown again or not, beyond the old end or not."""
    read = log_of((0, range(20)), (2, range(20, 30)))

    assert parts_at(read, log_of((0, range(20)), (4, range(20, 35)))) == 20
    assert parts_at(read, log_of((0, range(20)), (2, range(20, 25)), (4, range(25, 28)))) == 25
    assert parts_at(read, log_of((0, range(12)), (4, range(12, 60)))) == 12
    assert parts_at(read, log_of((0, range(20)))) == 20
    assert parts_at(read, log_of((4, range(60)))) == 0


def test_a_former_leader_with_a_tail_of_its_own_parts_where_the_tail_begins() -> None:
    """Though its epoch is older than what was read, and its log longer."""
    read = log_of((0, range(10)), (1, range(10, 30)))

    assert parts_at(read, log_of((0, range(30)), (2, range(30, 40)))) == 10
    assert parts_at(read, log_of((0, range(50)))) == 10


def test_what_was_never_inserted_or_is_gone_is_no_difference() -> None:
    """Dead letters leave holes in the tables, transactions and compaction in the log, retention at its beginning."""
    read = [item for item in log_of((0, range(20)), (2, range(20, 30))) if item[0] not in (20, 21, 25)]
    now = [item for item in log_of((0, range(20)), (2, range(20, 27)), (4, range(27, 40))) if item[0] not in (5, 26)]

    assert parts_at(read, now) == 26
    assert parts_at(read, [item for item in now if item[0] >= 23], low=23) == 26
    assert parts_at(read, [item for item in now if item[0] >= 33], low=33) == 33


def test_what_the_release_before_read_is_believed_up_to_what_is_older() -> None:
    """It kept no epochs: they are not known of its rows."""
    read = log_of((-1, range(20)), (4, range(20, 30)))

    assert parts_at(read, log_of((2, range(20)), (4, range(20, 26)), (6, range(26, 40)))) == 26
    assert parts_at(read, log_of((2, range(15)), (6, range(15, 40)))) == 15
    assert parts_at(log_of((-1, range(20))), log_of((2, range(15)))) == 15
    assert parts_at(log_of((-1, range(20))), log_of((2, range(50)))) == 20


def test_the_last_record_below_an_offset_is_found_behind_gaps() -> None:
    """By a few reads, not by reading all."""
    log = [item for item in log_of((0, range(1000)), (3, range(1000, 5000))) if item[0] % 7]
    asked: list[int] = []
    find = reader(log)

    def counting(offset: int) -> Found | None:
        asked.append(offset)
        return find(offset)

    assert last_below(4902, 0, counting) == Found(4901, 3)
    assert last_below(7, 0, counting) == Found(6, 0)
    assert last_below(0, 0, counting) is None
    assert len(asked) < 40
    assert is_other_below(4902, 2, 0, find)
    assert not is_other_below(4902, 3, 0, find)
    assert not is_other_below(4902, -1, 0, find)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Log, Log, int]:
    """Return what was read of a partition, what its log is now, and up to where they are the same."""
    now: Log = []
    replicas: list[Log] = []
    for epoch in range(draw(st.integers(1, 6))):
        now += [(len(now) + number, epoch) for number in range(draw(st.integers(0, 6)))]
        replicas.append(list(now))
        base = draw(st.sampled_from(replicas))  # any replica may lead, with what it has
        now = base[: draw(st.integers(0, len(base)))]
    read, after = draw(st.sampled_from(replicas)), draw(st.sampled_from(replicas))
    same = 0
    while same < min(len(read), len(after)) and read[same] == after[same]:
        same += 1
    return read, after, same


@given(histories())
def test_it_parts_exactly_where_the_logs_do(history: tuple[Log, Log, int]) -> None:
    """Whichever replicas led in whatever order, each with what it had."""
    read, now, same = history

    if read:
        assert parts_at(read, now) == same
