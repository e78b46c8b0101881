"""The slow steps of a batch: nothing is written but by `send` and `insert`, and poison is told apart from outages."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest

from consumer.delivery.batch import Attempt, Batch, Inserted, Sent
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Block, Poison
from consumer.errors import Cause, Halt, HaltCode, Reason, Recreated, TooLarge, Transient
from tests.support.fake_table import FakeRows, FakeTable, InsertFault, value
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


FIRST, SECOND = Attempt(0, lambda: True), Attempt(1, lambda: True)
AGAIN = replace(FIRST, is_repeated=True)


def prepared_blocks(around: Around, *values: bytes) -> tuple[Batch, tuple[Block, ...]]:
    """Prepare values; return the batch and its blocks."""
    prepared = around.pipeline.prepare(around.draft(*values), "cluster")
    return prepared.batch, prepared.blocks


def test_blocks_are_inserted_one_after_another(around: Around) -> None:
    """Each under its own token."""
    batch, blocks = prepared_blocks(around, value(1), value(2))

    assert around.pipeline.insert(batch, blocks[0], FIRST) == Inserted()
    assert around.table.rows == {"id-1/0/0": 1}
    assert around.pipeline.insert(batch, blocks[1], SECOND) == Inserted()
    assert around.table.rows == {"id-1/0/0": 1, "id-1/0/1": 1}


def test_a_refusal_names_its_rows(around: Around) -> None:
    """Nothing of the batch is in the table."""
    batch, blocks = prepared_blocks(around, value(1), value(1, fault="table"), value(2))

    assert around.pipeline.insert(batch, blocks[0], FIRST) == Inserted(
        (Poison(1, Reason.BAD_VALUE, "refused"),), is_untouched=True
    )
    assert not around.table.rows


def test_a_refusal_behind_a_block_that_was_taken_says_so(around: Around) -> None:
    """Part of the range is in the table, under its token."""
    batch, blocks = prepared_blocks(around, value(1), value(2, fault="table"))

    assert around.pipeline.insert(batch, blocks[1], SECOND) == Inserted(
        (Poison(1, Reason.BAD_VALUE, "refused"),), is_untouched=False
    )


def test_a_refusal_without_a_row_to_blame_halts_the_partition(around: Around) -> None:
    """Nothing is dead-lettered by guessing; a person is called."""

    class Innocent(FakeTable):
        def find_poison(self, *_: object) -> list[Poison]:
            return []

    around.pipeline = Pipeline(around.rows, Innocent(10), around.letters, around.broker, around.table, around.table)
    batch, blocks = prepared_blocks(around, value(1, fault="table"))
    with pytest.raises(Halt) as halted:
        around.pipeline.insert(batch, blocks[0], FIRST)
    assert halted.value.code is HaltCode.REFUSED


def test_an_unknown_outcome_is_told_as_such(around: Around) -> None:
    """The rows are in the table, and nobody heard."""
    around.table.faults.append(InsertFault.ANSWER_LOST)
    batch, blocks = prepared_blocks(around, value())
    with pytest.raises(Transient) as unknown:
        around.pipeline.insert(batch, blocks[0], FIRST)
    assert unknown.value.cause is Cause.UNKNOWN
    around.pipeline.insert(batch, blocks[0], AGAIN)
    assert around.table.rows == {"id-1/0/0": 1}


def test_an_insert_that_waited_too_long_for_its_thread_is_not_sent(around: Around) -> None:
    """Its intent fences no more: the partition may have a new owner by now."""
    batch, blocks = prepared_blocks(around, value())
    with pytest.raises(Transient):
        around.pipeline.insert(batch, blocks[0], replace(FIRST, is_fresh=lambda: False))
    assert not around.table.rows


def test_rows_that_are_counted_are_not_sent_again(around: Around) -> None:
    """Though the table has forgotten the token: it was migrated, or the outage was longer than its memory."""
    batch, blocks = prepared_blocks(around, value(), value(month=1))
    around.table.apply(blocks[0])
    around.table.forget_tokens()

    assert around.pipeline.insert(batch, blocks[0], AGAIN) == Inserted()
    assert around.table.rows == around.table.viewed == {"id-1/0/0": 1, "id-1/0/1": 1}


@pytest.mark.parametrize("is_forgotten", [False, True])
@pytest.mark.parametrize("parts", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", [None, InsertFault.TORN, InsertFault.VIEW_TORN])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_whatever_an_earlier_try_left_each_row_is_there_once(
    around: Around,
    is_forgotten: bool,  # noqa: FBT001  (a case)
    parts: int,
    torn: InsertFault | None,
    others: int,
) -> None:
    """Whole months, counted or not, or a token alone; known or forgotten; with expelled workers that repeat it too."""
    batch, (block,) = prepared_blocks(around, value(), value(month=1), value(), value(month=2))
    if parts:
        around.table.apply(block, parts, torn)
    if is_forgotten:
        around.table.forget_tokens()
    around.table.faults.extend([InsertFault.LATE] * others)
    for _ in range(others):
        with suppress(Transient):
            around.pipeline.insert(batch, block, AGAIN)
    around.table.faults.clear()
    for late in around.table.late[1:]:
        around.table.apply(late)

    once = {f"id-1/0/{offset}": 1 for offset in range(4)}
    assert around.pipeline.insert(batch, block, AGAIN) == Inserted()
    assert around.table.rows == around.table.viewed == once
    for late in around.table.late[:1]:
        around.table.apply(late)
    assert around.pipeline.insert(batch, block, AGAIN) == Inserted()
    assert around.table.rows == around.table.viewed == once


def test_a_row_that_is_refused_beside_rows_that_are_there_leaves_the_range_as_it_is(around: Around) -> None:
    """Tokens are forgotten, so the missing month comes alone; a constraint has come between."""
    batch, block = changed_since(around, value(), value(month=1), parts=1)
    around.table.forget_tokens()
    rows = FakeRows({1})
    refused = [record._replace(value=value(1, record.offset, "table" * record.offset)) for record in batch.records]
    batch = replace(batch, records=tuple(refused))
    pipeline = Pipeline(rows, around.table, around.letters, around.broker, around.table, around.table)

    found = pipeline.insert(batch, block, AGAIN)
    assert found == Inserted((Poison(1, Reason.BAD_VALUE, "refused"),), is_untouched=False)


class Views(FakeTable):
    """A table with one more view, that takes what is sent."""

    def __init__(self) -> None:
        super().__init__(10)
        self.seen: list[str] = []

    def insert(self, block: Block) -> None:
        """Insert, and let the view see it."""
        self.seen.append(block.token)
        super().insert(block)


@pytest.mark.parametrize(("is_forgotten", "is_sent"), [(False, 1), (True, 0)])
def test_rows_that_are_counted_are_sent_for_the_views_that_may_lack_them(
    around: Around,
    is_forgotten: bool,  # noqa: FBT001  (a case)
    is_sent: int,
) -> None:
    """As long as the table knows their token, and no longer: they would be there twice."""
    table = Views()
    pipeline = Pipeline(around.rows, table, around.letters, around.broker, table, table)
    batch, (block,) = prepared_blocks(around, value())
    table.apply(block)
    if is_forgotten:
        table.forget_tokens()

    assert pipeline.insert(batch, block, AGAIN) == Inserted()
    assert len(table.seen) == is_sent


def test_what_a_block_lacks_is_sent_under_its_token(around: Around) -> None:
    """So an insert of the whole block that comes later can't bring these rows again."""
    table = Views()
    pipeline = Pipeline(around.rows, table, around.letters, around.broker, table, table)
    batch, (block,) = prepared_blocks(around, value(), value(month=1), value(month=1))
    table.apply(block, 1)
    table.forget_tokens()

    assert pipeline.insert(batch, block, AGAIN) == Inserted()
    assert table.seen == [block.token]
    table.apply(block)
    assert (table.rows["id-1/0/1"], table.rows["id-1/0/2"]) == (1, 1)


