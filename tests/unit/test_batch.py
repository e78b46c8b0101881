"""Sealed batches: values that say what is in and what is left out."""

from consumer.batch import Batch
from consumer.errors import Reason
from consumer.intent import Intent
from consumer.ports import Partition, Poison
from tests.support.fixtures_consumer import record

PLACE = Partition("events", 3)


def batch(*offsets: int, excluded: tuple[int, ...] = ()) -> Batch:
    """Return a batch of these offsets."""
    intent = Intent("id", offsets[0], offsets[-1] + 1, excluded)
    return Batch.of(PLACE, intent, tuple(record(offset, b"value") for offset in offsets))


def offsets_of(records: tuple[object, ...]) -> list[int]:
    """Return the records' offsets."""
    return [item.offset for item in records]  # type: ignore[attr-defined]  # they are records


def test_what_is_left_out_stays_in_the_range() -> None:
    """A batch without some records covers the same offsets, and its intent lists what is out."""
    whole = batch(5, 6, 9, excluded=(9,))
    less = whole.without([Poison(5, Reason.FRAME, "")])

    assert less.intent == Intent("id", 5, 10, (5, 9))
    assert (offsets_of(less.included), offsets_of(less.left_out)) == ([6], [5, 9])
    assert offsets_of(whole.included) == [5, 6]
    assert whole.without([]) is whole


def test_the_first_half_ends_behind_its_last_record() -> None:
    """Halves of a batch tile its range: the next one begins where this one ends."""
    half = batch(5, 6, 9, 20, excluded=(6, 20)).first_half()

    assert half.intent == Intent("id", 5, 7, (6,))
    assert offsets_of(half.records) == [5, 6]
    assert half.size_bytes == sum(item.size_bytes for item in half.records)
    assert batch(7).first_half() == batch(7)


def test_a_half_lists_what_is_to_be_kept_wherever_it_is() -> None:
    """And nothing else behind its end, nor what is no record any more."""
    whole = batch(5, 6, 9, 20, 21, excluded=(6, 7, 20, 21))

    assert whole.first_half([20]).intent == Intent("id", 5, 7, (6, 20))


def test_a_token_names_what_its_rows_can_be() -> None:
    """Cluster, incarnation, partition and range: no other rows may ever bear the same."""
    assert batch(5, 6, 9).token("cluster") == "2/cluster/id/3/-1/0/5/10"
    assert batch(5, 6, 9).without([Poison(6, Reason.FRAME, "")]).token("cluster") == "2/cluster/id/3/-1/0/5/10"
