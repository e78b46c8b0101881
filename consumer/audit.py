"""Whether every offset was inserted exactly once: as a row, or as a dead letter.

What must be there: every offset below the group's committed one that the log has held. What is there: the ledger
`offsets`, whose bitmaps say which and whose counts say how often, and the table of dead letters. An offset that is
missing is looked up in the log itself, where transactions and compaction leave gaps, before anybody is told; what the
log held no more when it was asked is missing. Costs one query over a row per million offsets for each partition.
The table of events itself is not counted: merges replace rows of one event there, and nobody can tell those from lost
ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse import Connection
from consumer.intent import Intent, UnreadableError, decode
from consumer.ports import Mark, Partition

_MILLION: Final = 1_000_000  # offsets of a row of the ledger, schemas/clickhouse/0003_offsets.sql
_NAMED_MAX: Final = 10_000  # missing offsets of a million that are looked up one by one; more is loss, not gaps
_LEDGER: Final = """
SELECT million, sum(n) AS rows, groupBitmapMergeState(p) AS there, groupBitmapMergeState(d) AS dead,
    bitmapCardinality(there) AS offsets, bitmapCardinality(dead) AS letters,
    bitmapCardinality(bitmapAnd(there, dead)) AS both,
    bitmapCardinality(bitmapSubsetInRange(bitmapOr(there, dead), {low:UInt64}, {end:UInt64})) AS covered
FROM (
    SELECT million, rows AS n, present AS p, bitmapBuild(emptyArrayUInt64()) AS d FROM offsets
    WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
        AND million >= {million:UInt64}
    UNION ALL
    SELECT intDiv(toUInt64(origin_offset), 1000000) AS million, 0, bitmapBuild(emptyArrayUInt64()),
        bitmapBuild([toUInt64(origin_offset)]) FROM dead_letters
    WHERE origin_topic = {topic:String} AND origin_topic_id = {topic_id:String}
        AND origin_partition = {partition:Int32} AND origin_offset >= 0 AND million >= {million:UInt64}
) GROUP BY million ORDER BY million
"""
_COUNTS: Final = f"SELECT million, rows, offsets, letters, both, covered FROM ({_LEDGER})"  # noqa: S608  (our own text)
_MISSING: Final = f"""
WITH bitmapBuild(range({{from:UInt64}}, {{to:UInt64}})) AS wanted
SELECT arrayJoin(bitmapToArray(bitmapAndnot(bitmapAndnot(wanted, there), dead))) AS offset
FROM ({_LEDGER}) WHERE million = {{this:UInt64}} ORDER BY offset
"""  # noqa: S608  (as above)
_DOUBLE: Final = """
SELECT _offset AS offset FROM {table:Identifier}
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
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
        offsets: distinct offsets among them.
        letters: distinct offsets among the dead letters.
        missing: offsets that are neither, and that are no gaps of the log as far as it can be asked.
        missing_shown: the first of them.
        untold: the same of a topic that is gone: gaps or loss, nobody can tell.
        untold_shown: the first of them.
        duplicates: rows beyond the first of their offset, and offsets that are both row and dead letter.
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
        counts = self.connection.query(_COUNTS, self._parameters(span))
        by_million = {row["million"]: row for row in counts}
        missing = [
            offset
            for million in range(span.low // _MILLION, -(-span.end // _MILLION))
            for offset in self._missing(span, million, by_million.get(million, {}).get("covered", 0))
        ]
        double = {row["million"]: row["rows"] - row["offsets"] + row["both"] for row in counts}
        told, untold = ([], missing) if span.is_gone else (missing, [])
        return Finding(
            span,
            rows=sum(row["rows"] for row in counts),
            offsets=sum(row["offsets"] for row in counts),
            letters=sum(row["letters"] for row in counts),
            missing=len(told),
            missing_shown=tuple(told[:_SHOWN_MAX]),
            untold=len(untold),
            untold_shown=tuple(untold[:_SHOWN_MAX]),
            duplicates=sum(double.values()),
            duplicates_shown=tuple(self._double(span, [million for million, count in double.items() if count])),
        )

    def _missing(self, span: Span, million: int, covered: int) -> Sequence[int]:
        """Return the offsets of a million that are missing; of a topic that is gone, also what were gaps."""
        first, last = max(span.low, million * _MILLION), min(span.end, (million + 1) * _MILLION)
        count = last - first - covered
        if count <= 0:
            return ()
        if covered == 0:
            named: Sequence[int] = range(first, last)
        else:
            bounds = {"from": first, "to": last, "this": million}
            named = [row["offset"] for row in self.connection.query(_MISSING, self._parameters(span) | bounds)]
        if self.gaps is None or span.is_gone or len(named) > _NAMED_MAX:
            return named
        return sorted(set(named) - self.gaps(span.partition, named))

    def _double(self, span: Span, millions: Iterable[int]) -> list[int]:
        table = self.tables[span.partition.topic]
        found: list[int] = []
        for million in millions:
            bounds = {"table": table, "from": million * _MILLION, "to": (million + 1) * _MILLION, "limit": _SHOWN_MAX}
            found += [row["offset"] for row in self.connection.query(_DOUBLE, self._parameters(span) | bounds)]
        return found[:_SHOWN_MAX]

    def _parameters(self, span: Span) -> dict[str, object]:
        return {
            "topic": span.partition.topic,
            "topic_id": span.topic_id,
            "partition": span.partition.number,
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
