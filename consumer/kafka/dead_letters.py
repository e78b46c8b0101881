"""Publishes refused records to the dead-letter topic, with their bytes unchanged, and waits for acknowledgements."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition, Poison, Record
from consumer.errors import Denied, Halt, HaltCode, Transient
from consumer.kafka.properties import PRODUCER_PINNED, REPORTING
from consumer.kafka.refusals import is_refusal
from schemas.codec import LETTER_HEADER, FrameError, schema_id_of

SERVICE: Final = f"headrace-consumer/{version('headrace')}"
_DEFAULTS: Final = {
    "compression.type": "lz4",
    "message.max.bytes": 1_000_000_000,  # the topic's own limit counts
}
_FLUSH_S: Final = 35.0  # longer than message.timeout.ms

# After a time-out: a client may know no broker any more (see connectivity.py), and a new one is connected as soon.
_ENDING: Final = frozenset({KafkaError._FATAL, KafkaError._FENCED, KafkaError._MSG_TIMED_OUT})  # noqa: SLF001  (librdkafka's local codes have such names)
_AT_ONCE_MAX: Final = 10_000
_CUTS_MAX: Final = 50  # enough to halve a value of a gigabyte, and a key, to nothing
_CUT_HEADERS: Final = f"{LETTER_HEADER}cut_headers"
_CUT_VALUE: Final = f"{LETTER_HEADER}cut_from_bytes"
_CUT_KEY: Final = f"{LETTER_HEADER}cut_key_from_bytes"
_ORIGIN_KEY: Final = f"{LETTER_HEADER}origin_key"
_OF_ORIGIN: Final = (
    "topic",
    "topic_id",
    "partition",
    "offset",
    "leader_epoch",
    "reading",
    "at",
    "key",
)
_OUR_NAMES: Final = frozenset(
    {
        *(f"{LETTER_HEADER}origin_{name}" for name in _OF_ORIGIN),
        *(f"{LETTER_HEADER}{name}" for name in ("schema_id", "reason", "error", "service", "dead_at")),
        *(_CUT_HEADERS, _CUT_VALUE, _CUT_KEY),
    }
)
_OURS_BYTES_MAX: Final = 4096  # the error: a thousand characters
Header = tuple[str, str | bytes | None]
log = logging.getLogger(__name__)


class Outgoing(NamedTuple):
    """A record to publish."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, str | bytes | None]]


class LetterTooLarge(Halt):
    """A topic does not accept some records; it has accepted all others.

    Attributes:
        numbers: the indexes of the records that are too large.
    """

    def __init__(self, topic: str, numbers: Sequence[int]) -> None:
        super().__init__(f"a record is too large for {topic}: raise its max.message.bytes", HaltCode.REFUSED)
        self.numbers = numbers


class DeadLetterProducer:
    """An idempotent producer for one topic. One thread makes all calls: flush() runs its delivery reports."""

    def __init__(self, properties: Mapping[str, str | int], topic: str) -> None:
        self._properties = {**_DEFAULTS, **properties, **PRODUCER_PINNED}
        self._producer = Producer(self._properties, **REPORTING)
        self._topic = topic

    def publish(self, records: Sequence[Outgoing]) -> list[tuple[Partition, int]]:
        """Publish records; when all are acknowledged, return the partition and offset of each.

        Raises:
            Transient: some are not acknowledged; others may be.
            Halt: the topic accepts no record of that size, or none from this account.
        """
        stored: dict[int, tuple[Partition, int]] = {}
        failures: dict[int, KafkaError] = {}
        try:
            for number, record in enumerate(records, 1):
                self._produce(number - 1, record, stored, failures)
                if number % _AT_ONCE_MAX == 0:  # librdkafka's queue has room for ten times as many
                    self._producer.flush(_FLUSH_S)
            self._producer.flush(_FLUSH_S)
        except (BufferError, KafkaException) as error:
            if isinstance(error, KafkaException):
                self._renew_after([error.args[0]])
                self._check_rights([error.args[0]])
            raise Transient(f"records for {self._topic} can't be sent: {error}") from error
        self._renew_after(failures.values())
        self._check_rights(failures.values())
        too_large = [number for number, error in failures.items() if error.code() == KafkaError.MSG_SIZE_TOO_LARGE]
        if len(failures) > len(too_large) or len(stored) + len(failures) < len(records):
            others = [error.name() for number, error in failures.items() if number not in too_large]
            left = len(records) - len(stored) - len(failures)
            why = others[0] if others else f"{left} in flight, or reported without an offset"
            raise Transient(f"records for {self._topic} are not acknowledged: {why}")
        if too_large:
            raise LetterTooLarge(self._topic, too_large)
        return [stored[number] for number in range(len(records))]

    def _produce(
        self,
        number: int,
        record: Outgoing,
        stored: dict[int, tuple[Partition, int]],
        failures: dict[int, KafkaError],
    ) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures[number] = error
                return
            offset = message.offset()
            if offset is not None:  # else librdkafka only concludes that it is stored: see ingest/publishing/kafka.py
                stored[number] = (Partition(message.topic() or "", message.partition() or 0), offset)

        self._producer.produce(self._topic, record.value, record.key, headers=list(record.headers), on_delivery=report)

    def _renew_after(self, errors: Iterable[KafkaError]) -> None:
        """Make a new producer after an error that ends one, or that this one may have for long, and another not."""
        if any(error.fatal() or error.code() in _ENDING or is_refusal(error) for error in errors):
            log.warning("the dead-letter producer keeps failing: replacing it")
            self.close()
            self._producer = Producer(self._properties, **REPORTING)

    def _check_rights(self, errors: Iterable[KafkaError]) -> None:
        """Raise Denied when a right is missing: nobody is away, and a person has to give it."""
        for error in errors:
            if is_refusal(error):
                why = f"the account may not write to the topic {self._topic}; give it Write on that topic"
                raise Denied(f"{error.name()}: {why}")

    def close(self) -> None:
        """Drop records in flight: the successor sends them again under the same keys."""
        self._producer.purge()
        self._producer.flush(1)


