"""Plans what a stopped group should commit, so that nothing is skipped, and nothing is read twice unintentionally.

Plans follow from facts; nothing is changed here. Each operator's decision raises the reading number, which is part of
the tokens and a column of the rows. So later inserts can't be dropped for earlier ones, and the audit can tell the
readings apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from consumer.clickhouse.offsets import OFFSET_END, Reading
from consumer.delivery.intent import NO_EPOCH, Detour, Intent, decode
from consumer.delivery.opening import mirrored_from
from consumer.delivery.ports import CommittedOffset
from consumer.operations.divergence import (
    Found,
    RecordAt,
    is_other_below,
    is_past_comparing,
    last_below,
    last_read,
    not_in_log,
    parting,
)
from consumer.operations.facts import Facts, Plan, readable, refused

DETOUR_BYTES_MAX: Final = 300
"""The largest commit that a second reading can return to: the reading's intents must fit beside it."""
_WELL: Final = "nothing is wrong: a worker continues by itself"


def resume(facts: Facts, record_at: RecordAt) -> Plan:
    """Return how to resume a halted partition: after the rows in the tables, with every record since."""
    intent, fault = readable(facts)
    if fault:
        return fault
    if facts.mark is None:
        return _without_mark(facts, record_at)
    if intent is not None and intent.detour is not None:
        return _end_detour(facts, facts.mark, intent, before_detour(intent.detour), record_at)
    return _repaired(facts, facts.mark, intent, record_at) or Plan(facts.partition, _WELL)


def reprocess(facts: Facts, first: int, stop: int | None, record_at: RecordAt, *, is_deleting: bool = False) -> Plan:
    """Return how to read offsets again, from `first` up to but not including `stop`, or without an end.

    Records read again become rows again, of a new reading; at `stop` the group returns to where it was. When the rows
    of earlier readings are to be deleted, the log must still have the record of each.
    """
    intent, fault = readable(facts)
    if fault:
        return fault
    for why in _faults(facts, first, stop, intent):
        return refused(facts, why)
    wanted = range(first, OFFSET_END if stop is None else stop)
    if is_deleting and (why := irretrievable(facts.readings, wanted, facts.end, record_at)):
        return refused(facts, why)
    if stop is None or facts.mark is None:
        return _go_on(facts, record_at, first, f"is read again from offset {first} on")
    before = facts.mark
    plan = _go_on(
        facts, record_at, first, f"offsets {first} to {stop - 1} are read again, then on from {before.offset}"
    )
    detour = Detour(stop, before.offset, before.leader_epoch, before.metadata)
    return replace(plan, mark=_with_detour(plan.mark, detour))


def irretrievable(readings: Sequence[Reading], wanted: range, log_end: int, record_at: RecordAt) -> str:
    """Return why rows in a range of offsets may not be deleted: the log lacks the record of one; "" when it has all."""
    lost = not_in_log(readings, wanted, log_end, record_at)
    if lost is None:
        return ""
    return (
        f"--delete would delete rows that the log can't give back: it does not have all records of leader epoch"
        f" {lost.leader_epoch} up to offset {lost.offset}; read again without --delete"
    )


def adopt(facts: Facts, cluster_id: str, *, is_noted: bool = True) -> Plan:
    """Return how to go on with a commit that was copied from another Kafka cluster, as its offset is here.

    What was adopted and not noted (`is_noted`), because that failed, is committed again as it is, and noted.

    The copying program has translated the offset, perhaps to an earlier one. Which records behind it are in the tables
    is unknown there, because offsets differ: they come again, with this topic's ID.
    """
    mark = facts.mark
    other = mirrored_from(mark, cluster_id)
    if mark is not None and not other and not is_noted and _is_adopted(facts, mark):
        return Plan(facts.partition, f"was adopted at offset {mark.offset}, and is noted now", mark)
    if mark is None or not other:
        return Plan(facts.partition, "nothing to do: the commit is of this Kafka cluster, or does not say of which")
    if mark.offset > facts.end:
        return refused(facts, f"the copy ends at offset {facts.end}, below the committed {mark.offset}: wait for it")
    offset = max(mark.offset, facts.low)
    intent = Intent(facts.topic_id, offset, offset, cluster_id=cluster_id)
    lost = f"; offsets {mark.offset} to {offset - 1} were deleted" if offset > mark.offset else ""
    why = f"was committed in {other}: goes on at offset {offset}, and what was inserted from there on comes again{lost}"
    return Plan(facts.partition, why, CommittedOffset(offset, intent.encode()))


