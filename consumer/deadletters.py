"""The dead-letter topic: refused records with their bytes untouched, acknowledged before anything else happens."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import Halt, HaltCode, Transient
from consumer.ports import Partition, Poison, Record
from consumer.properties import PRODUCER_PINNED, REPORTING
from schemas.codec import LETTER_HEADER, FrameError, schema_id_of

SERVICE: Final = f"headrace-consumer/{version('headrace')}"
_DEFAULTS: Final = {
    "compression.type": "lz4",
    "message.max.bytes": 1_000_000_000,  # the topic's own limit counts
}
_FLUSH_S: Final = 35.0  # longer than message.timeout.ms


class Outgoing(NamedTuple):
    """A record to publish."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, str | bytes | None]]


class Publisher:
    """An idempotent producer for one topic. One thread makes all calls: a flush runs the reports of its own records."""

    def __init__(self, properties: Mapping[str, str | int], topic: str) -> None:
        self._producer = Producer({**_DEFAULTS, **properties, **PRODUCER_PINNED}, **REPORTING)
        self._topic = topic

    def publish(self, records: Sequence[Outgoing]) -> list[tuple[Partition, int]]:
        """Publish records and return where each of them stands now, when all are acknowledged.

        Raises:
            Transient: some are not acknowledged; others may be.
            Halt: the topic takes no record of that size.
        """
        places: dict[int, tuple[Partition, int]] = {}
        failures: list[KafkaError] = []
        try:
            for number, record in enumerate(records):
                self._produce(number, record, places, failures)
            self._producer.flush(_FLUSH_S)
        except (BufferError, KafkaException) as error:
            raise Transient(f"records for {self._topic} can't be sent: {error}") from error
        if any(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for error in failures):
            raise Halt(f"a record is too large for {self._topic}: raise its max.message.bytes", HaltCode.REFUSED)
        if failures or len(places) < len(records):
            why = failures[0].name() if failures else f"{len(records) - len(places)} in flight"
            raise Transient(f"records for {self._topic} are not acknowledged: {why}")
        return [places[number] for number in range(len(records))]

    def _produce(
        self, number: int, record: Outgoing, places: dict[int, tuple[Partition, int]], failures: list[KafkaError]
    ) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(error)
            else:
                places[number] = (Partition(message.topic() or "", message.partition() or 0), message.offset() or 0)

        self._producer.produce(self._topic, record.value, record.key, headers=list(record.headers), on_delivery=report)

    def close(self) -> None:
        """Forget what is in flight: who follows sends it again under the same key."""
        self._producer.purge()
        self._producer.flush(1)


class KafkaDeadLetters:
    """A `DeadLetters` over a publisher."""

    def __init__(self, properties: Mapping[str, str | int], topic: str) -> None:
        self._publisher = Publisher(properties, topic)

    def send(self, records: Sequence[Record], poison: Sequence[Poison], topic_id: str) -> None:
        """Publish the poison among `records`; return when all of it is acknowledged."""
        by_offset = {record.offset: record for record in records}
        pairs = [(by_offset[item.offset], item) for item in poison]
        self._publisher.publish(
            [Outgoing(letter_key(record), record.value, headers_of(record, item, topic_id)) for record, item in pairs]
        )

    def close(self) -> None:
        """Forget what is in flight."""
        self._publisher.close()


def letter_key(record: Record) -> bytes:
    """Return what names a record for ever: topic/partition/offset."""
    return f"{record.partition.topic}/{record.partition.number}/{record.offset}".encode()


def headers_of(record: Record, poison: Poison, topic_id: str) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of a dead letter: origin and reason under a prefix of ours, and the record's own."""
    try:
        schema_id = schema_id_of(record.value)
    except FrameError:
        schema_id = -1
    ours = {
        "origin_topic": record.partition.topic,
        "origin_topic_id": topic_id,
        "origin_partition": str(record.partition.number),
        "origin_offset": str(record.offset),
        "origin_at": str(record.timestamp_ms),
        "schema_id": str(schema_id),
        "reason": str(poison.reason),
        "error": poison.error[:1000],
        "service": SERVICE,
        "dead_at": str(int(time.time() * 1000)),
    }
    named = [(LETTER_HEADER + name, text.encode()) for name, text in ours.items()]
    return [*named, (f"{LETTER_HEADER}origin_key", record.key), *record.headers]
