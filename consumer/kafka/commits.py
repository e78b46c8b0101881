"""Sends a member's commits to its group: one round at a time, a commit per partition, each answered once."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.delivery.ports import Answer, CommittedOffset, Partition
from consumer.kafka.errors import of_kafka
from consumer.kafka.messages import mark_of, topic_partition


class Commits:
    """The commits to send, those without an answer, and the answers.

    librdkafka continues a rebalance only while no commit is in progress. So the next commits wait until all of the
    last ones are answered; otherwise a busy member would delay its group.
    """

    def __init__(self) -> None:
        self._held: dict[Partition, CommittedOffset] = {}
        self._asked: dict[Partition, CommittedOffset] = {}
        self._stale: Counter[tuple[Partition, CommittedOffset]] = (
            Counter()
        )  # sent for partitions that were given up since
        self._answers: list[Answer] = []

    def hold(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Queue commits."""
        self._held |= marks

    def send(self, transmit: Callable[[TopicPartition], object], *, at_once: bool = False) -> None:
        """Send queued commits, unless others are in progress and these may wait; `transmit` may raise."""
        if self._asked and not at_once:
            return
        held, self._held = self._held, {}
        for partition, mark in held.items():
            self._asked[partition] = mark
            try:
                transmit(topic_partition(partition, mark))
            except KafkaException as error:
                self._answer(partition, mark, error.args[0])

    def answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Take librdkafka's report; ignore it for a partition that was given up meanwhile."""
        for item in partitions:
            partition, mark = Partition(item.topic, item.partition), mark_of(item)
            if self._stale[partition, mark]:
                self._stale -= Counter({(partition, mark): 1})  # drops zeros
            elif self._asked.get(partition) == mark:
                self._answer(partition, mark, item.error or error)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop the commits and answers of partitions that are given up."""
        gone = frozenset(partitions)
        self._answers = [answer for answer in self._answers if answer.partition not in gone]
        for partition in gone:
            self._held.pop(partition, None)
            if (mark := self._asked.pop(partition, None)) is not None:
                self._stale[partition, mark] += 1

    @property
    def has_answers(self) -> bool:
        """Whether there are answers since the last call of `take_answers`."""
        return bool(self._answers)

    def take_answers(self) -> list[Answer]:
        """Return the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def _answer(self, partition: Partition, mark: CommittedOffset, error: KafkaError | None) -> None:
        del self._asked[partition]
        self._answers.append(Answer(partition, mark, of_kafka(error.name(), error.str()) if error else None))
