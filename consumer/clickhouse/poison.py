"""Finds the records of a refused block that a table refuses, and why, without writing to the table.

First each Avro body is checked: one that is no record of its schema would spoil the others. Then one statement finds
the rows whose conversion or constraint fails (explain.py). The first and the last row of each kind are probed alone,
which also gives ClickHouse's own error; if one of them is accepted, the kind is discarded. The remaining rows are
probed together, and bisected only if they are refused (bisect.py).

Each search creates two tables and drops them afterwards: a probe table with the columns and constraints of the real one
that keeps no rows, and a table for the answer. Permanent ones would miss new columns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final
from uuid import uuid4

from consumer.clickhouse.bisect import Bisection
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.explain import Explanation, Shape, explain
from consumer.clickhouse.statements import PINNED
from consumer.delivery.ports import Block, Metrics, Poison, Record, Rows
from consumer.errors import ConsumerError, Halt, Reason, Rejected
from schemas.codec import FRAME_BYTES, container_header, read_schema
from schemas.walk import Walker

_SEARCHED_MAX: Final = 400  # rows found by bisection in one search; the next search finds the rest
_SEARCH_S_MAX: Final = 3.0
_COLUMNS: Final = """
SELECT name, type FROM system.columns
WHERE database = {database:String} AND table = {table:String}
"""
_CONSTRAINTS: Final = """
SELECT name, expression FROM system.constraints
WHERE database = {database:String} AND table = {table:String} AND type = 'CHECK'
"""
_FAULTS: Final = "CREATE TABLE {table:Identifier} (at UInt64, faults Array(UInt16)) ENGINE = Memory"


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

    def run(self, block: Block, records: Sequence[Record]) -> list[Poison]:
        """Return the poison of a refused block, in offset order; perhaps only part of it when bisection is needed.

        Args:
            block: the refused block.
            records: the records of its batch.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        among = frozenset(block.offsets)
        mine = [record for record in records if record.offset in among]
        with self._probe_table() as probe_table:
            asked = _Asked(self, probe_table, block, self._schema_of(block.schema_id))
            found = asked.broken(mine)
            found += asked.explained(_without(mine, found))
            return sorted(found + asked.searched(_without(mine, found)), key=lambda item: item.offset)

    def explanations(self) -> list[Explanation]:
        """Return the query for refused rows, and the same without constraints, one of which may throw."""
        partition = {"database": self._connection.database, "table": self._target.table}
        types = {row["name"]: row["type"] for row in self._connection.query(_COLUMNS, partition)}
        constraints: dict[str, str] = {}
        with suppress(Halt):  # an older server lacks this system table, or the account may not read it
            constraints = {row["name"]: row["expression"] for row in self._connection.query(_CONSTRAINTS, partition)}
        shapes = [Shape(types, constraints), *([Shape(types, {})] if constraints else [])]
        found = [explain(self._target.schema_name, self._target.topic, shape) for shape in shapes]
        return [explanation for explanation in found if explanation.checks]

    def faults(self, explanation: Explanation, part: Block) -> dict[int, list[int]]:
        """Return the numbers of the checks that a block's rows fail, by offset."""
        answer = f"{self._target.table}_probe_{uuid4().hex[:12]}"
        self._connection.command(_FAULTS, {"table": answer})
        try:
            self._run(f"INSERT INTO {answer} {explanation.select} FORMAT Avro", part)
            return {row["at"]: row["faults"] for row in self._connection.query(f"SELECT * FROM {answer}")}  # noqa: S608  (our own name)
        finally:
            self._drop(answer)

    def probe(self, probe_table: str, part: Block) -> Rejected | None:
        """Insert some rows into a probe table; return the refusal, or None when all are accepted."""
        self._metrics.count("poison_probes", table=self._target.table)
        try:
            self._run(replace(self._target, table=probe_table).statement, part)
        except Rejected as refusal:
            return refusal
        return None

    def takes_own(self, probe_table: str, block: Block) -> bool:
        """Tell whether a probe table accepts an empty container of our own schema: then the table is not at fault."""
        header = container_header(read_schema(self._target.schema_name))
        return self.probe(probe_table, replace(block, payload=header)) is None

    def part(self, block: Block, schema: str, records: Sequence[Record]) -> Block:
        """Return some of a block's records as a block; for no records, a container's head."""
        if not records:
            return replace(block, payload=container_header(schema))
        return self._rows.blocks(records, block.origin, block.token)[0]

    @contextmanager
    def _probe_table(self) -> Iterator[str]:
        probe_table = f"{self._target.table}_probe_{uuid4().hex[:12]}"
        try:
            self._connection.command(f"CREATE TABLE {probe_table} AS {self._target.table} ENGINE = Null")
            yield probe_table
        finally:
            self._drop(probe_table)

    def _drop(self, table: str) -> None:
        with suppress(ConsumerError):  # `migrate` sweeps it
            self._connection.command(f"DROP TABLE IF EXISTS {table}")

    def _run(self, statement: str, part: Block) -> None:
        self._connection.command(statement, part.origin._asdict(), part.payload, self._settings)


