"""One partition's state: what it seals, what it wishes to commit, and what it never takes back."""

from dataclasses import replace

import pytest

from consumer.delivery.batch import Prepared
from consumer.delivery.buffer import GROWTH
from consumer.delivery.intent import Intent
from consumer.delivery.partition import SUSPECT_BATCHES, Intake
from consumer.delivery.ports import Cut, Poison, Record
from consumer.delivery.task import Stage
from consumer.errors import Reason
from tests.support.states import LIMITS, PLACE, feed, mark, opened, prepare, sealed


def test_records_are_taken_once_and_in_order() -> None:
    """What was taken before is dropped: a broker may send it again."""
    lane = opened(5)
    feed(lane, 5, 6, 6, 5, 8)

    assert [record.offset for record in lane.buffer.records] == [5, 6, 8]
    assert (lane.read_to, lane.waiting_records, lane.oldest_ms) == (9, 3, 1005)


def test_a_closed_lane_takes_nothing_and_learns_nothing() -> None:
    """It lets records go by; an end behind them is not one up to which it has read."""
    lane = opened(5, Intent("id", 5, 9))
    feed(lane, 5)
    lane.intake = Intake.CLOSED
    feed(lane, 6, 7, 8)
    lane.reached_end(9)

    assert lane.seal(LIMITS, 0.0) is None
    assert (lane.read_to, lane.waiting_records) == (6, 1)


def test_batches_tile_the_log_gaps_and_all() -> None:
    """Each range begins where the last one ended, though no record stands there."""
    lane = opened(0)
    feed(lane, 2, 3, 7, 9, 20, 21)
    first = sealed(lane)
    prepare(lane, first)

    assert (first.batch.intent, sealed(lane).batch.intent) == (Intent("id", 0, 8), Intent("id", 8, 22))


def test_a_batch_that_is_not_due_waits_unless_no_more_will_come() -> None:
    """By age, by a closed intake, or by a log that can't be read on."""
    for close in ({}, {"intake": Intake.CLOSED}, {"cut": Cut(is_other=False)}):
        lane = opened(0)
        feed(lane, 0)
        lane.reached_end(1)
        for name, value in close.items():
            setattr(lane, name, value)
        assert (lane.seal(LIMITS, 9.9) is not None) == bool(close)
        assert lane.tasks or lane.seal(LIMITS, 10.0) is not None


@pytest.mark.parametrize(("known_end", "grows"), [(0, False), (2, False), (3, True)])
def test_a_batch_grows_while_more_lies_ahead_than_it_has(known_end: int, *, grows: bool) -> None:
    """Under a backlog freshness is lost already, and a few large inserts cost least; but nothing waits for ever."""
    lane = opened(0)
    feed(lane, 0)
    lane.known_end = known_end
    age_s = LIMITS.age_s_max * (GROWTH if grows else 1)
    assert lane.seal(LIMITS, age_s - 0.1) is None
    assert lane.seal(LIMITS, age_s) is not None


def test_a_batch_does_not_grow_for_what_a_transaction_keeps_back() -> None:
    """The log's end lies ahead, and nothing up to there can be read."""
    lane = opened(0)
    feed(lane, 0)
    lane.known_end = 1000
    lane.reached_end(1)

    assert lane.seal(LIMITS, LIMITS.age_s_max) is not None


def test_a_batch_closes_early_while_its_partition_is_idle_and_inserts_are_cheap() -> None:
    """After an insert that took long, or beside one that runs, the next batch waits for its age."""
    early = replace(LIMITS, early_s=2.0)
    for took_s, is_busy, age_s in ((2.0, False, 2.0), (2.1, False, 10.0), (1.0, True, 10.0)):
        lane = opened(0)
        feed(lane, 0)
        lane.reached_end(1)
        prepare(lane, lane.seal(early, 2.0) or sealed(lane))
        if not is_busy:
            lane.finished(2.0 + took_s)
        feed(lane, 1, now_s=20.0)
        lane.reached_end(2)
        assert lane.seal(early, 20.0 + age_s - 0.1) is None
        assert lane.seal(early, 20.0 + age_s) is not None


def test_a_batch_is_sealed_when_memory_is_short() -> None:
    """Once: the next one grows again."""
    lane = opened(0)
    feed(lane, 0)
    assert lane.seal(LIMITS, 0.0) is None
    lane.is_squeezed = True
    prepare(lane, sealed(lane))
    feed(lane, 1)
    assert lane.seal(LIMITS, 0.0) is None