def test_a_part_that_a_proxy_refuses_halts_and_says_what_to_raise(around: Around) -> None:
    """It would be refused for ever, and a range of which a part is there can't be made smaller."""
    batch, (block,) = prepared_blocks(around, value(), value(month=1), value(month=1))
    around.table.apply(block, 1)
    around.table.forget_tokens()
    around.table.rows_max = 1

    with pytest.raises(Halt, match="raise the limit") as halt:
        around.pipeline.insert(batch, block, AGAIN)
    assert halt.value.code is HaltCode.TOO_LARGE


def test_rows_that_are_counted_and_lost_are_put_back(around: Around) -> None:
    """A server that was killed has counted them, and has them no more."""
    batch, blocks = prepared_blocks(around, value())
    around.table.apply(blocks[0], torn=InsertFault.TORN)

    assert around.pipeline.insert(batch, blocks[0], AGAIN) == Inserted()
    assert around.table.rows == around.table.viewed == {"id-1/0/0": 1}


def changed_since(around: Around, *values: bytes, parts: int | None) -> tuple[Batch, Block]:
    """Insert a block as a worker did that died, or parts of it; since then the table refuses all of its rows."""
    batch, (block,) = prepared_blocks(around, *values)
    around.table.apply(block, parts)
    refused = [[key, month, "table"] for key, month, _ in json.loads(bytes(block.payload))]
    return batch, replace(block, payload=json.dumps(refused).encode())


