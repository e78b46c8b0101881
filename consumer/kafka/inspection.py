"""What an operator wants to know of a cluster beside its offsets: copies of topics, members, the brokers' clocks."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition, libversion
from confluent_kafka.admin import AdminClient

from consumer.errors import Transient
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.properties import PINNED, REPORTING

_CALL_S: Final = 10.0
_OFFSETS: Final = "__consumer_offsets"
_BROKERS_MAX: Final = 10
_NAMES_MAX: Final = 100_000
_MASK: Final = 0xFFFF_FFFF
_POSITIVE: Final = 0x7FFF_FFFF


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of a topic's partitions: the fewest of any partition, and the fewest that are in sync now."""

    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a broker's clock is ahead of this machine's, in seconds, within `within_s`."""

    ahead_s: float
    within_s: float


class Inspection:
    """Asks a cluster. Its calls block; one thread makes them."""

    def __init__(self, properties: Mapping[str, str | int], group: str) -> None:
        self._properties, self._group = properties, group
        self._admin = AdminConnection(properties)

    @property
    def library(self) -> str:
        """The version of librdkafka."""
        return str(libversion()[0])

    def copies(self, topic: str) -> Copies | None:
        """Return how often a topic is kept; None when it does not exist.

        Raises:
            Transient: no broker answers.
        """
        found = self._metadata().topics.get(topic)
        if found is None or not found.partitions:
            return None
        partitions = found.partitions.values()
        return Copies(min(len(one.replicas) for one in partitions), min(len(one.isrs) for one in partitions))

    def members(self) -> int:
        """Return how many members the group has.

        Raises:
            Transient: no broker answers.
        """
        client: AdminClient = self._admin.client
        try:
            answer = client.describe_consumer_groups([self._group], request_timeout=_CALL_S)[self._group]
            return len(answer.result(_CALL_S).members)
        except (KafkaException, TimeoutError) as error:
            raise Transient(f"the group can't be asked: {_reason(error)}") from error

    def clocks(self, topic: str) -> dict[int, Clock]:
        """Return the brokers' clocks, by their ids; {} where a broker keeps no topic of commits.

        A broker tells its time in one place only: in the records of the groups' commits. So this commits offset 0 for a
        group of a random name, reads that commit, and deletes the group, once for each broker.

        Raises:
            Transient: no broker answers, or this account may not read the topic of commits.
        """
        found = self._metadata().topics.get(_OFFSETS)
        leaders = {number: one.leader for number, one in found.partitions.items()} if found else {}
        clocks: dict[int, Clock] = {}
        for number, leader in leaders.items():
            if leader >= 0 and leader not in clocks and len(clocks) < _BROKERS_MAX:
                clocks[leader] = self._clock(topic, number, len(leaders))
        return clocks

    def _clock(self, topic: str, number: int, count: int) -> Clock:
        group = _name_in(f"{self._group}.preflight.", number, count)
        commits = TopicPartition(_OFFSETS, number)
        reader = Consumer(
            {**self._properties, **PINNED, "group.id": group, "isolation.level": "read_uncommitted"}, **REPORTING
        )
        try:
            _, end = reader.get_watermark_offsets(commits, timeout=_CALL_S)
            before_s = time.time()
            reader.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
            after_s = time.time()
            commits.offset = end
            reader.assign([commits])
            at_s = _time_of(reader, group.encode())
        except KafkaException as error:
            raise Transient(f"the brokers' clocks can't be read: {_reason(error)}") from error
        finally:
            reader.close()
            with suppress(KafkaException, TimeoutError):  # without permission to delete it, the group expires
                self._admin.client.delete_consumer_groups([group], request_timeout=_CALL_S)[group].result(_CALL_S)
        return Clock(at_s - (before_s + after_s) / 2, (after_s - before_s) / 2)

    def _metadata(self) -> Any:
        try:
            return self._admin.client.list_topics(timeout=_CALL_S)
        except KafkaException as error:
            raise Transient(f"no broker answers: {_reason(error)}") from error


def _time_of(reader: Consumer, group: bytes) -> float:
    """Return the time of the first commit of a group that is read, in Unix seconds."""
    deadline_s = time.monotonic() + _CALL_S
    while time.monotonic() < deadline_s:
        for message in reader.consume(100, 0.2):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                raise KafkaException(error)
            if error is None and group in (message.key() or b""):
                return message.timestamp()[1] / 1000
    raise Transient("the brokers' clocks can't be read: the commit did not come back")


def _name_in(prefix: str, number: int, count: int) -> str:
    """Return a random group whose commits are in this partition of the topic of commits.

    The broker takes Java's hash of the name, without its sign, modulo the number of partitions.
    """
    for _ in range(_NAMES_MAX):
        name = f"{prefix}{uuid4().hex[:12]}"
        if (java_hash(name) & _POSITIVE) % count == number:
            return name
    raise Transient(f"no group falls into partition {number} of {count}")


def java_hash(text: str) -> int:
    """Return Java's hash of an ASCII text, as an unsigned 32-bit number."""
    value = 0
    for byte in text.encode("ascii", "replace"):
        value = (31 * value + byte) & _MASK
    return value


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return str(cause.name()) if isinstance(cause, KafkaError) else str(error) or type(error).__name__
