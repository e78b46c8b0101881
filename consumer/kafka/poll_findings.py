"""What one poll finds in a log: records, ends, and why partitions can't be read further."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, Message

from consumer.delivery.ports import Answer, Cut, Partition, Polled, Record
from consumer.kafka.messages import cut_of, place_of

_UNREADABLE: Final = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG, KafkaError.INVALID_MSG})  # noqa: SLF001  (librdkafka's local codes have such names)


class PollFindings:
    """Filled while a poll goes on.

    Attributes:
        records: in the order in which they came.
        denied: partitions that the account may not read, and why.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.denied: dict[Partition, str] = {}
        self._ends: dict[Partition, int] = {}
        self._cut: dict[Partition, Cut] = {}
        self._unreadable: dict[Partition, str] = {}

    def takes(self, message: Message, error: KafkaError) -> bool:
        """Take an error that is about reading one partition; tell whether it is."""
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's local codes have such names)
            self._ends[place_of(message)] = message.offset() or 0
        elif code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  (as above)
            self._cut[place_of(message)] = cut_of(error)
        elif code in _UNREADABLE:
            self._unreadable[place_of(message)] = f"offset {message.offset()}: {error.name()}: {error.str()}"
        else:
            return False
        return True

    def drop(self, places: Collection[Partition]) -> None:
        """Forget all of these partitions."""
        self.records[:] = [record for record in self.records if record.partition not in places]
        events: tuple[dict[Partition, Any], ...] = (self._ends, self._cut, self._unreadable, self.denied)
        for told in events:
            for place in places:
                told.pop(place, None)

    def polled(self, answers: Sequence[Answer], known_ends: Mapping[Partition, int]) -> Polled:
        """Return all of it, with the answers to commits, and the ends that fetches have told."""
        return Polled(self.records, self._ends, answers, self._cut, self._unreadable, self.denied, known_ends)