class _Asked:
    """One search over the records of one block."""

    def __init__(self, search: PoisonSearch, probe_table: str, block: Block, schema: str) -> None:
        self._search = search
        self._probe_table = probe_table
        self._block = block
        self._schema = schema

    def broken(self, records: Sequence[Record]) -> list[Poison]:
        """Return the records whose body does not match its schema."""
        walker = Walker(self._schema)
        faults = {record.offset: fault for record in records if (fault := walker.fault_of(record.value, FRAME_BYTES))}
        kinds = {offset: fault.partition(":")[2] for offset, fault in faults.items()}
        return self._believed(records, kinds, {offset: (Reason.BAD_AVRO, text) for offset, text in faults.items()})

    def explained(self, records: Sequence[Record]) -> list[Poison]:
        """Return the poison that one statement finds; nothing when it can't run: then bisection finds it."""
        if not records:
            return []
        for asked in self._search.explanations():
            with suppress(
                Rejected, Halt
            ):  # a constraint that throws, or a body that our check accepts and ClickHouse refuses
                found = self._search.faults(asked, self._part(records))
                return self._told(records, asked, found)
        return []

    def searched(self, records: Sequence[Record]) -> list[Poison]:
        """Return the poison that bisection finds."""
        refusal = self._search.probe(self._probe_table, self._part(records)) if records else None
        if refusal is None:
            return []
        if (empty := self._probe([])) is not None and self._search.takes_own(self._probe_table, self._block):
            why = f"ClickHouse can't read schema {self._block.schema_id} ({empty})"
            return [Poison(record.offset, Reason.UNKNOWN_SCHEMA, why) for record in records]
        offsets = [record.offset for record in records]
        probe = lambda rows: self._probe([records[row] for row in rows])  # noqa: E731  (a Probe)
        return Bisection(offsets, probe, _SEARCHED_MAX, _SEARCH_S_MAX).run(refusal)

    def _told(self, records: Sequence[Record], asked: Explanation, found: Mapping[int, Sequence[int]]) -> list[Poison]:
        checks = dict(enumerate(asked.checks, 1))
        texts = {
            offset: (checks[faults[0]].reason, "; ".join(checks[number].fault for number in faults))
            for offset, faults in found.items()
        }
        return self._believed(records, {offset: str(faults[0]) for offset, faults in found.items()}, texts)

    def _believed(
        self, records: Sequence[Record], kinds: Mapping[int, str], texts: Mapping[int, tuple[Reason, str]]
    ) -> list[Poison]:
        """Return the rows of each kind whose first and last row are refused alone, with ClickHouse's error."""
        groups: dict[str, list[Record]] = {}
        for record in records:
            if record.offset in kinds:
                groups.setdefault(kinds[record.offset], []).append(record)
        found: list[Poison] = []
        for group in groups.values():
            ends = group[:1] if len(group) == 1 else [group[0], group[-1]]
            refusals = [self._probe([record]) for record in ends]
            if None not in refusals:
                found += [self._poison(record.offset, *texts[record.offset], refusals[0]) for record in group]
        return found

    @staticmethod
    def _poison(offset: int, reason: Reason, text: str, refusal: Rejected | None) -> Poison:
        return Poison(offset, reason, f"{text} ({refusal})")

    def _probe(self, records: Sequence[Record]) -> Rejected | None:
        return self._search.probe(self._probe_table, self._part(records))

    def _part(self, records: Sequence[Record]) -> Block:
        return self._search.part(self._block, self._schema, records)


def _without(records: Sequence[Record], poison: Sequence[Poison]) -> list[Record]:
    bad = {item.offset for item in poison}
    return [record for record in records if record.offset not in bad]
