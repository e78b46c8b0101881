"""Translates the driver's messages and partitions to ours."""

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import methodcaller
from typing import Any, Final

from confluent_kafka import KafkaError, Message, TopicPartition

from consumer.delivery.intent import NO_EPOCH
from consumer.delivery.ports import CommittedOffset, Cut, Partition, Position, Record

try:
    from consumer.kafka import record_reader
except ImportError:  # there was no compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True

_ask_headers: Final = methodcaller("headers")
_CUT: Final = KafkaError(KafkaError._LOG_TRUNCATION).str()  # noqa: SLF001  (librdkafka's local codes have such names)
_END: Final = re.compile(r"broker end offset is (\d+) ")
_UNAVAILABLE: Final = re.compile(r"(\S+) \[(\d+)\]: desired partition is no longer available")
_WHOLE_TOPIC: Final = -1  # librdkafka's number in an error that is about no single partition
UNREADABLE: Final = ("headers_unreadable", b"a name is not UTF-8")
"""Replaces a record's headers when the driver can't decode a header's name."""


def places_of(partitions: Sequence[TopicPartition]) -> list[Partition]:
    """Return partitions without their offsets."""
    return [Partition(item.topic, item.partition) for item in partitions]


def mark_of(item: TopicPartition) -> CommittedOffset:
    """Return the driver's commit as a CommittedOffset."""
    return CommittedOffset(item.offset, item.metadata or "", _known(item.leader_epoch))


def topic_partition(partition: Partition, at: CommittedOffset | Position) -> TopicPartition:
    """Return a commit or a position in the driver's form."""
    metadata = at.metadata if isinstance(at, CommittedOffset) else ""
    return TopicPartition(*partition, at.offset, metadata=metadata, leader_epoch=at.leader_epoch)


def _known(leader_epoch: int | None) -> int:
    return NO_EPOCH if leader_epoch is None else leader_epoch


@lru_cache(maxsize=10_000)
def _partition(topic: str | None, number: int | None) -> Partition:
    return Partition(topic or "", _WHOLE_TOPIC if number is None else number)


def place_of(message: Message) -> Partition:
    """Return a message's partition; the same object each time, so that comparing records' partitions costs little.

    Its number is -1 for an error about a whole topic, and its topic "" for one about none.
    """
    return _partition(message.topic(), message.partition())


def read_records(messages: list[Message], start: int, records: list[Record]) -> int:
    """Append a record of each message until one is an error; return that one's index, or the list's length."""
    if IS_COMPILED:
        return record_reader.read(messages, start, records, _partition, _ask_headers, _headers_of, (UNREADABLE,))
    return read_in_python(messages, start, records)


def read_in_python(messages: list[Message], start: int, records: list[Record]) -> int:
    """Do what `read_records` does."""
    for at in range(start, len(messages)):
        if messages[at].error() is not None:
            return at
        records.append(record_of(messages[at]))
    return len(messages)


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
    """Return a record's headers. Anybody may write to the topic, so a bad header name must not stop a worker.

    They are read once, and in this indirect way: for a bad name confluent-kafka 2.16 returns empty tuples, which crash
    on access, and sets an exception, which the interpreter notices at once only when C makes the call.
    """
    try:
        headers: Any = _ask_headers(message) or ()
    except (SystemError, UnicodeDecodeError):
        return (UNREADABLE,)
    return _headers_of(headers) if headers else ()


def _headers_of(told: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value or b"") for name, value in told)


def unavailable(error: KafkaError) -> Partition | None:
    """Return the partition that librdkafka says it can no longer read; None when the error says something else."""
    found = _UNAVAILABLE.match(error.str())
    return Partition(found[1], int(found[2])) if found else None


def cut_of(error: KafkaError) -> Cut:
    """Return why a partition can't be read on: librdkafka has one code for both, and the reason in its text."""
    if _CUT not in error.str():
        return Cut(is_other=False)
    found = _END.search(error.str())
    return Cut(is_other=True, end=int(found[1]) if found else None)
