"""Finds the records of a block that a table refuses, and why, without writing to the table.

First each Avro body is checked: one that is no record of its schema would spoil the others. Then one query finds the
rows whose conversion or constraint fails (explain.py). The first and the last row of a kind are probed alone, which
also gives ClickHouse's own error; if one of them is accepted, the kind is discarded. A kind that was refused is not
probed again for ten minutes, unless the table changes: so much poison costs a batch two queries. Only when nothing is
found, the rows are probed together and bisected (bisect.py): first one of each group that the table's expressions can't
tell apart (alike.py), whose verdict is the group's if the group's last row has the same.

Probes go to a table with the columns and constraints of the real one that keeps no rows. Each search that needs it
creates it and drops it afterwards: a permanent one would miss new columns.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import Final

from consumer.clickhouse.alike import alike
from consumer.clickhouse.bisect import Bisection
from consumer.clickhouse.client import Connection, ExternalTable, Target
from consumer.clickhouse.explain import ROWS, Explanation
from consumer.clickhouse.knowledge import Knowledge, Known
from consumer.clickhouse.servers import scratch_table
from consumer.clickhouse.statements import PINNED
from consumer.delivery.ports import Block, Metrics, Poison, Record, Rows
from consumer.errors import Halt, Reason, Rejected, Transient
from schemas.codec import FRAME_BYTES, container_header, read_schema
from schemas.walk import Walker

_SEARCHED_MAX: Final = 400  # rows found by bisection in one search; the next search finds the rest
_SEARCH_S_MAX: Final = 3.0
_SEEN_S: Final = 1.0
_NUMBER: Final = re.compile(r"-?\d+")
_ProbeTable = tuple[Connection, str]
"""A probe table's server, and its name there."""


class PoisonSearch:
    """Searches blocks of one table. Threads share it.

    `rows` makes blocks of some of the records; `schema_of` returns the text of a block's writer schema.
    """

    def __init__(
        self, connection: Connection, target: Target, rows: Rows, schema_of: Callable[[int], str], metrics: Metrics
    ) -> None:
        self._connection = connection
        self._target = target
        self._rows = rows
        self._schema_of = schema_of
        self._metrics = metrics
        self._settings = PINNED | {"max_execution_time": max(1, int(target.timeout_s * 0.9))}
        self._knowledge = Knowledge(connection, target)

    def run(self, block: Block, records: Sequence[Record]) -> list[Poison]:
        """Return the poison of a refused block, in offset order, or part of it; none when no row is to blame.

        What a query tells comes first, and the rest with a later search: whether there is more, the next insert says.

        Args:
            block: the refused block.
            records: the records of its batch.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        with self._asked(block, records) as asked:
            return asked.told() or asked.searched()

    def told(self, block: Block, records: Sequence[Record]) -> list[Poison]:
        """Return the poison of a block that was not inserted yet, as far as a query tells.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        with self._asked(block, records, _SEEN_S) as asked:
            return asked.told()

    @contextmanager
    def _asked(self, block: Block, records: Sequence[Record], seen_s: float = 0.0) -> "Iterator[_Asked]":
        among = frozenset(block.offsets)
        mine = [record for record in records if record.offset in among]
        with ExitStack() as stack:
            yield _Asked(self, self._knowledge.now(seen_s), block, mine, stack)

    def schema_of(self, schema_id: int) -> str:
        """Return a writer schema's text."""
        return self._schema_of(schema_id)

    def faults(self, explanation: Explanation, part: Block) -> dict[int, list[int]]:
        """Return the numbers of the checks that a block's rows fail, by offset."""
        sent = ExternalTable(ROWS, explanation.structure, bytes(part.payload))
        rows = self._connection.query(explanation.select, part.origin._asdict(), sent, self._settings)
        return {row["at"]: row["faults"] for row in rows}

    def probe(self, probe_table: _ProbeTable, part: Block) -> Rejected | None:
        """Insert some rows into a probe table; return the refusal, or None when all are accepted."""
        self._metrics.count("poison_probes", table=self._target.table)
        one, name = probe_table
        try:
            statement = replace(self._target, table=name).statement
            one.command(statement, part.origin._asdict(), part.payload, self._settings)
        except Rejected as refusal:
            return refusal
        return None

    def takes_own(self, probe_table: _ProbeTable, block: Block) -> bool:
        """Tell whether a probe table accepts an empty container of our own schema: then the table is not at fault."""
        header = container_header(read_schema(self._target.schema_name))
        return self.probe(probe_table, replace(block, payload=header)) is None

    def part(self, block: Block, schema: str, records: Sequence[Record]) -> Block:
        """Return some of a block's records as a block; for no records, a container's head."""
        if not records:
            return replace(block, payload=container_header(schema))
        return self._rows.blocks(records, block.origin, block.token)[0]

    def probe_table(self) -> AbstractContextManager[_ProbeTable]:
        """Create a table that refuses what the real one refuses, and keeps nothing."""
        table = self._target.table
        return scratch_table(self._connection, f"{table}_probe_", f"AS {table} ENGINE = Null")


