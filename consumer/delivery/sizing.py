"""How much of a batch is tried: less when a proxy, a search for poison or an intent's size bounds it. Pure."""

from consumer.delivery.batch import Batch, Draft
from consumer.delivery.excluded import SPAN_MAX
from consumer.errors import Halt, HaltCode


def halved(batch: Batch, draft: Draft) -> Batch:
    """Return the batch, or its first half when it was too large for a proxy before ClickHouse."""
    return batch if draft.is_fixed or not draft.is_too_large else batch.first(max(1, len(batch.records) // 2))


def searched(batch: Batch, draft: Draft) -> Batch:
    """Return the batch, or the part that was searched, when one search did not find all of its poison.

    So rows are inserted after every second search, however much poison there is.
    """
    if draft.is_fixed or draft.refusals <= 1 or not draft.refused:
        return batch
    last = max(item.offset for item in draft.refused)
    return batch.first(sum(item.offset <= last for item in batch.records))


def bounded(batch: Batch, *, is_fixed: bool) -> Batch:
    """Return the batch, or a beginning so short that an intent can list any poison in it.

    A batch of several schemas is several inserts: once the first is in the table, the range can't be made smaller when
    the second one is refused.
    """
    intent = batch.intent
    if is_fixed or intent.b - intent.a <= SPAN_MAX:
        return batch
    return batch.first(max(1, sum(record.offset < intent.a + SPAN_MAX for record in batch.records)))


def fitting(batch: Batch, *, is_fixed: bool) -> Batch:
    """Return the batch, or a beginning whose poison an intent can list within the broker's limit.

    Raises:
        Halt: the batch does not fit, and it is fixed.
    """
    if batch.intent.fits:
        return batch
    if is_fixed:
        shown = f"{len(batch.intent.excluded)} of {len(batch.records)}"
        raise Halt(f"more poison than an intent can list: {shown}", HaltCode.INTENT)
    fits, too_many = 1, len(batch.records)
    while too_many - fits > 1 + fits // 16:
        middle = (fits + too_many) // 2
        if batch.first(middle).intent.fits:
            fits = middle
        else:
            too_many = middle
    return batch.first(fits)
