"""One request's way: body -> validated events -> Avro -> durable. No HTTP in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from ingest.counters import Account
from ingest.errors import Fault, Rejected, Slug
from ingest.events.dry_run import ROWS_BYTES_MAX, Advisor, Warned
from ingest.events.envelope import BODY
from ingest.events.ids import uuid5, uuid7
from ingest.events.salvage import elements
from ingest.events.validator import Intake, Origin, Refusal, Verdict, key_of
from ingest.memory import Body, bytes_of_records
from ingest.publishing.ports import Durability, Publisher, Record
from schemas.codec import LETTER_HEADER, Encoder
from schemas.event import Event

_ROWS_COPIES: Final = 2  # of a dry run: each row's text, and the answer that they stand in
_SERVICE: Final = f"headrace-ingest/{version('headrace')}".encode()
_LETTER_BYTES_MAX: Final = 256 * 1024  # of an event that was too large, the beginning


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of each event of a request, in its order, and where the good ones are."""

    entries: Sequence[Event | Refusal]
    durability: Durability


@dataclass(frozen=True, slots=True)
class Examined:
    """What would become of a request's events, and what their sender may want to know of them."""

    verdict: Verdict
    warnings: Sequence[Warned]


class Collector:
    """Takes events, or only judges them. Threads share it."""

    def __init__(self, intake: Intake, encoder: Encoder, publisher: Publisher) -> None:
        self._intake = intake
        self._advisor = Advisor(*intake.rules)
        self._encoder = encoder
        self._publisher = publisher

    def collect(self, body: Body, origin: Origin, account: Account, *, lenient: bool = False) -> Collected:
        """Take a request's events; `account` hears what became of them.

        Args:
            body: the JSON, inflated; its share of memory grows by the records.
            origin: what else is known of the request.
            account: the request's in the books.
            lenient: take the good events of a request that has bad ones too; those become dead letters.

        Raises:
            Rejected: the client must repair something; nothing was published.
            Unavailable: no durable place, or no memory; the request may be sent again.
        """
        verdict = self._intake.read(body.text, origin, body.lease)
        account.judge(len(verdict.entries), verdict.expanded_bytes)
        events = _takable(verdict, origin, lenient=lenient)
        body.lease.grow(bytes_of_records(len(events), verdict.expanded_bytes))
        records = [self._record(event, origin) for event in events]
        if len(events) < len(verdict.entries):
            records.extend(_letters(body.text, verdict, origin))
        durability = self._publisher.publish(records)
        account.accept(len(events))
        return Collected(verdict.entries, durability)

    def validate(self, body: Body, origin: Origin, account: Account) -> Examined:
        """Judge a request's events as `collect` would, and publish nothing.

        Raises:
            Rejected: as from `collect`, but for bad events, which the result tells.
        """
        verdict, raws = self._intake.examine(body.text, origin, body.lease)
        account.judge(len(verdict.entries), verdict.expanded_bytes)
        _check_client(verdict.events, origin.client_id)
        taken_bytes = bytes_of_records(len(verdict.events), verdict.expanded_bytes)
        body.lease.grow(min(taken_bytes, _ROWS_COPIES * ROWS_BYTES_MAX))
        return Examined(verdict, self._advisor.warnings(raws, origin.received_at_ms))

    def is_ready(self) -> bool:
        """Tell whether events can be made durable now."""
        return self._publisher.is_ready()

    def _record(self, event: Event, origin: Origin) -> Record:
        return Record(key_of(event).encode(), self._encoder.encode(event), origin.record_headers)


def _takable(verdict: Verdict, origin: Origin, *, lenient: bool) -> list[Event]:
    events, faults = verdict.events, verdict.faults
    if faults and not (lenient and events):
        raise Rejected(faults[0].slug, faults[0].headline, faults)
    _check_client(events, origin.client_id)
    return events


def _check_client(events: list[Event], client_id: str) -> None:
    """Refuse a request whole when an event speaks for another client than its key: it is no slip of one event."""
    if client_id and any(event["clientId"] != client_id for event in events):
        raise Rejected(Slug.OTHER_CLIENT, "an event names another clientId than the key's")


def _letters(body: bytes, verdict: Verdict, origin: Origin) -> Iterator[Record]:
    """Yield the refused events of a request as dead letters: their bytes as sent, and why."""
    sent = elements(body, BODY)
    for index, entry in enumerate(verdict.entries):
        if isinstance(entry, Refusal):
            yield _letter(sent[index], entry.faults[0], index, origin)


def _letter(sent: bytes, fault: Fault, index: int, origin: Origin) -> Record:
    key = origin.idempotency_key
    # A retry of the same bytes under the same Idempotency-Key gives the same letter.
    letter_id = uuid5(origin.client_id, key, index, sent) if key else uuid7(origin.received_at_ms)
    headers: tuple[tuple[str, bytes], ...] = (
        (f"{LETTER_HEADER}reason", fault.slug.encode()),
        (f"{LETTER_HEADER}error", fault.message.encode()),
        (f"{LETTER_HEADER}service", _SERVICE),
        (f"{LETTER_HEADER}origin_at", str(origin.received_at_ms).encode()),
        (f"{LETTER_HEADER}request_id", origin.request_id.encode()),
    )
    if len(sent) > _LETTER_BYTES_MAX:
        headers = (*headers, (f"{LETTER_HEADER}cut_from_bytes", str(len(sent)).encode()))
    return Record(f"ingest/{letter_id}".encode(), sent[:_LETTER_BYTES_MAX], headers, dead=True)
