"""Native answers as clickhouse-go reads them over HTTP, and with it Grafana's ClickHouse plugin.

The engine writes Native as a server does for clients that name no protocol revision. For those that
send a new `client_protocol_version`, each block begins with its info, and behind each column's type
stands a flag for custom serialization. To put them in, one has to know where a column ends; so this
walks over the columns of a block without decoding them. Source: ClickHouse, src/Formats/NativeWriter.cpp.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from deploy.embedded.clickhouse_errors import NOT_IMPLEMENTED, ClickHouseError

if TYPE_CHECKING:
    from collections.abc import Callable

    # (body, start, rows) -> end
    Walk = Callable[[bytes, int, int], int]

# The first revision with the flag (DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION).
REVISION: Final = 54454
# JSON columns come as text then; their own form differs from one revision to the next.
SETTINGS: Final = {"output_format_native_write_json_as_string": "1"}

_BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflow rows, no bucket, end
_DEFAULT_SERIALIZATION: Final = b"\x00"
_STATE_BYTES: Final = 8  # what a column begins with for each of these in its type, however deep
_WITH_STATE: Final = ("LowCardinality", "JSON")
_WIDTHS: Final = {
    1: "Bool Int8 UInt8 Enum8 Nothing",
    2: "Int16 UInt16 Enum16 Date BFloat16",
    4: "Int32 UInt32 Float32 Date32 DateTime IPv4 Time",
    8: "Int64 UInt64 Float64 DateTime64 Time64",
    16: "Int128 UInt128 UUID IPv6",
    32: "Int256 UInt256",
}
_WIDTH: Final = {name: width for width, names in _WIDTHS.items() for name in names.split()}
_DECIMAL_WIDTHS: Final = ((9, 4), (18, 8), (38, 16), (76, 32))
_PARTS: Final = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|[(),]|[^'`(),]+")


def framed(body: bytes) -> bytes:
    """Return a Native answer with the frames of `REVISION`; linear in the body.

    Raises:
        ClickHouseError: A column has a type that this does not walk over.
    """
    out, at = bytearray(), 0
    while at < len(body):
        start = at
        columns, at = _number(body, at)
        rows, at = _number(body, at)
        out += _BLOCK_INFO + body[start:at]
        for _ in range(columns):
            start = at
            at = _strings(body, at, 1)
            length, kind_at = _number(body, at)
            at = kind_at + length
            out += body[start:at] + _DEFAULT_SERIALIZATION
            start, at = at, _column_end(body, at, body[kind_at:at].decode(), rows)
            out += body[start:at]
    return bytes(out)


def _column_end(body: bytes, at: int, kind: str, rows: int) -> int:
    if rows == 0:
        return at
    return _walk(kind)(body, at + _STATE_BYTES * _states(kind), rows)


@functools.cache
def _states(kind: str) -> int:
    name, arguments = _parsed(kind)
    if name in _WITH_STATE:
        return 1
    return sum(map(_states, arguments)) if name in _COMPOUND else 0


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and where it ends."""
    number = shift = 0
    while body[at] & 0x80:
        number |= (body[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return number | body[at] << shift, at + 1


def _fixed(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 8], "little")


def _strings(body: bytes, at: int, rows: int) -> int:
    for _ in range(rows):
        length, at = _number(body, at)
        at += length
    return at


@functools.cache
def _walk(kind: str) -> Walk:
    """Return what walks over the rows of a type."""
    name, arguments = _parsed(kind)
    if name in ("String", "JSON"):
        return _strings
    if name in _COMPOUND:
        return _COMPOUND[name](arguments)
    width = _width(name, arguments)
    return lambda _, at, rows: at + width * rows


def _width(name: str, arguments: list[str]) -> int:
    if name == "FixedString":
        return int(arguments[0])
    if name == "Decimal":
        return next(width for digits, width in _DECIMAL_WIDTHS if int(arguments[0]) <= digits)
    if name.startswith("Interval"):
        return 8
    if name not in _WIDTH:
        raise ClickHouseError(NOT_IMPLEMENTED, f"{name} in Native for a client with a protocol version of its own")
    return _WIDTH[name]


def _nullable(arguments: list[str]) -> Walk:
    inner = _walk(arguments[0])
    return lambda body, at, rows: inner(body, at + rows, rows)


def _array(inner: Walk) -> Walk:
    def walk(body: bytes, at: int, rows: int) -> int:
        end = at + 8 * rows
        return inner(body, end, _fixed(body, end - 8) if rows else 0)

    return walk


def _tuple(elements: list[str]) -> Walk:
    walks = [_walk(element) for element in elements]

    def walk(body: bytes, at: int, rows: int) -> int:
        for inner in walks:
            at = inner(body, at, rows)
        return at

    return walk


def _low_cardinality(arguments: list[str]) -> Walk:
    name, inner = _parsed(arguments[0])
    keys = _walk(inner[0] if name == "Nullable" else arguments[0])  # the dictionary itself has no nulls

    def walk(body: bytes, at: int, rows: int) -> int:
        if rows == 0:
            return at
        index_bytes = 1 << body[at]  # the lowest byte of the flags
        at = keys(body, at + 16, _fixed(body, at + 8))
        return at + 8 + index_bytes * rows

    return walk


_COMPOUND: Final[dict[str, Callable[[list[str]], Walk]]] = {
    "Nullable": _nullable,
    "LowCardinality": _low_cardinality,
    "Array": lambda arguments: _array(_walk(arguments[0])),
    "Map": lambda arguments: _array(_tuple(arguments)),
    "Nested": lambda arguments: _array(_tuple(arguments)),
    "Tuple": _tuple,
    "SimpleAggregateFunction": lambda arguments: _walk(arguments[-1]),
}


def _parsed(kind: str) -> tuple[str, list[str]]:
    """Split a type into its name and its arguments, these without the names they may have."""
    name, _, rest = kind.partition("(")
    arguments, depth = [""], 0
    for part in _PARTS.findall(rest):
        depth += (part == "(") - (part == ")")
        if depth < 0:
            break
        if part == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += part
    return name.strip(), [_unnamed(argument.strip()) for argument in arguments]


def _unnamed(argument: str) -> str:
    """Return the type of a tuple's element: `a UInt8` is UInt8."""
    first = re.match(r"(?:`(?:[^`\\]|\\.)*`|\w+) (?=\w)", argument)
    return argument[first.end() :] if first else argument