def test_what_is_a_row_is_no_dead_letter_though_the_table_would_refuse_it_now(around: Around) -> None:
    """Somebody has added a constraint between a crash and the repeat."""
    batch, block = changed_since(around, value(), value(), parts=None)

    assert around.pipeline.insert(batch, block, AGAIN) == Inserted()
    assert around.table.rows == {"id-1/0/0": 1, "id-1/0/1": 1}


@pytest.mark.parametrize("is_fixed", [True, False])
def test_a_row_whose_schema_is_forgotten_is_no_dead_letter(around: Around, is_fixed: bool) -> None:  # noqa: FBT001  (a case)
    """A worker that knew the schema has inserted it and died; what is not there is a dead letter as ever."""
    _, (block,) = prepared_blocks(around, value(1), value(1))
    around.table.apply(block)
    around.rows.known = {2}
    draft = around.draft(value(1), value(1), value(2), is_fixed=is_fixed)
    if not is_fixed:  # nothing of it can be in the table
        assert [item.offset for item in around.pipeline.prepare(draft, "cluster").letters] == [0, 1]
        return
    with pytest.raises(Halt, match="offset 0 is a row, and this worker can't read it now: nobody knows it") as halted:
        around.pipeline.prepare(draft, "cluster")

    assert halted.value.code is HaltCode.NEWER
    around.rows.known = {1, 2}
    assert around.pipeline.prepare(draft, "cluster").letters == ()
    around.rows.known = {2}
    lost = around.draft(value(2), value(2), value(1), is_fixed=True)
    assert [item.offset for item in around.pipeline.prepare(lost, "cluster").letters] == [2]


def test_a_batch_that_is_there_in_part_and_is_refused_now_halts(around: Around) -> None:
    """The constraint has to go until it is through: no row becomes a dead letter as well."""
    batch, block = changed_since(around, value(), value(month=1), parts=1)
    with pytest.raises(Halt, match="offset 0 is a row, and the table would refuse it now") as halted:
        around.pipeline.insert(batch, block, AGAIN)
    assert halted.value.code is HaltCode.REFUSED


def uncounted(around: Around, *values: bytes) -> tuple[Batch, Block]:
    """Insert a block's first month as a server did that was killed before its view had counted it."""
    batch, (block,) = prepared_blocks(around, *values)
    around.table.apply(block, 1, InsertFault.VIEW_TORN)
    assert around.table.rows
    assert not around.table.offsets(batch.partition, block.origin.topic_id, 0)
    return batch, block


def test_a_row_that_is_not_counted_is_no_dead_letter_though_the_table_would_refuse_it_now(around: Around) -> None:
    """The counts lack what the server did not come to."""
    batch, block = uncounted(around, value(), value(month=1))
    refused = [[key, month, "table"] for key, month, _ in json.loads(bytes(block.payload))]
    with pytest.raises(Halt, match="offset 0 is a row, and the table would refuse it now"):
        around.pipeline.insert(batch, replace(block, payload=json.dumps(refused).encode()), AGAIN)


def test_a_row_that_is_not_counted_is_no_dead_letter_though_its_schema_is_forgotten(around: Around) -> None:
    """As one that is."""
    uncounted(around, value(1))
    around.rows.known = {2}
    with pytest.raises(Halt, match="offset 0 is a row, and this worker can't read it now"):
        around.pipeline.prepare(around.draft(value(1), is_fixed=True), "cluster")


def test_a_batch_that_is_not_counted_is_not_made_smaller_when_a_proxy_refuses_it_now(around: Around) -> None:
    """Its rows would come again under other tokens."""
    batch, block = uncounted(around, value(), value(month=1))
    around.table.rows_max = 1
    with pytest.raises(TooLarge):
        around.pipeline.insert(batch, block, AGAIN)


def test_a_batch_that_is_there_in_part_keeps_its_range(around: Around) -> None:
    """The rows that are refused now are of the month that the server did not come to."""
    batch, block = changed_since(around, value(), value(month=1), parts=1)
    first, second = json.loads(bytes(block.payload))
    first[2] = ""

    refused = around.pipeline.insert(batch, replace(block, payload=json.dumps([first, second]).encode()), AGAIN)
    assert refused == Inserted((Poison(1, Reason.BAD_VALUE, "refused"),), is_untouched=False)


def test_an_insert_that_still_runs_is_waited_for_before_its_rows_are_called_poison(around: Around) -> None:
    """It was begun before the constraint came, and may succeed."""
    batch, block = changed_since(around, value(), parts=0)
    around.table.late.append(block)
    with pytest.raises(Transient, match="still runs"):
        around.pipeline.insert(batch, block, AGAIN)
