"""Opens assigned partitions: where each is read from, and its first seek, with another try when a broker is away."""

import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.delivery.ports import Listener, Partition, Position
from consumer.kafka.ends import Ends
from consumer.kafka.messages import topic_partition
from consumer.kafka.refusals import GROUP, Refusals
from consumer.kafka.survey import Survey

log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 2.0


class Starts:
    """Starts a member's partitions. The polling thread makes all calls."""

    def __init__(self, survey: Survey, ends: Ends, refusals: Refusals) -> None:
        self._survey = survey
        self._ends = ends
        self._refusals = refusals
        self.listener: Listener
        self._unopened: dict[Partition, float] = {}  # partitions to ask about again, with the time
        self._unstarted: dict[Partition, Position] = {}  # partitions that accepted no seek yet

    @property
    def is_waiting(self) -> bool:
        """Whether nobody could say yet where some partition begins."""
        return bool(self._unopened)

    def open(self, places: Sequence[Partition]) -> Mapping[Partition, Position | None]:
        """Return the listener's start positions; {} and another try later when a broker does not answer."""
        topics = {place.topic for place in places}
        try:
            assigned = self._survey.of(places)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            log.warning(
                "committed offsets can't be read yet", extra={"reason": cause.name(), "partitions": len(places)}
            )
            self._refusals.note_all(topics, cause)
            self._unopened |= dict.fromkeys(places, monotonic() + _ASK_AGAIN_S)
            return {}
        self._refusals.lift((GROUP, *topics))
        self._ends.learn(assigned)
        return self.listener.assigned(assigned)

    def begin(self, starts: Mapping[Partition, Position | None]) -> None:
        """Read paused partitions from these positions on, after their leaders have checked the records before them."""
        for place, at in starts.items():
            if at is None:
                self._ends.monitor(place)
            elif seek(self._survey.consumer, place, at):
                self._survey.consumer.resume([TopicPartition(*place)])
            else:
                self._unstarted[place] = at
                self._ends.forget(place)

    def retry(self) -> None:
        """Start partitions that could not be started when they were assigned."""
        now_s = monotonic()
        due = [place for place, at_s in self._unopened.items() if now_s >= at_s]
        for place in due:
            del self._unopened[place]
        starts, self._unstarted = self._unstarted, {}
        self.begin({**starts, **(self.open(due) if due else {})})

    def forget(self, places: Sequence[Partition]) -> None:
        """Drop partitions that are not the member's any more."""
        for place in places:
            self._unopened.pop(place, None)
            self._unstarted.pop(place, None)


def seek(consumer: Consumer, partition: Partition, position: Position) -> bool:
    """Read a partition from here on; False while the client does not read it at all, or has given it up."""
    try:
        consumer.seek(topic_partition(partition, position))
    except KafkaException:
        return False
    return True
