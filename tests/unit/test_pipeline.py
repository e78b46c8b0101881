"""The slow steps of a batch: nothing is written but by `send` and `insert`, and poison is told apart from outages."""

import pytest

from consumer.batch import Batch, Draft, Inserted, Sent
from consumer.errors import Cause, Fatal, Reason, Recreated, Transient
from consumer.intent import Intent
from consumer.pipeline import Pipeline
from consumer.poison import PoisonLimits
from consumer.ports import Block, Partition, Poison, Record
from tests.support.fake_group import TOPIC, FakeBroker
from tests.support.fake_table import FakeLetters, FakeRows, FakeTable, InsertFault, value

PLACE = Partition(TOPIC, 0)
LIMITS = PoisonLimits(share_max=0.5, share_rows_min=20, run_max=15)


class Around:
    """A pipeline and what is around it."""

    def __init__(self) -> None:
        self.broker, self.table, self.letters, self.rows = FakeBroker(1), FakeTable(10), FakeLetters(), FakeRows({1, 2})
        self.pipeline = Pipeline(self.rows, self.table, self.letters, LIMITS, self.broker, self.table)

    def draft(self, *values: bytes, excluded: tuple[int, ...] = (), **fields: bool) -> Draft:
        """Return a draft of a batch with these values from offset 0 on."""
        records = tuple(
            Record(PLACE, offset, 0, f"id-1/0/{offset}".encode(), item) for offset, item in enumerate(values)
        )
        return Draft(Batch.of(PLACE, Intent("id-1", 0, len(values), excluded), records), **fields)  # type: ignore[arg-type]  # flags


@pytest.fixture
def around() -> Around:
    """A pipeline with limits of 20 rows, 15 in a row."""
    return Around()


def test_good_records_become_one_block_for_each_schema(around: Around) -> None:
    """Each token names its schema, and the range."""
    prepared = around.pipeline.prepare(around.draft(value(1), value(2), value(1)), "cluster")

    assert [(block.token, block.offsets) for block in prepared.blocks] == [
        ("cluster/id-1/0/0/3/1", (0, 2)),
        ("cluster/id-1/0/0/3/2", (1,)),
    ]
    assert (prepared.letters, prepared.poison_run) == ((), 0)


def test_preparing_writes_nothing(around: Around) -> None:
    """Poison is found and listed; its dead letters wait for the intent."""
    prepared = around.pipeline.prepare(around.draft(value(), b"", value(9)), "cluster")

    assert [(item.offset, item.reason) for item in prepared.letters] == [
        (1, Reason.FRAME),
        (2, Reason.UNKNOWN_SCHEMA),
    ]
    assert (prepared.batch.intent.excluded, prepared.poison_run) == ((1, 2), 2)
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


def test_what_a_predecessor_left_out_gets_its_dead_letters(around: Around) -> None:
    """It may have died between its intent and their acknowledgement; why it left one out is not always known."""
    draft = around.draft(value(), b"", value(), excluded=(1, 2), is_fixed=True, is_inherited=True)
    prepared = around.pipeline.prepare(draft, "cluster")

    assert [(item.offset, item.reason) for item in prepared.letters] == [(1, Reason.FRAME), (2, Reason.LEFT_OUT)]
    assert prepared.blocks[0].offsets == (0,)


def test_what_is_left_out_stays_out_though_it_reads_well_now(around: Around) -> None:
    """A schema that the registry has learnt since: the record is a dead letter already, or was promised to be."""
    around.rows.known.add(9)
    draft = around.draft(value(9), value(), excluded=(0,), is_fixed=True, is_inherited=True)

    assert around.pipeline.prepare(draft, "cluster").blocks[0].offsets == (1,)


def test_what_the_table_refused_is_left_out(around: Around) -> None:
    """The second preparation takes what the insert found."""
    draft = around.draft(value(), value(), is_fixed=True)
    refused = (Poison(1, Reason.BAD_VALUE, "no"),)
    prepared = around.pipeline.prepare(Draft(draft.batch, refused, is_fixed=True), "cluster")

    assert (prepared.letters, prepared.blocks[0].offsets) == (refused, (0,))


