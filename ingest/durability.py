"""Composes the parts that make events durable; starts them in order, and stops them without losing events."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from ingest.counters import EventCounters
from ingest.publishing.circuit_breaker import Breaker, State
from ingest.publishing.kafka import OWNED, PINNED, KafkaBroker, TopicNames
from ingest.publishing.ports import SpoolError
from ingest.publishing.publisher import DurablePublisher, Timeouts
from ingest.settings import PREFIX, Settings
from ingest.spool.backlog import Backlog
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.drainer import Drainer, DrainPace
from ingest.spool.writer import SpoolWriter
from schemas.transport.librdkafka import read_properties, verify

log = logging.getLogger(__name__)

_GREET_S: Final = 2.0  # a broker that is up answers within about 50 ms
_LOOK_S: Final = 1.0
FLUSH_S: Final = 2.0
"""At the end, records on their way get this long to be acknowledged."""


@contextmanager
def open_publisher(settings: Settings, counters: EventCounters) -> Iterator[DurablePublisher]:
    """Start the parts; leaving the block loses no event, whether the broker is up or not.

    1. Records on their way to the broker get FLUSH_S if the breaker is closed, then they fail.
    2. So every waiting request learns the status of its records, and spools those that were not acknowledged.
    3. The spool is closed, and left to the next process unless it is empty.
    """
    directory = open_directory(settings)
    breaker = Breaker()
    broker = open_broker(settings, counters)
    spool_writer = SpoolWriter(directory, settings.spool_deadline_s, counters.metrics)
    timeouts = Timeouts(settings.answer_deadline_s, settings.ack_slow_s)
    publisher = DurablePublisher(broker, spool_writer, breaker, timeouts, counters, monotonic)
    backlog = Backlog(directory, spool_writer.mark_corrupt, counters.metrics)
    drainer = Drainer(backlog, broker, pace_of(settings), publisher.record_outcome, counters.metrics)
    monitor = _BrokerMonitor(publisher)
    publisher.check_at_startup(_GREET_S)
    drainer.start()
    monitor.start()
    try:
        yield publisher
    finally:
        publisher.drain()
        drainer.ask_to_stop()
        monitor.stop()
        broker.close(FLUSH_S if breaker.state is State.CLOSED else 0)
        if not publisher.wait_idle(settings.spool_deadline_s + 1):
            log.error("closing the spool although requests still wait for it")
        drainer.stop(settings.spool_deadline_s + 1)
        spool_writer.close()


def open_directory(settings: Settings) -> SpoolDirectory:
    """Return the spool's directory, creating it if needed; a failure is logged, and the spool keeps trying."""
    directory = SpoolDirectory(
        Path(settings.spool_dir), SpoolBounds(settings.spool_bytes_max, settings.spool_free_bytes_min)
    )
    try:
        directory.make()
    except SpoolError as error:
        log.error("spool directory can't be used: retrying", extra={"reason": str(error)})  # noqa: TRY400  (a fact of the machine)
    return directory


def open_broker(settings: Settings, counters: EventCounters) -> KafkaBroker:
    """Return a started producer."""
    topics = TopicNames(settings.topic, settings.dead_letter_topic)
    return KafkaBroker(kafka_properties(settings), topics, settings.queue_bytes_max, counters.metrics)


def pace_of(settings: Settings) -> DrainPace:
    """Return the drainer's pace."""
    # One second more than the timeout, because librdkafka looks for timed-out messages once a second.
    return DrainPace(settings.drain_events_per_s, settings.answer_deadline_s + 1, settings.ack_slow_s)


def kafka_properties(settings: Settings) -> Mapping[str, object]:
    """Return the producer's librdkafka properties, without those that KafkaBroker pins.

    Raises:
        ValueError: the properties file can't be read, or librdkafka refuses a property.
    """
    allow = "" if settings.allow_plaintext_logins else f"{PREFIX}ALLOW_PLAINTEXT_LOGINS"
    try:
        properties = {
            **read_properties(settings.kafka_config_file, OWNED),
            "bootstrap.servers": settings.bootstrap_servers,
            "linger.ms": settings.linger_ms,
            "message.timeout.ms": settings.delivery_timeout_ms,
            "client.id": "headrace-ingest",
        }
        verify({**properties, **PINNED}, allow)
    except ValueError as error:
        raise ValueError(f"{PREFIX}KAFKA_CONFIG_FILE: {error}") from error
    return properties


class _BrokerMonitor:
    """Calls the publisher's `poll_health` once a second, on a thread."""

    def __init__(self, publisher: DurablePublisher) -> None:
        self._publisher = publisher
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-watch", daemon=True)

    def start(self) -> None:
        self._publisher.poll_health(_LOOK_S)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2 * _LOOK_S)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                self._publisher.poll_health(_LOOK_S)
            except Exception:  # without this thread the breaker would never close
                log.exception("defect in the broker monitor")
