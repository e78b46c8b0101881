"""Groups rows that a table's own expressions can't tell apart: of each group, one row is enough to search.

An operator's column or constraint that throws sees only the columns that it names. Rows with the same bytes there are
refused together or accepted together. They are compared as they were sent, without decoding.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from importlib.resources import files
from typing import Final

from consumer.clickhouse.explain import Shape, uncertain
from consumer.clickhouse.statements import columns_of_table, targets_of
from consumer.delivery.ports import Record
from schemas.codec import FRAME_BYTES
from schemas.walk import Walker

_WORD: Final = re.compile(r"\w+")
_OWN_CONSTRAINTS: Final = frozenset({"times_in_range"})
"""They name times, which differ in each row, and never throw."""
_OF_EACH_ROW: Final = frozenset({"_offset", "_timestamp"})
_COMPUTED: Final = re.compile(r"^ +(\w+) +(\S.*?) +(?:DEFAULT|MATERIALIZED|ALIAS) (.+?) COMMENT '", re.MULTILINE)
_LAYOUT: Final = re.compile(r"[\s()]")


def inputs_of(schema_name: str, topic: str, shape: Shape) -> frozenset[str]:
    """Return the fields that decide whether a row is refused where no query tells; none if that is not known."""
    ours, targets = columns_of_table(schema_name, topic), targets_of(schema_name, topic)
    theirs = [text for column, text in shape.computed.items() if column not in ours or _is_changed(column, shape)]
    constraints = [text for name, text in shape.constraints.items() if name not in _OWN_CONSTRAINTS]
    todo = [*_words([*theirs, *constraints]), *uncertain(schema_name, topic, shape)]
    seen: set[str] = set()
    while todo:
        column = todo.pop()
        if column not in seen:
            seen.add(column)
            todo += _words([shape.computed[column]] if column in shape.computed and column not in targets else [])
    fields = frozenset(_words(targets[column] for column in seen if column in targets))
    return frozenset() if fields & _OF_EACH_ROW else fields


def alike(records: Sequence[Record], walker: Walker, fields: Collection[str]) -> list[list[Record]]:
    """Return groups of records that have the same bytes in these fields; each in offset order."""
    groups: dict[object, list[Record]] = {}
    for record in records:
        is_broken = walker.fault_of(record.value, FRAME_BYTES)
        key = record.offset if is_broken else walker.parts_of(record.value, FRAME_BYTES, fields)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _is_changed(column: str, shape: Shape) -> bool:
    """Tell whether an operator has given one of our computed columns another type or expression, which may throw."""
    made = _MADE.get(column)
    return made is not None and made != _as_compared(shape.types.get(column, ""), shape.computed[column])


def _as_compared(column_type: str, expression: str) -> str:
    """Return a column's type and expression without what ClickHouse may write otherwise: spaces and parentheses."""
    return _LAYOUT.sub("", f"{column_type}={expression}")


_MADE: Final = {
    column: _as_compared(column_type, expression)
    for column, column_type, expression in _COMPUTED.findall(
        files("schemas").joinpath("clickhouse", "0001_events.sql").read_text("utf-8")
    )
}
"""The computed columns as the migration makes them."""


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in _WORD.findall(text)]
