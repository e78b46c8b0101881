"""Whether every offset was inserted exactly once: as a row, or as a dead letter.

What must be there: every offset below the group's committed one that the log has held. What is there: the ledger
`offsets`, whose bitmaps say which and whose counts say how often, and the table of dead letters. An offset that is
missing is looked up in the log itself, where transactions and compaction leave gaps, before anybody is told; what the
log held no more when it was asked is missing. Costs one query over a row per million offsets for each partition.
When an operator has had offsets read again, they are in the tables once of each reading, and that is no double: the
newest reading over an offset must have it, as a row or as a dead letter.
The table of events itself is not counted: merges replace rows of one event there, and nobody can tell those from lost
ones. But an offset that it shows is no loss: one that the ledger lacks is uncounted, since the view was gone.
Memory does not grow with what is missing: offsets are named by at most ten thousand at a time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.statements import PINNED
from consumer.delivery.intent import Intent, UnreadableError, decode
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.operations.ledger import COUNTS, DOUBLE, INCARNATIONS, NAMED, READINGS, RECOUNT, SHOWN
from consumer.operations.runs import NAMED_MAX, Runs, runs_of

_MILLION: Final = 1_000_000  # offsets of a row of the ledger, schemas/clickhouse/0003_offsets.sql
_NAMED_MAX: Final = 10_000  # missing offsets that are named, and looked up in the log, at a time


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets [low, end) of a partition, under one topic ID, that must be in the tables.

    `is_gone` when the topic was deleted since, or recreated: its log can't be asked any more.
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
        span: of what.
        rows: rows inserted.
        offsets: distinct offsets among them, of each reading.
        letters: distinct offsets among the dead letters, of each reading.
        missing: offsets that are neither, and that are no gaps of the log as far as it can be asked.
        untold: the same of a topic that is gone: gaps or loss, nobody can tell.
        uncounted: offsets that have a row, and that the ledger lacks: its view was gone.
        duplicates: of each reading: rows beyond the first of their offset, and offsets that are row and dead letter.
        duplicates_shown: the first of them that the table still shows; merges may have replaced the others.
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

    @property
    def is_clean(self) -> bool:
        """Whether every offset is there once, as far as anybody can tell, and counted."""
        return not self.missing and not self.uncounted and not self.duplicates


Gaps = Callable[[Partition, Sequence[int]], set[int]]
"""Takes a partition and offsets, and returns those that the log has gone over without a record; see Cluster.gaps."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits spans.

    Attributes:
        connection: to the tables.
        tables: by topic: where its records become rows.
        gaps: asks the log; None believes the ledger alone.
    """

    connection: Connection
    tables: Mapping[str, str]
    gaps: Gaps | None

    def topic_ids(self) -> list[Span]:
        """Return what the ledger holds, of every incarnation of the topics."""
        rows = self.connection.query(INCARNATIONS, {"topics": list(self.tables)})
        return [
            Span(Partition(row["topic"], row["partition"]), row["topic_id"], row["low"], row["end"]) for row in rows
        ]

    def audit(self, span: Span) -> Finding:
        """Compare a span with the tables.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        readings = self._readings(span)
        counts = {number: self._counts(span, number) for number in sorted({0, *(number for number, _, _ in readings)})}
        lost, uncounted = self._lacking(_stretches(span, readings))
        double = {
            (number, row["million"]): row["rows"] - row["offsets"] + row["both"]
            for number, rows in counts.items()
            for row in rows
        }
        return Finding(
            span,
            rows=_sum(counts, "rows"),
            offsets=_sum(counts, "offsets"),
            letters=_sum(counts, "letters"),
            missing=Runs() if span.is_gone else lost,
            untold=lost if span.is_gone else Runs(),
            uncounted=uncounted,
            duplicates=sum(double.values()),
            duplicates_shown=self._double(span, [partition for partition, count in double.items() if count]),
        )

    def recount(self, finding: Finding) -> None:
        """Count in the ledger what an audit has just found uncounted; twice at once counts once.

        All of it is committed, so no insert of these rows is under way, and no view will count them.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        for span, reading in _stretches(finding.span, self._readings(finding.span)):
            token = f"recount/{span.topic_id}/{span.partition.number}/{reading}/{span.low}/{span.end}"
            settings = PINNED | {"insert_deduplication_token": f"{token}/{finding.uncounted.count}"}
            self.connection.command(RECOUNT, self._parameters(span, reading), settings=settings)

    def _readings(self, span: Span) -> list[tuple[int, int, int]]:
        """Return each reading in the ledger, the newest first: its number, and the offsets [low, end) that it has."""
        rows = self.connection.query(READINGS, self._parameters(span, 0))
        return [(row["reading"], row["first"], row["last"] + 1) for row in rows]

    def _counts(self, span: Span, reading: int) -> list[dict[str, Any]]:
        return self.connection.query(COUNTS, self._parameters(span, reading))

    def _lacking(self, stretches: Sequence[tuple[Span, int]]) -> tuple[Runs, Runs]:
        """Return what its newest reading lacks and the log has: what the table does not show, and what it does.

        The table is read only when something is missing that the log does not explain.
        """
        pieces = [piece for span, reading in stretches for piece in self._pieces(span, reading)]
        lost, uncounted = Runs(), Runs()
        for piece in pieces:
            self._name(lost, piece, piece.count)
        shown = {stretch: self._shown(*stretch) for stretch in stretches} if lost else {}
        if not any(shown.values()):
            return lost, uncounted
        lost = Runs()
        for piece in pieces:
            count = shown[piece.span, piece.reading].get(piece.million, 0)
            self._name(lost, replace(piece, looks=count > 0), piece.count - count)
            self._name(uncounted, replace(piece, looks=True, is_shown=True), count)
        return lost, uncounted

    def _pieces(self, span: Span, reading: int) -> list["_Piece"]:
        covered = {row["million"]: row["covered"] for row in self._counts(span, reading)}
        millions = range(span.low // _MILLION, -(-span.end // _MILLION))
        return [_Piece(span, reading, million, covered.get(million, 0)) for million in millions]

    def _name(self, found: Runs, piece: "_Piece", left: int) -> None:
        """Add so many offsets of a piece, without those that are gaps of the log.

        The log is asked about ten thousand of them at a time, as long as it explains any: a transaction has a gap for
        each record it may have, a loss has none.
        """
        at, is_asked = piece.first, self.gaps is not None and not piece.span.is_gone and not piece.is_shown
        while left > 0:
            is_whole = left == piece.end - at
            if not is_asked and (is_whole or found.is_full):
                break
            named = range(at, min(at + _NAMED_MAX, piece.end)) if is_whole else self._named(piece, at)
            if not named:  # what was missing a moment ago has come
                return
            gaps = self.gaps(piece.span.partition, named) if self.gaps is not None and is_asked else set()
            for first, end in runs_of(offset for offset in named if offset not in gaps):
                found.add(first, end)
            left, at = left - len(named), named[-1] + 1
            if not gaps:
                break
        if left == piece.end - at:
            found.add(at, piece.end)
        else:
            found.add_unnamed(left)

    def _named(self, piece: "_Piece", at: int) -> Sequence[int]:
        bounds = {"from": at, "to": piece.end, "this": piece.million, "limit": _NAMED_MAX}
        looks = {"looks": int(piece.looks), "is_shown": int(piece.is_shown)}
        rows = self.connection.query(NAMED, self._parameters(piece.span, piece.reading) | bounds | looks)
        return [row["offset"] for row in rows]

    def _shown(self, span: Span, reading: int) -> dict[int, int]:
        """Return how many offsets of each million the table shows and the ledger lacks. Reads all of the partition."""
        rows = self.connection.query(SHOWN, self._parameters(span, reading))
        return {row["million"]: row["uncounted"] for row in rows}

    def _double(self, span: Span, partitions: Iterable[tuple[int, int]]) -> Runs:
        found: list[int] = []
        for reading, million in partitions:
            bounds = {"from": million * _MILLION, "to": (million + 1) * _MILLION, "limit": NAMED_MAX - len(found)}
            found += [row["offset"] for row in self.connection.query(DOUBLE, self._parameters(span, reading) | bounds)]
            if len(found) >= NAMED_MAX:
                break
        return Runs(sorted(found))

    def _parameters(self, span: Span, reading: int) -> dict[str, object]:
        return {
            "table": self.tables[span.partition.topic],
            "topic": span.partition.topic,
            "topic_id": span.topic_id,
            "partition": span.partition.number,
            "reading": reading,
            "low": span.low,
            "end": span.end,
            "million": span.low // _MILLION,
        }


@dataclass(frozen=True, slots=True)
class _Piece:
    """A million of a stretch, and how much of it the ledger and the dead letters cover.

    What it lacks is meant; with `looks` without what the table shows, with `is_shown` just that.
    """

    span: Span
    reading: int
    million: int
    covered: int
    looks: bool = False
    is_shown: bool = False

    @property
    def first(self) -> int:
        """Its first offset."""
        return max(self.span.low, self.million * _MILLION)

    @property
    def end(self) -> int:
        """The offset behind its last."""
        return min(self.span.end, (self.million + 1) * _MILLION)

    @property
    def count(self) -> int:
        """How many offsets are lacking."""
        return self.end - self.first - self.covered


def _sum(counts: Mapping[int, Sequence[Mapping[str, Any]]], column: str) -> int:
    return sum(row[column] for rows in counts.values() for row in rows)


def _stretches(span: Span, readings: Sequence[tuple[int, int, int]]) -> list[tuple[Span, int]]:
    """Return a span in pieces, each with the newest reading over it; `readings` is newest first: number, low, end."""
    bounds = {span.low, span.end, *(at for _, low, end in readings for at in (low, end) if span.low < at < span.end)}
    pieces: list[tuple[Span, int]] = []
    for low, end in pairwise(sorted(bounds)):
        reading = next((number for number, first, last in readings if first <= low < last), 0)
        if pieces and pieces[-1][1] == reading:
            low = pieces.pop()[0].low  # noqa: PLW2901  (one piece with the one before)
        pieces.append((replace(span, low=low, end=end), reading))
    return pieces


def intended(mark: CommittedOffset) -> Intent | None:
    """Return a mark's intent, or None when it has none that this version reads."""
    try:
        return decode(mark.metadata)
    except UnreadableError:
        return None
