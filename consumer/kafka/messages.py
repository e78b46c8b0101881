"""The driver's messages and places in our words."""

from collections.abc import Sequence
from operator import methodcaller
from typing import Any, Final

from confluent_kafka import Message, TopicPartition

from consumer.delivery.intent import NO_EPOCH
from consumer.delivery.ports import CommittedOffset, Partition, Position, Record

_ask_headers: Final = methodcaller("headers")
UNREADABLE: Final = ("headers_unreadable", b"a name is not UTF-8")
"""Stands for the headers of a record that has one whose name the driver can't decode."""


def places_of(partitions: Sequence[TopicPartition]) -> list[Partition]:
    """Return partitions without their offsets."""
    return [Partition(item.topic, item.partition) for item in partitions]


def mark_of(item: TopicPartition) -> CommittedOffset:
    """Return a commit as a mark."""
    return CommittedOffset(item.offset, item.metadata or "", _known(item.leader_epoch))


def topic_partition(partition: Partition, at: CommittedOffset | Position) -> TopicPartition:
    """Return a mark, or a position, as the driver takes it."""
    metadata = at.metadata if isinstance(at, CommittedOffset) else ""
    return TopicPartition(*partition, at.offset, metadata=metadata, leader_epoch=at.leader_epoch)


def _known(leader_epoch: int | None) -> int:
    return NO_EPOCH if leader_epoch is None else leader_epoch


def place_of(message: Message) -> Partition:
    """Return where a message stands."""
    return Partition(message.topic() or "", message.partition() or 0)


def record_of(message: Message) -> Record:
    """Return a message as a record."""
    return Record(
        place_of(message),
        message.offset() or 0,
        message.timestamp()[1],
        message.key() or b"",
        message.value() or b"",
        _headers(message),
        _known(message.leader_epoch()),
    )


def _headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    """Return a record's headers; anybody may write to the topic, and a name of theirs must not stop a worker.

    They are asked for once, and in this roundabout way: confluent-kafka 2.16 returns tuples with nothing in them, which
    crash who looks, and an exception beside them, which the interpreter notices at once only when C makes the call.
    """
    try:
        headers: Any = _ask_headers(message) or ()
    except (SystemError, UnicodeDecodeError):
        return (UNREADABLE,)
    return tuple((name, value or b"") for name, value in headers)
