"""The worker when the table refuses more rows than an intent can list: the batch is made smaller, by any worker."""

import pytest

from consumer.delivery.intent import Intent
from consumer.delivery.ports import CommittedOffset
from tests.support.consumer_fakes import Around, Process, get_on, until_begun
from tests.support.fake_table import value

BAD = value(fault="table")


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Around:
    """One partition, whose intents have room for one offset, and for one more when they cover no other."""
    monkeypatch.setattr(Intent, "fits", property(lambda intent: len(intent.excluded) <= 1 + (intent.b - intent.a == 1)))
    return Around()


def until_refused(around: Around, process: Process) -> None:
    """Let the table refuse the batch [0, 4); the worker has not heard of it yet."""
    until_begun(process)
    assert around.intent == Intent("id-1", 0, 4, leader_epoch=0)
    process.pool.finish_all()


def test_a_batch_with_more_poison_than_an_intent_lists_becomes_several(around: Around) -> None:
    """Each record a row or a dead letter, once; and the ranges tile the log."""
    marks: list[CommittedOffset] = []
    around.broker.watchers.append(lambda _, mark: marks.append(mark))
    process = around.process()
    around.produce(BAD, value(), BAD, BAD)
    get_on(around, process, 40)

    assert around.rows_of() == {1: 1}
    assert around.letters.sent == {"id-1/0/0": 1, "id-1/0/2": 1, "id-1/0/3": 1}
    assert [mark.metadata for mark in marks if "|0|4|" in mark.metadata] == ["2|id-1|0|4||0|0|cluster|-1|"]
    assert around.intent == Intent("id-1", 4, 4, leader_epoch=0)
    assert process.metrics.counts["records/events/0/dead_letters"] == 3


def test_the_batch_behind_it_is_sealed_anew(around: Around) -> None:
    """Two were under way; the second's range began where the first one's does not end any more."""
    process = around.process()
    around.produce(*[BAD, value()] * 4)
    until_begun(process)
    for _ in range(8):
        around.clock.now_s += 0.5
        process.worker.turn()
    (state,) = process.worker.states.values()
    assert len(state.tasks) == 2
    get_on(around, process, 60)

    assert around.rows_of() == dict.fromkeys(range(1, 8, 2), 1)
    assert around.letters.sent == {f"id-1/0/{offset}": 1 for offset in range(0, 8, 2)}


def test_a_successor_makes_a_range_smaller_that_no_intent_could_list(around: Around) -> None:
    """Its predecessor died over it; otherwise every successor would."""
    dead = around.process()
    around.produce(BAD, value(), BAD, value())
    until_refused(around, dead)
    around.broker.remove(dead.log)
    get_on(around, around.process(), 40)

    assert around.rows_of() == {1: 1, 3: 1}
    assert around.letters.sent == {"id-1/0/0": 1, "id-1/0/2": 1}


@pytest.mark.parametrize("turns", range(1, 12))
def test_a_crash_anywhere_behind_the_smaller_range_changes_nothing(around: Around, turns: int) -> None:
    """Before its intent arrived or behind it, its rows sent or not: the successor goes on from what the group holds."""
    dead = around.process()
    around.produce(BAD, value(), BAD, value())
    until_refused(around, dead)
    for _ in range(turns):
        dead.worker.turn()
        dead.pool.finish_all()
    around.broker.remove(dead.log)
    get_on(around, around.process(), 40)

    assert around.rows_of() == {1: 1, 3: 1}
    assert set(around.letters.sent) == {"id-1/0/0", "id-1/0/2"}


@pytest.mark.parametrize("turns", range(1, 16))
def test_what_has_a_dead_letter_never_becomes_a_row(around: Around, turns: int) -> None:
    """Its batch was made smaller, its worker died, its schema was learnt: it stays left out all the same."""
    dead = around.process()
    around.produce(BAD, value(), value(), value(7))
    for _ in range(turns):
        dead.worker.turn()
        dead.pool.finish_all()
    around.broker.remove(dead.log)
    around.rows.known.add(7)
    get_on(around, around.process(), 40)

    assert set(around.rows_of()) | {int(key.split("/")[2]) for key in around.letters.sent} == set(range(4))
    assert not {f"id-1/0/{offset}" for offset in around.rows_of()} & set(around.letters.sent)
