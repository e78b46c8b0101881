"""Finds the offset at which a log that was cut, and may have grown again, diverges from what was read of it.

Two logs of one partition with a record of the same leader epoch at the same offset are equal up to there: Kafka's
replication depends on that (KIP-101). So this looks for the last row whose record the log still has, epoch by epoch,
newest first. The leader's own answer (OffsetForLeaderEpoch) is not enough: after two unclean elections it may name an
offset up to which the log is equally long but different.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from consumer.clickhouse.offsets import Reading
from consumer.delivery.intent import NO_EPOCH


class Found(NamedTuple):
    """A record of the log."""

    offset: int
    leader_epoch: int


RecordAt = Callable[[int], Found | None]
"""Returns the log's first record at an offset or after it; None when there is none."""


def last_below(offset: int, low: int, record_at: RecordAt) -> Found | None:
    """Return the log's last record below an offset, None when there is none; takes a few fetches."""
    return _last(low, offset - 1, lambda found: found.offset < offset, record_at)


def is_other_below(offset: int, leader_epoch: int, low: int, record_at: RecordAt) -> bool:
    """Tell whether the log's last record below an offset differs from the one that was read there.

    `leader_epoch` is that of the record that was read; False when it is unknown.
    """
    last = last_below(offset, low, record_at) if leader_epoch != NO_EPOCH else None
    return last is not None and last.leader_epoch != leader_epoch


def is_past_comparing(offset: int, leader_epoch: int, low: int, record_at: RecordAt) -> bool:
    """Tell whether the log has no record below an offset, and behind it one of a later epoch than was read there.

    Then a client that asks the leader (KIP-320) may be told of a cut, though no record shows one.
    """
    if leader_epoch == NO_EPOCH or last_below(offset, low, record_at) is not None:
        return False
    found = record_at(offset)
    return found is not None and found.leader_epoch > leader_epoch


def parting(read: Iterable[Found], low: int, log_end: int, record_at: RecordAt) -> int:
    """Return the offset from which on the log differs from what was read.

    `read` has the last record that was read of each leader epoch. A record of unknown epoch (the previous release did
    not keep it) only says that something was read up to there; then the log is trusted up to the records that are
    older than all known epochs.
    """
    lasts = sorted(read, reverse=True)
    known = [item for item in lasts if item.leader_epoch != NO_EPOCH]
    unknown = max((item.offset for item in lasts if item.leader_epoch == NO_EPOCH), default=low - 1)
    best = low - 1
    for last in known:
        if last.offset <= best:
            break
        found = _last(low, last.offset, partial(_is_up_to, last), record_at)
        if found is not None and found.leader_epoch == last.leader_epoch:
            best = found.offset
    if best >= low or unknown < low:
        return best + 1
    if not known:
        return min(log_end, unknown + 1)
    oldest = Found(unknown, min(item.leader_epoch for item in known) - 1)
    believed = _last(low, unknown, partial(_is_up_to, oldest), record_at)
    return believed.offset + 1 if believed else low


def last_read(readings: Iterable[Reading]) -> Iterator[Found]:
    """Yield the last record of each leader epoch in the tables, for every reading."""
    for reading in readings:
        yield from (Found(last, epoch) for _, last, epoch in _stretches(reading))


def not_in_log(readings: Iterable[Reading], wanted: range, log_end: int, record_at: RecordAt) -> Found | None:
    """Return a counted row in a range of offsets whose record the log does not have; None when it has all of them.

    A record of a leader epoch at both ends of the rows of that epoch means that all of them are in the log. Rows of
    unknown epoch can't be compared, and are called missing unless the log's epochs are unknown too.
    """
    for reading in readings:
        for first, last, epoch in _stretches(reading):
            rows = range(max(first, wanted.start), min(last + 1, wanted.stop))
            if not rows:
                continue
            ends = record_at(rows.start), last_below(rows.stop, rows.start, record_at)
            if rows.stop > log_end or any(found is None or found.leader_epoch != epoch for found in ends):
                return Found(rows[-1], epoch)
    return None


def _stretches(reading: Reading) -> Iterator[tuple[int, int, int]]:
    """Yield the first and the last offset of each leader epoch, and the epoch."""
    starts = sorted((first, epoch) for epoch, first in reading.epochs.items())
    ends = [first - 1 for first, _ in starts[1:]] + [reading.last]
    yield from ((first, last, epoch) for (first, epoch), last in zip(starts, ends, strict=True))


def _is_up_to(last: Found, found: Found) -> bool:
    return found.offset <= last.offset and found.leader_epoch <= last.leader_epoch


def _last(first: int, last: int, is_before: Callable[[Found], bool], record_at: RecordAt) -> Found | None:
    """Return the last record from `first` to `last` for which `is_before` holds, by bisection."""
    best = None
    while first <= last:
        middle = (first + last) // 2
        found = record_at(middle)
        if found is not None and is_before(found):
            best, first = found, found.offset + 1
        else:
            last = middle - 1
    return best