def test_the_next_batch_is_sealed_once_the_head_is_prepared() -> None:
    """So that a head whose range shrinks can give records back; and there are never three."""
    lane = opened(0)
    feed(lane, *range(12))
    head = sealed(lane)
    assert lane.seal(LIMITS, 0.0) is None
    head.stage = Stage.PREPARING
    assert lane.seal(LIMITS, 0.0) is None
    prepare(lane, head)
    prepare(lane, sealed(lane))
    assert lane.seal(LIMITS, 0.0) is None


def test_a_smaller_batch_gives_the_rest_back() -> None:
    """Nothing is lost when too much poison makes a range shrink."""
    lane = opened(0)
    feed(lane, 0, 1, 2, 3)
    head = sealed(lane)
    lane.prepared(head, Prepared(head.batch.first(1), (), ()))

    assert head.batch.intent == Intent("id", 0, 1)
    assert sealed(lane).batch.intent == Intent("id", 1, 4)


def test_a_predecessors_range_is_sealed_when_all_of_it_was_read() -> None:
    """Not before, not more, not less, whatever our limits; its end may be a gap."""
    lane = opened(10, Intent("id", 10, 20, (12,)))
    feed(lane, *range(10, 18))
    assert lane.seal(LIMITS, 1e9) is None
    lane.reached_end(20)
    feed(lane, 20, 21)
    work = sealed(lane)

    assert (work.batch.intent, len(work.batch.records), work.is_replay) == (Intent("id", 10, 20, (12,)), 8, True)
    assert lane.draft(work).is_inherited
    assert lane.draft(work).is_fixed


def test_a_predecessors_intent_is_never_taken_back() -> None:
    """Neither before it is sealed, nor prepared, nor while it has trouble: its insert may have been sent."""
    lane = opened(10, Intent("id", 10, 12))
    assert lane.final_mark() is None
    assert lane.next_commit(0.0) is None
    feed(lane, 10, 11)
    work = sealed(lane)
    work.stage = Stage.PREPARING
    work.postpone(5.0)

    assert work.stage is Stage.WAITING
    assert (lane.next_commit(0.0), lane.final_mark()) == (None, None)


def test_an_idle_lane_commits_its_position_once() -> None:
    """A commit without a range names the topic ID."""
    lane = opened(7)
    assert lane.next_commit(0.0) == mark(7, 7, 7)
    lane.commit_succeeded(mark(7, 7, 7))
    assert lane.next_commit(0.0) is None


def test_one_mark_finishes_a_batch_and_intends_the_next() -> None:
    """Under backlog there is one commit for each batch."""
    lane = opened(0)
    feed(lane, *range(6))
    head = sealed(lane)
    assert lane.next_commit(0.0) is None
    prepare(lane, head, 1)
    assert lane.next_commit(0.0) == mark(0, 0, 3, 1)
    prepare(lane, sealed(lane))
    head.stage = Stage.INSERTING
    assert lane.next_commit(0.0) is None
    lane.finished(0.0)

    assert lane.next_commit(0.0) == mark(3, 3, 6)
    assert lane.oldest_ms == 1003


def test_only_one_mark_is_under_way() -> None:
    """Two could arrive in the other order."""
    lane = opened(7)
    lane.pending_commit = mark(7, 7, 7)
    assert lane.next_commit(0.0) is None
    lane.retry_commit_at(5.0)
    assert (lane.next_commit(4.9), lane.next_commit(5.0), lane.commit_attempt) == (None, mark(7, 7, 7), 1)
    lane.commit_succeeded(mark(7, 7, 7))
    assert lane.pending_commit is None
    assert not lane.commit_attempt


def test_a_mark_without_the_heads_intent_does_not_start_it() -> None:
    """The head was prepared while a mark of the position was under way."""
    lane = opened(0)
    feed(lane, 0, 1, 2)
    prepare(lane, sealed(lane))

    assert not lane.intends(mark(0, 0, 0))
    assert lane.intends(mark(0, 0, 3))


def test_what_is_finished_does_not_wait_for_a_head_in_trouble() -> None:
    """Its registry may be away for hours, and the tokens of what came before would be forgotten meanwhile."""
    lane = opened(0)
    feed(lane, 0, 1, 2)
    head = sealed(lane)
    head.stage = Stage.PREPARING
    head.postpone(1e9)

    assert lane.next_commit(0.0) == mark(0, 0, 0)


