"""The worker over its fakes, one behaviour at a time; what random schedules find is in tests/property."""

import pytest

from consumer.delivery.buffer import LARGE_ROWS, BufferLimits
from consumer.delivery.intent import Intent, decode
from consumer.delivery.ports import Block, CommittedOffset, Partition
from consumer.errors import Rejected
from tests.support import consumer_fakes
from tests.support.consumer_fakes import Around, get_on
from tests.support.fake_group import CommitFault, FakeBroker, FakeLog
from tests.support.fake_table import InsertFault, value


@pytest.fixture
def around() -> Around:
    """A table with a window of 100 tokens, and schemas 1 and 2."""
    return Around()


def test_records_become_rows_and_the_group_knows(around: Around) -> None:
    """From the log to the table; then the position is committed, with the topic's ID."""
    process = around.process()
    around.produce(*[value()] * 10)
    get_on(around, process)

    assert around.rows_of() == dict.fromkeys(range(10), 1)
    assert (around.mark.offset, around.intent) == (10, Intent("id-1", 10, 10, leader_epoch=0))
    assert process.metrics.counts["records/events/0/read"] == 10
    assert process.metrics.counts["records/events/0/rows_inserted"] == 10


def test_nothing_is_inserted_before_its_intent_is_confirmed(around: Around) -> None:
    """A commit without an answer begins nothing, however long it takes."""
    process = around.process()
    around.produce(*[value()] * 4)
    while not any("|0|4|" in mark.metadata for _, mark in process.log.sent):
        process.worker.turn()
        process.pool.finish_all()
    around.broker.is_away = True
    get_on(around, process, 20)
    assert not around.table.rows
    around.broker.is_away = False
    get_on(around, process)
    assert len(around.table.rows) == 4


def test_a_turn_is_known_from_when_it_began(around: Around) -> None:
    """Of a partition that is far behind; else none would ever take long."""
    process = around.process()
    around.produce(value())
    process.worker.turn()
    (state,) = process.worker.states.values()
    state.known_end, state.ended_at, around.broker.is_away = 2 * LARGE_ROWS, None, True
    began_s = around.clock.now_s
    for _ in range(2):
        process.worker.turn()
        around.clock.now_s += 0.1

    assert state.turn_at_s == began_s


def count_rows(around: Around, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of each insert."""
    sizes, insert = list[int](), around.table.insert

    def count(block: Block) -> None:
        sizes.append(len(block.offsets))
        insert(block)

    monkeypatch.setattr(around.table, "insert", count)
    return sizes


def test_the_first_batch_after_a_pause_is_small(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is inserted while the next ones grow; those are as large as they may be, until nothing comes for a while."""
    rows = 5 * LARGE_ROWS
    monkeypatch.setattr(consumer_fakes, "LIMITS", BufferLimits(rows, 2**40, 100.0, 2**40))
    sizes = count_rows(around, monkeypatch)
    process = around.process()
    process.log.records_max = LARGE_ROWS // 2
    for _ in range(2):
        around.produce(*[value()] * (rows // 4 + rows + 10))
        for _ in range(20):
            process.step()
            around.clock.now_s += 0.1
        around.clock.now_s += 200.0
        get_on(around, process)

    assert sizes == [rows // 4, rows, 10] * 2


def test_no_batch_of_a_slow_flow_follows_a_pause(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to fill: records wait all the time. Only the first of all is small."""
    monkeypatch.setattr(consumer_fakes, "LIMITS", BufferLimits(4 * LARGE_ROWS, 2**40, 60.0, 2**40))
    sizes = count_rows(around, monkeypatch)
    process = around.process()
    process.log.records_max = LARGE_ROWS
    for _ in range(240):
        around.produce(*[value()] * 250)
        get_on(around, process, 2)

    first, *others = sizes
    assert first == LARGE_ROWS
    assert [size for size in others if size <= LARGE_ROWS] == []
    assert len(others) >= 2


def test_a_batch_goes_on_in_the_turn_in_which_it_is_prepared(around: Around) -> None:
    """Its intent is sent before more is read."""
    process = around.process()
    process.log.records_max = 4
    process.pool.is_immediate = True
    around.produce(*[value()] * 4)
    while not any(state.tasks for state in process.worker.states.values()):
        process.worker.turn()

    assert [found and found.b for found in (decode(mark.metadata) for _, mark in process.log.sent)] == [4]


def test_a_commit_that_fails_is_tried_again(around: Around) -> None:
    """Kept or not, its answer was lost: the same mark again, later."""
    for fault in CommitFault:
        around.broker.faults.append(fault)
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process, 20)

    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert around.mark.offset == 4


def test_a_partition_whose_commits_fail_does_not_hold_the_others() -> None:
    """Each partition has its own patience."""
    around = Around()
    around.broker = FakeBroker(2)
    process = around.process()
    refused = around.broker.commit

    def refuse_the_first(member: FakeLog, place: Partition, mark: CommittedOffset) -> object:
        around.broker.faults.extend([CommitFault.NOT_KEPT] if place.number == 0 else [])
        return refused(member, place, mark)

    around.broker.commit = refuse_the_first  # type: ignore[method-assign,assignment]  # the broker's fault, not a mock of ours
    around.broker.produce(0, [value()] * 4)
    around.broker.produce(1, [value()] * 4)
    get_on(around, process)

    assert {key.split("/")[1] for key in around.table.rows} == {"1"}
    assert [state.is_retrying for state in process.worker.states.values()] == [True, False]


def test_every_retry_of_an_insert_commits_its_intent_again(around: Around) -> None:
    """A worker that slept through its session learns there that it is expelled, before it sends."""
    marks: list[CommittedOffset] = []
    around.broker.watchers.append(lambda _, mark: marks.append(mark))
    around.table.faults.extend([InsertFault.NOT_APPLIED, InsertFault.ANSWER_LOST])
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process, 20)

    assert [mark.offset for mark in marks if "|0|4|" in mark.metadata] == [0, 0, 0]
    assert around.rows_of() == dict.fromkeys(range(4), 1)


def test_poison_in_every_batch_is_refused_once_not_in_every_batch(around: Around) -> None:
    """The batches behind the first ones go in at the first try, under one intent each."""
    marks: list[CommittedOffset] = []
    refused: list[int] = []
    around.broker.watchers.append(lambda _, mark: marks.append(mark))
    accept = around.table.insert

    def insert(block: Block) -> None:
        try:
            accept(block)
        except Rejected:
            refused.append(block.offsets[0])
            raise

    around.table.insert = insert  # type: ignore[method-assign]  # it counts; not a mock of ours
    process = around.process()
    around.produce(*[value(fault="table" if n % 4 == 1 else "") for n in range(40)])
    get_on(around, process, 120)

    assert around.rows_of() == {n: 1 for n in range(40) if n % 4 != 1}
    assert len(refused) <= 2  # the head, and the one that was being prepared then
    intents = [intent for mark in marks if (intent := decode(mark.metadata)) and intent.is_range]
    assert len(intents) == len({intent.b for intent in intents}) + len(refused)
