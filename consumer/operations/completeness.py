"""Says how far the tables are complete: the moment before which all that the log held is in them.

A beat notes the moment, then asks the brokers where each partition ends, and which partitions the topics have. A later
beat that finds the partition's position at that end or beyond it claims the moment. So a claim never rests on what a
worker only believes of the log, and a partition that falls behind, is halted, or has lost its worker stops claiming.

The log holds an event some time after its receipt: while its request is read, and while its broker is waited for. This
time is subtracted from each claim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from consumer.delivery.ports import Partition
from consumer.health import PartitionProgress
from consumer.kafka.admin import Topic

_MARKS_MAX: Final = 64


class Mark(NamedTuple):
    """Where a log ended at a moment, or before it."""

    at_ms: int
    end: int


@dataclass(frozen=True, slots=True)
class Look:
    """What the brokers have said.

    Attributes:
        at_ms: a moment before they were asked; see CarefulClock.
        ends: where partitions end; one that no broker answers for is left out.
        topics: the topics, asked for after the ends.
    """

    at_ms: int
    ends: Mapping[Partition, int]
    topics: Mapping[str, Topic]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What is known of one partition.

    Attributes:
        partition: the partition.
        topic_id: its topic's ID.
        partitions: how many partitions the topic has.
        counted_ms: it had no more at this moment; 0: not known yet.
        position: all offsets below it are in the table or the dead letters.
        log_end: where its log ended.
        complete_ms: everything received before is in the table; 0: not known yet.
        halted: the code of its halt; "" for none.
    """

    partition: Partition
    topic_id: str
    partitions: int
    counted_ms: int
    position: int
    log_end: int
    complete_ms: int
    halted: str

    def row(self) -> dict[str, object]:
        """Return it as a row, by column name; moments in ms."""
        named = self.__dataclass_fields__.keys() - {"partition"}
        place = {"topic": self.partition.topic, "partition": self.partition.number}
        return {name: getattr(self, name) for name in named} | place


class Completeness:
    """Turns looks at the log and the worker's progress into heartbeats. One thread calls.

    `arrival_s` is how long an event may take from its receipt into the log.
    """

    def __init__(self, arrival_s: float) -> None:
        self._arrival_ms = int(arrival_s * 1000)
        self._marks: dict[tuple[Partition, str], list[Mark]] = {}
        self._claims: dict[tuple[Partition, str], int] = {}
        self._counted_ms: dict[tuple[str, str], int] = {}

    def beat(self, look: Look, progress: Mapping[Partition, PartitionProgress]) -> list[Heartbeat]:
        """Return a heartbeat of each owned partition whose end and topic are known.

        `progress` is from before the look: so no position is beyond its log's end, unless the log was cut.
        """
        made = [self._of(partition, item, look) for partition, item in progress.items()]
        owned = {(partition, item.topic_id) for partition, item in progress.items()}
        self._marks = {key: marks for key, marks in self._marks.items() if key in owned}
        self._claims = {key: at_ms for key, at_ms in self._claims.items() if key in owned}
        self._counted_ms = {(name, topic.topic_id): look.at_ms for name, topic in look.topics.items()}
        return [item for item in made if item is not None]

    def _of(self, partition: Partition, item: PartitionProgress, look: Look) -> Heartbeat | None:
        topic, end, key = look.topics.get(partition.topic), look.ends.get(partition), (partition, item.topic_id)
        if topic is None or topic.topic_id != item.topic_id or end is None:
            return None
        if end < item.position:  # the log was cut, and what it holds at these offsets is not what was read
            self._marks[key] = []
        else:
            if item.halt is None:
                self._claim(key, item.position)
            self._note(key, Mark(look.at_ms, end))
        return Heartbeat(
            partition,
            topic.topic_id,
            topic.partitions,
            self._arrived_ms(self._counted_ms.get((partition.topic, topic.topic_id), 0)),
            item.position,
            end,
            self._claims.get(key, 0),
            item.halt.code if item.halt is not None else "",
        )

    def _claim(self, key: tuple[Partition, str], position: int) -> None:
        marks = self._marks.get(key, [])
        if reached := [mark for mark in marks if mark.end <= position]:
            self._claims[key] = max(self._claims.get(key, 0), self._arrived_ms(reached[-1].at_ms))
            self._marks[key] = [mark for mark in marks if mark.end > position]

    def _note(self, key: tuple[Partition, str], mark: Mark) -> None:
        """Remember a mark; the longer the worker is behind, the fewer are kept of an hour."""
        marks = self._marks.setdefault(key, [])
        marks.append(mark)
        if len(marks) > _MARKS_MAX:
            del marks[1:-1:2]

    def _arrived_ms(self, at_ms: int) -> int:
        return max(0, at_ms - self._arrival_ms)
