"""Asks the group and the brokers about partitions when they are assigned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # its examples import it so

from consumer.delivery.ports import Assigned, Partition
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.messages import mark_of

_CALL_S: Final = 5.0


class Survey:
    """Asks over a member's own connections (`consumer`). Every call may raise KafkaException after some seconds."""

    def __init__(self, admin: AdminConnection, consumer: Consumer) -> None:
        self.admin = admin
        self.consumer = consumer

    def of(self, partitions: Sequence[Partition]) -> list[Assigned]:
        """Return what is known of partitions; the committed offset is read before the topic's ID.

        If the topic is recreated in between, a partition has an old commit and a new ID, which is noticed. In the other
        order it would have no commit and the old ID, and its tokens could equal those of old records.
        """
        if not partitions:
            return []
        marks = self.consumer.committed([TopicPartition(*partition) for partition in partitions], timeout=_CALL_S)
        ids = {topic: self.id_of(topic) for topic in {partition.topic for partition in partitions}}
        lows, ends = self._offsets(partitions, _earliest()), self._offsets(partitions, latest())
        return [_assigned(item, ids, lows, ends) for item in marks]

    def id_of(self, topic: str) -> str:
        """Return a topic's present ID. Any thread may call."""
        with self._answering() as admin:
            answer = admin.describe_topics(TopicCollection([topic]), request_timeout=_CALL_S)[topic]
            return str(answer.result().topic_id)

    def _offsets(self, partitions: Sequence[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(*partition): spec for partition in partitions}
        with self._answering() as admin:
            answers = admin.list_offsets(asked, request_timeout=_CALL_S)
            return {Partition(item.topic, item.partition): answer.result().offset for item, answer in answers.items()}

    @contextmanager
    def _answering(self) -> Iterator[AdminClient]:
        client = self.admin.client
        try:
            yield client
        except KafkaException:
            self.admin.renew(client)
            raise


def _assigned(
    item: TopicPartition, ids: dict[str, str], lows: dict[Partition, int], ends: dict[Partition, int]
) -> Assigned:
    if item.error is not None:
        raise KafkaException(item.error)
    partition = Partition(item.topic, item.partition)
    mark = mark_of(item) if item.offset >= 0 else None
    return Assigned(partition, ids[item.topic], mark, lows[partition], ends[partition])


def _earliest() -> OffsetSpec:
    spec: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # its authors left it so
    return spec


def latest() -> OffsetSpec:
    """Return what asks for a partition's end; where that is, the question's isolation level says."""
    spec: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # as above
    return spec
