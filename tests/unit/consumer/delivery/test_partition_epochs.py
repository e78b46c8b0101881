"""One partition's state over leader epochs, logs that were cut, and second readings."""

from consumer.delivery.continuity import Continuity
from consumer.delivery.intent import Detour, Intent
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import CommittedOffset, Cut
from consumer.delivery.reading import Intake
from consumer.delivery.task import BatchTask, Stage
from tests.support.states import LIMITS, PLACE, feed, opened, prepare, sealed

BEFORE = Detour(12, 90, 7, "1|id|90|95|")


def finish(state: PartitionState, task: BatchTask) -> None:
    """Let the head be prepared and inserted."""
    prepare(state, task)
    task.stage = Stage.INSERTING
    state.finished(0.0)


def read_again(position: int = 10) -> PartitionState:
    """Return a state in a second reading, which ends at 12 and goes back to 90."""
    return PartitionState(PLACE, "id", position, None, reading=3, detour=BEFORE, read_to=position)


def test_a_batch_is_of_one_leader_epoch() -> None:
    """Its intent, its token and its rows name it."""
    state = opened(0)
    feed(state, 0, 1, epoch=4)
    state.continuity = Continuity()  # nothing to compare: the leader is believed
    feed(state, 2, 3, 4, epoch=6)
    first = sealed(state, 99.0)
    prepare(state, first)

    assert first.batch.intent == Intent("id", 0, 2, leader_epoch=4)
    assert sealed(state, 99.0).batch.intent == Intent("id", 2, 5, leader_epoch=6)


def test_a_mark_names_the_epoch_of_the_record_before_it() -> None:
    """In the commit and, without a range, in its text; gaps behind it change nothing."""
    state = opened(0)
    feed(state, 0, 1, epoch=4)
    finish(state, sealed(state, 99.0))
    state.reached_end(9)

    assert state.final_mark() == CommittedOffset(9, Intent("id", 9, 9, leader_epoch=4).encode(), 4)


def test_a_range_that_follows_has_its_own_epoch_and_its_mark_the_one_before() -> None:
    """The commit names the record before the range, the intent the records in it."""
    state = opened(0)
    state.leader_epoch = 4
    feed(state, 0, epoch=6)
    task = sealed(state, 99.0)
    prepare(state, task)

    assert state.next_commit(0.0) == CommittedOffset(0, Intent("id", 0, 1, leader_epoch=6).encode(), 4)


def test_a_log_that_was_cut_is_read_no_further_nor_is_its_end() -> None:
    """What follows under other offsets is no record of what was read, and the end behind it says nothing."""
    state = opened(0)
    feed(state, 0, 1, epoch=4)
    feed(state, 2, epoch=2)
    feed(state, 3, epoch=4)
    state.reached_end(9)

    assert state.cut == Cut(is_other=True, end=2)
    assert (state.read_to, state.waiting_records) == (2, 2)
    finish(state, sealed(state))
    state.reached_end(9)
    assert state.position == 2


def test_an_end_says_nothing_while_the_last_record_is_read_once_more() -> None:
    """Records of the new leader were let go, and come again."""
    state = opened(0)
    feed(state, 0, epoch=4)
    finish(state, sealed(state, 99.0))
    feed(state, 1, 2, epoch=6)
    state.reached_end(3)

    assert (state.position, state.read_to, state.continuity.seek_to) == (1, 1, (0, 4))
    state.continuity.sought()
    feed(state, 0, epoch=4)
    feed(state, 1, 2, epoch=6)
    state.reached_end(3)
    assert (state.read_to, state.waiting_records) == (3, 2)


def test_a_range_that_is_another_one_now_is_not_repeated() -> None:
    """Neither its rows nor its dead letters would be those that were promised."""
    state = opened(10, Intent("id", 10, 12, leader_epoch=4))
    state.continuity = Continuity(promised=state.replay)
    feed(state, 10, epoch=4)
    feed(state, 11, epoch=6)

    assert state.cut == Cut(is_other=True, end=11)
    assert state.seal(LIMITS, 99.0) is None
    assert state.is_done


def test_a_second_reading_has_its_number_and_ends() -> None:
    """Then the group has exactly what it had before."""
    state = read_again()
    feed(state, 10, 11, 12, 13)
    task = sealed(state, 0.0)

    assert (task.batch.intent.reading, task.batch.intent.b, task.batch.intent.detour) == (3, 12, BEFORE)
    assert state.is_over
    assert not state.is_done
    finish(state, task)
    assert state.final_mark() == CommittedOffset(90, "1|id|90|95|", 7)
    assert not state.is_done
    state.commit_succeeded(CommittedOffset(90, "1|id|90|95|", 7))
    assert state.is_done


def test_a_second_reading_ends_in_a_gap_too() -> None:
    """The log's end, or a record behind it, tells."""
    state = read_again()
    feed(state, 10)
    state.reached_end(30)

    assert (state.is_over, state.read_to, state.waiting_records) == (True, 12, 1)
    finish(state, sealed(state))
    assert state.final_mark() == CommittedOffset(90, "1|id|90|95|", 7)


def test_a_second_reading_that_is_interrupted_is_gone_on_with() -> None:
    """Before its end the mark says where it is, and that it will go back."""
    state = read_again()
    feed(state, 10)
    finish(state, sealed(state, 99.0))

    assert state.final_mark() == CommittedOffset(11, Intent("id", 11, 11, reading=3, detour=BEFORE).encode())
    feed(state, 11, 12)
    state.intake = Intake.CLOSED
    assert state.final_mark() == CommittedOffset(11, Intent("id", 11, 11, reading=3, detour=BEFORE).encode())
