"""What a batch leaves out: for how much of it an intent has room, and what its dead letters say."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consumer.delivery.batch import Draft
from consumer.delivery.excluded import SPAN_MAX
from consumer.delivery.ports import Block, Poison, Record
from consumer.errors import Halt, Reason, Transient
from tests.support.fake_table import FakeTable, value
from tests.support.pipelines import Around


@pytest.fixture
def around() -> Around:
    """A pipeline over its fakes."""
    return Around()


def test_what_a_predecessor_left_out_gets_its_dead_letters(around: Around) -> None:
    """It may have died between its intent and their acknowledgement; why it left one out is not always known."""
    draft = around.draft(value(), b"", value(), excluded=(1, 2), is_fixed=True, is_inherited=True)
    prepared = around.pipeline.prepare(draft, "cluster")

    assert [(item.offset, item.reason) for item in prepared.letters] == [(1, Reason.FRAME), (2, Reason.LEFT_OUT)]
    assert prepared.blocks[0].offsets == (0,)


def test_why_the_table_refused_what_a_predecessor_left_out_is_found_out_again(around: Around) -> None:
    """Its dead letter replaces the predecessor's, so it must not know less; one search need not find all."""
    asked: list[int] = []

    class OneByOne(FakeTable):
        def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> list[Poison]:
            asked.append(len(block.offsets))
            return super().find_poison(block, refusal, records)[:1]

    around.pipeline = replace(around.pipeline, table=OneByOne(10))
    bad = value(fault="table")
    draft = around.draft(bad, value(), bad, b"", value(2), excluded=(0, 1, 2, 3, 4), is_fixed=True, is_inherited=True)
    prepared = around.pipeline.prepare(draft, "cluster")

    reasons = [Reason.BAD_VALUE, Reason.LEFT_OUT, Reason.BAD_VALUE, Reason.FRAME, Reason.LEFT_OUT]
    assert [item.reason for item in prepared.letters] == reasons
    assert asked == [3, 1, 2, 1, 1, 1]  # of either schema, until nothing more is found


def test_a_table_that_is_away_leaves_the_reason_open(around: Around) -> None:
    """The dead letter waits; a guess would stay."""
    around.table.is_away = True
    draft = around.draft(value(fault="table"), excluded=(0,), is_fixed=True, is_inherited=True)
    with pytest.raises(Transient):
        around.pipeline.prepare(draft, "cluster")


@pytest.mark.parametrize(
    ("refusals", "is_fixed", "last", "b"),
    [(1, False, 14, 40), (2, False, 14, 15), (2, True, 14, 40), (2, False, 1, 2), (2, False, 39, 40)],
)
def test_a_batch_that_is_refused_again_ends_behind_the_poison_that_is_known(
    around: Around,
    refusals: int,
    is_fixed: bool,  # noqa: FBT001  (a parameter of the test)
    last: int,
    b: int,
) -> None:
    """So that rows come into the table between two searches."""
    refused = (Poison(last - 1, Reason.BAD_VALUE, ""), Poison(last, Reason.BAD_VALUE, ""))
    draft = replace(around.draft(*[value()] * 40, is_fixed=is_fixed), refused=refused, refusals=refusals)
    intent = around.pipeline.prepare(draft, "cluster").batch.intent

    assert (intent.b, intent.excluded) == (b, (last - 1, last))


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


def test_poison_alone_is_dead_letters_however_much_of_it_there_is(around: Around) -> None:
    """What clients send stops nothing: a thousand in a row are a thousand dead letters."""
    prepared = around.pipeline.prepare(around.draft(*[b""] * 1000), "cluster")

    assert (len(prepared.letters), prepared.blocks) == (1000, ())


def test_more_poison_than_an_intent_can_list_makes_the_batch_smaller(around: Around) -> None:
    """A third of a large batch, scattered, is believed; it takes several intents."""
    values = [b"" if n % 3 == 0 else value() for n in range(30_000)]
    prepared = around.pipeline.prepare(around.draft(*values), "cluster")
    intent = prepared.batch.intent

    assert intent.fits
    assert 0 < intent.b < 30_000
    assert [item.offset for item in prepared.letters] == list(intent.excluded) == list(range(0, intent.b, 3))
    assert prepared.batch.records[-1].offset == intent.b - 1
    assert prepared.blocks[0].token == f"2/cluster/id-1/0/-1/0/0/{intent.b}/1"