@pytest.mark.parametrize(("poison", "run"), [(11, 0), (2, 14)])
def test_more_poison_than_is_believed_stops_the_worker(around: Around, poison: int, run: int) -> None:
    """By share or by run; nothing was sent."""
    values = [b""] * poison + [value()] * (20 - poison)
    with pytest.raises(Fatal):
        around.pipeline.prepare(Draft(around.draft(*values).batch, poison_run=run), "cluster")
    assert not around.letters.sent


def test_more_poison_than_an_intent_can_list_makes_the_batch_smaller(around: Around) -> None:
    """A third of a large batch, scattered, is believed; it takes several intents."""
    values = [b"" if n % 3 == 0 else value() for n in range(30_000)]
    prepared = around.pipeline.prepare(around.draft(*values), "cluster")
    intent = prepared.batch.intent

    assert intent.fits
    assert 0 < intent.b < 30_000
    assert [item.offset for item in prepared.letters] == list(intent.excluded) == list(range(0, intent.b, 3))
    assert prepared.batch.records[-1].offset == intent.b - 1
    assert prepared.blocks[0].token == f"cluster/id-1/0/0/{intent.b}/1"


def test_a_range_that_was_committed_can_not_shrink(around: Around) -> None:
    """Part of it may be in the table under its token."""
    values = [b"" if n % 3 == 0 else value() for n in range(30_000)]
    with pytest.raises(Fatal, match="more poison than an intent can list: 10000 of 30000"):
        around.pipeline.prepare(around.draft(*values, is_fixed=True), "cluster")


def test_what_has_its_dead_letters_stays_listed_behind_a_smaller_range(around: Around) -> None:
    """The new poison behind the smaller range is found again; the old is not judged twice."""
    before = (7, 29_000)
    draft = around.draft(*[value()] * 30_000, excluded=before)
    refused = tuple(Poison(n, Reason.BAD_VALUE, "no") for n in range(0, 30_000, 3))
    prepared = around.pipeline.prepare(Draft(draft.batch, refused), "cluster")
    intent = prepared.batch.intent

    assert intent.fits
    assert intent.b < 29_000
    assert intent.excluded == tuple(sorted({*before, *range(0, intent.b, 3)}))
    assert [item.offset for item in prepared.letters] == list(range(0, intent.b, 3))


def test_a_single_record_always_fits(around: Around) -> None:
    """What does not find room beside it is forgotten: at worst it is judged again."""
    before = tuple(range(1, 2**40, 2**30))
    assert not Intent("id-1", 0, 2, before).fits
    draft = around.draft(value(), value(), excluded=before)
    prepared = around.pipeline.prepare(Draft(draft.batch, (Poison(0, Reason.BAD_VALUE, "no"),)), "cluster")

    assert prepared.batch.intent == Intent("id-1", 0, 1, (0,))


def test_the_poison_of_other_ranges_does_not_count(around: Around) -> None:
    """A smaller batch is judged by its own share."""
    draft = around.draft(*[value()] * 20, excluded=tuple(range(100, 200, 2)))

    assert around.pipeline.prepare(draft, "cluster").blocks


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


def test_a_refusal_without_a_row_to_blame_is_held(around: Around) -> None:
    """Nothing is dead-lettered by guessing; a person is called."""

    class Innocent(FakeTable):
        def find_poison(self, *_: object) -> list[Poison]:
            return []

    around.pipeline = Pipeline(around.rows, Innocent(10), around.letters, LIMITS, around.broker, around.table)
    batch, blocks = prepared_blocks(around, value(1, fault="table"))
    with pytest.raises(Transient) as held:
        around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False)
    assert held.value.cause is Cause.REFUSED


def test_an_unknown_outcome_is_told_as_such(around: Around) -> None:
    """The rows are in the table, and nobody heard."""
    around.table.faults.append(InsertFault.ANSWER_LOST)
    batch, blocks = prepared_blocks(around, value())
    with pytest.raises(Transient) as unknown:
        around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False)
    assert unknown.value.cause is Cause.UNKNOWN
    around.pipeline.insert(batch, blocks, lambda: True, is_repeated=False)
    assert around.table.rows == {"id-1/0/0": 1}


def test_an_insert_that_waited_too_long_for_its_thread_is_not_sent(around: Around) -> None:
    """Its intent fences no more: the partition may have a new owner by now."""
    batch, blocks = prepared_blocks(around, value())
    with pytest.raises(Transient):
        around.pipeline.insert(batch, blocks, lambda: False, is_repeated=False)
    assert not around.table.rows