def _is_adopted(facts: Facts, mark: CommittedOffset) -> bool:
    """Tell whether a commit is as `adopt` makes it: a worker's that has read anything knows a leader epoch."""
    intent, fault = readable(facts)
    if fault or intent is None or intent.topic_id != facts.topic_id or facts.readings:
        return False
    return mark.leader_epoch == NO_EPOCH and not intent.is_range and mark.offset > facts.low


def downgrade(facts: Facts) -> Plan:
    """Return the same commit in the previous release's format."""
    intent, fault = readable(facts)
    if fault:
        return fault
    mark = facts.mark
    if mark is None or intent is None or intent.version == 1:
        return Plan(facts.partition, "nothing to do: the previous release can read this")
    if intent.is_range:
        return refused(facts, "a batch is unfinished: first start a worker of this release and stop it with SIGTERM")
    if intent.detour is not None or facts.inserted_end > mark.offset:
        return refused(facts, "offsets are being read again, which the previous release can't: let it finish first")
    old = Intent(intent.topic_id, mark.offset, mark.offset, version=1)
    return Plan(
        facts.partition,
        "is handed to the previous release",
        CommittedOffset(mark.offset, old.encode(), mark.leader_epoch),
    )


def _without_mark(facts: Facts, record_at: RecordAt) -> Plan:
    if not facts.readings:
        return Plan(facts.partition, "nothing is committed, and nothing is in the tables: a worker begins by itself")
    return _behind_the_tables(facts, record_at, "the group has lost its offset")


def _behind_the_tables(facts: Facts, record_at: RecordAt, why: str) -> Plan:
    """Resume after the last offset in the tables, if the log is still the one it came from."""
    end = facts.inserted_end
    if facts.end < end or is_other_below(end, _newest_epoch(facts.readings), facts.low, record_at):
        return _behind_the_cut(facts, record_at, f"{why}, and the log was cut below offset {end}")
    return _go_on(facts, record_at, max(end, facts.low), f"{why}; the tables hold offsets up to {end - 1}")


def _behind_the_cut(facts: Facts, record_at: RecordAt, why: str) -> Plan:
    """Resume where the log diverges from what was read, or earlier, at promised offsets that the tables lack."""
    parts_at = parting([*last_read(facts.readings), *_last_promised(facts)], facts.low, facts.end, record_at)
    kept = f"rows up to offset {facts.inserted_end - 1} stay" if facts.readings else "nothing was inserted"
    why = f"{why}: {kept}, from offset {parts_at} on the log has other records now"
    return _behind_the_promise(facts, record_at, parts_at, why)


def _last_promised(facts: Facts) -> Iterator[Found]:
    """Yield the last records that the commit names: the one below its offset, and the one at its range's end."""
    if facts.mark is None:
        return
    yield Found(facts.mark.offset - 1, facts.mark.leader_epoch)
    read_to, epoch = _read_to(facts.mark, decode(facts.mark.metadata))
    yield Found(read_to - 1, epoch)


def _behind_the_promise(facts: Facts, record_at: RecordAt, end: int, why: str) -> Plan:
    """Resume at an offset, after reading again what the committed intent promised below it and is not in the tables."""
    lacking = _lacking(facts, end, record_at)
    if not lacking:
        return _go_on(facts, record_at, end, why)
    plan = _go_on(facts, record_at, lacking.start, why)
    if lacking.stop == end:
        return plan
    behind = _go_on(replace(facts, used=_next_reading(facts)), record_at, end, why).mark
    detour = Detour(lacking.stop, behind.offset, behind.leader_epoch, behind.metadata) if behind else None
    return replace(plan, mark=_with_detour(plan.mark, detour))


def _lacking(facts: Facts, end: int, record_at: RecordAt) -> range:
    """Return the range from the first to the last offset below `end` that was promised and only the log has.

    Part of a batch of several schemas or months may be in the tables; rows in between are inserted twice.
    """
    intent = decode(facts.mark.metadata) if facts.mark else None
    if intent is None or not intent.is_range:
        return range(0)
    promised = range(max(intent.a, facts.low), min(intent.b, end))
    if not facts.kept:
        return promised

    def is_lacking(offset: int) -> bool:
        found = None if offset in facts.kept else record_at(offset)
        return found is not None and found.offset == offset  # else it is a gap of the log

    first = next(filter(is_lacking, promised), None)
    if first is None:
        return range(0)
    return range(first, next(filter(is_lacking, reversed(promised))) + 1)