def test_a_range_that_was_committed_can_not_shrink(around: Around) -> None:
    """Part of it may be in the table under its token."""
    values = [b"" if n % 3 == 0 else value() for n in range(30_000)]
    with pytest.raises(Halt, match="more poison than an intent can list: 10000 of 30000"):
        around.pipeline.prepare(around.draft(*values, is_fixed=True), "cluster")


def test_a_batch_that_is_made_smaller_stays_as_large_as_an_intent_can_tell(around: Around) -> None:
    """Not half of it again and again; what is known of the rest comes along, so that nobody searches for it twice."""
    draft = around.draft(*[value()] * 100_000)
    refused = tuple(Poison(n, Reason.BAD_VALUE, "no") for n in range(0, 100_000, 2))
    prepared = around.pipeline.prepare(replace(draft, refused=refused), "cluster")

    assert prepared.batch.intent.fits
    assert prepared.batch.intent.b > 14_000
    assert prepared.letters + prepared.later == refused
    assert prepared.later[0].offset >= prepared.batch.intent.b


def test_a_batch_of_several_schemas_is_small_enough_for_whatever_is_refused_of_it(around: Around) -> None:
    """Behind its first insert its range is fixed, and then every other record of the second may be refused."""
    values = [value(1 + n % 2) for n in range(40_000)]
    prepared = around.pipeline.prepare(around.draft(*values), "cluster")
    a_schema = tuple(Poison(n, Reason.BAD_VALUE, "no") for n in range(1, prepared.batch.intent.b, 2))
    again = replace(around.draft(), batch=prepared.batch, refused=a_schema, is_fixed=True)

    assert prepared.batch.intent.b == SPAN_MAX
    assert [block.token.rpartition("/")[0] for block in prepared.blocks] == [prepared.batch.token("cluster")] * 2
    assert around.pipeline.prepare(again, "cluster").batch.intent.b == SPAN_MAX


def test_a_range_that_is_fixed_keeps_its_end_whatever_its_schemas(around: Around) -> None:
    """A predecessor of an older version may have begun a larger one."""
    values = [value(1 + n % 2) for n in range(20_000)]
    prepared = around.pipeline.prepare(around.draft(*values, is_fixed=True), "cluster")

    assert prepared.batch.intent.b == 20_000


@pytest.mark.parametrize("is_suspect", [False, True])
def test_the_table_is_asked_beforehand_only_where_it_has_just_refused_rows(around: Around, *, is_suspect: bool) -> None:
    """Then the batch goes in at the first try, beside what frame and schema tell; else nobody pays for the question."""
    draft = around.draft(value(fault="table"), b"", value(), value(2), value(2, fault="table"), is_suspect=is_suspect)
    prepared = around.pipeline.prepare(draft, "cluster")

    assert prepared.batch.intent.excluded == ((0, 1, 4) if is_suspect else (1,))
    assert sorted(item.offset for item in prepared.letters) == list(prepared.batch.intent.excluded)
    assert [block.offsets for block in prepared.blocks] == ([(2,), (3,)] if is_suspect else [(0, 2), (3, 4)])


def test_a_table_that_can_not_be_asked_beforehand_holds_up_nothing(around: Around) -> None:
    """The insert tells the same, later."""
    around.table.is_away = True
    prepared = around.pipeline.prepare(around.draft(value(fault="table"), value(), is_suspect=True), "cluster")

    assert (prepared.letters, prepared.blocks[0].offsets) == ((), (0, 1))


def test_what_the_table_told_of_records_behind_a_smaller_batch_is_kept(around: Around) -> None:
    """More than an intent can list: the rest is for the next batch, which need not ask again."""
    values = [value(fault="table" if n % 3 == 0 else "") for n in range(30_000)]
    prepared = around.pipeline.prepare(around.draft(*values, is_suspect=True), "cluster")

    assert prepared.batch.intent.b < 30_000
    assert [item.offset for item in (*prepared.letters, *prepared.later)] == list(range(0, 30_000, 3))
