"""Whether every offset was inserted exactly once: as a row, or as a dead letter.

What must be there: every offset below the group's committed one that the log has held. What is there: the ledger
`offsets`, whose bitmaps say which and whose counts say how often, and the table of dead letters. An offset that is
missing is looked up in the log itself, where transactions and compaction leave gaps, before anybody is told; what the
log held no more when it was asked is missing. Costs one query over a row per million offsets for each partition.
When an operator has had offsets read again, they are in the tables once of each reading, and that is no double: the
newest reading over an offset must have it, as a row or as a dead letter.
The table of events itself is not counted: merges replace rows of one event there, and nobody can tell those from lost
ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from consumer.clickhouse import Connection
from consumer.intent import Intent, UnreadableError, decode
from consumer.ports import Mark, Partition

_MILLION: Final = 1_000_000  # offsets of a row of the ledger, schemas/clickhouse/0003_offsets.sql
_NAMED_MAX: Final = 10_000  # missing offsets of a million that are looked up one by one; more is loss, not gaps
_LEDGER: Final = """
SELECT million, sum(n) AS rows, groupBitmapMergeState(p) AS there, groupBitmapMergeState(d) AS dead,
    groupBitmapMergeState(o) AS own, bitmapCardinality(there) AS offsets, bitmapCardinality(own) AS letters,
    bitmapCardinality(bitmapAnd(there, own)) AS both,
    bitmapCardinality(bitmapSubsetInRange(bitmapOr(there, dead), {low:UInt64}, {end:UInt64})) AS covered
FROM (
    SELECT million, rows AS n, present AS p, bitmapBuild(emptyArrayUInt64()) AS d, d AS o FROM offsets
    WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
        AND reading = {reading:UInt32} AND million >= {million:UInt64}
    UNION ALL
    SELECT intDiv(toUInt64(origin_offset), 1000000) AS million, 0, bitmapBuild(emptyArrayUInt64()),
        bitmapBuild([toUInt64(origin_offset)]),
        bitmapBuild(arrayFilter(x -> origin_reading = {reading:UInt32}, [toUInt64(origin_offset)])) FROM dead_letters
    WHERE origin_topic = {topic:String} AND origin_topic_id = {topic_id:String}
        AND origin_partition = {partition:Int32} AND origin_offset >= 0 AND million >= {million:UInt64}
        AND origin_reading >= {reading:UInt32}
) GROUP BY million ORDER BY million
"""
_COUNTS: Final = f"SELECT million, rows, offsets, letters, both, covered FROM ({_LEDGER})"  # noqa: S608  (our own text)
_READINGS: Final = """
SELECT reading, min(first) AS first, max(last) AS last FROM offsets
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
GROUP BY reading ORDER BY reading DESC
"""
_MISSING: Final = f"""
WITH bitmapBuild(range({{from:UInt64}}, {{to:UInt64}})) AS wanted
SELECT arrayJoin(bitmapToArray(bitmapAndnot(bitmapAndnot(wanted, there), dead))) AS offset
FROM ({_LEDGER}) WHERE million = {{this:UInt64}} ORDER BY offset
"""  # noqa: S608  (as above)
_DOUBLE: Final = """
SELECT _offset AS offset FROM {table:Identifier}
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
    AND _reading = {reading:UInt32}
