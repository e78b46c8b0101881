"""Records of events as the ingress would write them, some of them poison, and where the broker put each."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import count
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message

from consumer.errors import Reason
from tests.support.fixtures_consumer import AT_MS, encoded, encoded_loosely
from tests.support.kafka_clients import producer

Place = tuple[int, int]
"""Partition and offset."""
ANY_PARTITION: Final = -1
_APART: Final = 10_000_000
_MONTH_MS: Final = 31 * 24 * 3600 * 1000
_FLUSH_S: Final = 60.0
_TICK_S: Final = 0.1  # each tick is a request for the broker, and wakes the workers


class Feed:
    """Produces to one topic; every record is acknowledged by the time that `send` returns, or `running` ends.

    Successive events lie in two months, so that one insert spans two partitions of the table.

    Attributes:
        good: where the events are that must become rows.
        poison: where the others are, and what their dead letters must say.
    """

    def __init__(self, bootstrap_servers: str, topic: str, *, poison_every: int = 0, **settings: str | float) -> None:
        """Connect; every `poison_every`-th record is poison, of one kind after the other."""
        self.good: set[Place] = set()
        self.poison: dict[Place, Reason] = {}
        self._producer = producer(bootstrap_servers, **settings)
        self._topic = topic
        self._poison_every = poison_every
        self._partition = ANY_PARTITION
        self._number = 0
        self._beginnings = count(_APART, _APART)  # of feeds beside this one
        self._faults: list[KafkaError] = []

    def beside(self, *, poison_every: int = 0, partition: int = ANY_PARTITION) -> "Feed":
        """Return a feed of other records to the same topic, or to one partition, whose places count as this one's."""
        other = copy(self)
        vars(other).update(_poison_every=poison_every, _partition=partition, _number=next(self._beginnings))
        return other

    def send(self, records: int) -> None:
        """Produce records, as fast as it goes."""
        for _ in range(records):
            self._produce()
            self._producer.poll(0)
        self._finish()

    @contextmanager
    def running(self, per_second: int) -> Iterator[None]:
        """Produce at a steady rate, on a thread, until the block is left."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(per_second, stop), name="feed")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._finish()

    def _run(self, per_second: int, stop: threading.Event) -> None:
        while not stop.wait(_TICK_S):
            for _ in range(max(1, int(per_second * _TICK_S))):
                self._produce()
            self._producer.poll(0)

    def _finish(self) -> None:
        self._producer.flush(_FLUSH_S)
        if self._faults:
            raise KafkaException(self._faults[0])

    def _produce(self) -> None:
        self._number += 1
        number, reason = self._number, None
        if self._poison_every and number % self._poison_every == 0:
            value, reason = _poison(number, number // self._poison_every)
        else:
            value = encoded(number, receivedAt=AT_MS - _MONTH_MS * (number % 2))

        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._faults.append(error)
            elif reason is None:
                self.good.add(_place(message))
            else:
                self.poison[_place(message)] = reason

        self._producer.produce(self._topic, value, str(number), self._partition, on_delivery=report)


def _place(message: Message) -> Place:
    offset = message.offset()
    assert offset is not None, "librdkafka only concludes that the record is stored"
    return message.partition() or 0, offset


def _poison(number: int, kind: int) -> tuple[bytes, Reason]:
    """Return one of the kinds of poison, in turn."""
    match kind % 5:
        case 0:
            return b"\x01no frame", Reason.FRAME
        case 1:
            return b"\x00\x00\x00\x00\x4d" + encoded(number)[5:], Reason.UNKNOWN_SCHEMA
        case 2:
            return encoded(number)[:-7], Reason.BAD_AVRO
        case 3:
            return encoded(number, active=5000), Reason.BAD_VALUE
    return encoded_loosely(number, eventId="no id"), Reason.BAD_VALUE
