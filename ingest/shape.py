"""The request's JSON: parsed once, with the guards that keep hostile shapes out.

RFC 8259 with these bounds: UTF-8 (a leading byte order mark is tolerated), no NaN or Infinity, no lone surrogates
(they are refused, not repaired), integers in -2**63 .. 2**64-1, nesting up to `depth_max`. Of duplicate
names the last one counts.
"""

import json
import re
from typing import Any, Final

import msgspec

from ingest.errors import Fault, Rejected, Rule, Slug

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1
_BOM: Final = b"\xef\xbb\xbf"
_DECODER: Final = msgspec.json.Decoder()
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}


def kind(value: Any) -> str:
    """Name a JSON value's type, for messages: "a string", "null"."""
    return _KINDS.get(type(value), "null")


def parse(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        Rejected: 400 `bad_json`; the message says why, with the byte where the parser knows it.
    """
    try:
        return _DECODER.decode(body.removeprefix(_BOM))
    except RecursionError:
        reason, rule = "nested too deeply", Rule.DEPTH
    except UnicodeDecodeError:
        reason, rule = "not valid UTF-8", Rule.JSON
    except msgspec.ValidationError:
        reason, rule = "a number is out of range", Rule.JSON
    except msgspec.DecodeError as error:
        reason, rule = _reason(body, error), Rule.JSON
    message = f"the body is not valid JSON: {reason}"
    raise Rejected(Slug.BAD_JSON, message, (Fault(rule, "", message),))


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "it is empty"
    if _SURROGATE.search(body) and _is_json_otherwise(body):
        return "a lone surrogate"
    return str(error).removeprefix("JSON is malformed: ")


def _is_json_otherwise(body: bytes) -> bool:
    """Tell whether a parser that lets lone surrogates through takes the body."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def elements(body: bytes, member: str) -> list[bytes]:
    """Return each element of an array member of a body that `parse` took, as it was sent."""
    return [bytes(item) for item in _ELEMENTS.decode(_MEMBERS.decode(body.removeprefix(_BOM))[member])]


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