def test_no_last_mark_over_an_intent() -> None:
    """Once intended, a range may be in the table: only who inserts it may go past it."""
    lane = opened(0)
    feed(lane, 0, 1, 2)
    head = sealed(lane)
    prepare(lane, head)
    assert lane.final_mark() == mark(0, 0, 0)
    head.intended = True
    assert lane.final_mark() is None


def test_an_idle_lane_moves_past_gaps_at_the_end() -> None:
    """Markers of transactions are no records; a lag of 1 for ever would be false, and retention may pass them."""
    lane = opened(5)
    lane.reached_end(8)
    assert lane.position == 8
    feed(lane, 8)
    lane.reached_end(9)
    assert lane.position == 8


def test_a_lane_that_has_finished_all_moves_past_the_gap_behind_its_last_record() -> None:
    """The end was heard of while the record still waited, and nobody tells of it again."""
    lane = opened(5)
    feed(lane, 5, 7)
    lane.reached_end(9)
    head = sealed(lane, now_s=99.0)
    prepare(lane, head)
    assert head.batch.intent == Intent("id", 5, 8)
    lane.finished(0.0)

    assert lane.position == 9
    assert lane.next_commit(0.0) == mark(9, 9, 9)


def test_a_gap_is_not_passed_while_a_record_before_it_waits() -> None:
    """Its end is that of all records, not of the batch that is finished."""
    lane = opened(0)
    feed(lane, *range(4))
    lane.reached_end(5)
    prepare(lane, sealed(lane))
    lane.finished(0.0)
    assert lane.position == 3
    prepare(lane, sealed(lane, now_s=99.0))
    assert lane.position == 3
    lane.finished(0.0)
    assert lane.position == 5


def test_it_is_done_when_all_is_committed_or_a_successors() -> None:
    """Drained means: in the table, and the group knows."""
    lane = opened(0)
    assert not lane.is_done
    lane.commit_succeeded(mark(0, 0, 0))
    assert lane.is_done
    feed(lane, 0)
    assert not lane.is_done
    assert opened(0, Intent("id", 0, 5)).is_done


def test_records_and_their_encoded_form_have_their_place() -> None:
    """Memory is reserved for both from the first moment, so that sealing and encoding never pass the bound."""
    lane = opened(0)
    feed(lane, 0, 1, 2, 3)
    before = lane.size_bytes
    prepare(lane, sealed(lane))

    assert before == lane.size_bytes == 2 * 4 * Record(PLACE, 0, 0, b"", b"v").size_bytes


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
    lane = opened(0)
    feed(lane, *range(6))
    first, letter = sealed(lane), Poison(1, reason, "")
    lane.prepared(first, Prepared(first.batch.without((letter,)), (), (letter,)))
    second, suspected = sealed(lane), 0
    while lane.draft(second).is_suspect:
        prepare(lane, second)
        suspected += 1

    assert suspected == SUSPECT_BATCHES * is_suspect


def test_a_batch_whose_intent_the_group_may_have_is_not_suspect() -> None:
    """Neither one that was refused nor a predecessor's: a row that would be refused now may be there since earlier."""
    lane = opened(0)
    feed(lane, *range(6))
    head, letter = sealed(lane), Poison(1, Reason.BAD_VALUE, "")
    lane.prepared(head, Prepared(head.batch.without((letter,)), (), (letter,)))
    head.begun()
    inherited = opened(5, Intent("id", 5, 7))
    inherited.suspect_batches = 1
    feed(inherited, 5, 6)

    assert not lane.draft(head).is_suspect
    assert not inherited.draft(sealed(inherited)).is_suspect


@pytest.mark.parametrize("offsets", [[5, 6, 7], [3, 4, 5, 6], [6, 9]])
@pytest.mark.parametrize("epochs", [[0, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [-1, -1, 0, 0]])
def test_records_that_come_together_are_taken_as_if_they_came_singly(offsets: list[int], epochs: list[int]) -> None:
    """Those that were taken before are dropped, and a new leader's wait until its log is proven."""
    records = [Record(PLACE, offset, 0, b"", b"v", (), epoch) for offset, epoch in zip(offsets, epochs, strict=False)]
    together, singly = opened(0), opened(0)
    for lane in (together, singly):
        feed(lane, *range(5), epoch=0)
    count = together.add_all(records, 1.0)

    assert count == sum(singly.add(record, 1.0) for record in records)
    assert together == singly
