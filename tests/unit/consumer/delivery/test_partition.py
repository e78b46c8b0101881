"""One partition's state: what it seals, what it wishes to commit, and what it never takes back."""

from dataclasses import replace

import pytest

from consumer.delivery.batch import Prepared
from consumer.delivery.buffer import GROWTH, LARGE_ROWS
from consumer.delivery.intent import Intent
from consumer.delivery.partition import SUSPECT_BATCHES
from consumer.delivery.ports import Cut, Partition, Poison, Record
from consumer.delivery.reading import Intake
from consumer.delivery.task import Stage
from consumer.errors import Reason
from tests.support.states import LIMITS, PLACE, feed, mark, opened, prepare, sealed

FIRST = Partition("events", 0)  # its early batches close at multiples of the early time


def test_records_are_taken_once_and_in_order() -> None:
    """What was taken before is dropped: a broker may send it again."""
    state = opened(5)
    feed(state, 5, 6, 6, 5, 8)

    assert [record.offset for record in state.buffer.records] == [5, 6, 8]
    assert (state.read_to, state.waiting_records, state.oldest_ms) == (9, 3, 1005)


def test_a_closed_lane_takes_nothing_and_learns_nothing() -> None:
    """It lets records go by; an end behind them is not one up to which it has read."""
    state = opened(5, Intent("id", 5, 9))
    feed(state, 5)
    state.intake = Intake.CLOSED
    feed(state, 6, 7, 8)
    state.reached_end(9)

    assert state.seal(LIMITS, 0.0) is None
    assert (state.read_to, state.waiting_records) == (6, 1)


def test_batches_tile_the_log_gaps_and_all() -> None:
    """Each range begins where the last one ended, though no record stands there."""
    state = opened(0)
    feed(state, 2, 3, 7, 9, 20, 21)
    first = sealed(state)
    prepare(state, first)

    assert (first.batch.intent, sealed(state).batch.intent) == (Intent("id", 0, 8), Intent("id", 8, 22))


def test_a_batch_that_is_not_due_waits_unless_no_more_will_come() -> None:
    """By age, by a closed intake, or by a log that can't be read on."""
    for close in ({}, {"intake": Intake.CLOSED}, {"cut": Cut(is_other=False)}):
        state = opened(0)
        feed(state, 0)
        state.reached_end(1)
        for name, value in close.items():
            setattr(state, name, value)
        assert (state.seal(LIMITS, 9.9) is not None) == bool(close)
        assert state.tasks or state.seal(LIMITS, 10.0) is not None


@pytest.mark.parametrize(
    ("rows", "ahead", "grows"), [(2, 0, False), (2, 100, False), (2, 101, True), (1500, 150, False), (1500, 151, True)]
)
def test_a_batch_grows_while_much_lies_ahead(rows: int, ahead: int, *, grows: bool) -> None:
    """More than a tenth of it, under a backlog: a few large inserts cost least; but nothing waits for ever.

    Behind each transaction lies its mark, so a few records always lie ahead.
    """
    state = opened(0)
    feed(state, *range(rows))
    state.known_end = rows + ahead
    limits = replace(LIMITS, rows_max=2000, bytes_max=2**40)
    age_s = limits.age_s_max * (GROWTH if grows else 1)
    assert state.seal(limits, age_s - 0.1) is None
    assert state.seal(limits, age_s) is not None


@pytest.mark.parametrize("rest", [0, 1, 100])
def test_the_rest_of_a_backlog_joins_its_last_batch(rest: int) -> None:
    """An insert of its own would cost ClickHouse dearly; but what does not come soon is not waited for."""
    state = opened(0)
    feed(state, *range(2000))
    state.known_end = 2500
    limits = replace(LIMITS, rows_max=3000, bytes_max=2**40)
    old_s = limits.age_s_max + 1
    assert state.seal(limits, old_s) is None
    feed(state, *range(2000, 2500 - rest))

    assert (state.seal(limits, old_s + 0.4) is None) == bool(rest)
    assert state.tasks or state.seal(limits, old_s + 0.5) is not None


@pytest.mark.parametrize(("rows", "at_end", "closes"), [(10, True, True), (9, True, False), (10, False, False)])
def test_a_large_batch_closes_early_at_the_end_of_its_log(rows: int, *, at_end: bool, closes: bool) -> None:
    """No more is there to wait for. Not more often than early batches: windows of tokens are reckoned from that."""
    state = opened(0)
    step = LARGE_ROWS // 10
    feed(state, *range(rows * step))
    state.known_end, state.took_s, state.partition = 2 * LARGE_ROWS, 5.0, FIRST
    if at_end:
        state.reached_end(rows * step)
    limits = replace(LIMITS, rows_max=100 * LARGE_ROWS, bytes_max=2**40, early_s=2.0)

    assert state.seal(limits, 1.9) is None
    assert (state.seal(limits, 2.0) is not None) == closes


