"""Asks the cluster about topics, offsets, ends and settings, from outside the group. For preflight, audit and lag."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, NamedTuple
from uuid import uuid4

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # as its examples import these
    AdminClient,
    ConfigResource,
    ResourceType,
)

from consumer.delivery.ports import CommittedOffset, Partition
from consumer.errors import ConsumerError, Misconfigured, Transient
from consumer.kafka.admin_connection import NO_ANSWER, AdminConnection
from consumer.kafka.errors import of_kafka
from consumer.kafka.messages import mark_of
from consumer.kafka.properties import PINNED, REPORTING, reading
from consumer.kafka.survey import latest
from schemas.transport.librdkafka import is_for_a_person, plain

_CALL_S: Final = 10.0
_READ_S: Final = 30.0
_FLOWING_S: Final = 1.0
_PROBE_METADATA: Final = "headrace"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that exists now."""

    topic_id: str
    partitions: int


class LogBounds(NamedTuple):
    """Where a partition's log begins and ends.

    Attributes:
        low: the oldest offset.
        end: the offset after the last readable record; an open transaction holds back later ones.
        high: the offset after the last record, readable or not.
    """

    low: int
    end: int
    high: int


class Cluster:
    """A client of a cluster. Its calls block; one thread makes them.

    Attributes:
        group: the group whose offsets it reads. It never joins the group.
        servers: the brokers' addresses, for command lines.
    """

    def __init__(self, properties: Mapping[str, str | int], group: str, admin: AdminConnection | None = None) -> None:
        self._properties = properties
        self._admin = admin or AdminConnection(properties)
        self.group = group
        self.servers = str(properties["bootstrap.servers"])

    def topic(self, name: str) -> Topic | None:
        """Return a topic, or None when it does not exist.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        client = self._admin.client
        try:
            answer = client.describe_topics(TopicCollection([name]), request_timeout=_CALL_S)[name].result(_CALL_S)
        except TimeoutError as error:
            raise self._away(client) from error
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self._away(client) if error.args[0].code() in NO_ANSWER else _translated(error) from error
        finally:
            self._admin.log_messages()
        return Topic(str(answer.topic_id), len(answer.partitions))

    def cluster_id(self) -> str:
        """Return the cluster's id.

        Raises:
            Transient: no broker answers.
        """
        client = self._admin.client
        try:
            return str(client.list_topics(timeout=_CALL_S).cluster_id)
        except KafkaException as error:
            raise self._away(client) from error

    def _away(self, client: AdminClient) -> ConsumerError:
        """Return the error that no broker answers, and why; the next call uses a new client."""
        trouble = self._admin.take_trouble()
        self._admin.renew(client)
        if trouble is not None and is_for_a_person(trouble):
            return Misconfigured(f"CONSUMER_KAFKA_CONFIG_FILE: {plain(trouble)}")
        return Transient(f"no broker answers within {_CALL_S:.0f} s" + (f": {plain(trouble)}" if trouble else ""))

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return where partitions end for their producers; one that no broker answers for is left out.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        asked = {TopicPartition(*partition): latest() for partition in partitions}
        try:
            answers = self._admin.client.list_offsets(asked, request_timeout=_CALL_S)
        except KafkaException as error:
            raise _translated(error) from error
        found: dict[Partition, int] = {}
        for item, answer in answers.items():
            with suppress(KafkaException, TimeoutError):
                found[Partition(item.topic, item.partition)] = int(answer.result(_CALL_S).offset)
        return found

    def broker_setting(self, name: str) -> str | None:
        """Return a broker's setting, or None when this client may not read it."""
        try:
            brokers = self._admin.client.list_topics(timeout=_CALL_S).brokers
            return self._setting(ConfigResource(ResourceType.BROKER, str(min(brokers))), name)
        except (KafkaException, ValueError):
            return None

    def topic_setting(self, topic: str, name: str) -> str | None:
        """Return a topic's setting, or None when this client may not read it."""
        return self._setting(ConfigResource(ResourceType.TOPIC, topic), name)

    def _setting(self, resource: ConfigResource, name: str) -> str | None:
        try:
            entries = self._admin.client.describe_configs([resource], request_timeout=_CALL_S)[resource].result(_CALL_S)
        except (KafkaException, TimeoutError):
            return None
        entry = entries.get(name)
        return str(entry.value) if entry is not None and entry.value is not None else None

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, CommittedOffset]:
        """Return the group's committed offsets; partitions without one are left out.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        reader = self._reader(self.group)
        try:
            found = reader.committed([TopicPartition(*partition) for partition in partitions], timeout=_CALL_S)
        except KafkaException as error:
            raise _translated(error) from error
        finally:
            reader.close()
        return {Partition(item.topic, item.partition): mark_of(item) for item in found if item.offset >= 0}

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, LogBounds]:
        """Return where each partition's log begins and ends.

        The end comes from a fetch: the embedded broker's ListOffsets returns a smaller one.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        reader = self._reader(f"{self.group}.lag")
        try:
            reader.assign([TopicPartition(*partition, OFFSET_END) for partition in partitions])
            ends = _ends(reader, partitions)
            return {partition: _bounds(reader, partition, end) for partition, end in ends.items()}
        except KafkaException as error:
            raise _translated(error) from error
        finally:
            reader.close()

    def time_at(self, partition: Partition, offset: int) -> int | None:
        """Return the timestamp (ms) of the first record from an offset on, committed or not; None when there is none.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        reader = self._reader(f"{self.group}.lag", "read_uncommitted")
        try:
            reader.assign([TopicPartition(*partition, offset)])
            for message in reader.consume(1, _CALL_S):
                if message.error() is None:
                    return message.timestamp()[1]
        except KafkaException as error:
            raise _translated(error) from error
        finally:
            reader.close()
        return None

    def gaps(self, partition: Partition, offsets: Sequence[int]) -> set[int]:
        """Return which of these offsets (ascending) are gaps: the log covers them, but has no record there.

        Offsets below the oldest one or beyond the end are no gaps: what was there is unknown.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        reader = self._reader(f"{self.group}.audit")
        try:
            found, reached = _read(reader, partition, offsets)
            low = _low(reader, partition)  # read afterwards: what was deleted meanwhile is no gap
        except KafkaException as error:
            raise _translated(error) from error
        finally:
            reader.close()
        return {offset for offset in offsets if low <= offset < reached} - found

    def keeps_metadata(self, topic: str) -> bool | None:
        """Tell whether the broker returns a commit's metadata; None when this client may not try.

        It commits for a random group, because workers that start together would delete each other's.
        """
        partition = TopicPartition(topic, 0, 0, metadata=_PROBE_METADATA)
        group = f"{self.group}.preflight.{uuid4().hex[:12]}"
        reader = self._reader(group)
        try:
            reader.commit(offsets=[partition], asynchronous=False)
            (back,) = reader.committed([TopicPartition(topic, 0)], timeout=_CALL_S)
        except KafkaException:
            return None
        finally:
            reader.close()
        with suppress(KafkaException, TimeoutError):  # without permission to delete it, the group expires
            self._admin.client.delete_consumer_groups([group], request_timeout=_CALL_S)[group].result(_CALL_S)
        return back.metadata == _PROBE_METADATA

    def _reader(self, group: str, isolation: str = "read_committed") -> Consumer:
        return Consumer(
            {
                "fetch.wait.max.ms": 50,
                **reading(self._properties),
                **PINNED,
                "group.id": group,
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
            },
            **REPORTING,
        )


