"""What is known of a table that refuses rows: its shape, the queries that follow from it, and the kinds it has refused.

The shape is asked for with each search, so nothing that was learnt outlives a change of columns or constraints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

from consumer.clickhouse.alike import inputs_of
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.explain import Explanation, Shape, explain
from consumer.errors import Cause, Halt, Rejected, Transient

_BELIEVED_S: Final = 600.0
_PARTS: Final = ("column", "expression", "constraint")
_OF_TABLE: Final = "WHERE database = {database:String} AND table = {table:String}"
_COLUMNS: Final = f"""
SELECT 'column' AS part, name, type AS text FROM system.columns {_OF_TABLE}
UNION ALL SELECT 'expression', name, default_expression FROM system.columns {_OF_TABLE} AND default_expression != ''
"""  # noqa: S608  (our own text)
_SHAPE: Final = f"""
{_COLUMNS} UNION ALL SELECT 'constraint', name, expression FROM system.constraints {_OF_TABLE} AND type = 'CHECK'
"""  # noqa: S608  (our own text)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a table while it has a shape.

    Attributes:
        shape: its shape.
        until_s: all is asked again from then on (monotonic).
        explanations: the query for refused rows, and the same without constraints, one of which may throw.
        inputs: the fields that decide where no query tells; none if that is not known.
        refusals: ClickHouse's error for a kind of poison, by schema and kind.
    """

    shape: Shape
    until_s: float
    explanations: Sequence[Explanation]
    inputs: frozenset[str]
    refusals: dict[tuple[int, str], str] = field(default_factory=dict)


class Knowledge:
    """Learns about one table. Threads share it."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self._connection = connection
        self._target = target
        self._known: Known | None = None
        self._seen_s = 0.0

    def now(self, seen_s: float) -> Known:
        """Return what is known of the table as it was at most `seen_s` ago.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        now_s, known = monotonic(), self._known
        if known is not None and now_s < known.until_s and now_s - self._seen_s < seen_s:
            return known
        shape, self._seen_s = self._shape(), now_s
        if known is None or now_s >= known.until_s or shape != known.shape:
            known = self._known = self._learned(shape, now_s + _BELIEVED_S)
        return known

    def _learned(self, shape: Shape, until_s: float) -> Known:
        shapes = [shape, *([replace(shape, constraints={})] if shape.constraints else [])]
        explanations = [explain(self._target.schema_name, self._target.topic, each) for each in shapes]
        inputs = inputs_of(self._target.schema_name, self._target.topic, shape) if shape.is_whole else frozenset()
        return Known(shape, until_s, [each for each in explanations if each.checks], inputs)

    def _shape(self) -> Shape:
        parameters = {"database": self._connection.database, "table": self._target.table}
        is_whole = True
        try:
            parts = self._connection.query(_SHAPE, parameters)
        except Halt:  # an older server lacks the constraints' table, or the account may not read it
            parts, is_whole = self._connection.query(_COLUMNS, parameters), False
        except Rejected as error:  # no row was sent
            raise Transient(f"the columns of {self._target.table} are not known: {error}", Cause.UNKNOWN) from error
        types, computed, constraints = (
            {row["name"]: row["text"] for row in parts if row["part"] == part} for part in _PARTS
        )
        return Shape(types, computed, constraints, is_whole)
