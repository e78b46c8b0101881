"""The catalogue compiled: one reader per field, which coerces losslessly or says what is wrong."""

import re
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from ingest.errors import Rule
from ingest.events.ids import NIL, canonical_uuid
from ingest.events.parsing import INTEGER_MAX, INTEGER_MIN, kind
from schemas.event import CLIENT_COLUMNS, Catalogue, Field, Property

_INT8: Final = range(-128, 128)
_INT64_MAX: Final = 2**63 - 1  # an integer's column holds no more; what is beyond it is kept, as all JSON integers are
_ABSENT: Final = -1  # of an int8
_FLAGS: Final = {"": _ABSENT, "0": 0, "1": 1}
_LISTED_LENGTH_MAX: Final = 120  # the project's own types need half of it
# Possessive: a long text of digits that ends in a letter must not be tried at every length. Decimal takes no exponent
# of more than 18 digits.
_DECIMAL: Final = re.compile(r"[+-]?+(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?\d{1,18})?", re.ASCII)
_DECIMAL_MAX: Final = 1e14
EXACT_MAX: Final = 2**53  # a double tells every integer up to here from its neighbours

Reader = Callable[[Any], Any]
"""Takes a JSON value that is not null, returns the field's value; raises Misfit. "" is as good as absent."""


class FieldError(ValueError):
    """A value does not fit its field; carries the rule, and a sentence for the client."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


def compile_readers(catalogue: Catalogue) -> dict[str, Reader]:
    """Return a reader for each field of the catalogue."""
    readers = {name: _reader(field) for name, field in catalogue.fields.items()}
    readers["eventType"] = _event_type(frozenset(catalogue.types))
    return readers


class AsSent(msgspec.Struct, frozen=True):
    """The values that a field's reader gives back as they are: what a fast way may take without a call.

    Attributes:
        kind: texts of `bounds` characters; the `words`; UUIDs in canonical form, but the nil UUID; or integers within
            `bounds`.
    """

    kind: Literal["text", "word", "uuid", "number"]
    bounds: tuple[int, int] = (0, 0)
    words: frozenset[str] = frozenset()


ANY_TEXT: Final = AsSent("text", (0, sys.maxsize))


def taken_as_sent(catalogue: Catalogue) -> dict[str, AsSent]:
    """Return what the readers of fields with a column give back as it is."""
    columns = {name: field for name, field in catalogue.fields.items() if name in CLIENT_COLUMNS}
    found = {name: _as_sent(field) for name, field in columns.items()}
    found["eventType"] = AsSent("word", words=frozenset(catalogue.types))
    return found


def _as_sent(field: Field) -> AsSent:
    if field.type == "uuid":
        return AsSent("uuid")
    if field.type == "int8":
        return AsSent("number", (_INT8[0], _INT8[-1]))
    return AsSent("text", (field.length_min, field.length_max or sys.maxsize))


def fits(value: Any, documented: Property) -> bool:
    """Tell whether a value of `properties` is of the type that its documentation says; null is of every type."""
    if value is None or documented.type == "any":
        return True
    if documented.type == "strings":
        return type(value) is list and all(type(item) is str for item in value)
    try:
        read = _READERS[documented.type](value)
    except FieldError:
        return False
    return documented.type != "integer" or read <= _INT64_MAX


def _reader(field: Field) -> Reader:
    reader = _READERS[field.type]
    if field.length_min or field.length_max is not None:
        return _bounded(reader, field.length_min, field.length_max)
    return reader


def read_string(value: Any) -> str:
    """Return a string as it is."""
    if type(value) is str:
        return value
    raise FieldError(Rule.TYPE, f"must be a string, got {kind(value)}")


def read_id(value: Any) -> str:
    """Return a string as it is, and a number as its decimal text, the shortest that reads back to it."""
    if type(value) is str:
        return value
    if type(value) is int or (type(value) is float and value.is_integer()):
        return str(read_integer(value))
    if type(value) is float:
        return repr(value)
    raise FieldError(Rule.TYPE, f"must be a string or a number, got {kind(value)}")


def read_uuid(value: Any) -> str:
    """Return a UUID in canonical form; the nil UUID names nothing, so it is as good as absent."""
    text = canonical_uuid(value)
    if text is not None:
        return text if text != NIL else ""
    if type(value) is str:
        if not value:
            return ""
        raise FieldError(Rule.FORMAT, "must be a UUID of 8-4-4-4-12 hexadecimal digits")
    raise FieldError(Rule.TYPE, f"must be a UUID, got {kind(value)}")


def read_int8(value: Any) -> int:
    """Return a small integer; booleans are 0 and 1, integral floats are integers, and so are the texts "0" and "1"."""
    if type(value) is int and value in _INT8:  # what most clients send
        return value
    if type(value) is bool:
        return int(value)
    if type(value) is str and value in _FLAGS:
        return _FLAGS[value]
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise FieldError(Rule.TYPE, f"must be an integer or a boolean, got {kind(value)}")
    if value not in _INT8:
        raise FieldError(Rule.INTEGER, f"must be from {_INT8[0]} to {_INT8[-1]}")
    return value


def read_integer(value: Any) -> int:
    """Return an integer of at most 64 bits; integral floats are integers while they are exact."""
    if type(value) is float and value.is_integer():
        if abs(value) > EXACT_MAX:
            raise FieldError(Rule.INTEGER, "must be written without an exponent: a float of this size is not exact")
        value = int(value)
    if type(value) is not int:
        raise FieldError(Rule.TYPE, f"must be an integer, got {kind(value)}")
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise FieldError(Rule.INTEGER, "must have at most 64 bits")
    return value


def read_number(value: Any) -> float:
    """Return a number as it is, an integer of at most 64 bits."""
    if type(value) is float:
        return value
    if type(value) is int:
        return read_integer(value)
    raise FieldError(Rule.TYPE, f"must be a number, got {kind(value)}")


def read_boolean(value: Any) -> bool:
    """Return a boolean; 0 and 1 are false and true, as numbers and as texts."""
    if type(value) is bool:
        return value
    if type(value) is not str and value in (0, 1):
        return bool(value)
    if type(value) is str and value in ("0", "1"):
        return value == "1"
    raise FieldError(Rule.TYPE, f"must be a boolean, got {kind(value)}")


def read_decimal(value: Any) -> float | str:
    """Return a number, or the text of one, that a Decimal(18, 4) can hold."""
    is_number = type(value) in (int, float) or (type(value) is str and _DECIMAL.fullmatch(value))
    if not is_number or abs(float(value) if type(value) is str else value) >= _DECIMAL_MAX:
        raise FieldError(Rule.TYPE, f"must be a number or its text, below {_DECIMAL_MAX:g}, got {kind(value)}")
    number: float | str = value
    return number


_READERS: Final[dict[str, Reader]] = {
    "decimal": read_decimal,
    "string": read_string,
    "id": read_id,
    "uuid": read_uuid,
    "int8": read_int8,
    "integer": read_integer,
    "number": read_number,
    "boolean": read_boolean,
}


def _bounded(reader: Reader, length_min: int, length_max: int | None) -> Reader:
    most = length_max or sys.maxsize

    def read(value: Any) -> str:
        text: str = reader(value)
        if length_min <= len(text) <= most or not text:
            return text
        raise FieldError(
            Rule.LENGTH, f"must have {length_min} to {length_max or 'any number of'} characters, got {len(text)}"
        )

    return read


def _event_type(known: frozenset[str]) -> Reader:
    listed = ", ".join(sorted(known))[:_LISTED_LENGTH_MAX]

    def read(value: Any) -> str:
        if type(value) is not str:
            raise FieldError(Rule.TYPE, f"must be a string, got {kind(value)}")
        if value in known:
            return value
        name = value.upper() if value.isascii() else value  # beyond ASCII, other letters have these for upper case
        if name not in known:
            raise FieldError(Rule.ENUM, f"got {value[:40]!r}; known are {listed}")
        return name

    return read
