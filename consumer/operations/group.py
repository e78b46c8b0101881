"""Kafka access of the commands that change a stopped group: its members, the log's records, new commits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its examples import it so

from consumer.delivery.ports import CommittedOffset, Partition
from consumer.errors import Fatal, Fenced, Transient
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.errors import of_kafka
from consumer.kafka.messages import topic_partition
from consumer.kafka.properties import PINNED, REPORTING
from consumer.operations.divergence import Found, RecordAt

_CALL_S: Final = 10.0
_READ_S: Final = 30.0
_Answer = TypeVar("_Answer")
_SMALL: Final = {"fetch.message.max.bytes": 65_536, "fetch.wait.max.ms": 50, "queued.max.messages.kbytes": 1024}


class StoppedGroup:
    """A client that never joins the group. Its calls block; one thread makes them."""

    def __init__(self, properties: Mapping[str, str | int], group_id: str, admin: AdminConnection) -> None:
        self._properties = properties
        self._group_id = group_id
        self._admin = admin

    def check_stopped(self) -> None:
        """Return if the group has no members: they would overwrite a command's commits.

        Raises:
            Transient: no broker answers.
            Fatal: workers still run.
        """
        answer = self._admin.client.describe_consumer_groups([self._group_id], request_timeout=_CALL_S)[self._group_id]
        members = len(_answer(answer.result).members)
        if members:
            raise Fatal(f"{members} workers of the group {self._group_id} still run: stop them all first")

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return each partition's oldest offset and its end, from its leader.

        Raises:
            Transient, Fatal: as the packages' errors.py say.
        """
        lows = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # its authors left it so
        ends = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # as above
        return {partition: (lows[partition], ends[partition]) for partition in partitions}

    def offsets_at(self, partitions: Sequence[Partition], at_ms: int) -> dict[Partition, int]:
        """Return each partition's first offset with this Kafka timestamp or a later one, -1 when there is none.

        Raises:
            Transient, Fatal: as the packages' errors.py say.
        """
        return self._offsets(partitions, OffsetSpec.for_timestamp(at_ms))

    @contextmanager
    def reading(self, partition: Partition) -> Iterator[RecordAt]:
        """Yield a function that finds records of one partition; each call costs a fetch.

        Raises:
            Transient, Fatal: as the packages' errors.py say, also within the block.
        """
        pinned = {**self._properties, **_SMALL, **PINNED, "auto.offset.reset": "earliest"}
        reader = Consumer({**pinned, "group.id": f"{self._group_id}.lag"}, **REPORTING)
        try:
            yield lambda offset: _first(reader, partition, offset)
        finally:
            reader.close()

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Commit offsets for the group.

        Raises:
            Transient, Fatal: as the packages' errors.py say; also when a worker has joined the group meanwhile.
        """
        writer = Consumer({**self._properties, **PINNED, "group.id": self._group_id}, **REPORTING)
        try:
            offsets = [topic_partition(partition, mark) for partition, mark in marks.items()]
            told = _answer(lambda: writer.commit(offsets=offsets, asynchronous=False))
            for item in told or ():
                if item.error is not None:
                    raise of_kafka(item.error.name(), item.error.str())
        except Fenced as error:
            raise Fatal(
                f"a worker of the group {self._group_id} is running again: stop it, and run this command again"
            ) from error
        finally:
            writer.close()

    def _offsets(self, partitions: Sequence[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(*partition): spec for partition in partitions}
        client = self._admin.client
        answers = client.list_offsets(asked, request_timeout=_CALL_S) if asked else {}
        try:
            return {
                Partition(item.topic, item.partition): _answer(answer.result).offset for item, answer in answers.items()
            }
        except Transient:
            self._admin.renew(client)  # librdkafka 2.16 goes on asking under the epoch of a former leader
            raise


def _answer(call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except KafkaException as error:
        raise of_kafka(error.args[0].name(), error.args[0].str()) from error


def _first(reader: Consumer, partition: Partition, offset: int) -> Found | None:
    """Return the first record at an offset or after it."""
    reader.assign([TopicPartition(*partition, offset)])
    deadline_s = monotonic() + _READ_S
    while monotonic() < deadline_s:
        for message in reader.consume(1, 0.5):
            error = message.error()
            if error is None:
                found = Found(message.offset() or 0, -1 if (epoch := message.leader_epoch()) is None else epoch)
                return (
                    found if found.offset >= offset else None
                )  # that offset does not exist, and the consumer restarted elsewhere
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                return None
            if not isinstance(found_error := of_kafka(error.name(), error.str()), Transient):
                raise found_error
    raise Transient(f"{partition.topic}/{partition.number} can't be read at {offset}")
