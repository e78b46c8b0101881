"""Tracks where partitions end that the client can't know from fetches yet: it fetches nothing of paused ones."""

from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, Final

from confluent_kafka import IsolationLevel, TopicPartition

from consumer.delivery.ports import Assigned, Partition
from consumer.kafka.survey import Survey, latest

_EVERY_S: Final = 5.0
_CALL_S: Final = 5.0


class Ends:
    """Asks a broker from time to time without waiting. One thread makes all calls; a driver's thread answers."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._asked_s: dict[Partition, float] = {}
        self._told: dict[Partition, int] = {}

    def learn(self, assigned: Iterable[Assigned]) -> None:
        """Take what was told of ends at an assignment: no fetch has told of any yet."""
        self._told |= {item.partition: item.end for item in assigned if item.end is not None}

    def monitor(self, partition: Partition) -> None:
        """Start tracking a paused partition."""
        self._asked_s.setdefault(partition, monotonic())

    def forget(self, partition: Partition) -> None:
        """Stop tracking a partition."""
        self._asked_s.pop(partition, None)
        self._told.pop(partition, None)

    def of(self, partition: Partition) -> int:
        """Return where what can be read ends as far as told, -1 before that; ask again when it is time."""
        asked_s = self._asked_s.get(partition)
        if asked_s is not None and monotonic() - asked_s >= _EVERY_S:
            self._asked_s[partition] = monotonic()
            pending_commit = {TopicPartition(*partition): latest()}
            level = IsolationLevel.READ_COMMITTED
            answers = self._survey.admin.client.list_offsets(
                pending_commit, isolation_level=level, request_timeout=_CALL_S
            )
            for answer in answers.values():
                answer.add_done_callback(partial(self._take, partition))
        return self._told.get(partition, -1)

    def _take(self, partition: Partition, answer: Future[Any]) -> None:
        if answer.exception() is None and partition in self._asked_s:
            self._told[partition] = answer.result().offset
