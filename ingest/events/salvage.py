"""Tells events apart in a body that is no JSON as a whole, so that one event's fault costs that event.

A cut surrogate, invalid UTF-8, a number out of range or nesting without end lie inside one event, and its neighbours
are good. Only bytes are looked at here: strings, brackets and commas show where events begin and end, whatever is wrong
inside them. Where those themselves are in doubt (a quote or a bracket is missing) nothing is told apart, and the whole
request is refused.

Cost is linear, and bounded by a number of brackets and quotes; memory is a few times the body's (COPIES). A body that
is good JSON never comes here.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from ingest.errors import Rejected, Rule
from ingest.events.parsing import BOM, EXAMINED_BYTES_MAX, PARSE_ERRORS, decode, fault_of, parse

COPIES: Final = 4
"""What is in memory at once, in bodies: the one without escapes, the request without its list, the elements."""
_MARKS_MAX: Final = 50_000  # runs of brackets, and the list's own commas; 500 flat events have 1,500
_QUOTES_MAX: Final = 1_000_000
_MEMBERS_MAX: Final = 1000  # of the request itself
_EVENT_MEMBERS_MAX: Final = 10_000  # beyond it a fault is not pinned to a member

_BLANK_CONTROLS: Final = bytes.maketrans(bytes(range(32)), b" " * 32)
# Behind a string comes a comma, a colon or a bracket. Anything else means that a quote is missing somewhere, and what
# looks like a string is what stands between two.
_BEHIND_STRING: Final = re.compile(rb'"[^"]*+"\s*+([]},:]?+)')
# These hold on every Python, although they repeat a possessive group: a string without an end reaches the text's end.
_BRACKETS: Final = re.compile(rb'[^][{}"]*+(?:"[^"]*+"[^][{}"]*+)*+([\[{]++|[\]}]++)')
_BRACKETS_OR_COMMA: Final = re.compile(rb'[^][{},"]*+(?:"[^"]*+"[^][{},"]*+)*+([\[{]++|[\]}]++|,)')
_NAME: Final = re.compile(rb'\s*("[^"]*+")\s*:\s*')
_CLOSERS_OF: Final = bytes.maketrans(b"{[", b"}]")
_COMMA: Final = b","
_BLANKS: Final = b" \t\n\r"  # what JSON takes between values, and nothing else

Span = tuple[int, int]
"""Where something begins and ends."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An element that is no JSON: why, and the name of the member that is at fault, None when it is no single one."""

    rule: Rule
    reason: str
    member: str | None


@dataclass(frozen=True, slots=True)
class _Container:
    """The items of an object or an array, and where it ends (behind its bracket)."""

    items: list[Span]
    end: int


@dataclass(frozen=True, slots=True)
class _Split:
    """A body taken apart: the request without the elements of its list, and each element as it was sent."""

    shell: bytes
    elements: list[bytes]


def salvage(body: bytes, member: str, elements_max: int) -> dict[str, Any] | None:
    """Return a request whose array member holds what each element says, or a Malformed; None: nothing is told apart.

    Args:
        body: what `parse` does not take.
        member: the array's name.
        elements_max: an array with more is not looked at.
    """
    split = _split(body.removeprefix(BOM), member, elements_max)
    if split is None:
        return None
    try:
        request = parse(split.shell)
    except Rejected:
        return None
    if type(request) is not dict:
        return None
    return request | {member: [read_element(text) for text in split.elements]}


def elements(body: bytes, member: str) -> list[bytes]:
    """Return each element of the array member of a body that was judged, as it was sent."""
    body = body.removeprefix(BOM)
    try:
        return [bytes(item) for item in getattr(_decoder_of(member).decode(body), member)]
    except PARSE_ERRORS:
        split = _split(body, member, len(body))
        return split.elements if split is not None else []


@lru_cache
def _decoder_of(member: str) -> msgspec.json.Decoder[Any]:
    """Return a decoder that passes over a request once, and notes where the elements of an array member stand."""
    return msgspec.json.Decoder(msgspec.defstruct("Request", [(member, list[msgspec.Raw])]))