def _repaired(facts: Facts, mark: CommittedOffset, intent: Intent | None, record_at: RecordAt) -> Plan | None:
    """Return how to resume from a commit at which a worker would halt; None when it would not."""
    read_to, epoch = _read_to(mark, intent)
    if _is_set_back(facts, intent, read_to):
        return _behind_the_tables(facts, record_at, f"the group's offset was set back to {mark.offset}")
    if facts.end < read_to or is_other_below(read_to, epoch, facts.low, record_at):
        return _behind_the_cut(facts, record_at, f"the log was cut below offset {read_to}")
    if mark.offset < facts.low:
        why = f"offsets {mark.offset} to {facts.low - 1} were deleted"
        why += f", and {len(facts.kept)} of the batch there were read" if facts.kept else " before they were read"
        return _behind_the_promise(facts, record_at, max(read_to, facts.low), why)
    if is_past_comparing(read_to, epoch, facts.low, record_at):
        why = f"nothing that was read below offset {read_to} is left in the log: whether it was cut is unknown"
        return _behind_the_promise(facts, record_at, read_to, why)
    return None


def before_detour(detour: Detour) -> CommittedOffset:
    """Return the commit to which a second reading returns."""
    return CommittedOffset(detour.offset, detour.metadata, detour.leader_epoch)


def _end_detour(
    facts: Facts, mark: CommittedOffset, intent: Intent, before: CommittedOffset, record_at: RecordAt
) -> Plan:
    """Give up a second reading that can't continue, and return to where the group was before it."""
    if _repaired(facts, mark, intent, record_at) is None:
        return Plan(facts.partition, _WELL)
    plan = resume(replace(facts, mark=before, kept=facts.kept_before, used=intent.reading), record_at)
    return Plan(facts.partition, f"the second reading ends at offset {mark.offset}; {plan.why}", plan.mark or before)


def _faults(facts: Facts, first: int, stop: int | None, intent: Intent | None) -> Iterator[str]:
    """Yield why these offsets can't be read again."""
    mark = facts.mark
    if not facts.low <= first <= facts.end:
        yield f"the log has the offsets {facts.low} to {facts.end - 1}, and {first} is not among them"
    done = (
        mark.offset if mark else max(facts.low, facts.inserted_end)
    )  # what an intent promises after it is not in the tables
    if first > done:
        yield f"only offsets below {done} were read: starting at {first} would skip some"
    if stop is None:
        return
    if mark is None or not first < stop <= mark.offset:
        read = "nothing was" if mark is None else f"only offsets below {mark.offset} were"
        yield f"{read} read: a second reading must end there at the latest, and after its beginning"
    if intent is not None and intent.detour is not None:
        yield "a second reading is in progress: let the workers finish it"
    if mark is not None and len(mark.metadata) > DETOUR_BYTES_MAX:
        yield "a batch with much poison is unfinished: first start a worker and stop it with SIGTERM"


def _go_on(facts: Facts, record_at: RecordAt, offset: int, why: str) -> Plan:
    """Plan to resume at an offset, in a new reading."""
    last = last_below(offset, facts.low, record_at)
    epoch = last.leader_epoch if last else NO_EPOCH
    intent = Intent(facts.topic_id, offset, offset, leader_epoch=epoch, reading=_next_reading(facts))
    return Plan(facts.partition, why, CommittedOffset(offset, intent.encode(), epoch))


def _with_detour(mark: CommittedOffset | None, detour: Detour | None) -> CommittedOffset | None:
    intent = decode(mark.metadata) if mark else None
    return replace(mark, metadata=replace(intent, detour=detour).encode()) if mark and intent else None


def _next_reading(facts: Facts) -> int:
    """Return the next reading number, which was never used."""
    intent = decode(facts.mark.metadata) if facts.mark else None
    return 1 + max(facts.used, intent.reading if intent else 0, *(reading.number for reading in facts.readings), 0)


def _read_to(mark: CommittedOffset, intent: Intent | None) -> tuple[int, int]:
    """Return the offset below which everything was read or promised, and the epoch of the last record there."""
    if intent is not None and intent.is_range and intent.a == mark.offset:
        return intent.b, intent.leader_epoch
    if mark.leader_epoch != NO_EPOCH or intent is None or intent.a != mark.offset:
        return mark.offset, mark.leader_epoch
    return mark.offset, intent.leader_epoch


def _is_set_back(facts: Facts, intent: Intent | None, read_to: int) -> bool:
    """Tell whether the tables hold more than the commit says, of its reading or a later one."""
    number = intent.reading if intent else 0
    if intent and facts.mark and intent.a == facts.mark.offset:
        read_to = max(read_to, intent.end)
    return any(reading.end > read_to for reading in facts.readings if reading.number >= number)


def _newest_epoch(readings: Sequence[Reading]) -> int:
    """Return the leader epoch of the highest row in the tables."""
    newest = max(readings, key=lambda reading: reading.last)
    return max(newest.epochs.items(), key=lambda item: item[1])[0] if newest.epochs else NO_EPOCH
