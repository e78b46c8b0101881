"""Judges a request from its bytes and the time of its receipt, without I/O and without a clock.

parse -> shape of the request -> each event: fields, guards, ids, times -> `ValidationResult`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import msgspec

from ingest.errors import Fault, Rejected, Rule
from ingest.events.envelope import BODY, copied_bytes, events_of, guard_others, headers_of, no_event
from ingest.events.fields import ANY_TEXT, FieldError, Reader, compile_readers, taken_as_sent
from ingest.events.ids import canonical_json, uuid5, uuid7s
from ingest.events.lines import read_lines
from ingest.events.parsing import FLAT, escape, guard, parse
from ingest.events.salvage import COPIES, salvage
from ingest.events.sizes import crowded, oversize, too_large
from ingest.events.times import client_time_ms
from ingest.memory import UNBOUNDED, Lease
from schemas.event import AT_MAX_MS, CLIENT_COLUMNS, Catalogue, Event

FAULTS_MAX: Final = 50
_EVENT_DEPTH: Final = 2  # the request and messageBody are around an event
_ENTRY_BYTES: Final = 16  # of one of messageHeaders in a record, beside its text, for what encoding it costs
_encode_json: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EventLimits:
    """Bounds on a request; every one is a setting."""

    events_max: int = 500
    event_bytes_max: int = 256 * 1024
    headers_bytes_max: int = 16 * 1024
    depth_max: int = 32
    members_max: int = 1000
    paths_max: int = 2000
    copied_bytes_max: int = 2 * 1024 * 1024
    clock_past_ms_max: int = 30 * 24 * 3600 * 1000
    clock_future_ms_max: int = 5 * 60 * 1000

    def believed_ms(self, received_at_ms: int) -> tuple[int, int]:
        """Return the first and the last moment that a client's clock may say; the table holds no other years."""
        earliest_ms = max(0, received_at_ms - self.clock_past_ms_max)
        return earliest_ms, min(AT_MAX_MS, received_at_ms + self.clock_future_ms_max)


class Sender(msgspec.Struct, frozen=True):
    """What is known of a request besides its body; `client_id` is the key's, "" in an open collector."""

    received_at_ms: int
    ip: str = ""
    user_agent: str = ""
    trace_id: str = ""
    idempotency_key: str = ""
    client_id: str = ""
    request_id: str = ""
    record_headers: tuple[tuple[str, bytes], ...] = ()


class InvalidEvent(msgspec.Struct, frozen=True):
    """An event that is not taken: its faults, 1 to FAULTS_MAX."""

    faults: tuple[Fault, ...]