def read_element(text: bytes) -> Any:
    """Return the value of an element, or a Malformed when it is no JSON."""
    try:
        return decode(text)
    except PARSE_ERRORS as error:
        rule, reason = fault_of(text, error)
        return Malformed(rule, reason, _member_at_fault(text))


def _member_at_fault(text: bytes) -> str | None:
    masked = _masked(text) if len(text) <= EXAMINED_BYTES_MAX else None
    container = _container(masked, 0, _EVENT_MEMBERS_MAX) if masked is not None and text[:1] == b"{" else None
    for begin, end in container.items if container is not None else ():
        try:
            decode(b"{" + text[begin:end] + b"}")
        except PARSE_ERRORS:
            named = _named(text, masked or b"", begin)
            return named[0] if named is not None else None
    return None


def _split(body: bytes, member: str, elements_max: int) -> _Split | None:
    masked = _masked(body)
    if masked is None:
        return None
    request = _container(masked, len(masked) - len(masked.lstrip()), _MEMBERS_MAX)
    for begin, _ in reversed(request.items if request is not None else []):  # of duplicate names the last one counts
        named = _named(body, masked, begin)
        if named is not None and named[0] == member:
            array = _container(masked, named[1], elements_max) if masked[named[1] : named[1] + 1] == b"[" else None
            if array is None or not all(_is_one_value(masked[first:last]) for first, last in array.items):
                return None
            shell = body[: named[1]] + b"[]" + body[array.end :]
            return _Split(shell, [body[first:last].strip(_BLANKS) for first, last in array.items])
    return None


def _masked(body: bytes) -> bytes | None:
    """Return a text of the same length in which every quote begins or ends a string; None when it is in doubt."""
    if body.count(b'"') > _QUOTES_MAX:
        return None
    # Only an escaped quote looks like another one, and only an escaped backslash makes one look escaped that is not.
    masked = body.replace(b"\\\\", b"__").replace(b'\\"', b"__").translate(_BLANK_CONTROLS)
    is_doubtful = masked.count(b'"') % 2 or b"" in _BEHIND_STRING.findall(masked)
    return None if is_doubtful else masked


def _container(masked: bytes, start: int, items_max: int) -> _Container | None:
    """Find the items of the object or array at `start`.

    None when brackets don't match, when two objects or arrays stand without a comma between, or when there is too much.
    """
    if masked[start : start + 1] not in (b"{", b"["):
        return None
    closers = bytearray(masked[start : start + 1].translate(_CLOSERS_OF))
    items: list[Span] = []
    begin = at = start + 1
    is_filled = False
    for _ in range(_MARKS_MAX):
        is_inside = len(closers) > 1
        token = (_BRACKETS if is_inside else _BRACKETS_OR_COMMA).match(masked, at)
        if token is None or (not is_inside and is_filled and token[1][0] in b"{["):
            return None
        at, marks = token.end(), token[1]
        if marks == _COMMA:
            items.append((begin, at - 1))
            begin, is_filled = at, False
            if len(items) >= items_max:
                return None
        elif marks[0] in b"{[":
            closers += marks.translate(_CLOSERS_OF)
            is_filled = True
        else:
            closed = marks[: len(closers)]
            if closers[-len(closed) :] != closed[::-1]:
                return None
            del closers[-len(closed) :]
            if not closers:
                end = token.start(1) + len(closed)
                return _Container([*items, (begin, end - 1)], end)
    return None


def _named(body: bytes, masked: bytes, begin: int) -> tuple[str, int] | None:
    """Return the name of the member that begins there, and where its value does; None when it has none."""
    match = _NAME.match(masked, begin)
    if match is None:
        return None
    try:
        return msgspec.json.decode(body[match.start(1) : match.end(1)], type=str), match.end()
    except PARSE_ERRORS:
        return None


def _is_one_value(masked: bytes) -> bool:
    """Tell whether what stands between two commas of a container is one value, be it a bad one."""
    text = masked.strip()
    if text[:1] in (b"{", b"["):
        return text[-1:] in (b"}", b"]")
    if text[:1] == b'"':
        return text.count(b'"') == 2 and text[-1:] == b'"'  # noqa: PLR2004  (one at each end)
    return bool(text) and not any(mark in text for mark in (b"{", b"[", b'"'))
