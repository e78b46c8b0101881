"""The slow steps of a batch: nothing is written but by `send` and `insert`, and poison is told apart from outages."""

import pytest

from consumer.delivery.batch import Batch, Inserted, Sent
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Block, Poison
from consumer.errors import Cause, Halt, HaltCode, Reason, Recreated, Transient
from tests.support.fake_table import FakeTable, InsertFault, value
from tests.support.pipelines import Around


@pytest.fixture
def around() -> Around:
    """A pipeline over its fakes."""
    return Around()


def test_good_records_become_one_block_for_each_schema(around: Around) -> None:
    """Each token names its schema, and the range."""
    prepared = around.pipeline.prepare(around.draft(value(1), value(2), value(1)), "cluster")

    assert [(block.token, block.offsets) for block in prepared.blocks] == [
        ("2/cluster/id-1/0/-1/0/0/3/1", (0, 2)),
        ("2/cluster/id-1/0/-1/0/0/3/2", (1,)),
    ]
    assert prepared.letters == ()


def test_preparing_writes_nothing(around: Around) -> None:
    """Poison is found and listed; its dead letters wait for the intent."""
    prepared = around.pipeline.prepare(around.draft(value(), b"", value(9)), "cluster")

    assert [(item.offset, item.reason) for item in prepared.letters] == [
        (1, Reason.FRAME),
        (2, Reason.UNKNOWN_SCHEMA),
    ]
    assert prepared.batch.intent.excluded == (1, 2)
    assert not around.letters.sent
    assert not around.table.rows


def test_a_batch_of_poison_alone_has_no_block(around: Around) -> None:
    """Its range is committed all the same."""
    prepared = around.pipeline.prepare(around.draft(b"", b""), "cluster")

    assert (prepared.blocks, prepared.batch.intent.excluded) == ((), (0, 1))
    assert around.pipeline.insert(prepared.batch, prepared.blocks, lambda: True, is_repeated=False) == Inserted()


def test_a_registry_that_is_away_is_no_poison(around: Around) -> None:
    """The record is held until somebody can tell."""
    around.rows.is_away = True
    with pytest.raises(Transient):
        around.pipeline.prepare(around.draft(value(9)), "cluster")


def test_records_of_another_incarnation_are_not_prepared(around: Around) -> None:
    """The id is asked for when the records are there already, so it can't be older than they are."""
    around.broker.create()
    with pytest.raises(Recreated):
        around.pipeline.prepare(around.draft(value()), "cluster")


def test_sending_returns_when_all_is_acknowledged(around: Around) -> None:
    """And not otherwise."""
    batch, poison = around.draft(b"", value()).batch, (Poison(0, Reason.FRAME, ""),)
    assert around.pipeline.send(batch, poison) == Sent()
    around.letters.answers_lost = 1
    with pytest.raises(Transient):
        around.pipeline.send(batch, poison)
    assert around.letters.sent == {"id-1/0/0": 2}


def prepared_blocks(around: Around, *values: bytes) -> tuple[Batch, tuple[Block, ...]]:
    """Prepare values; return the batch and its blocks."""
    prepared = around.pipeline.prepare(around.draft(*values), "cluster")
    return prepared.batch, prepared.blocks


def test_blocks_are_inserted_one_after_another(around: Around) -> None:
    """Each under its own token."""
    batch, blocks = prepared_blocks(around, value(1), value(2))

    assert around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False) == Inserted()
    assert around.table.rows == {"id-1/0/0": 1, "id-1/0/1": 1}


def test_a_refusal_stops_there_and_names_its_rows(around: Around) -> None:
    """Blocks behind it wait for the next intent."""
    batch, blocks = prepared_blocks(around, value(1), value(1, fault="table"), value(2))

    assert around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False) == Inserted(
        (Poison(1, Reason.BAD_VALUE, "refused"),), is_untouched=True
    )
    assert not around.table.rows


def test_a_refusal_behind_a_block_that_was_taken_says_so(around: Around) -> None:
    """Part of the range is in the table, under its token."""
    batch, blocks = prepared_blocks(around, value(1), value(2, fault="table"))

    assert around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False) == Inserted(
        (Poison(1, Reason.BAD_VALUE, "refused"),), is_untouched=False
    )
    assert around.table.rows == {"id-1/0/0": 1}


def test_a_refusal_without_a_row_to_blame_halts_the_partition(around: Around) -> None:
    """Nothing is dead-lettered by guessing; a person is called."""

    class Innocent(FakeTable):
        def find_poison(self, *_: object) -> list[Poison]:
            return []

    around.pipeline = Pipeline(around.rows, Innocent(10), around.letters, around.broker, around.table, around.table)
    batch, blocks = prepared_blocks(around, value(1, fault="table"))
    with pytest.raises(Halt) as halted:
        around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False)
    assert halted.value.code is HaltCode.REFUSED


def test_an_unknown_outcome_is_told_as_such(around: Around) -> None:
    """The rows are in the table, and nobody heard."""
    around.table.faults.append(InsertFault.ANSWER_LOST)
    batch, blocks = prepared_blocks(around, value())
    with pytest.raises(Transient) as unknown:
        around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False)
    assert unknown.value.cause is Cause.UNKNOWN
    around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False)
    assert around.table.rows == {"id-1/0/0": 1}


def test_the_fence_holds_for_each_block(around: Around) -> None:
    """The first may have taken so long that the second would come too late."""
    batch, blocks = prepared_blocks(around, value(1), value(2))
    with pytest.raises(Transient):
        around.pipeline.insert(batch, blocks, lambda: not around.table.rows, is_repeated=False)
    assert around.table.rows == {"id-1/0/0": 1}


def test_an_insert_that_waited_too_long_for_its_thread_is_not_sent(around: Around) -> None:
    """Its intent fences no more: the partition may have a new owner by now."""
    batch, blocks = prepared_blocks(around, value())
    with pytest.raises(Transient):
        around.pipeline.insert(batch, blocks, lambda: False, is_repeated=False)
    assert not around.table.rows