class _Asked:
    """One search over the records of one block."""

    def __init__(
        self, search: PoisonSearch, known: Known, block: Block, records: Sequence[Record], stack: ExitStack
    ) -> None:
        self._search = search
        self._known = known
        self._is_checked = False  # whether the query could check all that it knows of
        self._block = block
        self._records = records
        self._stack = stack
        self._schema = search.schema_of(block.schema_id)

    @cached_property
    def _probe_table(self) -> _ProbeTable:
        return self._stack.enter_context(self._search.probe_table())

    def told(self) -> list[Poison]:
        """Return the poison that is found without bisection, in offset order."""
        found = self._broken()
        return sorted(found + self._explained(_without(self._records, found)), key=lambda item: item.offset)

    def _broken(self) -> list[Poison]:
        """Return the records whose body does not match its schema."""
        walker = Walker(self._schema)
        checked = ((record.offset, walker.fault_of(record.value, FRAME_BYTES)) for record in self._records)
        faults = {offset: fault for offset, fault in checked if fault}
        kinds = {offset: _NUMBER.sub("n", fault.partition(":")[2]) for offset, fault in faults.items()}
        return self._believed(kinds, {offset: (Reason.BAD_AVRO, text) for offset, text in faults.items()})

    def _explained(self, records: Sequence[Record]) -> list[Poison]:
        """Return the poison that one query finds; nothing when it can't run: then bisection finds it."""
        if not records:
            return []
        for asked in self._known.explanations:
            # A constraint throws, ClickHouse refuses a body that our check accepts, or something in between takes
            # inserts, but no query with rows. Where a server is away, the next probe says so.
            with suppress(Rejected, Halt, Transient):
                found = self._search.faults(asked, self._part(records))
                self._is_checked = asked is self._known.explanations[0]
                return self._of_checks(asked, found)
        return []

    def searched(self) -> list[Poison]:
        """Return the poison that bisection finds."""
        records = self._records
        refusal = self._probe(records) if records else None
        if refusal is None:
            return []
        if (empty := self._probe([])) is not None and self._search.takes_own(self._probe_table, self._block):
            why = f"ClickHouse can't read schema {self._block.schema_id} ({empty})"
            return [Poison(record.offset, Reason.UNKNOWN_SCHEMA, why) for record in records]
        return self._like_others() or self._bisected(records, refusal)

    def _like_others(self) -> list[Poison]:
        """Return the poison among rows that differ in what the table's expressions see, and all rows like it."""
        fields = self._known.inputs if self._is_checked else ()
        groups = alike(self._records, Walker(self._schema), fields) if fields else []
        firsts = {group[0].offset: group for group in groups}
        rows = [group[0] for group in groups]
        if not 0 < len(rows) < len(self._records) or (refusal := self._probe(rows)) is None:
            return []
        found = self._bisected(rows, refusal)
        return [replace(item, offset=row.offset) for item in found for row in self._refused_of(firsts[item.offset])]

    def _refused_of(self, group: Sequence[Record]) -> Sequence[Record]:
        """Return a group whose first row is refused, or only that row if the last one is accepted."""
        return group if len(group) == 1 or self._probe([group[-1]]) is not None else group[:1]

    def _bisected(self, records: Sequence[Record], refusal: Rejected) -> list[Poison]:
        offsets = [record.offset for record in records]
        probe = lambda rows: self._probe([records[row] for row in rows])  # noqa: E731  (a Probe)
        return Bisection(offsets, probe, _SEARCHED_MAX, _SEARCH_S_MAX).run(refusal)

    def _of_checks(self, asked: Explanation, found: Mapping[int, Sequence[int]]) -> list[Poison]:
        checks = dict(enumerate(asked.checks, 1))
        texts = {
            offset: (checks[faults[0]].reason, "; ".join(checks[number].fault for number in faults))
            for offset, faults in found.items()
        }
        return self._believed({offset: checks[faults[0]].fault for offset, faults in found.items()}, texts)

    def _believed(self, kinds: Mapping[int, str], texts: Mapping[int, tuple[Reason, str]]) -> list[Poison]:
        """Return the rows of each kind whose first and last row are refused alone, with ClickHouse's error."""
        groups: dict[str, list[Record]] = {}
        for record in self._records:
            if record.offset in kinds:
                groups.setdefault(kinds[record.offset], []).append(record)
        found: list[Poison] = []
        for kind, group in groups.items():
            if refusal := self._refusal_of(kind, group):
                found += [self._poison(record.offset, *texts[record.offset], refusal) for record in group]
        return found

    def _refusal_of(self, kind: str, group: Sequence[Record]) -> str:
        """Return ClickHouse's error for a kind of poison; "" when it accepts the first or the last row of it."""
        refusals, at = self._known.refusals, (self._block.schema_id, kind)
        if at not in refusals:
            ends = group[:1] if len(group) == 1 else [group[0], group[-1]]
            told = [self._probe([record]) for record in ends]
            if None in told:
                return ""
            refusals[at] = str(told[0])
        return refusals[at]

    @staticmethod
    def _poison(offset: int, reason: Reason, text: str, refusal: str) -> Poison:
        return Poison(offset, reason, f"{text} ({refusal})")

    def _probe(self, records: Sequence[Record]) -> Rejected | None:
        return self._search.probe(self._probe_table, self._part(records))

    def _part(self, records: Sequence[Record]) -> Block:
        return self._search.part(self._block, self._schema, records)


def _without(records: Sequence[Record], poison: Sequence[Poison]) -> list[Record]:
    bad = {item.offset for item in poison}
    return [record for record in records if record.offset not in bad]
