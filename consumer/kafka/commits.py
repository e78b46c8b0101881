"""The marks that a member sends to its group: one round of them at a time, each on its own, each answered once."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.delivery.ports import Answer, CommittedOffset, Partition
from consumer.kafka.messages import mark_of, topic_partition
from consumer.outcomes import of_kafka


class Commits:
    """What is to be sent, what was sent and has no answer yet, and the answers that came.

    librdkafka goes on with a rebalance only in a moment in which no commit is under way. So the next marks wait until
    all of the last ones are answered; otherwise a busy member would hold up its group.
    """

    def __init__(self) -> None:
        self._held: dict[Partition, CommittedOffset] = {}
        self._asked: dict[Partition, CommittedOffset] = {}
        self._stale: Counter[tuple[Partition, CommittedOffset]] = (
            Counter()
        )  # asked for partitions that were given up since
        self._answers: list[Answer] = []

    def hold(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Take marks to be sent."""
        self._held |= marks

    def send(self, transmit: Callable[[TopicPartition], object], *, at_once: bool = False) -> None:
        """Send what is held, unless marks are under way and it may wait; `transmit` may raise KafkaException."""
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
        """Take librdkafka's report; one about a partition that was given up meanwhile says nothing any more."""
        for item in partitions:
            partition, mark = Partition(item.topic, item.partition), mark_of(item)
            if self._stale[partition, mark]:
                self._stale -= Counter({(partition, mark): 1})  # keeps no zeros
            elif self._asked.get(partition) == mark:
                self._answer(partition, mark, item.error or error)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Answer nothing more about partitions that are given up."""
        gone = frozenset(partitions)
        self._answers = [answer for answer in self._answers if answer.partition not in gone]
        for partition in gone:
            self._held.pop(partition, None)
            if (mark := self._asked.pop(partition, None)) is not None:
                self._stale[partition, mark] += 1

    def take_answers(self) -> list[Answer]:
        """Return the answers that came since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def _answer(self, partition: Partition, mark: CommittedOffset, error: KafkaError | None) -> None:
        del self._asked[partition]
        self._answers.append(Answer(partition, mark, of_kafka(error.name(), error.str()) if error else None))
