"""The request's JSON: parsed once, with the guards that keep hostile shapes out.

RFC 8259 with these bounds: UTF-8 (a leading byte order mark is tolerated), no NaN or Infinity, no lone surrogates
(they are refused, not repaired), integers in -2**63 .. 2**64-1, nesting up to `depth_max`. Of duplicate
names the last one counts.
"""

import json
import math
import re
from typing import Any, Final

import msgspec

from ingest.errors import ErrorCode, Fault, Rejected, Rule

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1
BOM: Final = b"\xef\xbb\xbf"
PARSE_ERRORS: Final = (RecursionError, UnicodeDecodeError, msgspec.DecodeError)
"""What `decode` raises."""
EXAMINED_BYTES_MAX: Final = 256 * 1024  # a second parser costs time and memory
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}


FLAT: Final = frozenset((str, float, bool, type(None)))
"""The types of values that no guard looks at."""


def _read_float(text: str) -> float:
    """Return a number: Python needs 2 us for what lies near the middle of two doubles, msgspec's own reader 16 us."""
    number = float(text)
    if math.isinf(number):
        raise ValueError("out of range")
    return number


_DECODER: Final = msgspec.json.Decoder(float_hook=_read_float)


def kind(value: Any) -> str:
    """Name a JSON value's type, for messages: "a string", "null"."""
    return _KINDS.get(type(value), "null")


def parse(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        Rejected: 400 `bad_json`; the message says why, with the byte where the parser knows it.
    """
    text = body.removeprefix(BOM)
    try:
        return decode(text)
    except PARSE_ERRORS as error:
        rule, reason = fault_of(text, error)
    message = f"the body is not valid JSON: {reason}"
    raise Rejected(ErrorCode.BAD_JSON, message, (Fault(rule, "", message),))


def decode(text: bytes) -> Any:
    """Return the value of a JSON text; raises one of PARSE_ERRORS when it is none."""
    return _DECODER.decode(text)


def fault_of(text: bytes, error: Exception) -> tuple[Rule, str]:
    """Say what is wrong with a text that `decode` did not take."""
    if isinstance(error, RecursionError):
        return Rule.DEPTH, "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return Rule.JSON, "not valid UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return Rule.JSON, "a number is out of range"
    if not text.strip():
        return Rule.JSON, "it is empty"
    if len(text) <= EXAMINED_BYTES_MAX and _SURROGATE.search(text) and _is_json_otherwise(text):
        return Rule.JSON, "a lone surrogate"
    return Rule.JSON, str(error).removeprefix("JSON is malformed: ")


def _is_json_otherwise(body: bytes) -> bool:
    """Tell whether a parser that lets lone surrogates through takes the body."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def guard(value: Any, depth_left: int) -> tuple[Rule, str] | None:
    """Return the first broken guard of a value, as rule and sentence, or None.

    Cost is one visit per nested value; `depth_left` bounds the recursion.
    """
    kind_of = type(value)
    if kind_of is int:
        return None if INTEGER_MIN <= value <= INTEGER_MAX else (Rule.INTEGER, "an integer needs more than 64 bits")
    if kind_of is not dict and kind_of is not list:
        return None
    if depth_left <= 0:
        return Rule.DEPTH, "nested too deeply"
    for item in value.values() if kind_of is dict else value:
        fault = guard(item, depth_left - 1)
        if fault is not None:
            return fault
    return None


def escape(name: str) -> str:
    """Return a member's name as a step of a JSON pointer (RFC 6901), cut to 100 characters."""
    return name.replace("~", "~0").replace("/", "~1")[:100]
