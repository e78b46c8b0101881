"""What a person has of an event: a pingId, an eventId, a trace id or a request id; and which events it names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{32}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WITH_TIME: Final = 7
_TIME_BITS: Final = 80
_EARLIEST_MS: Final = 1_577_836_800_000  # 2020: an earlier time is of a clock that was never set
_AHEAD_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Identity:
    """An id, as it was given and as events have it.

    Attributes:
        text: in small letters if it is a UUID or a trace id.
        event_id: the UUID in its usual form; "" when it is none.
        trace_id: what the column trace_id would hold, also for a request id that a client chose without a traceparent.
        at_ms: the Unix time in a UUIDv7; None when it has none that can be true.
        is_event: it is known to be an event's: an eventId, a pingId or a trace id.
    """

    text: str
    event_id: str = ""
    trace_id: str = ""
    at_ms: int | None = None
    is_event: bool = False

    @property
    def may_be_chosen(self) -> bool:
        """Whether a client may have chosen it as its request id; then an event without it may be the one.

        Its form does not tell: clients choose UUIDs of every version, also beside a traceparent, whose trace id the
        rows have instead.
        """
        return not self.is_event

    @property
    def needles(self) -> tuple[bytes, ...]:
        """The bytes of which a record that names it has at least one, in small letters."""
        texts = {self.text.lower(), self.event_id, self.trace_id} - {""}
        return tuple(sorted(text.encode() for text in texts))

    def names(self, event: Mapping[str, Any]) -> bool:
        """Tell whether it names this event."""
        own = {str(event.get(name, "")).lower() for name in ("eventId", "pingId", "traceId")}
        return not own.isdisjoint({self.event_id, self.trace_id} - {""})


def identity_of(text: str, now_ms: int, *, is_event: bool = False) -> Identity:
    """Return what an id may be; `is_event` says that it is no request id that a client chose.

    Raises:
        ValueError: it can be neither an event's nor a request's.
    """
    found = _identity_of(text, now_ms)
    if is_event and not found.event_id:
        raise ValueError("must be a UUID or 32 hexadecimal digits with --event")
    return replace(found, is_event=is_event)


def _identity_of(text: str, now_ms: int) -> Identity:
    if _UUID.fullmatch(text):
        event_id = str(UUID(text))
        return Identity(event_id, event_id, event_id.replace("-", ""), _time_of(UUID(text), now_ms))
    if _HEX.fullmatch(text):
        return Identity(text.lower(), str(UUID(text)), text.lower(), _time_of(UUID(text), now_ms))
    if _REQUEST_ID.fullmatch(text):
        return Identity(text)
    raise ValueError("must be a pingId or an eventId (a UUID), or a request id (1 to 128 of A-Z a-z 0-9 . _ -)")


def _time_of(given: UUID, now_ms: int) -> int | None:
    at_ms = given.int >> _TIME_BITS
    is_true = given.version == _WITH_TIME and _EARLIEST_MS <= at_ms <= now_ms + _AHEAD_MS
    return at_ms if is_true else None
