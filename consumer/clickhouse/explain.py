"""Builds one query that finds all rows that a table refuses, with the column or constraint at fault.

The rows are sent with it, and nothing is written. It reads the fields with types that accept any value (a UUID as
text), tries each conversion in the form that yields NULL on failure, and computes the table's constraints as columns. A
conversion is listed here only if that form refuses exactly what the conversion itself refuses
(tests/integration/test_poison.py); all others are left to consumer/clickhouse/bisect.py, which asks row by row.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse.statements import targets_of, type_of
from consumer.errors import Reason
from schemas.codec import COORDINATES, read_schema

_WRAPPED: Final = re.compile(r"^(?:LowCardinality|Nullable)\((.*)\)$", re.DOTALL)
_CAST: Final = re.compile(r"^(?:accurateCast\((\w+), '(.+)'\)|(\w+)::(.+))$")
_NAMES_OF_ENUM: Final = re.compile(r"('(?:[^'\\]|\\.)*') = -?\d+")
_FROM_TEXT: Final = re.compile(
    r"^(?:UUID|IPv4|IPv6|Bool|JSON(?:\(.*\))?|Date(?:32)?|DateTime(?:64)?(?:\(.*\))?|Decimal\w*\(.*\)|FixedString\(\d+\))$",
    re.DOTALL,
)
_UUID_CHARACTERS: Final = 36  # the Avro reader accepts no other length, though toUUID does
_NULL: Final = r"^\s*null\s*$"
_LOW: Final = re.compile(r"LowCardinality\((\w+)\)")
_INPUT: Final = "input_"
_FIELD: Final = re.compile(rf"\b{_INPUT}(\w+)")
ROWS: Final = "sent_rows"
"""The name under which the query reads the rows."""
_WORD: Final = re.compile(r"`([^`]+)`|\b([A-Za-z_]\w*)\b")


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of a table's definition that refuse rows.

    Attributes:
        types: each column's type.
        computed: the expression of each column that has one.
        constraints: each constraint's expression, by name.
        is_whole: whether the constraints are known.
    """

    types: Mapping[str, str]
    computed: Mapping[str, str]
    constraints: Mapping[str, str]
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """One reason for which rows are refused.

    Attributes:
        fault: what is wrong with such a row, without its values.
        reason: the reason for its dead letter.
        condition: an expression over the fields as read, true for such rows.
    """

    fault: str
    reason: Reason
    condition: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A query for the refused rows of a container.

    Attributes:
        checks: what may fail, numbered from 1 in the answer.
        select: yields `at`, an offset, and `faults`, the numbers of the failed checks, for rows with any.
        structure: the fields that it reads of `ROWS`, with their types.
    """

    checks: Sequence[Check]
    select: str
    structure: str


def explain(schema_name: str, topic: str, shape: Shape) -> Explanation:
    """Return the query for the rows of a schema's containers that such a table refuses."""
    read, sources = _read(schema_name), _sources(schema_name, topic, shape)
    refusable = {column: source for column, source in sources.items() if source.refused}
    flags = {column: f"fault_{number}" for number, column in enumerate(refusable, 1)}
    checks = [
        Check(f"{column} is not a valid {source.kind}", Reason.BAD_VALUE, source.refused)
        for column, source in refusable.items()
    ]
    needed: dict[str, str] = {}
    for name, expression in shape.constraints.items():
        used = _used(expression, shape.types)
        if all(column in sources and sources[column].value for column in used):
            needed |= {column: sources[column].value for column in used}
            known = "".join(f"NOT {flags[column]} AND " for column in sorted(used) if column in flags)
            condition = f"{known}ifNull(NOT ({expression}), 1)"
            checks.append(Check(f"constraint {name} is violated", Reason.CONSTRAINT, condition))
    texts = [*(check.condition for check in checks), *needed.values()]
    fields = {"_offset", *(name for text in texts for name in _FIELD.findall(text))}
    read = {name: "String" if kind == "UUID" else kind for name, kind in read.items() if name in fields}
    structure = ", ".join(f"{name} {kind}" for name, kind in read.items())
    return Explanation(checks, _select(list(read), checks, len(flags), needed), structure)


