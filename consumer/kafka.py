"""The log, seen from the workers: one member of a group, whose every call is made by the thread that polls."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.errors import ConsumerError, Fatal, Transient
from consumer.outcomes import of_kafka
from consumer.ports import Assigned, Listener, Mark, Partition, Record

log = logging.getLogger(__name__)

_CALL_S: Final = 10.0
_CONNECTION: Final = ("bootstrap", "client.id", "security", "sasl", "ssl")
_RECORDS_MAX: Final = 5000
_PINNED: Final = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Where to start is decided at assignment; an offset out of range must not be skipped silently.
    "auto.offset.reset": "error",
}


class KafkaLog:
    """A `Log` over confluent-kafka."""

    def __init__(self, properties: Mapping[str, str | int], topics: Sequence[str]) -> None:
        admin: dict[str, str | int | float | bool] = {}
        admin.update((key, value) for key, value in properties.items() if key.startswith(_CONNECTION))
        self._admin = AdminClient(admin)
        self._consumer = Consumer({**properties, **_PINNED, "error_cb": _on_error})
        self._topics = list(topics)
        self._listener: Listener
        self._incremental = (
            properties.get("group.protocol") == "consumer"
            or properties.get("partition.assignment.strategy") == "cooperative-sticky"
        )

    def cluster_id(self) -> str:
        """Return the cluster's id.

        Raises:
            Transient: no broker answers.
        """
        try:
            return str(self._admin.list_topics(timeout=_CALL_S).cluster_id)
        except KafkaException as error:
            raise Transient(f"no broker answers: {error}") from error

    def listen(self, listener: Listener) -> None:
        """Join the group; `listener` hears of assignments during `poll` and `close`."""
        self._listener = listener
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, timeout_s: float) -> tuple[list[Record], dict[Partition, int]]:
        """Return what has come, waiting at most `timeout_s`."""
        records: list[Record] = []
        ends: dict[Partition, int] = {}
        for message in self._consumer.consume(_RECORDS_MAX, timeout_s):
            error = message.error()
            if error is None:
                records.append(_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (as above)
                ends[_partition(message)] = message.offset() or 0
            else:
                _check(error)
        return records, ends

    def commit(self, marks: Mapping[Partition, Mark]) -> dict[Partition, ConsumerError | None]:
        """Commit synchronously, all partitions in one request.

        Raises:
            Fatal: the group is not ours to commit, or the mark is too long for it.
        """
        offsets = [TopicPartition(*partition, mark.offset, metadata=mark.metadata) for partition, mark in marks.items()]
        try:
            answers = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            return dict.fromkeys(marks, _translate(error.args[0]))
        return {
            Partition(item.topic, item.partition): _translate(item.error) if item.error else None
            for item in answers or ()
        }

    def pause(self, partition: Partition) -> None:
        """Take no more records of a partition."""
        self._consumer.pause([TopicPartition(*partition)])

    def resume(self, partition: Partition) -> None:
        """Take records of a partition again."""
        self._consumer.resume([TopicPartition(*partition)])

    def end_of(self, partition: Partition) -> int | None:
        """Return the partition's end as the last fetch told it, without asking; None before the first."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        return high if high >= 0 else None

    def close(self) -> None:
        """Leave the group; the listener hears of the revocation first."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = self._listener.assigned(self._describe(partitions)) if partitions else {}
        placed = [TopicPartition(*partition, OFFSET_END if at is None else at) for partition, at in starts.items()]
        (consumer.incremental_assign if self._incremental else consumer.assign)(placed)
        halted = [item for item in placed if item.offset == OFFSET_END]
        if halted:
            consumer.pause(halted)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._listener.revoked([Partition(item.topic, item.partition) for item in partitions])
        self._unassign(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", extra={"partitions": len(partitions)})
        self._listener.lost([Partition(item.topic, item.partition) for item in partitions])
        self._unassign(consumer, partitions)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _describe(self, partitions: Sequence[TopicPartition]) -> list[Assigned]:
        """Return what the group and the broker know of partitions.

        Raises:
            Transient: a broker does not answer in time; the process starts anew.
        """
        try:
            topic_ids = self._topic_ids({item.topic for item in partitions})
            committed = self._consumer.committed(list(partitions), timeout=_CALL_S)
            return [self._assigned(item, topic_ids[item.topic]) for item in committed]
        except KafkaException as error:
            raise Transient(f"the group's offsets can't be read: {error}") from error

    def _assigned(self, item: TopicPartition, topic_id: str) -> Assigned:
        if item.error is not None:
            raise KafkaException(item.error)
        low, _ = self._consumer.get_watermark_offsets(item, timeout=_CALL_S)
        mark = Mark(item.offset, item.metadata or "") if item.offset >= 0 else None
        return Assigned(Partition(item.topic, item.partition), topic_id, mark, low)

    def _topic_ids(self, topics: set[str]) -> dict[str, str]:
        futures = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_CALL_S)
        return {topic: str(future.result().topic_id) for topic, future in futures.items()}


def _partition(message: Message) -> Partition:
    return Partition(message.topic() or "", message.partition() or 0)


def _record(message: Message) -> Record:
    headers: Any = message.headers() or ()
    return Record(
        _partition(message),
        message.offset() or 0,
        message.timestamp()[1],
        message.key() or b"",
        message.value() or b"",
        tuple((name, value or b"") for name, value in headers),
    )


def _check(error: KafkaError) -> None:
    """Log an error that the client gets over by itself; raise on one that it does not."""
    if error.fatal() or isinstance(of_kafka(error.name(), error.str()), Fatal):
        raise Fatal(f"{error.name()}: {error.str()}")
    log.warning("broker trouble", extra={"reason": error.name(), "detail": error.str()})


def _translate(error: KafkaError) -> ConsumerError:
    """Return what a refused commit means; raise when the worker must stop."""
    outcome = of_kafka(error.name(), error.str())
    if isinstance(outcome, Fatal):
        raise outcome
    return outcome


def _on_error(error: KafkaError) -> None:
    log.warning("broker trouble", extra={"reason": error.name(), "detail": error.str()})


def read_properties(path: str) -> dict[str, str]:
    """Read librdkafka properties from a file of `key=value` lines; `#` starts a comment. "" is no file.

    Raises:
        ValueError: a line is no pair, or sets what the worker pins.
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