def test_a_turn_ends_with_its_batch() -> None:
    """The next one is another's, if others are far behind too."""
    state = opened(0)
    feed(state, 0)
    state.turn_at_s = 0.0

    assert state.seal(LIMITS, LIMITS.age_s_max) is not None
    assert state.turn_at_s is None


def test_a_batch_does_not_grow_for_what_a_transaction_keeps_back() -> None:
    """The log's end lies ahead, and nothing up to there can be read."""
    state = opened(0)
    feed(state, 0)
    state.known_end = 1000
    state.reached_end(1)

    assert state.seal(LIMITS, LIMITS.age_s_max) is not None


def test_a_batch_closes_early_while_its_partition_is_idle_and_inserts_are_cheap() -> None:
    """After an insert that took long, or beside one that runs, the next batch waits for its age."""
    early = replace(LIMITS, early_s=2.0)
    for took_s, is_busy, age_s in ((2.0, False, 2.0), (2.1, False, 10.0), (1.0, True, 10.0)):
        state = opened(0)
        state.partition = FIRST
        feed(state, 0)
        state.reached_end(1)
        prepare(state, state.seal(early, 2.0) or sealed(state))
        if not is_busy:
            state.finished(2.0 + took_s)
        feed(state, 1, now_s=20.0)
        state.reached_end(2)
        assert state.seal(early, 20.0 + age_s - 0.1) is None
        assert state.seal(early, 20.0 + age_s) is not None


def test_early_batches_of_a_partition_close_at_its_own_moments() -> None:
    """Whatever time their first records came."""
    early = replace(LIMITS, early_s=2.0)
    state = opened(0)
    state.partition = FIRST
    for offset, came_s, closes_s in ((0, 0.5, 2.0), (1, 3.9, 4.0), (2, 4.0, 6.0)):
        feed(state, offset, now_s=came_s)
        state.reached_end(offset + 1)
        assert state.seal(early, closes_s - 0.05) is None
        prepare(state, state.seal(early, closes_s) or sealed(state))
        state.finished(closes_s + 0.1)


def test_an_insert_that_runs_beyond_a_moment_is_followed_by_the_next_batch() -> None:
    """The next moment is not waited for."""
    early = replace(LIMITS, early_s=2.0)
    state = opened(0)
    state.partition = FIRST
    feed(state, 0, now_s=4.0)
    state.reached_end(1)
    prepare(state, state.seal(early, 6.5) or sealed(state))
    feed(state, 1, now_s=7.0)
    state.reached_end(2)
    assert state.seal(early, 8.1) is None
    state.finished(8.3)
    assert state.seal(early, 8.3) is not None


def test_early_batches_of_different_partitions_close_at_different_moments() -> None:
    """The first records of a batch count, not the last ones."""
    early, closed_s = replace(LIMITS, early_s=2.0), list[float]()
    for number in range(4):
        state = opened(0)
        state.partition = Partition("events", number)
        feed(state, 0, now_s=10.5)
        feed(state, 1, now_s=10.9)
        state.reached_end(2)
        closed_s.append(next(at / 100 for at in range(1051, 1300) if state.seal(early, at / 100)))
    assert closed_s[0] == 12.0
    assert max(closed_s) <= 12.5
    assert len(set(closed_s)) == 4


def test_records_that_were_put_back_are_sealed_at_once() -> None:
    """Also so many that they close early at the log's end, and when no more come."""
    early = replace(LIMITS, rows_max=100 * LARGE_ROWS, bytes_max=2**40, early_s=2.0)
    for rows in (1, LARGE_ROWS):
        state = opened(0)
        feed(state, *range(rows + 1), now_s=10.0)
        state.reached_end(rows + 1)
        task = state.seal(early, 12.0) or sealed(state)
        state.prepared(task, Prepared(task.batch.first(1), (), ()))
        state.finished(12.1)
        assert state.seal(early, 12.2) is not None


def test_a_batch_is_sealed_when_memory_is_short() -> None:
    """Once: the next one grows again."""
    state = opened(0)
    feed(state, 0)
    assert state.seal(LIMITS, 0.0) is None
    state.is_squeezed = True
    prepare(state, sealed(state))
    feed(state, 1)
    assert state.seal(LIMITS, 0.0) is None


