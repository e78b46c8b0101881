"""The dead-letter topic: refused records with their bytes untouched, acknowledged before anything else happens."""

import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import Transient
from consumer.ports import Poison, Record
from schemas.codec import FrameError, schema_id_of

_SERVICE: Final = f"headrace-consumer/{version('headrace')}"
_DELIVERY_S: Final = 30
_PINNED: Final = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "message.timeout.ms": _DELIVERY_S * 1000,
    "message.max.bytes": 8_000_000,  # a letter is its record and a few headers more
}


class KafkaDeadLetters:
    """A `DeadLetters` over an idempotent producer; threads share it."""

    def __init__(self, properties: Mapping[str, str | int], topic: str) -> None:
        self._producer = Producer({**properties, **_PINNED})
        self._topic = topic
        self._lock = threading.Lock()  # one sender at a time: its flush runs its own reports

    def send(self, records: Sequence[Record], poison: Sequence[Poison]) -> None:
        """Publish the poison among `records`; return when all of it is acknowledged."""
        by_offset = {record.offset: record for record in records}
        with self._lock:
            self._send([(by_offset[item.offset], item) for item in poison])

    def _send(self, letters: Sequence[tuple[Record, Poison]]) -> None:
        left = len(letters)
        failure: KafkaError | None = None

        def report(error: KafkaError | None, _: Message) -> None:
            nonlocal left, failure
            left -= 1
            failure = failure or error

        try:
            for record, poison in letters:
                headers = headers_of(record, poison)
                self._producer.produce(
                    self._topic, record.value, letter_key(record), headers=headers, on_delivery=report
                )
            self._producer.flush(_DELIVERY_S + 5)
        except (BufferError, KafkaException) as error:
            raise Transient(f"dead letters can't be sent: {error}") from error
        if left or failure:
            raise Transient(f"dead letters are not acknowledged: {failure.name() if failure else f'{left} in flight'}")

    def close(self) -> None:
        """Forget what is in flight: who follows sends it again under the same key."""
        self._producer.purge()
        self._producer.flush(1)


def letter_key(record: Record) -> bytes:
    """Return what names a record for ever: topic/partition/offset."""
    return f"{record.partition.topic}/{record.partition.number}/{record.offset}".encode()


def headers_of(record: Record, poison: Poison) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of a dead letter: origin, reason, and the record's own headers behind them."""
    try:
        schema_id = schema_id_of(record.value)
    except FrameError:
        schema_id = -1
    ours = {
        "origin_topic": record.partition.topic,
        "origin_partition": str(record.partition.number),
        "origin_offset": str(record.offset),
        "origin_at": str(record.timestamp_ms),
        "schema_id": str(schema_id),
        "reason": str(poison.reason),
        "error": poison.error[:1000],
        "service": _SERVICE,
        "dead_at": str(int(time.time() * 1000)),
    }
    return [*((name, text.encode()) for name, text in ours.items()), ("origin_key", record.key), *record.headers]
