"""The catalogue compiled: one reader per field, which coerces losslessly or says what is wrong."""

from collections.abc import Callable
from typing import Any, Final

from ingest.errors import Rule
from ingest.ids import canonical_uuid
from ingest.shape import kind
from schemas.event import Catalogue, Field

_INT8: Final = range(-128, 128)

Reader = Callable[[Any], str | int]
"""Takes a JSON value that is not null, returns the field's value; raises Misfit."""


class Misfit(ValueError):
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


def _reader(field: Field) -> Reader:
    if field.type == "uuid":
        return read_uuid
    if field.type == "int8":
        return read_int8
    if field.length_min or field.length_max is not None:
        return _bounded(field.length_min, field.length_max)
    return read_string


def read_string(value: Any) -> str:
    """Return a string as it is."""
    if type(value) is str:
        return value
    raise Misfit(Rule.TYPE, f"must be a string, got {kind(value)}")


def read_uuid(value: Any) -> str:
    """Return a UUID in canonical form."""
    text = canonical_uuid(value)
    if text is not None:
        return text
    if type(value) is str:
        raise Misfit(Rule.FORMAT, "must be a UUID of 8-4-4-4-12 hexadecimal digits")
    raise Misfit(Rule.TYPE, f"must be a UUID, got {kind(value)}")


def read_int8(value: Any) -> int:
    """Return a small integer; booleans are 0 and 1, integral floats are integers."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is bool:
        return int(value)
    if type(value) is not int:
        raise Misfit(Rule.TYPE, f"must be an integer or a boolean, got {kind(value)}")
    if value not in _INT8:
        raise Misfit(Rule.INTEGER, f"must be from {_INT8[0]} to {_INT8[-1]}")
    return value


def _bounded(length_min: int, length_max: int | None) -> Reader:
    def read(value: Any) -> str:
        text = read_string(value)
        if len(text) < length_min or (length_max is not None and len(text) > length_max):
            raise Misfit(
                Rule.LENGTH, f"must have {length_min} to {length_max or 'any number of'} characters, got {len(text)}"
            )
        return text

    return read


def _event_type(known: frozenset[str]) -> Reader:
    listed = ", ".join(sorted(known))

    def read(value: Any) -> str:
        if type(value) is not str:
            raise Misfit(Rule.TYPE, f"must be a string, got {kind(value)}")
        name = value.upper() if value.isascii() else value  # beyond ASCII, other letters have these for upper case
        if name not in known:
            raise Misfit(Rule.ENUM, f"got {value[:40]!r}; known are {listed}")
        return name

    return read
