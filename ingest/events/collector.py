"""One request's way: body -> validated events -> Avro -> durable. No HTTP in it."""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import repeat
from typing import Final

import msgspec

from ingest.client_series import ClientSeries
from ingest.counters import RequestCounter
from ingest.errors import ErrorCode, Fault, Rejected
from ingest.events.client_counters import ClientCounters, Kind
from ingest.events.dry_run import ROWS_BYTES_MAX, Advisor, Warned
from ingest.events.ids import uuid5, uuid7
from ingest.events.lines import sent_events
from ingest.events.plain import KEY_LENGTH_MAX, Written, compile_writer
from ingest.events.validator import InvalidEvent, Judging, Sender, ValidationResult, Validator
from ingest.memory import Body, bytes_of_records
from ingest.publishing.ports import Durability, Publisher, Record
from schemas.codec import LETTER_HEADER, Encoder
from schemas.event import REQUEST_FIELDS, Catalogue, Event

_ROWS_COPIES: Final = 2  # of a dry run: each row's text, and the answer that they stand in
_SERVICE: Final = f"headrace-ingest/{version('headrace')}".encode()
_LETTER_BYTES_MAX: Final = 256 * 1024  # of an event that was too large, the beginning


class Prepared(msgspec.Struct, frozen=True):
    """What becomes of each event of a request, in its order, and the records to publish: events, then dead letters.

    An entry is the event's pingId, or why it is not taken. `kinds` are the events' clients and types.
    """

    entries: Sequence[str | InvalidEvent]
    records: Sequence[Record]
    events: int
    kinds: Sequence[Kind]


class Examined(msgspec.Struct, frozen=True):
    """What would become of a request's events, and what their sender may want to know of them."""

    result: ValidationResult
    warnings: Sequence[Warned]


class Collector:
    """Takes events, or only judges them. Threads share it.

    `is_compiled`: plain events are written by compiled code, where there is any.
    """

    def __init__(
        self,
        validator: Validator,
        encoder: Encoder,
        publisher: Publisher,
        clients: ClientCounters | None = None,
        *,
        is_compiled: bool = True,
    ) -> None:
        self._validator = validator
        self._advisor = Advisor(*validator.rules)
        self._encoder = encoder.sharing(REQUEST_FIELDS)
        self._plain = compile_writer(validator, self._encoder) if is_compiled else None
        self._publisher = publisher
        self._clients = clients or ClientCounters(ClientSeries())

    @property
    def catalogue(self) -> Catalogue:
        """What events are judged by."""
        return self._validator.rules[0]

    @property
    def is_compiled(self) -> bool:
        """Tell whether compiled code writes plain events."""
        return self._plain is not None

    def prepare(self, body: Body, origin: Sender, counter: RequestCounter, *, lenient: bool = False) -> Prepared:
        """Judge a request's events and encode what is to be published; takes processor time, and waits for nobody.

        Args:
            body: inflated; its share of memory grows by the records.
            origin: what else is known of the request.
            counter: of the request's events.
            lenient: take the good events of a request that has bad ones too; those become dead letters.

        Raises:
            Rejected: the client must repair something.
            Overloaded: no memory; the request may be sent again.
        """
        judging = self._validator.judge(body.text, origin, body.lease, is_lines=body.is_lines)
        counter.set_total(len(judging.raws), judging.expanded_bytes)
        body.lease.grow(bytes_of_records(len(judging.raws), judging.expanded_bytes))
        judged = self._judge(judging)
        refused = [] if _are_written(judged) else [entry for entry in judged if isinstance(entry, InvalidEvent)]
        events = len(judged) - len(refused)
        if refused and not (lenient and events):
            faults = tuple(fault for entry in refused for fault in entry.faults)
            raise Rejected(faults[0].code, faults[0].headline, faults)
        taken = judged if not refused else [entry for entry in judged if not isinstance(entry, InvalidEvent)]
        ping_ids, kinds, keys, values = zip(*taken, strict=True)
        if origin.client_id:
            _check_clients({client for client, _ in kinds}, origin)
        records = list(map(Record, keys, values, repeat(origin.record_headers)))
        if not refused:
            return Prepared(ping_ids, records, events, kinds)
        entries = [entry if isinstance(entry, InvalidEvent) else entry[0] for entry in judged]
        records.extend(_letters(body, entries, origin))
        return Prepared(entries, records, events, kinds)

    async def publish(self, prepared: Prepared, counter: RequestCounter) -> Durability:
        """Return where the records are safe; `counter` hears that the events are accepted.

        Raises:
            Rejected: a record is too large for the log; nothing was published.
            Unavailable: no durable place; the request may be sent again.
        """
        durability = await self._publisher.publish(prepared.records)
        counter.accept(prepared.events)
        self._clients.count(prepared.kinds)
        return durability

    def validate(self, body: Body, origin: Sender, counter: RequestCounter) -> Examined:
        """Judge a request's events as `prepare` would, and publish nothing.

        Raises:
            Rejected: as from `prepare`, but for bad events, which the result tells.
        """
        result, raws = self._validator.examine(body.text, origin, body.lease, is_lines=body.is_lines)
        counter.set_total(len(result.entries), result.expanded_bytes)
        _check_clients({event["clientId"] for event in result.events}, origin)
        taken_bytes = bytes_of_records(len(result.events), result.expanded_bytes)
        body.lease.grow(min(taken_bytes, _ROWS_COPIES * ROWS_BYTES_MAX))
        return Examined(result, self._advisor.warnings(raws, origin.received_at_ms))

    def is_ready(self) -> bool:
        """Tell whether events can be made durable now."""
        return self._publisher.is_ready()

    def _judge(self, judging: Judging) -> list[Written | InvalidEvent]:
        """Judge and encode event by event: the next one takes the memory of the one before, still in the caches."""
        raws, refused = judging.raws, judging.refused
        if refused:
            raws = [None if index in refused else raw for index, raw in enumerate(raws)]  # None is not plain
        plain = map(self._plain.writer(judging), raws) if self._plain else repeat(None)
        judged: list[Written | InvalidEvent] = []
        value_of: Callable[[Event], bytes] | None = None
        while True:
            judged.extend(iter(plain.__next__, None))  # up to the first that is not plain: a loop of Python costs more
            if len(judged) == len(raws):
                return judged
            entry = judging.entry(len(judged))
            if isinstance(entry, InvalidEvent):
                judged.append(entry)
                continue
            value_of = value_of or self._encoder.writer(judging.common.blank)
            kind = (entry["clientId"], entry["eventType"])
            judged.append((entry["pingId"], kind, key_of(entry).encode(), value_of(entry)))