class KafkaDeadLetters:
    """A `DeadLetters` that uses a DeadLetterProducer."""

    def __init__(self, properties: Mapping[str, str | int], topic: str) -> None:
        self._publisher = DeadLetterProducer(properties, topic)

    def send(self, records: Sequence[Record], poison: Sequence[Poison], origin: Origin) -> None:
        """Publish the poison among `records`; return when all of it is acknowledged."""
        by_offset = {record.offset: record for record in records}
        letters = [_letter(by_offset[item.offset], item, origin) for item in poison]
        try:
            self._publisher.publish(letters)
        except LetterTooLarge as error:  # each is too large, or only several in one request
            for number in error.numbers:
                self._send_alone(letters[number])

    def _send_alone(self, letter: Outgoing) -> None:
        """Publish one dead letter, cutting it until the topic accepts it."""
        for _ in range(_CUTS_MAX):
            try:
                self._publisher.publish([letter])
            except LetterTooLarge:
                letter = smaller(letter)
                log.warning(
                    "a dead letter is too large for its topic and was cut", extra={"letter": letter.key.decode()}
                )
            else:
                return
        self._publisher.publish([letter])

    def close(self) -> None:
        """Drop records in flight."""
        self._publisher.close()


def _letter(record: Record, poison: Poison, origin: Origin) -> Outgoing:
    return Outgoing(letter_key(record, origin), record.value, headers_of(record, poison, origin))


def smaller(letter: Outgoing) -> Outgoing:
    """Return a smaller dead letter: without the record's own headers, else half of the value, else half of the key.

    Its headers say what was cut, and from how many bytes. A record may have headers with our names: ours come first.
    """
    ours = list(_ours(letter.headers))
    if len(ours) < len(letter.headers):
        return letter._replace(headers=[*ours, (_CUT_HEADERS, str(len(letter.headers) - len(ours)).encode())])
    if letter.value:
        cut = _with_size(ours, _CUT_VALUE, len(letter.value))
        return letter._replace(value=letter.value[: len(letter.value) // 2], headers=cut)
    key = dict(ours).get(_ORIGIN_KEY) or b""
    ours = [(name, key[: len(key) // 2] if name == _ORIGIN_KEY else value) for name, value in ours]
    return letter._replace(headers=_with_size(ours, _CUT_KEY, len(key)))


def _ours(headers: Iterable[Header]) -> Iterator[Header]:
    """Yield the worker's headers, which come before the record's own, and those about cuts."""
    names = set(_OUR_NAMES)
    for name, value in headers:
        if name in names and (name == _ORIGIN_KEY or len(value or b"") <= _OURS_BYTES_MAX):
            names.remove(name)
            yield name, value


def _with_size(headers: Sequence[Header], name: str, size_bytes: int) -> list[Header]:
    """Return the headers with a part's original size; the first cut has already added it."""
    is_said = any(name == known for known, _ in headers)
    return [*headers] if is_said else [*headers, (name, str(size_bytes).encode())]


def letter_key(record: Record, origin: Origin) -> bytes:
    """Return a record's permanent name: topic/partition/offset, with the leader epoch in a second reading.

    Only a second reading can find another record under the same offset, when the log was cut.
    """
    name = f"{record.partition.topic}/{record.partition.number}/{record.offset}"
    return (f"{name}@{origin.leader_epoch}" if origin.reading else name).encode()


def headers_of(record: Record, poison: Poison, origin: Origin) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of a dead letter: origin and reason under our prefix, then the record's own."""
    try:
        schema_id = schema_id_of(record.value)
    except FrameError:
        schema_id = -1
    ours = {
        "origin_topic": record.partition.topic,
        "origin_topic_id": origin.topic_id,
        "origin_partition": str(record.partition.number),
        "origin_offset": str(record.offset),
        "origin_leader_epoch": str(origin.leader_epoch),
        "origin_reading": str(origin.reading),
        "origin_at": str(record.timestamp_ms),
        "schema_id": str(schema_id),
        "reason": str(poison.reason),
        "error": poison.error[:1000],
        "service": SERVICE,
        "dead_at": str(int(time.time() * 1000)),
    }
    named = [(LETTER_HEADER + name, text.encode()) for name, text in ours.items()]
    return [*named, (_ORIGIN_KEY, record.key), *record.headers]
