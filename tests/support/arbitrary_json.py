"""Events that JSON allows and nobody expects, as text: names that collide, numbers at their bounds, members twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

from schemas.event import read_catalogue

# Nothing, control characters, every plane, what looks like another type, and what other formats escape.
_TEXTS: Final = (
    *("", "a", "x\x00y", "\x00", "\x01\x1f\x7f", "ü", "\u2028", "😀", "\U0010ffff", "\ud7ff", "\ufeff", " ", "\t\n"),
    *('"', "\\", "/", "%", "%2E", "%2e", "a.b", "true", "null", "1", "1e5", "2026-01-02", "2026-01-02T03:04:05Z"),
    *('{"a":1}', "[1]", "é" * 300),
)
# Names of paths and subcolumns, of columns of the table, and pairs that the same escape makes equal.
NAMES: Final = (
    *("", "a", "b", "n", "A", "a.b", "a%2Eb", "utm.source", "utm%2Esource", ".", "..", "a.", "%", "%2E", "1", "null"),
    *("_topic", "_offset", "_precedence", "properties", "properties_text", "event_id", "timestamp", "receivedAt", "ip"),
    *("headers", "ü.x", "x\x00y", "a b", "`", "'", '"', "\\", "😀", "a[]", "^a", "a:Int64", ":`x`", "size0", "keys"),
    *read_catalogue().properties,
)
_NUMBERS: Final = (
    *("0", "-0", "-0.0", "0.0", "1", "-1", "1.0", "1.5", "0.1", "1e5", "1E+2", "1e15", "1e16", "1e17", "1e22", "1e23"),
    *("1e308", "-1.7976931348623157e308", "5e-324", "1e-400", "123456789012345680000.0", "127", "128", "255", "256"),
    *("2147483648", "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775808", "18446744073709551615"),
)


def event_text(random: Random) -> str:
    """Return an event as JSON text; about as many members are twice in it as not, at every depth."""
    members = _object(random, random.choice((1, 2, 3, 5, 8)))[1:-1]
    return '{"eventType":"VIEW"' + (f",{members}" if members else "") + "}"


def text(random: Random) -> str:
    """Return a text."""
    return random.choice(_TEXTS) + (random.choice(_TEXTS) if random.random() < 0.3 else "")


def _object(random: Random, depth: int) -> str:
    count = random.choice((0, 1, 1, 2, 3, 4))
    return "{" + ",".join(f"{_name(random)}:{_value(random, depth)}" for _ in range(count)) + "}"


def _value(random: Random, depth: int) -> str:
    kind = random.random()
    if depth <= 0 or kind < 0.5:
        return _scalar(random)
    if kind < 0.75:
        return "[" + ",".join(_value(random, depth - 1) for _ in range(random.choice((0, 1, 2, 2, 3, 5)))) + "]"
    return _object(random, depth - 1)


def _scalar(random: Random) -> str:
    match random.randrange(5):
        case 0:
            return "null"
        case 1:
            return random.choice(("true", "false"))
        case 2:
            return random.choice((*_NUMBERS, str(random.uniform(-1e6, 1e6)), str(random.randrange(-(2**63), 2**64))))
    return _quoted(random, text(random))


def _name(random: Random) -> str:
    return _quoted(random, random.choice(NAMES) if random.random() < 0.8 else f"k{random.randrange(50)}")


def _quoted(random: Random, raw: str) -> str:
    return json.dumps(raw, ensure_ascii=random.random() < 0.5)
