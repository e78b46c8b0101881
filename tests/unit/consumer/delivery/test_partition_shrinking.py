"""One partition's state when a batch under way is made smaller."""

from concurrent.futures import Future

from consumer.delivery.batch import Prepared
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Poison
from consumer.delivery.task import Stage
from consumer.errors import Reason
from tests.support.states import feed, make_smaller, mark, opened, prepare, refusal, sealed


def test_a_range_that_was_refused_at_once_may_shrink_until_it_is_intended_again() -> None:
    """Nothing of it is in the table; the group still holds the larger range, so no mark takes that back."""
    state = opened(0)
    feed(state, *range(3))
    head = sealed(state)
    prepare(state, head)
    head.begun()
    assert state.draft(head).is_fixed
    head.was_refused(refusal(1, is_untouched=False))
    assert state.draft(head).is_fixed
    head.was_refused(refusal(1))
    assert not state.draft(head).is_fixed
    assert state.final_mark() is None
    make_smaller(state, head)
    assert state.final_mark() is None
    assert state.next_commit(0.0) == mark(0, 0, 1)
    head.begun()
    assert state.draft(head).is_fixed


def test_a_predecessors_range_may_shrink_once_it_was_refused_at_once() -> None:
    """Otherwise no worker would ever get past it."""
    state = opened(0, Intent("id", 0, 3))
    feed(state, 0, 1, 2)
    head = sealed(state)
    assert state.draft(head).is_fixed
    prepare(state, head)
    head.begun()
    head.was_refused(refusal(0, 2))

    assert not state.draft(head).is_fixed


def test_what_was_sealed_behind_a_batch_that_shrinks_is_taken_back() -> None:
    """Its records wait behind the head's rest, in order, and its preparation is nobody's."""
    for is_under_way in (True, False):
        state = opened(0)
        feed(state, *range(8))
        head = sealed(state)
        prepare(state, head)
        head.begun()
        later = sealed(state)
        job: Future[Prepared] = Future()
        if is_under_way:
            later.stage, later.job = Stage.PREPARING, job  # type: ignore[assignment]  # one of the three kinds
        else:
            prepare(state, later)
        head.was_refused(refusal(0, 2))
        before = state.size_bytes
        make_smaller(state, head)

        assert (list(state.tasks), later.job, job.cancelled()) == ([head], None, is_under_way)
        assert [record.offset for record in state.buffer.records] == list(range(1, 8))
        assert (state.size_bytes, state.waiting_records) == (before, 8)
        assert sealed(state).batch.intent == Intent("id", 1, 4)


def test_what_is_known_of_the_rest_is_left_out_of_the_next_batch() -> None:
    """The next batch need not ask the table again; once it is through, it is forgotten."""
    state = opened(0)
    feed(state, *range(6))
    head = sealed(state)
    known = Poison(2, Reason.BAD_VALUE, "no")
    state.prepared(head, Prepared(head.batch.first(2), (), (), (known,)))
    later = sealed(state)

    assert state.draft(later).known == (known,)
    assert state.draft(head).known == ()
    state.finished(0.0)
    assert state.draft(later).known == (known,)
    prepare(state, later, 2)
    state.finished(0.0)
    assert not state.known


def test_poison_whose_dead_letters_are_not_sent_is_known_when_its_batch_is_prepared_again() -> None:
    """The table has refused more of it: both are sent when its rows are there."""
    state = opened(0)
    feed(state, *range(3))
    head = sealed(state)
    prepare(state, head, 1)
    head.was_refused(refusal(2))
    draft = state.draft(head)

    assert [item.offset for item in draft.known] == [1]
    assert [item.offset for item in draft.refused] == [2]