GROUP BY _offset HAVING count() > 1 ORDER BY offset LIMIT {limit:UInt32}
"""
_INCARNATIONS: Final = """
SELECT topic, topic_id, partition, min(first) AS low, max(last) + 1 AS end FROM offsets
WHERE topic IN {topics:Array(String)} GROUP BY topic, topic_id, partition ORDER BY topic, partition, topic_id
"""
_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets [low, end) of a partition, in one incarnation of its topic, that must be in the tables.

    `is_gone` when the topic was deleted since, or made anew: its log can't be asked any more.
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
        missing_shown: the first of them.
        untold: the same of a topic that is gone: gaps or loss, nobody can tell.
        untold_shown: the first of them.
        duplicates: of each reading: rows beyond the first of their offset, and offsets that are row and dead letter.
        duplicates_shown: the first of them that the table still shows; merges may have replaced the others.
    """

    span: Span
    rows: int
    offsets: int
    letters: int
    missing: int = 0
    missing_shown: tuple[int, ...] = ()
    untold: int = 0
    untold_shown: tuple[int, ...] = ()
    duplicates: int = 0
    duplicates_shown: tuple[int, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether every offset is there once, as far as anybody can tell."""
        return not self.missing and not self.duplicates


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

    def incarnations(self) -> list[Span]:
        """Return what the ledger holds, of every incarnation of the topics."""
        rows = self.connection.query(_INCARNATIONS, {"topics": list(self.tables)})
        return [
            Span(Partition(row["topic"], row["partition"]), row["topic_id"], row["low"], row["end"]) for row in rows
        ]

    def audit(self, span: Span) -> Finding:
        """Compare a span with the tables.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        readings = self.connection.query(_READINGS, _parameters(span, 0))
        counts = {number: self._counts(span, number) for number in sorted({0, *(row["reading"] for row in readings)})}
        stretches = _stretches(span, [(row["reading"], row["first"], row["last"] + 1) for row in readings])
        missing = [
            offset
            for stretch, number in stretches
            for offset in self._missing_of(
                stretch, number, counts[number] if stretch == span else self._counts(stretch, number)
            )
        ]
        double = {
            (number, row["million"]): row["rows"] - row["offsets"] + row["both"]
            for number, rows in counts.items()
            for row in rows
        }
        told, untold = ([], missing) if span.is_gone else (missing, [])
        return Finding(
            span,
            rows=_sum(counts, "rows"),
            offsets=_sum(counts, "offsets"),
            letters=_sum(counts, "letters"),
            missing=len(told),
            missing_shown=tuple(told[:_SHOWN_MAX]),
            untold=len(untold),
            untold_shown=tuple(untold[:_SHOWN_MAX]),
            duplicates=sum(double.values()),
            duplicates_shown=tuple(self._double(span, [place for place, count in double.items() if count])),
        )

    def _counts(self, span: Span, reading: int) -> list[dict[str, Any]]:
        return self.connection.query(_COUNTS, _parameters(span, reading))

    def _missing_of(self, span: Span, reading: int, counts: Sequence[Mapping[str, Any]]) -> Iterator[int]:
        """Yield the offsets of a stretch that its newest reading lacks."""
        covered = {row["million"]: row["covered"] for row in counts}
        for million in range(span.low // _MILLION, -(-span.end // _MILLION)):
            yield from self._missing(span, reading, million, covered.get(million, 0))

    def _missing(self, span: Span, reading: int, million: int, covered: int) -> Sequence[int]:
        """Return the offsets of a million that are missing; of a topic that is gone, also what were gaps."""
        first, last = max(span.low, million * _MILLION), min(span.end, (million + 1) * _MILLION)
        count = last - first - covered
        if count <= 0:
            return ()
        if covered == 0:
            named: Sequence[int] = range(first, last)
        else:
            bounds = {"from": first, "to": last, "this": million}
            named = [row["offset"] for row in self.connection.query(_MISSING, _parameters(span, reading) | bounds)]
        if self.gaps is None or span.is_gone or len(named) > _NAMED_MAX:
            return named
        return sorted(set(named) - self.gaps(span.partition, named))

    def _double(self, span: Span, places: Iterable[tuple[int, int]]) -> list[int]:
        table = self.tables[span.partition.topic]
        found: list[int] = []
        for reading, million in places:
            bounds = {"table": table, "from": million * _MILLION, "to": (million + 1) * _MILLION, "limit": _SHOWN_MAX}
            found += [row["offset"] for row in self.connection.query(_DOUBLE, _parameters(span, reading) | bounds)]
        return found[:_SHOWN_MAX]


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


def _parameters(span: Span, reading: int) -> dict[str, object]:
    return {
        "topic": span.partition.topic,
        "topic_id": span.topic_id,
        "partition": span.partition.number,
        "reading": reading,
        "low": span.low,
        "end": span.end,
        "million": span.low // _MILLION,
    }


def intended(mark: Mark) -> Intent | None:
    """Return a mark's intent, or None when it has none that this version reads."""
    try:
        return decode(mark.metadata)
    except UnreadableError:
        return None


def ranges(offsets: Sequence[int]) -> str:
    """Return ascending offsets as text: 3-5, 9."""
    parts: list[list[int]] = []
    for offset in offsets:
        if parts and parts[-1][1] == offset - 1:
            parts[-1][1] = offset
        else:
            parts.append([offset, offset])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