def uncertain(schema_name: str, topic: str, shape: Shape) -> list[str]:
    """Return the columns whose conversion may be refused in a way that the query does not tell, and some more."""
    read, targets = _read(schema_name), targets_of(schema_name, topic)
    coordinates = {each["name"] for each in COORDINATES}
    given = {column: read.get(text, "") for column, text in targets.items() if column not in coordinates}
    return [column for column, kind in given.items() if _LOW.sub(r"\1", shape.types.get(column, "")) != kind]


def _read(schema_name: str) -> dict[str, str]:
    """Return the type with which each field is read."""
    fields = (*COORDINATES, *json.loads(read_schema(schema_name))["fields"])
    return {each["name"]: type_of(each["type"]) for each in fields}


def _sources(schema_name: str, topic: str, shape: Shape) -> dict[str, "_Source"]:
    targets, read = targets_of(schema_name, topic), _read(schema_name)
    return {column: _source(targets[column], read, shape.types[column]) for column in targets if column in shape.types}


@dataclass(frozen=True, slots=True)
class _Source:
    """How a column is computed from the fields.

    Attributes:
        kind: what a value must be, for the sentence.
        refused: an expression, true for rows that can't be converted; "" when all can, or it is unknown.
        value: the converted value, a default where it is refused; "" when the conversion may throw.
    """

    kind: str = ""
    refused: str = ""
    value: str = ""


def _source(expression: str, read: Mapping[str, str], column_type: str) -> _Source:
    """Return how a column of a type is computed by an expression over the fields."""
    cast, stored = _CAST.match(expression), _text(column_type)
    field, wanted = (cast[1] or cast[3], cast[2] or cast[4]) if cast else (expression, column_type)
    if field not in read:
        return _Source(value=f"CAST({expression}, {stored})")
    given, is_text, kind = _input(field), read[field] in ("UUID", "String"), _unwrapped(wanted)
    if read[field] == "UUID":
        refused = f"(isNull(accurateCastOrNull({given}, 'UUID')) OR length({given}) != {_UUID_CHARACTERS})"
        return _Source("UUID", refused, f"CAST(accurateCastOrDefault({given}, 'UUID'), {stored})")
    if (is_text and _FROM_TEXT.match(kind)) or (cast and not is_text):
        value = f"CAST(accurateCastOrDefault({given}, {_text(kind)}), {stored})"
        refused = f"isNull(accurateCastOrNull({given}, {_text(kind)}))"
        if kind.startswith("JSON"):  # the conversion itself reads null as an empty object
            refused = f"({refused} AND NOT match({given}, {_text(_NULL)}))"
        return _Source(kind, refused, value)
    if is_text and (names := _NAMES_OF_ENUM.findall(kind)):
        refused = f"(NOT has([{', '.join(names)}], {given}) AND isNull(toInt16OrNull({given})))"
        return _Source("name of the Enum", refused, f"CAST(if({refused}, {names[0]}, {given}), {stored})")
    return _Source(value=f"CAST({given}, {stored})" if kind == "String" or not is_text else "")


def _select(read: Sequence[str], checks: Sequence[Check], flagged: int, needed: Mapping[str, str]) -> str:
    """Return the whole query: the fields, then conversions, then constraints over converted columns."""
    names = [f"fault_{number}" for number in range(1, len(checks) + 1)]
    flags = [f"{check.condition} AS {name}" for check, name in zip(checks, names, strict=True)]
    columns = [f"{value} AS {name}" for name, value in needed.items()]
    numbered = ", ".join(f"if({name}, {number}, 0)" for number, name in enumerate(names, 1))
    fields = _selected([f"{name} AS {_input(name)}" for name in read], ROWS)
    converted = _selected([f"toUInt64({_input('_offset')}) AS at", *flags[:flagged], *columns], f"({fields})")
    checked = _selected(["at", *names[:flagged], *flags[flagged:]], f"({converted})")
    faults = f"arrayFilter(fault -> fault > 0, [{numbered}])::Array(UInt16) AS faults"
    return f"{_selected(['at', faults], f'({checked})')} WHERE notEmpty(faults)"


def _selected(columns: Sequence[str], source: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608  (names and types from the table and from us)


def _used(expression: str, columns: Iterable[str]) -> set[str]:
    """Return the columns that an expression may use: all its words that are column names."""
    words = {quoted or word for quoted, word in _WORD.findall(expression)}
    return words & set(columns)


def _unwrapped(column_type: str) -> str:
    while found := _WRAPPED.match(column_type):
        column_type = found[1]
    return column_type


def _input(field: str) -> str:
    return f"{_INPUT}{field}"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
