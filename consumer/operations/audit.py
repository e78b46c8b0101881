"""Checks that every offset was inserted exactly once: as a row, or as a dead letter.

What must be in the tables: every offset below the group's committed one that the log has held. What is in them: the
table `offsets`, whose bitmaps say which and whose counts say how often, and the table of dead letters. A missing offset
is looked up in the log, where transactions and compaction leave gaps, before it is reported; if the log no longer has
that stretch, it counts as missing. Costs one query over one row per million offsets for each partition.

Offsets that an operator has had read again are in the tables once per reading, which is no duplicate: the newest
reading over an offset must have it, as a row or as a dead letter.

The table of events is not counted: merges replace rows of one event, and these can't be told from lost ones. But an
offset that it shows is no loss: if `offsets` lacks it, it is uncounted, because the view was missing.

Memory does not grow with the missing offsets: at most ten thousand are listed at a time.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import FIRST_SHARD, WHO_ANSWERS
from consumer.clickhouse.replication import synced
from consumer.clickhouse.retention import expiry_of
from consumer.clickhouse.statements import PINNED
from consumer.delivery.ports import Partition
from consumer.errors import Cause, Transient
from consumer.operations import ledger
from consumer.operations.runs import NAMED_MAX, Runs, runs_of
from consumer.operations.spans import MILLION, Finding, Piece, Span, stretches

_NAMED_MAX: Final = 10_000  # missing offsets that are listed, and looked up in the log, at a time

_RECOUNTS_MAX: Final = 5
_REST_S: Final = 0.5
_RECOUNTS: Final = """
SELECT count() AS n FROM %s WHERE startsWith(Settings['insert_deduplication_token'], {token:String})
"""
_HERE: Final = {"parallel_distributed_insert_select": 0}
"""The settings of an insert whose rows the server that is asked gathers; else each shard would insert its own."""


Gaps = Callable[[Partition, Sequence[int]], set[int]]
"""Takes a partition and offsets, and returns those that are gaps of the log; see Cluster.gaps."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits spans.

    Attributes:
        connection: connects to the tables.
        tables: the table of each topic's rows.
        gaps: asks the log for gaps; None: the log is not asked.
    """

    connection: Connection
    tables: Mapping[str, str]
    gaps: Gaps | None

    def topic_ids(self) -> list[Span]:
        """Return the spans in the table `offsets`, for every topic ID."""
        rows = self.connection.query(ledger.INCARNATIONS, self._names | {"topics": list(self.tables)})
        return [
            Span(Partition(row["topic"], row["partition"]), row["topic_id"], row["low"], row["end"]) for row in rows
        ]

    def adopted(self) -> dict[tuple[Partition, str], int]:
        """Return from which offset on a copied topic's partitions were inserted; earlier ones were, as of the original.

        `adopt` has noted that in the table `adoptions`.
        """
        rows = self.connection.query(ledger.ADOPTED, self._names | {"topics": list(self.tables)})
        return {(Partition(row["topic"], row["partition"]), row["topic_id"]): row["end"] for row in rows}

    def audit(self, span: Span) -> Finding:
        """Compare a span with the tables; where they are replicated, nothing is missing before replicas have caught up.

        Raises:
            Transient, Fatal: as the packages' errors.py say; Transient too when a replica does not catch up.
        """
        finding = self._audit(span)
        if not (finding.missing or finding.untold or finding.uncounted):
            return finding
        one = self._caught_up()
        return finding if one is self else one._audit(span)  # noqa: SLF001  (of the same class)

    def _caught_up(self) -> "Auditor":
        """Return the same, at a server whose replica has caught up; itself where tables are plain."""
        one = synced(self.connection, *{*self.tables.values(), "offsets", "dead_letter_origins"})
        return self if one is None else replace(self, connection=one)

    def _audit(self, span: Span) -> Finding:
        readings = self._readings(span)
        counts = {number: self._counts(span, number) for number in sorted({0, *(number for number, _, _ in readings)})}
        lost, uncounted = self._lacking(stretches(span, readings))
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

    def expired(self, span: Span) -> int:
        """Return how many rows and dead letters of a span were inserted and have been removed since.

        Of rows, those below the first offset that is left, if the table has a retention. Reads a column of the table.

        Raises:
            Transient, Fatal: as the packages' errors.py say.
        """
        queries = [ledger.EXPIRED_LETTERS]
        if expiry_of(self.connection, self.tables[span.partition.topic]):
            queries.append(ledger.EXPIRED_ROWS)
        numbers = {0, *(number for number, _, _ in self._readings(span))}
        parameters = [self._parameters(span, number) for number in numbers]
        return sum(self.connection.query(query, one)[0]["expired"] for query in queries for one in parameters)

    def recount(self, finding: Finding, rest: Callable[[float], object] = time.sleep) -> Finding:
        """Add offsets that an audit found uncounted to the table `offsets`; return what an audit finds then.

        They are committed, so no insert of them is in progress, and no view will count them. Calls at the same time add
        them once: each counts only what is not counted when it begins, and its token names what the audit has found,
        not where the span ends, which moves on. One whose client is gone, or that took too long for it, goes on in the
        server, so it is waited for. A ClickHouse that was killed may know a token and lack its rows: what is still
        uncounted, though nobody counts it, is counted under another token.

        Raises:
            Transient: a server is away, or an earlier call still runs.
            Fatal: as the packages' errors.py say.
        """
        for attempt in range(_RECOUNTS_MAX):
            self._await_recounts(finding.span, rest)
            self._caught_up()._recount(finding, attempt)  # noqa: SLF001  (counts that are not here would be added again)
            finding = self.audit(finding.span)
            if not finding.uncounted:
                break
        return finding

    def _recount(self, finding: Finding, attempt: int) -> None:
        found = finding.uncounted
        first, end = found.bounds if found and found.is_bounded else (finding.span.low, finding.span.end)
        for span, reading in stretches(finding.span, self._readings(finding.span)):
            token = f"{_recount_of(span)}{reading}/{span.low}/{first}/{end}/{found.count}/{attempt}"
            settings = PINNED | {"insert_deduplication_token": token}
            settings |= self.connection.layout.of_insert(FIRST_SHARD) | _HERE
            self.connection.command(ledger.RECOUNT, self._parameters(span, reading), settings=settings)

    def _await_recounts(self, span: Span, rest: Callable[[float], object]) -> None:
        layout = self.connection.layout
        query, settings = _RECOUNTS % layout.everywhere("system.processes"), WHO_ANSWERS if layout.cluster else {}
        for _ in range(int(self.connection.timeout_s / _REST_S) + 1):
            (running,) = self.connection.query(query, {"token": _recount_of(span)}, settings=settings)
            if not running["n"]:
                return
            rest(_REST_S)
        place = f"{span.partition.topic}/{span.partition.number}"
        raise Transient(f"an earlier recount of {place} still runs in ClickHouse: run it again later", Cause.BUSY)

    @property
    def _names(self) -> dict[str, object]:
        return {**self.connection.layout.names("offsets", "dead_letters", "dead_letter_origins", "adoptions")}

    def _readings(self, span: Span) -> list[tuple[int, int, int]]:
        """Return each reading in `offsets`, newest first: its number, and its offsets [low, end)."""
        rows = self.connection.query(ledger.READINGS, self._parameters(span, 0))
        return [(row["reading"], row["first"], row["last"] + 1) for row in rows]

    def _counts(self, span: Span, reading: int) -> list[dict[str, Any]]:
        return self.connection.query(ledger.COUNTS, self._parameters(span, reading))

    def _lacking(self, stretches: Sequence[tuple[Span, int]]) -> tuple[Runs, Runs]:
        """Return the offsets that their newest reading lacks and the log has: missing ones, then uncounted ones.

        The table is read only when the log does not explain what is missing.
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

    def _pieces(self, span: Span, reading: int) -> list[Piece]:
        covered = {row["million"]: row["covered"] for row in self._counts(span, reading)}
        millions = range(span.low // MILLION, -(-span.end // MILLION))
        return [Piece(span, reading, million, covered.get(million, 0)) for million in millions]

    def _name(self, found: Runs, piece: Piece, left: int) -> None:
        """Add this many offsets of a piece, without gaps of the log.

        The log is asked about ten thousand offsets at a time, as long as it explains any of them.
        """
        at, is_asked = piece.first, self.gaps is not None and not piece.span.is_gone and not piece.is_shown
        while left > 0:
            is_whole = left == piece.end - at
            if not is_asked and (is_whole or found.is_full):
                break
            named = range(at, min(at + _NAMED_MAX, piece.end)) if is_whole else self._named(piece, at)
            if not named:  # what was missing a moment ago has arrived
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

    def _named(self, piece: Piece, at: int) -> Sequence[int]:
        bounds = {"from": at, "to": piece.end, "this": piece.million, "limit": _NAMED_MAX}
        looks = {"looks": int(piece.looks), "is_shown": int(piece.is_shown)}
        rows = self.connection.query(ledger.NAMED, self._parameters(piece.span, piece.reading) | bounds | looks)
        return [row["offset"] for row in rows]

    def _shown(self, span: Span, reading: int) -> dict[int, int]:
        """Return how many offsets of each million the table shows but `offsets` lacks. Reads the whole partition."""
        rows = self.connection.query(ledger.SHOWN, self._parameters(span, reading))
        return {row["million"]: row["uncounted"] for row in rows}

    def _double(self, span: Span, partitions: Iterable[tuple[int, int]]) -> Runs:
        found: list[int] = []
        for reading, million in partitions:
            bounds = {"from": million * MILLION, "to": (million + 1) * MILLION, "limit": NAMED_MAX - len(found)}
            where = self._parameters(span, reading) | bounds
            found += [row["offset"] for row in self.connection.query(ledger.DOUBLE, where)]
            if len(found) >= NAMED_MAX:
                break
        return Runs(sorted(found))

    def _parameters(self, span: Span, reading: int) -> dict[str, object]:
        return self._names | {
            "table": self.connection.layout.over_all(self.tables[span.partition.topic]),
            "topic": span.partition.topic,
            "topic_id": span.topic_id,
            "partition": span.partition.number,
            "reading": reading,
            "low": span.low,
            "end": span.end,
            "million": span.low // MILLION,
        }


def _recount_of(span: Span) -> str:
    """Return how the tokens of a partition's recounts begin."""
    return f"recount/{span.topic_id}/{span.partition.number}/"


def _sum(counts: Mapping[int, Sequence[Mapping[str, Any]]], column: str) -> int:
    return sum(row[column] for rows in counts.values() for row in rows)
