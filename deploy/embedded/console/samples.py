"""Requests to try: one of each event type of the catalogue, good or broken in one way."""

import json
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from schemas.event import Catalogue, Field

# Members that make a sample of a type worth looking at, beside the fields that the catalogue names for the type.
_ORDER: Final = {"amount": 9.99, "currency": "EUR", "orderId": "o-1001", "plan": "monthly"}
_MORE: Final[Mapping[str, Mapping[str, Any]]] = {
    "PING": {"counter": 1, "scrollDepth": 40.5},
    "VIEW": {
        "contentId": "art-7",
        "contentTitle": "What a sample says",
        "url": "https://daily.example/science/2026/article-7?utm_source=newsletter",
        "pageType": "article",
    },
    "EXIT": {"scrollDepth": 92.0},
    "PURCHASE": _ORDER,
    "TRANSACTION": _ORDER,
    "REGISTRATION": {"userId": "u-1001"},
}


def _without_type(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "eventType"}


_FAULTS: Final[Mapping[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]]] = {
    "": ("nothing: a valid event", lambda event: event),
    "type": ("an unknown event type", lambda event: event | {"eventType": "HOVER"}),
    "no-type": ("no event type", _without_type),
    "uuid": ("a pingId that is no UUID", lambda event: event | {"pingId": "page-7"}),
    "flag": ("a flag that is a word", lambda event: event | {"active": "often"}),
    "json": ("a body that is not JSON", lambda event: event),
}
FAULTS: Final[Mapping[str, str]] = {name: label for name, (label, _) in _FAULTS.items()}
"""What can be broken, by its name; "" is nothing."""


def sample(catalogue: Catalogue, event_type: str, fault: str, *, has_good_one: bool = False) -> str:
    """Return a request's body as text: one event, behind a good one if that is asked for.

    Raises:
        KeyError: there is no such type or fault.
    """
    event = _FAULTS[fault][1](_event(catalogue, event_type))
    events = [_event(catalogue, event_type), event] if has_good_one else [event]
    text = json.dumps({"messageBody": events}, indent=2, ensure_ascii=False)
    return text.rstrip("}\n ") if fault == "json" else text


def _event(catalogue: Catalogue, event_type: str) -> dict[str, Any]:
    kind = catalogue.types[event_type]
    own = {name: _value(catalogue.fields[name]) for name in kind.fields}
    common = {"eventType": event_type, "eventId": _uuid7(), "clientId": "console", "anonId": "console-visitor"}
    return {**common, "eventLocation": "PAGE", **own, **_MORE.get(event_type, {})}


def _value(field: Field) -> Any:
    """Return a value that a field takes."""
    values: Mapping[str, Any] = {"uuid": _uuid7(), "int8": 1, "integer": 1, "number": 1.5, "boolean": True}
    text = (field.known or ("sample",))[0]
    return values.get(field.type, text.ljust(field.length_min, "-")[: field.length_max])


def _uuid7() -> str:
    """Return a UUIDv7 of this moment: the table is sorted by them (RFC 9562, section 5.7)."""
    at_ms = time.time_ns() // 1_000_000
    number = at_ms << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))
