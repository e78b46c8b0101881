"""What POST /collect/validate says of an event beyond its faults: its row, and warnings of likely mistakes.

A warning refuses nothing: a member with a name near a known one, a time that is not believed, a value that the type in
the catalogue does not cover. Only dry runs pay for it, and they look at 2,000 names of a request at most.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.events.envelope import BODY
from ingest.events.fields import fits
from ingest.events.parsing import escape
from ingest.events.times import client_time_ms
from ingest.events.typed_columns import SPELLINGS, typed_columns
from ingest.events.validator import FAULTS_MAX, EventLimits
from schemas.event import COLLECTOR_FIELDS, Catalogue, Event, Property

ROWS_BYTES_MAX: Final = 1024 * 1024
"""Rows of one answer; beyond it they are left out."""
_NAMES_MAX: Final = 2000
_NAME_LENGTH_MAX: Final = 40
_FUZZY_LENGTH_MIN: Final = 4  # of shorter names too many are near
_SEPARATORS: Final = re.compile(r"[\s._-]+")
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TIMES: Final = ("receivedAt", "occurredAt")


def _column_of(name: str) -> str:
    return _WORDS.sub("_", name).lower()


def _promoted_column(name: str) -> str:
    """Return the column as `python -m consumer promote` names it: each capital begins a word."""
    return re.sub("_+", "_", re.sub("(?<!^)(?=[A-Z])", "_", name)).lower()


_COLUMNS: Final = {name: _column_of(name) for name in Event.__annotations__}


class Hint(StrEnum):
    """What a warning is about: its `rule`."""

    NEAR_NAME = "near_name"
    TIME = "time"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning: the event's index, the member as a JSON pointer, and one sentence."""

    index: int
    pointer: str
    rule: Hint
    message: str


class Advisor:
    """Warns of what a client may not mean. Immutable, so threads share it."""

    def __init__(self, catalogue: Catalogue, limits: EventLimits) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._known = frozenset((*catalogue.fields, *catalogue.properties, *COLLECTOR_FIELDS)) | SPELLINGS
        self._near = _neighbours((*catalogue.fields, *catalogue.properties))

    def warnings(self, raws: list[Any], received_at_ms: int) -> list[Warned]:
        """Return the warnings of a request's events, FAULTS_MAX at most, in request order."""
        found: list[Warned] = []
        names_left = _NAMES_MAX
        for index, raw in enumerate(raws):
            if type(raw) is not dict:
                continue
            for name, value in raw.items():
                names_left -= 1
                if names_left < 0 or len(found) >= FAULTS_MAX:
                    return found
                said = self._warning(name, value, received_at_ms)
                if said is not None:
                    found.append(Warned(index, f"/{BODY}/{index}/{escape(name)}", *said))
        return found

    def _warning(self, name: str, value: Any, received_at_ms: int) -> tuple[Hint, str] | None:
        if name not in self._known:
            meant = self._near_name(name)
            return None if meant is None else (Hint.NEAR_NAME, f"{name} is kept in properties; did you mean {meant}?")
        documented = self._catalogue.properties.get(name)
        if documented is None or value is None:
            return None
        if name == "timestamp":
            said = self._doubt(value, received_at_ms)
            return None if said is None else (Hint.TIME, f"timestamp {said}; occurredAt is the time of receipt")
        if fits(value, documented):
            return None
        message = f"{name} is kept in properties as it is; it is no {documented.type}, so the row leaves its column out"
        return Hint.TYPE, message

    def _near_name(self, name: str) -> str | None:
        if len(name) > _NAME_LENGTH_MAX:
            return None
        plain = _plain(name)
        return next((self._near[form] for form in _forms(plain) if form in self._near), None)

    def _doubt(self, value: Any, received_at_ms: int) -> str | None:
        """Say why a timestamp is not believed; None when it is."""
        said_ms = client_time_ms(value)
        if said_ms is None:
            return "is neither ISO 8601, RFC 2822 nor an epoch in s, ms or us"
        earliest_ms, latest_ms = self._limits.believed_ms(received_at_ms)
        if earliest_ms <= said_ms <= latest_ms:
            return None
        ahead_s = (said_ms - received_at_ms) / 1000
        return f"lies {abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'back'}, too far to be believed"


def row_of(event: Event, promoted: Mapping[str, Property] = MappingProxyType({})) -> dict[str, Any]:
    """Return an event as the columns of the table would show it; times are UTC. `promoted` are an operator's columns.

    A column that follows from a member of another type than the documented one is left out.
    """
    fields: Mapping[str, Any] = event
    row = {column: fields[name] for name, column in _COLUMNS.items()}
    for name in _TIMES:
        at = datetime.fromtimestamp(fields[name] / 1000, UTC)
        row[_COLUMNS[name]] = at.strftime("%Y-%m-%d %H:%M:%S.") + f"{fields[name] % 1000:03d}"
    properties = event["properties"].encode()
    typed = typed_columns(msgspec.json.decode(properties), event["url"], promoted)
    row |= {(_promoted_column if name in promoted else _column_of)(name): value for name, value in typed.items()}
    return row | {"properties": msgspec.Raw(properties)}


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


def _forms(plain: str) -> Iterator[str]:
    """Yield a name, and what is left of it without one character.

    Two names that share a form are one slip apart: a letter more, less or another, or two that changed places.
    """
    yield plain
    if len(plain) >= _FUZZY_LENGTH_MIN:
        for at in range(len(plain)):
            yield plain[:at] + plain[at + 1 :]


def _neighbours(names: tuple[str, ...]) -> dict[str, str]:
    """Return the names by their forms; a name's own plain form goes before another's near one."""
    near: dict[str, str] = {}
    for name in names:
        for form in _forms(_plain(name)):
            near.setdefault(form, name)
    return near | {_plain(name): name for name in names}
