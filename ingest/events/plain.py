"""Plain events: judged and written in one pass by compiled code (plain_writer.pyx), where it could be compiled.

An event is plain if the validator would take it and needs nothing else to know than the event itself. The compiled code
knows neither our fields nor our rules. It has tables, which are made here of the catalogue and of event.avsc, and calls
the readers of ingest/events/fields.py for what is not stored as it was sent. For an event that is not plain the
validator and the encoder do what they do without it. Both ways make the same records: tests compare them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ingest.events.client_counters import Kind
from ingest.events.fields import AsSent, Reader, compile_readers, taken_as_sent
from ingest.events.validator import Judging, Validator, depth_in_member
from schemas.codec import Encoder, varint
from schemas.compiler import UNUSUAL

try:
    from ingest.events.plain_writer import Layout, PlainWriter, Rule
except ImportError:  # there was no compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True

Written = tuple[str, Kind, bytes, bytes]
"""An event's pingId and kind, its record's key and value."""
Write = Callable[[Any], Written | None]
"""Takes a parsed event; None when it is not plain."""

_PLACES: Final = ("eventId", "pingId", "clientId", "eventType", "userAgent", "occurredAt", "properties")
_KEYS: Final = ("anonId", "userId", "eventId")  # the first that is not empty, as in key_of
KEY_LENGTH_MAX: Final = 128
"""A userId gives so many characters to the record's key."""
_encode_json: Final = msgspec.json.Encoder().encode


def compile_writer(validator: Validator, encoder: Encoder) -> "PlainEvents | None":
    """Return the compiled way of plain events; None without compiled code, or when it can't write such records."""
    if (
        not IS_COMPILED
        or not encoder.layout
        or not {kind for kind, _ in encoder.layout} <= {"text", "number", "shared"}
    ):
        return None
    return PlainEvents(validator, encoder)


class PlainEvents:
    """Writes plain events of requests that a validator has begun to judge. Immutable, so threads share it."""

    def __init__(self, validator: Validator, encoder: Encoder) -> None:
        catalogue, limits = validator.rules
        places = {name: at for at, (_, name) in enumerate(encoder.layout, 1) if name}
        blanks = [encoder.frame, *(_blank(*piece, validator.blank) for piece in encoder.layout)]
        as_sent = taken_as_sent(catalogue)
        self._encoder = encoder
        self._layout = Layout(
            blanks,
            {
                name: _rule(places.get(name), read, as_sent.get(name))
                for name, read in compile_readers(catalogue).items()
            },
            [places[name] for name in _PLACES],
            tuple(places[name] for name in _KEYS),
            tuple(places[name] for name in validator.required),
            (limits.event_bytes_max, KEY_LENGTH_MAX, depth_in_member(limits)),
            _encode_json,
        )

    def writer(self, judging: Judging) -> Write:
        """Return a function that writes the plain events of a request; for all others it returns None."""
        common = judging.common
        sender = common.origin
        try:
            shared = self._encoder.shared_bytes(common.blank)
        except UNUSUAL:
            return _nothing
        fresh_ids = None if sender.idempotency_key else common.fresh_ids  # else an id is made of the event
        times = (sender.received_at_ms, common.earliest_ms, common.latest_ms)
        return PlainWriter(self._layout, shared, sender.user_agent, times, fresh_ids).write


def _blank(kind: str, name: str, event: Mapping[str, Any]) -> str | bytes | None:
    """Return a piece of a record whose event has no members."""
    if kind == "shared":
        return None
    return str(event[name]) if kind == "text" else varint(event[name])


def _rule(place: int | None, reader: Reader, as_sent: AsSent | None) -> "Rule":
    """Return what is done with a member; one without a column, of an operator's catalogue, is a property."""
    if place is None or as_sent is None:
        return Rule("property", 0, reader, (0, 0), frozenset())
    return Rule(as_sent.kind, place, reader, as_sent.bounds, as_sent.words)


def _nothing(_: Any) -> None:
    """Find that an event is not plain."""