def test_the_next_batch_is_sealed_once_the_head_is_prepared() -> None:
    """So that a head whose range shrinks can give records back; and there are never three."""
    state = opened(0)
    feed(state, *range(12))
    head = sealed(state)
    assert state.seal(LIMITS, 0.0) is None
    head.stage = Stage.PREPARING
    assert state.seal(LIMITS, 0.0) is None
    prepare(state, head)
    prepare(state, sealed(state))
    assert state.seal(LIMITS, 0.0) is None


def test_a_smaller_batch_gives_the_rest_back() -> None:
    """Nothing is lost when too much poison makes a range shrink."""
    state = opened(0)
    feed(state, 0, 1, 2, 3)
    head = sealed(state)
    state.prepared(head, Prepared(head.batch.first(1), (), ()))

    assert head.batch.intent == Intent("id", 0, 1)
    assert sealed(state).batch.intent == Intent("id", 1, 4)


def test_a_predecessors_range_is_sealed_when_all_of_it_was_read() -> None:
    """Not before, not more, not less, whatever our limits; its end may be a gap."""
    state = opened(10, Intent("id", 10, 20, (12,)))
    feed(state, *range(10, 18))
    assert state.seal(LIMITS, 1e9) is None
    state.reached_end(20)
    feed(state, 20, 21)
    task = sealed(state)

    assert (task.batch.intent, len(task.batch.records), task.is_replay) == (Intent("id", 10, 20, (12,)), 8, True)
    assert state.draft(task).is_inherited
    assert state.draft(task).is_fixed


def test_a_predecessors_intent_is_never_taken_back() -> None:
    """Neither before it is sealed, nor prepared, nor while it has trouble: its insert may have been sent."""
    state = opened(10, Intent("id", 10, 12))
    assert state.final_mark() is None
    assert state.next_commit(0.0) is None
    feed(state, 10, 11)
    task = sealed(state)
    task.stage = Stage.PREPARING
    task.postpone(5.0)

    assert task.stage is Stage.WAITING
    assert (state.next_commit(0.0), state.final_mark()) == (None, None)


def test_an_idle_lane_commits_its_position_once() -> None:
    """A commit without a range names the topic ID."""
    state = opened(7)
    assert state.next_commit(0.0) == mark(7, 7, 7)
    state.commit_succeeded(mark(7, 7, 7))
    assert state.next_commit(0.0) is None


def test_one_mark_finishes_a_batch_and_intends_the_next() -> None:
    """Under backlog there is one commit for each batch."""
    state = opened(0)
    feed(state, *range(6))
    head = sealed(state)
    assert state.next_commit(0.0) is None
    prepare(state, head, 1)
    assert state.next_commit(0.0) == mark(0, 0, 3, 1)
    prepare(state, sealed(state))
    head.stage = Stage.INSERTING
    assert state.next_commit(0.0) is None
    state.finished(0.0)

    assert state.next_commit(0.0) == mark(3, 3, 6)
    assert state.oldest_ms == 1003


def test_only_one_mark_is_under_way() -> None:
    """Two could arrive in the other order."""
    state = opened(7)
    state.pending_commit = mark(7, 7, 7)
    assert state.next_commit(0.0) is None
    state.retry_commit_at(5.0)
    assert (state.next_commit(4.9), state.next_commit(5.0), state.commit_attempt) == (None, mark(7, 7, 7), 1)
    state.commit_succeeded(mark(7, 7, 7))
    assert state.pending_commit is None
    assert not state.commit_attempt


def test_a_mark_without_the_heads_intent_does_not_start_it() -> None:
    """The head was prepared while a mark of the position was under way."""
    state = opened(0)
    feed(state, 0, 1, 2)
    prepare(state, sealed(state))

    assert not state.intends(mark(0, 0, 0))
    assert state.intends(mark(0, 0, 3))


def test_what_is_finished_does_not_wait_for_a_head_in_trouble() -> None:
    """Its registry may be away for hours, and the tokens of what came before would be forgotten meanwhile."""
    state = opened(0)
    feed(state, 0, 1, 2)
    head = sealed(state)
    head.stage = Stage.PREPARING
    head.postpone(1e9)

    assert state.next_commit(0.0) == mark(0, 0, 0)


def test_no_last_mark_over_an_intent() -> None:
    """Once intended, a range may be in the table: only who inserts it may go past it."""
    state = opened(0)
    feed(state, 0, 1, 2)
    head = sealed(state)
    prepare(state, head)
    assert state.final_mark() == mark(0, 0, 0)
    head.intended = True
    assert state.final_mark() is None


