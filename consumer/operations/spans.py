"""What an audit looks at, and what it finds: values without calls."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from consumer.delivery.intent import Intent, UnreadableError, decode
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.operations.runs import Runs

MILLION: Final = 1_000_000
"""Offsets per row of the table `offsets`, schemas/clickhouse/0003_offsets.sql."""


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets [low, end) of a partition, under one topic ID, that must be in the tables.

    `is_gone` when the topic was deleted or recreated since: its log can't be asked any more.
    """

    partition: Partition
    topic_id: str
    low: int
    end: int
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit found of one span.

    Attributes:
        span: the offsets audited.
        rows: the number of rows inserted.
        offsets: distinct offsets among them, summed over readings.
        letters: distinct offsets among the dead letters, summed over readings.
        missing: offsets that are neither, and no gaps of the log.
        untold: the same for a deleted topic: gaps or loss.
        uncounted: offsets that have a row but are not in `offsets`, because its view was missing.
        duplicates: per reading, rows beyond the first of their offset, and offsets that are both row and dead letter.
        duplicates_shown: the first duplicates that the table still shows; merges may have replaced the others.
        expired: rows and dead letters that retention has removed, as far as it was asked: see Auditor.expired.
    """

    span: Span
    rows: int
    offsets: int
    letters: int
    missing: Runs = field(default_factory=Runs)
    untold: Runs = field(default_factory=Runs)
    uncounted: Runs = field(default_factory=Runs)
    duplicates: int = 0
    duplicates_shown: Runs = field(default_factory=Runs)
    expired: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether no offset is missing, duplicate or uncounted."""
        return not self.missing and not self.uncounted and not self.duplicates


@dataclass(frozen=True, slots=True)
class Piece:
    """Up to a million offsets of a span, and how many of them are counted or dead letters.

    It stands for the others; with `looks` without those that the table shows, with `is_shown` for just those.
    """

    span: Span
    reading: int
    million: int
    covered: int
    looks: bool = False
    is_shown: bool = False

    @property
    def first(self) -> int:
        """The first offset."""
        return max(self.span.low, self.million * MILLION)

    @property
    def end(self) -> int:
        """The offset after the last."""
        return min(self.span.end, (self.million + 1) * MILLION)

    @property
    def count(self) -> int:
        """The number of offsets not covered."""
        return self.end - self.first - self.covered


def stretches(span: Span, readings: Sequence[tuple[int, int, int]]) -> list[tuple[Span, int]]:
    """Split a span by the newest reading of each offset; `readings` is newest first: number, low, end."""
    bounds = {span.low, span.end, *(at for _, low, end in readings for at in (low, end) if span.low < at < span.end)}
    pieces: list[tuple[Span, int]] = []
    for low, end in pairwise(sorted(bounds)):
        reading = next((number for number, first, last in readings if first <= low < last), 0)
        if pieces and pieces[-1][1] == reading:
            low = pieces.pop()[0].low  # noqa: PLW2901  (joins the previous piece)
        pieces.append((replace(span, low=low, end=end), reading))
    return pieces


def intended(mark: CommittedOffset) -> Intent | None:
    """Return a commit's intent, or None when it has none that this version can read."""
    try:
        return decode(mark.metadata)
    except UnreadableError:
        return None
