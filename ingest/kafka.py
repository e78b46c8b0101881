"""The broker, seen from the ingress: one producer per process, and requests that wait for their acknowledgements.

The producer is made after the fork: one made before it delivers nothing and says nothing
(confluent-kafka-python#1122). A thread polls it, for delivery reports come only from poll().
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ingest.errors import Unavailable
from ingest.ledger import Ledger, Outcome
from ingest.ports import Record

log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_RECORD_OVERHEAD_BYTES: Final = 512  # librdkafka's own bookkeeping, rounded up
_PINNED: Final = {
    "acks": "all",
    "enable.idempotence": True,
    # The Java client's hash, so that another producer puts the same person on the same partition.
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "queue.buffering.max.messages": 0,  # unlimited: the publisher's own bound in bytes holds first
    "queue.buffering.max.kbytes": 2_000_000,
}


class _Pending:
    """One request's records on their way: counts delivery reports, remembers the first failure."""

    __slots__ = ("_error", "_left", "done")

    def __init__(self, count: int) -> None:
        self._left = count
        self._error: KafkaError | None = None
        self.done = threading.Event()

    def report(self, error: KafkaError | None, _: Message) -> None:
        """Take one delivery report; only the polling thread calls it."""
        self._error = self._error or error
        self._left -= 1
        if self._left == 0:
            self.done.set()

    @property
    def error(self) -> KafkaError | None:
        return self._error


@dataclass(frozen=True, slots=True)
class Topics:
    """Where records go: events, and refused ones (`Record.dead`)."""

    events: str
    dead: str


class KafkaPublisher:
    """Publishes to two topics with acks=all from an idempotent producer."""

    def __init__(
        self, properties: Mapping[str, object], topics: Topics, deadline_s: float, queue_bytes_max: int, ledger: Ledger
    ) -> None:
        self._producer = Producer({**properties, **_PINNED, "error_cb": self._on_error})
        self._topics = topics
        self._ledger = ledger
        self._deadline_s = deadline_s
        self._room_bytes = queue_bytes_max
        self._lock = threading.Lock()
        self._answered = False
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._poller.start()

    def publish(self, records: Sequence[Record]) -> None:
        """Enqueue all records, then wait for all their acknowledgements under one deadline."""
        since_s = monotonic()
        deadline_s = since_s + self._deadline_s
        size = sum(len(record.key) + len(record.value) + _RECORD_OVERHEAD_BYTES for record in records)
        self._reserve(size, len(records))
        try:
            pending = self._enqueue(records)
            in_time = pending.done.wait(deadline_s - monotonic())
            self._ledger.meter.observe("acknowledgement_seconds", monotonic() - since_s)
            if not in_time:
                raise Unavailable("no_acknowledgement", f"the broker did not acknowledge within {self._deadline_s} s")
        finally:
            self._release(size, len(records))
        if pending.error is not None:
            raise Unavailable("not_delivered", f"the broker refused an event: {pending.error.name()}")
        self._ledger.count(Outcome.DELIVERED, sum(not record.dead for record in records))

    def _enqueue(self, records: Sequence[Record]) -> _Pending:
        pending = _Pending(len(records))
        try:
            for record in records:
                topic = self._topics.dead if record.dead else self._topics.events
                self._producer.produce(
                    topic, record.value, record.key, on_delivery=pending.report, headers=list(record.headers)
                )
        except (BufferError, KafkaException) as error:
            raise Unavailable("not_enqueued", f"the producer takes no more: {error}") from error
        return pending

    def _reserve(self, size: int, records: int) -> None:
        with self._lock:
            if size > self._room_bytes:
                raise Unavailable("queue_full", "too many events await acknowledgement")
            self._room_bytes -= size
        self._ledger.meter.move("producer_queue_records", records)
        self._ledger.meter.move("producer_queue_bytes", size)

    def _release(self, size: int, records: int) -> None:
        with self._lock:
            self._room_bytes += size
        self._ledger.meter.move("producer_queue_records", -records)
        self._ledger.meter.move("producer_queue_bytes", -size)

    def is_ready(self) -> bool:
        """Tell whether the topic's metadata can be had from a broker within a second."""
        try:
            topic = self._producer.list_topics(self._topics.events, timeout=1).topics[self._topics.events]
        except KafkaException:
            return False
        return topic.error is None and bool(topic.partitions)

    def close(self) -> None:
        """Wait for what is in flight, at most the deadline, and stop polling."""
        left = self._producer.flush(self._deadline_s)
        if left:
            log.warning("producer closed with undelivered messages", extra={"messages": left})
        self._stopping.set()
        self._poller.join(2 * _POLL_S + 1)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)

    def _on_error(self, error: KafkaError) -> None:
        log.warning("broker trouble", extra={"reason": error.name(), "detail": error.str()})


def read_properties(path: str) -> dict[str, str]:
    """Read librdkafka properties from a file of `key=value` lines; `#` starts a comment. "" is no file.

    Raises:
        ValueError: a line is no pair, or sets what this service pins.
    """
    if not path:
        return {}
    pairs: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        key, equals, value = line.strip().partition("=")
        if not key or key.startswith("#"):
            continue
        if not equals or key in _PINNED:
            raise ValueError(f"{path}, line {number}: {'set by headrace' if equals else 'not key=value'}: {key}")
        pairs[key.strip()] = value.strip()
    return pairs
