"""The request around its events: the members it may have, the headers that its events share, and their bounds."""

from typing import Any, Final

import msgspec

from ingest.errors import ErrorCode, Fault, Rejected, Rule
from ingest.events.parsing import escape, guard, kind
from ingest.events.salvage import Malformed

BODY: Final = "messageBody"
_HEADERS: Final = ("messageHeaders", "messageheader")
_SCALARS: Final = (str, int, float, bool)
_encode_json: Final = msgspec.json.Encoder().encode


def events_of(request: Any, events_max: int) -> list[Any]:
    """Return a request's list of events.

    Raises:
        Rejected: 400, it has none, or one of no events, or of more than `events_max`.
    """
    if type(request) is not dict:
        raise _refuse(ErrorCode.NOT_OBJECT, Rule.TYPE, "", f"the body must be an object, got {kind(request)}")
    events = request.get(BODY)
    pointer = f"/{BODY}"
    if events is None:
        raise _refuse(ErrorCode.NO_EVENTS, Rule.REQUIRED, pointer, f"{BODY} is required")
    if type(events) is not list:
        raise _refuse(ErrorCode.NO_EVENTS, Rule.TYPE, pointer, f"{BODY} must be an array, got {kind(events)}")
    if not 1 <= len(events) <= events_max:
        message = f"{BODY} must have 1 to {events_max} events, got {len(events)}"
        raise _refuse(ErrorCode.EVENT_COUNT, Rule.ITEMS, pointer, message)
    return events


def guard_others(request: dict[str, Any], depth_max: int) -> None:
    """Hold the members that are ignored to the guards of the whole body; raises Rejected, 400."""
    if len(request) == 1:
        return
    taken = (BODY, _headers_name(request))
    for name, value in request.items():
        if name not in taken:
            broken = guard(value, depth_max - 1)
            if broken is not None:
                raise _refuse(ErrorCode.BAD_SHAPE, broken[0], f"/{escape(name)}", broken[1])


def headers_of(request: dict[str, Any], bytes_max: int) -> tuple[dict[str, str], int]:
    """Return a request's messageHeaders as texts, and their size in bytes.

    Raises:
        Rejected: 400, they are no object of scalars, or more than `bytes_max`.
    """
    name = _headers_name(request)
    if name is None:
        return {}, 0
    headers, pointer = request[name], f"/{name}"
    if type(headers) is not dict:
        raise _refuse(ErrorCode.BAD_HEADERS, Rule.TYPE, pointer, f"{name} must be an object, got {kind(headers)}")
    for key, value in headers.items():
        at = f"{pointer}/{escape(key)}"
        if value is not None and type(value) not in _SCALARS:
            message = f"a member of {name} must be a scalar, got {kind(value)}"
            raise _refuse(ErrorCode.BAD_HEADERS, Rule.TYPE, at, message)
        broken = guard(value, 0)
        if broken is not None:
            raise _refuse(ErrorCode.BAD_HEADERS, broken[0], at, broken[1])
    texts = {key: _scalar_text(value) for key, value in headers.items() if value is not None}
    size = sum(len(key.encode()) + len(text.encode()) for key, text in texts.items())
    if size > bytes_max:
        message = f"{name} must have at most {bytes_max} bytes, got {size}"
        raise _refuse(ErrorCode.BAD_HEADERS, Rule.SIZE, pointer, message)
    return texts, size


def no_event(raw: Any, index: int) -> Fault:
    """Return the fault of an element that is no object."""
    pointer = f"/{BODY}/{index}"
    if type(raw) is not Malformed:
        return Fault(Rule.TYPE, pointer, f"an event must be an object, got {kind(raw)}", index)
    message = raw.reason if raw.rule is Rule.DEPTH else f"the event is not valid JSON: {raw.reason}"
    return Fault(raw.rule, pointer if raw.member is None else f"{pointer}/{escape(raw.member)}", message, index)


def copied_bytes(events: int, shared_bytes: int, most: int) -> int:
    """Return how many bytes what all events share makes of a request; raises Rejected, 413, beyond `most`."""
    size = events * shared_bytes
    if size > most:
        message = (
            f"messageHeaders and User-Agent, copied into each of {events} events, are {size} bytes, "
            f"at most {most} are taken; send fewer events at once"
        )
        raise Rejected(ErrorCode.TOO_MUCH_COPIED, message)
    return size


def _headers_name(request: dict[str, Any]) -> str | None:
    for name in _HEADERS:
        if request.get(name) is not None:
            return name
    return None


def _refuse(code: ErrorCode, rule: Rule, pointer: str, message: str) -> Rejected:
    return Rejected(code, message, (Fault(rule, pointer, message),))


def _scalar_text(value: Any) -> str:
    return value if type(value) is str else _encode_json(value).decode()