def _are_written(judged: Sequence[Written | InvalidEvent]) -> bool:
    """Tell whether no event is refused."""
    return set(map(type, judged)) == {tuple}


def key_of(event: Event) -> str:
    """Return the record key: one person's events share a partition, and no client's do."""
    return event["anonId"] or event["userId"][:KEY_LENGTH_MAX] or event["eventId"]


def _check_clients(clients: set[str], origin: Sender) -> None:
    """Refuse a request whole when an event speaks for another client than its key: it is no slip of one event."""
    if origin.client_id and clients - {origin.client_id}:
        raise Rejected(ErrorCode.OTHER_CLIENT, "an event names another clientId than the key's")


def _letters(body: Body, entries: Sequence[str | InvalidEvent], origin: Sender) -> Iterator[Record]:
    """Yield the refused events of a request as dead letters: their bytes as sent, and why."""
    sent = sent_events(body.text, is_lines=body.is_lines)
    for index, entry in enumerate(entries):
        if isinstance(entry, InvalidEvent):
            yield _letter(sent[index], entry.faults[0], index, origin)


def _letter(sent: bytes, fault: Fault, index: int, origin: Sender) -> Record:
    key = origin.idempotency_key
    # A retry of the same bytes under the same Idempotency-Key gives the same letter.
    letter_id = uuid5(origin.client_id, key, index, sent) if key else uuid7(origin.received_at_ms)
    headers: tuple[tuple[str, bytes], ...] = (
        (f"{LETTER_HEADER}reason", fault.code.encode()),
        (f"{LETTER_HEADER}error", fault.message.encode()),
        (f"{LETTER_HEADER}service", _SERVICE),
        (f"{LETTER_HEADER}origin_at", str(origin.received_at_ms).encode()),
        (f"{LETTER_HEADER}request_id", origin.request_id.encode()),
    )
    if len(sent) > _LETTER_BYTES_MAX:
        headers = (*headers, (f"{LETTER_HEADER}cut_from_bytes", str(len(sent)).encode()))
    return Record(f"ingest/{letter_id}".encode(), sent[:_LETTER_BYTES_MAX], headers, dead=True)
