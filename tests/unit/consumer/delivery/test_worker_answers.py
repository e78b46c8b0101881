"""The worker and the answers that it gets: old ones, none, wrong ones, and those that wait."""

import pytest

from consumer.delivery.intent import Intent
from consumer.delivery.ports import Answer, CommittedOffset
from consumer.errors import Fenced
from tests.support.consumer_fakes import PLACE, Around, MuteProcess, get_on, until_begun
from tests.support.fake_group import CommitFault
from tests.support.fake_table import InsertFault, value


@pytest.fixture
def around() -> Around:
    """A table with a window of 100 tokens, and schemas 1 and 2."""
    return Around()


def test_an_answer_to_another_mark_says_nothing(around: Around) -> None:
    """One from before a partition was given up and came back ends nothing, and begins no insert."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process, 2)
    old = CommittedOffset(0, Intent("id-1", 0, 1).encode())
    process.log.answers += [Answer(PLACE, old, Fenced("UNKNOWN_MEMBER_ID")), Answer(PLACE, old, None)]
    process.worker.turn()
    assert PLACE in process.worker.states
    get_on(around, process)
    assert around.rows_of() == dict.fromkeys(range(4), 1)


@pytest.mark.parametrize("fault", [InsertFault.TORN, InsertFault.VIEW_TORN])
@pytest.mark.parametrize("is_successor", [False, True])
def test_what_a_killed_table_knows_the_token_of_and_lost_is_put_back(
    around: Around,
    fault: InsertFault,
    is_successor: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    """A worker that repeats the insert looks for its rows: the worker itself, or who gets its partition."""
    process = around.process()
    around.produce(*[value()] * 4)
    around.table.faults.append(fault)
    until_begun(process)
    process.pool.finish_all()
    if is_successor:
        around.broker.remove(process.log)
        process = around.process()
    get_on(around, process)
    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert around.table.sums == {"id-1/0": 4}


def test_a_commit_that_fails_is_not_hammered(around: Around) -> None:
    """The next try waits for its time, however often the worker turns."""
    process = around.process()
    around.produce(*[value()] * 4)
    around.broker.faults += [CommitFault.NOT_KEPT] * 5
    for _ in range(20):
        process.step()

    assert len(around.broker.faults) == 4


def test_dead_letters_take_no_thread_from_the_rows(around: Around) -> None:
    """A dead-letter topic that does not answer holds the partitions that have poison, and no others."""
    process = around.process(MuteProcess)
    around.produce(b"", *[value()] * 3)
    get_on(around, process)
    assert (len(process.senders.jobs), len(process.pool.jobs)) == (1, 0)
    assert around.mark.offset == 0

    process.senders.finish_all()
    get_on(around, process)
    assert around.rows_of() == dict.fromkeys(range(1, 4), 1)