def test_an_idle_lane_moves_past_gaps_at_the_end() -> None:
    """Markers of transactions are no records; a lag of 1 for ever would be false, and retention may pass them."""
    state = opened(5)
    state.reached_end(8)
    assert state.position == 8
    feed(state, 8)
    state.reached_end(9)
    assert state.position == 8


def test_a_lane_that_has_finished_all_moves_past_the_gap_behind_its_last_record() -> None:
    """The end was heard of while the record still waited, and nobody tells of it again."""
    state = opened(5)
    feed(state, 5, 7)
    state.reached_end(9)
    head = sealed(state, now_s=99.0)
    prepare(state, head)
    assert head.batch.intent == Intent("id", 5, 8)
    state.finished(0.0)

    assert state.position == 9
    assert state.next_commit(0.0) == mark(9, 9, 9)


def test_a_gap_is_not_passed_while_a_record_before_it_waits() -> None:
    """Its end is that of all records, not of the batch that is finished."""
    state = opened(0)
    feed(state, *range(4))
    state.reached_end(5)
    prepare(state, sealed(state))
    state.finished(0.0)
    assert state.position == 3
    prepare(state, sealed(state, now_s=99.0))
    assert state.position == 3
    state.finished(0.0)
    assert state.position == 5


def test_it_is_done_when_all_is_committed_or_a_successors() -> None:
    """Drained means: in the table, and the group knows."""
    state = opened(0)
    assert not state.is_done
    state.commit_succeeded(mark(0, 0, 0))
    assert state.is_done
    feed(state, 0)
    assert not state.is_done
    assert opened(0, Intent("id", 0, 5)).is_done


def test_a_batch_that_waits_needs_the_memory_of_its_records() -> None:
    """Sealing and preparing add nothing: a block is encoded when it is sent."""
    state = opened(0)
    feed(state, 0, 1, 2, 3)
    before = state.size_bytes
    prepare(state, sealed(state))

    assert before == state.size_bytes == 4 * Record(PLACE, 0, 0, b"", b"v").size_bytes


@pytest.mark.parametrize(
    ("reason", "is_suspect"),
    [
        (Reason.BAD_AVRO, True),
        (Reason.BAD_VALUE, True),
        (Reason.CONSTRAINT, True),
        (Reason.FRAME, False),
        (Reason.UNKNOWN_SCHEMA, False),
    ],
)
def test_poison_that_only_the_table_knows_makes_the_next_batches_suspect(reason: Reason, *, is_suspect: bool) -> None:
    """Until some in a row have none. What frame and schema tell needs no question."""
    state = opened(0)
    feed(state, *range(6))
    first, letter = sealed(state), Poison(1, reason, "")
    state.prepared(first, Prepared(first.batch.without((letter,)), (), (letter,)))
    second, suspected = sealed(state), 0
    while state.draft(second).is_suspect:
        prepare(state, second)
        suspected += 1

    assert suspected == SUSPECT_BATCHES * is_suspect


def test_a_batch_whose_intent_the_group_may_have_is_not_suspect() -> None:
    """Neither one that was refused nor a predecessor's: a row that would be refused now may be there since earlier."""
    state = opened(0)
    feed(state, *range(6))
    head, letter = sealed(state), Poison(1, Reason.BAD_VALUE, "")
    state.prepared(head, Prepared(head.batch.without((letter,)), (), (letter,)))
    head.begun()
    inherited = opened(5, Intent("id", 5, 7))
    inherited.suspect_batches = 1
    feed(inherited, 5, 6)

    assert not state.draft(head).is_suspect
    assert not inherited.draft(sealed(inherited)).is_suspect


@pytest.mark.parametrize("offsets", [[5, 6, 7], [3, 4, 5, 6], [6, 9]])
@pytest.mark.parametrize("epochs", [[0, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [-1, -1, 0, 0]])
def test_records_that_come_together_are_taken_as_if_they_came_singly(offsets: list[int], epochs: list[int]) -> None:
    """Those that were taken before are dropped, and a new leader's wait until its log is proven."""
    records = [Record(PLACE, offset, 0, b"", b"v", (), epoch) for offset, epoch in zip(offsets, epochs, strict=False)]
    together, singly = opened(0), opened(0)
    for state in (together, singly):
        feed(state, *range(5), epoch=0)
    count = together.add_all(records, 1.0)

    assert count == sum(singly.add(record, 1.0) for record in records)
    assert together == singly