def _read(reader: Consumer, partition: Partition, offsets: Sequence[int]) -> tuple[set[int], int]:
    """Return which of these offsets (ascending) have a record, and the offset up to which the log was read."""
    wanted, found = set(offsets), set[int]()
    reader.assign([TopicPartition(*partition, offsets[0])])
    deadline_s = monotonic() + _READ_S
    while monotonic() < deadline_s:
        for message in reader.consume(5000, 0.5):
            offset, error = message.offset() or 0, message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                _raise_unless_transient(error)
            elif error is not None or offset > offsets[-1]:
                return found, offset
            else:
                found |= {offset} & wanted
    raise Transient(f"{partition.topic}/{partition.number} can't be read at {offsets[0]}")


def _ends(reader: Consumer, partitions: Sequence[Partition]) -> dict[Partition, int]:
    """Return the readable end of partitions whose reading starts at their end.

    Where records keep arriving, it is after the last one that arrived within a second.
    """
    ends: dict[Partition, int] = {}
    settled = set[Partition]()
    deadline_s, flowing_s = monotonic() + _READ_S, 0.0
    while len(settled) < len(partitions):
        if len(ends) == len(partitions):
            flowing_s = flowing_s or monotonic() + _FLOWING_S
            if monotonic() > flowing_s:
                break
        elif monotonic() > deadline_s:
            raise Transient(f"no answer from {len(partitions) - len(ends)} of {len(partitions)} partitions")
        for message in reader.consume(1000, 0.2):
            partition, error = Partition(message.topic() or "", message.partition() or 0), message.error()
            if error is None:
                ends[partition] = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                ends[partition] = message.offset() or 0
                settled.add(partition)
            else:
                _raise_unless_transient(error)
    return ends


def _bounds(reader: Consumer, partition: Partition, end: int) -> LogBounds:
    _, high = reader.get_watermark_offsets(TopicPartition(*partition), cached=True)
    return LogBounds(_low(reader, partition), end, max(end, high))


def _low(reader: Consumer, partition: Partition) -> int:
    low, _ = reader.get_watermark_offsets(TopicPartition(*partition), timeout=_CALL_S)
    return int(low)


def _raise_unless_transient(error: KafkaError) -> None:
    """Raise an error that waiting can't resolve; librdkafka retries the others itself."""
    found = of_kafka(error.name(), error.str())
    if not isinstance(found, Transient):
        raise found


def _translated(error: KafkaException) -> ConsumerError:
    cause: KafkaError = error.args[0]
    return of_kafka(cause.name(), cause.str())
