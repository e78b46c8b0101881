"""Sealed batches: values that say what is in and what is left out."""

from consumer.delivery.batch import Batch
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Partition, Poison
from consumer.errors import Reason
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


def test_the_beginning_of_a_batch_ends_behind_its_last_record() -> None:
    """Parts of a batch tile its range: the next one begins where this one ends, and lists its own poison."""
    part = batch(5, 6, 9, 20, excluded=(6, 20)).first(2)

    assert part.intent == Intent("id", 5, 7, (6,))
    assert offsets_of(part.records) == [5, 6]
    assert part.size_bytes == sum(item.size_bytes for item in part.records)


def test_a_token_names_what_its_rows_can_be() -> None:
    """Cluster, topic ID, partition and range: no other rows may ever bear the same."""
    assert batch(5, 6, 9).token("cluster") == "2/cluster/id/3/-1/0/5/10"
    assert batch(5, 6, 9).without([Poison(6, Reason.FRAME, "")]).token("cluster") == "2/cluster/id/3/-1/0/5/10"