class ValidationResult(msgspec.Struct, frozen=True):
    """One entry per element of `messageBody`, in request order; `expanded_bytes` is about what they are as records."""

    entries: tuple[Event | InvalidEvent, ...]
    expanded_bytes: int = 0

    @property
    def events(self) -> list[Event]:
        """The events that can be taken, in request order."""
        return [entry for entry in self.entries if not isinstance(entry, InvalidEvent)]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults of all events, in request order."""
        return tuple(fault for entry in self.entries if isinstance(entry, InvalidEvent) for fault in entry.faults)


class Common(msgspec.Struct, frozen=True):
    """What the events of a request have in common.

    Attributes:
        blank: an event with what is equal in all of them.
        fresh_ids: for those that have no id.
        earliest_ms, latest_ms: between them they may have happened.
    """

    origin: Sender
    blank: dict[str, Any]
    fresh_ids: Iterator[str]
    earliest_ms: int
    latest_ms: int


class Judging(msgspec.Struct, frozen=True):
    """A request whose events can be judged one by one, in any order but each once.

    Attributes:
        raws: the events as they were parsed.
        refused: what has been decided already, by index: events that are too much as a whole.
        judge: the verdict on one event, from it, its index and `common`.
        expanded_bytes: about what the events are as records.
    """

    raws: list[Any]
    common: Common
    refused: Mapping[int, InvalidEvent]
    judge: Callable[[Any, int, Common], Event | InvalidEvent]
    expanded_bytes: int

    def entry(self, index: int) -> Event | InvalidEvent:
        """Return the verdict on one event."""
        return self.refused.get(index) or self.judge(self.raws[index], index, self.common)


class Validator:
    """Turns bodies into verdicts under one catalogue. Immutable, so threads share it.

    With a client registry every event must name its client, so `required` is eventType and clientId then.
    """

    def __init__(
        self, catalogue: Catalogue, limits: EventLimits, environment: str, required: tuple[str, ...] = ("eventType",)
    ) -> None:
        self._catalogue = catalogue
        readers = compile_readers(catalogue)
        self._readers: Mapping[str, Reader] = {name: readers[name] for name in CLIENT_COLUMNS if name in readers}
        self._own_readers = {name: reader for name, reader in readers.items() if name not in self._readers}
        self._plain = frozenset(name for name, as_sent in taken_as_sent(catalogue).items() if as_sent == ANY_TEXT)
        self._depth_left = depth_in_member(limits)
        self._required = required
        self._needed = itemgetter("eventType", *required)  # of one name alone it would return no tuple
        self._limits = limits
        self._blank: dict[str, Any] = dict.fromkeys(Event.__annotations__, "") | {
            "active": -1,
            "receivedAt": 0,
            "occurredAt": 0,
            "environment": environment,
            "headers": {},
            "properties": "{}",
        }

    @property
    def rules(self) -> tuple[Catalogue, EventLimits]:
        """What requests are judged by."""
        return self._catalogue, self._limits

    @property
    def blank(self) -> Mapping[str, Any]:
        """An event without a member, in a request that nothing is known of."""
        return self._blank

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that no event may lack; eventType is always among them."""
        return ("eventType", *self._required)

    def read(
        self, body: bytes, origin: Sender, lease: Lease = UNBOUNDED, *, is_lines: bool = False
    ) -> ValidationResult:
        """Judge a whole request; takes and raises what `judge` does."""
        return self.examine(body, origin, lease, is_lines=is_lines)[0]

    def examine(
        self, body: bytes, origin: Sender, lease: Lease = UNBOUNDED, *, is_lines: bool = False
    ) -> tuple[ValidationResult, list[Any]]:
        """Judge a whole request and return its events as they were parsed, too; takes and raises what `judge` does."""
        judging = self.judge(body, origin, lease, is_lines=is_lines)
        entries = tuple(map(judging.entry, range(len(judging.raws))))
        return ValidationResult(entries, judging.expanded_bytes), judging.raws

    def judge(self, body: bytes, origin: Sender, lease: Lease = UNBOUNDED, *, is_lines: bool = False) -> Judging:
        """Begin to judge a request.

        Args:
            body: the JSON.
            origin: what else is known of the request.
            lease: has room for the objects, and grows if telling events apart needs copies.
            is_lines: the body has one event a line, and nothing else.

        Raises:
            Rejected: 400, when the request has no list of events to judge one by one; 413, when they are too much.
            Overloaded: there is no memory for the copies.
        """
        request = self._parse_lines(body, lease) if is_lines else self._parse(body, lease)
        events = events_of(request, self._limits.events_max)
        guard_others(request, self._limits.depth_max)
        blank, shared_bytes = self._blank_of(request, origin)
        copies_bytes = copied_bytes(len(events), shared_bytes, self._limits.copied_bytes_max)
        limits = self._limits
        faults = oversize(body, limits.event_bytes_max, is_lines=is_lines) | crowded(
            body, events, (limits.members_max, limits.paths_max), limits.depth_max - _EVENT_DEPTH
        )
        refused = {index: InvalidEvent((fault,)) for index, fault in faults.items()}
        at_ms = origin.received_at_ms
        common = Common(origin, blank, uuid7s(at_ms), *self._limits.believed_ms(at_ms))
        return Judging(events, common, refused, self._read_event, len(body) + copies_bytes)

    def _parse(self, body: bytes, lease: Lease) -> Any:
        """Return a request; where it is no JSON for the fault of single events, those are Malformed."""
        try:
            return parse(body)
        except Rejected:
            lease.grow(COPIES * len(body))
            salvaged = salvage(body, BODY, self._limits.events_max)
            if salvaged is None:
                raise
            return salvaged

    def _parse_lines(self, body: bytes, lease: Lease) -> Any:
        """Return the request whose events are the lines; those that are no JSON are Malformed."""
        lease.grow(len(body))  # the lines are copies
        return {BODY: read_lines(body, self._limits.events_max)}

    def _blank_of(self, request: dict[str, Any], origin: Sender) -> tuple[dict[str, Any], int]:
        """Return an event that has only what all events of a request share, and the client's bytes of it."""
        headers, headers_bytes = headers_of(request, self._limits.headers_bytes_max)
        blank = self._blank.copy()
        blank["receivedAt"] = blank["occurredAt"] = origin.received_at_ms
        blank["ip"] = origin.ip
        blank["traceId"] = origin.trace_id
        blank["headers"] = headers
        return blank, headers_bytes + _ENTRY_BYTES * len(headers) + len(origin.user_agent.encode())

    def _read_event(self, raw: Any, index: int, request: Common) -> Event | InvalidEvent:
        if type(raw) is not dict:
            return InvalidEvent((no_event(raw, index),))
        event = request.blank.copy()
        properties: dict[str, Any] = {}
        faults = self._fill(event, properties, raw, index)
        if faults or "" in self._needed(event):
            faults += self._missing(raw, index)
            if faults:
                return InvalidEvent(tuple(faults[:FAULTS_MAX]))
        if properties:
            text = _encode_json(properties)
            if len(text) > self._limits.event_bytes_max:  # 1e15 is longer when it is written out
                return InvalidEvent((too_large(index, self._limits.event_bytes_max),))
            event["properties"] = text.decode()
            said_ms = client_time_ms(properties.get("timestamp"))
            if said_ms is not None and request.earliest_ms <= said_ms <= request.latest_ms:
                event["occurredAt"] = said_ms
        if not event["eventId"]:
            key = request.origin.idempotency_key
            event["eventId"] = _derived_id(event, raw, index, request.origin) if key else next(request.fresh_ids)
        if not event["pingId"]:
            event["pingId"] = event["eventId"]
        if not event["userAgent"]:
            event["userAgent"] = request.origin.user_agent
        return event  # type: ignore[return-value]  # a blank Event, filled under its own names

    def _missing(self, raw: dict[str, Any], index: int) -> list[Fault]:
        return [
            Fault(Rule.REQUIRED, f"/{BODY}/{index}/{name}", f"{name} is required", index)
            for name in self._required
            if raw.get(name) is None or (raw[name] == "" and name != "eventType")  # whose reader says more
        ]

    def _fill(self, event: dict[str, Any], properties: dict[str, Any], raw: dict[str, Any], index: int) -> list[Fault]:
        """Put known fields into `event` and the others into `properties`; return what is wrong with them."""
        faults: list[Fault] = []
        plain, readers = self._plain, self._readers
        for name, value in raw.items():
            if type(value) is str and name in plain:  # nearly all members of nearly all events
                event[name] = value
                continue
            try:
                if name in readers:
                    if value is not None:
                        event[name] = readers[name](value)
                elif name in self._own_readers:
                    if value is not None and value != "" and (own := self._own_readers[name](value)) != "":
                        properties[name] = own
                elif type(value) in FLAT or (broken := guard(value, self._depth_left)) is None:
                    properties[name] = value
                else:
                    faults.append(Fault(broken[0], f"/{BODY}/{index}/{escape(name)}", broken[1], index))
            except FieldError as field_error:
                message = f"{name} {field_error.message}"
                faults.append(Fault(field_error.rule, f"/{BODY}/{index}/{escape(name)}", message, index))
        return faults


def depth_in_member(limits: EventLimits) -> int:
    """Return how many levels an event's member may have in itself."""
    return limits.depth_max - _EVENT_DEPTH - 1


def _derived_id(event: dict[str, Any], raw: dict[str, Any], index: int, origin: Sender) -> str:
    """Return the id of an event whose client repeats itself under an Idempotency-Key."""
    return uuid5(origin.client_id or event["clientId"], origin.idempotency_key, index, canonical_json(raw))
