"""Sends records to Kafka: one producer per process, and the delivery status of each record.

The producer is made after the fork: one made before it silently delivers nothing (confluent-kafka-python#1122).
Delivery reports come only from poll(). While requests wait, their event loop polls; else, or when the loop is late, a
thread does.

poll() raises fatal errors (an idempotent producer whose sequence broke, or without write permission). Such a producer
accepts nothing more, and the thread replaces it. It also replaces one on request: a producer can fail for ever without
a fatal error while the broker accepts records from others (a broker that fenced it while it was frozen). And it
replaces one that reaches no broker although a new one does (ingest/publishing/connectivity.py).

A report of success is believed when it names the record's offset. Without one librdkafka only concludes that the record
was stored, because a later one of its partition was (in its source: rd_kafka_dr_implicit_ack). That is wrong where the
broker knows nothing of the producer yet: of two requests in flight it may refuse the first ("not the leader") and store
the second, since it asks for no gapless sequence then.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, length_hint
from time import monotonic
from typing import Final

from confluent_kafka import KafkaException, Producer, libversion

from ingest.errors import ErrorCode, Rejected
from ingest.ports import Metrics
from ingest.publishing.connectivity import Connectivity
from ingest.publishing.delivery import Delivery
from ingest.publishing.ports import DeliveryStatus, Record, is_dead
from schemas.transport.librdkafka import SET_BY_US, reporting

log = logging.getLogger(__name__)

LIBRARY_VERSION: Final = str(libversion()[0])
"""Of librdkafka."""
_POLL_S: Final = 0.1
_LOOP_LATE_S: Final = 0.05  # a loop that has not polled for so long does not poll; it does every millisecond
_ANY_PARTITION: Final = -1  # the partitioner decides
_TELL_S: Final = 60.0
_RENEW_S: Final = 1.0  # a producer without write permission fails at once: replace it no more often than this
_PURGE_S: Final = 1.0  # reports of purged records come at once; measured: below 10 ms
_RECORD_OVERHEAD_BYTES: Final = 512  # librdkafka's bookkeeping, rounded up
_MESSAGE_BYTES_MAX: Final = 1_000_000  # librdkafka's default for message.max.bytes
PINNED: Final[Mapping[str, str | int | bool]] = {
    "acks": "all",
    "enable.idempotence": True,
    # The Java client's hash, so that other producers put the same person on the same partition.
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "queue.buffering.max.messages": 0,  # unlimited: our bound in bytes applies first
    "queue.buffering.max.kbytes": 2_000_000,
}
OWNED: Final[Mapping[str, str]] = {
    **dict.fromkeys((*PINNED, "client.id", "transactional.id"), SET_BY_US),
    "bootstrap.servers": "is the setting INGEST_BOOTSTRAP_SERVERS",
    "linger.ms": "is the setting INGEST_LINGER_MS",
    "message.timeout.ms": "is the setting INGEST_DELIVERY_TIMEOUT_MS",
}
"""Properties that the operator's file may not set, and why."""
_DEFAULTS: Final = {
    "reconnect.backoff.max.ms": 2000,  # bounds the delay in noticing that a broker is back; the default is 10 s
}
_key_of: Final[Callable[[Record], bytes]] = attrgetter("key")
_value_of: Final[Callable[[Record], bytes]] = attrgetter("value")
_headers_of: Final[Callable[[Record], object]] = attrgetter("headers")
_run_through: Final = deque[None](maxlen=0).extend  # an iterator, keeping nothing


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The topics of events and of refused events."""

    events: str
    dead: str


class KafkaBroker:
    """The `Broker` of a process: acks=all from an idempotent producer. `close` is the last call."""

    def __init__(
        self, properties: Mapping[str, object], topics: TopicNames, queue_bytes_max: int, metrics: Metrics
    ) -> None:
        self._properties = {**_DEFAULTS, **properties, **PINNED, **reporting("INGEST_KAFKA_CONFIG_FILE")}
        self._record_bytes_max = int(str(properties.get("message.max.bytes", _MESSAGE_BYTES_MAX)))
        self._topics = topics
        self._room_bytes = queue_bytes_max
        self._metrics = metrics
        self._lock = threading.Lock()
        self._on_way: dict[Delivery, int] = {}
        metrics.watch("producer_queue_records", self._waiting_records)
        metrics.watch("producer_queue_bytes", lambda: queue_bytes_max - self._room_bytes)
        self._producer = Producer(self._properties)
        self._renewed_at_s = self._told_at_s = float("-inf")
        self._is_renewal_asked = False
        self._connectivity = Connectivity(topics.events, lambda: Producer(self._properties), self.renew)
        self._loop_polled_s = float("-inf")
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._poller.start()

    def check(self, records: Sequence[Record]) -> None:
        """Check the sizes; an event within its setting fits unless `message.max.bytes` was lowered."""
        most = self._record_bytes_max - _RECORD_OVERHEAD_BYTES
        if max(map(len, map(_key_of, records)), default=0) + max(map(len, map(_value_of, records)), default=0) <= most:
            return
        for record in records:
            if len(record.key) + len(record.value) > most:
                message = f"an event has {len(record.value)} bytes in Avro, at most {self._record_bytes_max} fit"
                raise Rejected(ErrorCode.TOO_LARGE, message)

    def send(self, records: Sequence[Record]) -> Delivery:
        """Enqueue records in order; stop at the first that the producer does not accept."""
        delivery = Delivery(len(records), self._release, self._poll_in_loop, self._note_missing_offset)
        if self._stopping.is_set():
            delivery.give_up()
            return delivery
        if not self._reserve(delivery, records):
            delivery.give_up(DeliveryStatus.NO_ROOM)
            return delivery
        self._produce(records, delivery)
        return delivery

    def _produce(self, records: Sequence[Record], delivery: Delivery) -> None:
        produce, topics = delivery.producer.produce, self._topics
        indexes = iter(range(len(records)))
        values, keys, reports = map(_value_of, records), map(_key_of, records), delivery.takers(indexes)
        try:
            if any(map(_headers_of, records)) or any(map(is_dead, records)):
                for record, value, key, report in zip(records, values, keys, reports, strict=True):
                    topic = topics.dead if record.dead else topics.events
                    # A failed report lacks the headers: the sender keeps the records.
                    produce(topic, value, key, on_delivery=report, headers=list(record.headers))
            else:  # nearly always: a loop of Python, and parameters by name, cost more
                _run_through(map(produce, repeat(topics.events), values, keys, repeat(_ANY_PARTITION), reports))
        except (BufferError, KafkaException) as error:
            log.warning("producer accepts no more records", extra={"reason": str(error)})
            delivery.give_up(first=len(records) - length_hint(indexes) - 1)

    def _reserve(self, delivery: Delivery, records: Sequence[Record]) -> bool:
        """Reserve room in the present producer's queue until the last report; False when there is none.

        A producer is replaced under the same lock before it is retired, so no delivery is missed.
        """
        size = sum(map(len, map(_key_of, records))) + sum(map(len, map(_value_of, records)))
        size += _RECORD_OVERHEAD_BYTES * len(records)
        with self._lock:
            if size > self._room_bytes:
                return False
            self._room_bytes -= size
            self._on_way[delivery] = size
            delivery.producer = self._producer
        return True

    def _release(self, delivery: Delivery) -> None:
        with self._lock:
            self._room_bytes += self._on_way.pop(delivery, 0)

    def _note_missing_offset(self) -> None:
        """Count a report of success without an offset; log one at most once in _TELL_S."""
        self._metrics.count("producer_missing_offsets_total")
        now_s = monotonic()
        if now_s - self._told_at_s > _TELL_S:
            self._told_at_s = now_s
            log.warning("a record was reported as stored without its offset: it is sent again")

    def _waiting_records(self) -> int:
        with self._lock:
            return sum(delivery.count for delivery in self._on_way)

    def purge(self) -> None:
        """Make librdkafka drop what it has queued and sent; the reports come at once, through the poller."""
        self._producer.purge()

    def renew(self) -> None:
        """Have the poller replace the producer; records on their way in the present one fail."""
        self._is_renewal_asked = True

    def answers(self, timeout_s: float) -> bool:
        """Ask for the topic's metadata; see to it that a producer that alone has no connection is replaced."""
        return self._connectivity.has(self._producer, timeout_s)

    def close(self, flush_s: float) -> None:
        """Wait this long for records on their way, fail the rest, and stop; every sender gets its statuses."""
        self._stopping.set()
        self._poller.join(2 * _POLL_S + _RENEW_S)
        with suppress(Exception):  # a failed producer may raise anything; it is retired all the same
            self._producer.flush(flush_s)
        self._retire(self._producer)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            if monotonic() - self._loop_polled_s < _LOOP_LATE_S:
                self._stopping.wait(_LOOP_LATE_S)
            else:
                self._take_reports(_POLL_S)
            if self._is_renewal_asked:
                self._renew()

    def _poll_in_loop(self) -> None:
        if not self._is_renewal_asked:  # it raises until the thread has replaced it
            self._loop_polled_s = monotonic()
            self._take_reports(0)

    def _take_reports(self, wait_s: float) -> None:
        try:
            self._producer.poll(wait_s)
        except Exception as error:  # whatever it is: without polls no request gets its statuses
            log.exception("producer failed, making a new one", extra={"reason": str(error)})
            self._is_renewal_asked = True

    def _renew(self) -> None:
        old = self._producer
        if not self._stopping.wait(max(self._renewed_at_s + _RENEW_S - monotonic(), 0)):
            self._renewed_at_s = monotonic()
            try:
                new = Producer(self._properties)
            except KafkaException as error:  # as in Connectivity; this thread has to go on
                log.error("no new producer can be made: trying again", extra={"reason": str(error)})  # noqa: TRY400  (a fact of the machine)
                return
            self._metrics.count("producer_renewals_total")
            with self._lock:
                self._producer = new
        self._is_renewal_asked = False
        self._retire(old)

    def _retire(self, producer: Producer) -> None:
        """Get a producer's last reports; fail the deliveries that still wait for one."""
        with suppress(Exception):  # a failed producer may raise again
            producer.purge()
            producer.flush(_PURGE_S)
        with self._lock:
            left = [delivery for delivery in self._on_way if delivery.producer is producer]
        for delivery in left:
            delivery.give_up()
