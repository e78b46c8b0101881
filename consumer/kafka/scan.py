"""Reads topics beside the group, from any moment on, and commits nothing: for `headrace find` and `headrace tail`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Final, NamedTuple, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.delivery.ports import Partition, Record
from consumer.errors import ConsumerError, Transient
from consumer.kafka.errors import of_kafka
from consumer.kafka.messages import place_of, record_of
from consumer.kafka.properties import PINNED, REPORTING, reading

END: Final = OFFSET_END
"""Stands for the offset behind a partition's newest record."""
START: Final = OFFSET_BEGINNING
"""Stands for the oldest offset of a partition."""
_NEVER_MS: Final = 10_413_705_600_000  # 2299-12-31
_CALL_S: Final = 10.0
_POLL_S: Final = 0.25
_SILENT_S: Final = 15.0
_AT_ONCE: Final = 2000
_AWAY: Final = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})  # noqa: SLF001  (their public names)


class Span(NamedTuple):
    """The offsets [first, end) of a partition; `low` is the oldest offset that its log still has."""

    low: int
    first: int
    end: int


class Progress(NamedTuple):
    """How far a search has come."""

    records: int
    records_max: int


class TopicReader:
    """A client that joins no group. Its calls block; one thread makes them. Leaving the block closes it."""

    def __init__(self, properties: Mapping[str, str | int], group: str) -> None:
        ours = {"fetch.wait.max.ms": 50, **reading(properties), **PINNED, "auto.offset.reset": "earliest"}
        self._consumer = Consumer({**ours, "group.id": group}, **REPORTING)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def offsets_at(self, partitions: Sequence[Partition], at_ms: int) -> dict[Partition, int]:
        """Return each partition's first offset with this Kafka timestamp or a later one; END when there is none.

        A broker that knows no times gives START: the embedded one answers 0 for every time, the future's too.

        Raises:
            Transient, Fatal: as the packages' errors.py say.
        """
        if any(offset != END for offset in self._at(partitions, _NEVER_MS).values()):
            return dict.fromkeys(partitions, START)
        return self._at(partitions, at_ms)

    def _at(self, partitions: Sequence[Partition], at_ms: int) -> dict[Partition, int]:
        try:
            found = self._consumer.offsets_for_times(
                [TopicPartition(*partition, at_ms) for partition in partitions], timeout=_CALL_S
            )
        except KafkaException as error:
            raise _translated(error.args[0]) from error
        for item in found:
            if item.error is not None:
                raise _translated(item.error)
        return {Partition(item.topic, item.partition): item.offset if item.offset >= 0 else END for item in found}

    def spans(self, bounds: Mapping[Partition, tuple[int, int]], from_ms: int, until_ms: int) -> dict[Partition, Span]:
        """Return the offsets of each partition between two Kafka timestamps; `bounds` are its oldest and next offset.

        Raises:
            Transient, Fatal: as the packages' errors.py say.
        """
        firsts, ends = (self.offsets_at(list(bounds), at_ms) for at_ms in (from_ms, until_ms))

        def span(partition: Partition) -> Span:
            low, high = bounds[partition]
            first, end = (high if at < 0 else max(low, min(at, high)) for at in (firsts[partition], ends[partition]))
            if START in {firsts[partition], ends[partition]}:
                first, end = low, high
            return Span(low, first, max(first, end))

        return {partition: span(partition) for partition in bounds}

    def search(
        self,
        spans: Mapping[Partition, Span],
        needles: Sequence[bytes],
        deadline_s: float,
        told: Callable[[Progress], None],
    ) -> tuple[list[Record], int, bool]:
        """Return the records that contain one of these bytes, how many were looked at, and whether all of them were.

        Bytes of JSON are compared without regard to case, which ids in it may have.

        Raises:
            Transient, Fatal: as the packages' errors.py say.
        """
        left = {partition: span.end for partition, span in spans.items() if span.first < span.end}
        records_max = sum(span.end - span.first for span in spans.values())
        found: list[Record] = []
        seen = 0
        if not left:
            return found, seen, True
        self._assign({partition: spans[partition].first for partition in left})
        for message in self._messages(deadline_s):
            partition = place_of(message)
            if partition not in left:
                continue
            if message.error() is None and (message.offset() or 0) < left[partition]:
                seen += 1
                if _contains(message, needles):
                    found.append(record_of(message))
                if seen % _AT_ONCE == 0:
                    told(Progress(seen, records_max))
            if message.error() is not None or (message.offset() or 0) + 1 >= left[partition]:
                del left[partition]
                if not left:
                    break
        return found, seen, not left

    def follow(self, starts: Mapping[Partition, int], deadline_s: float) -> Iterator[Record | None]:
        """Yield records as they arrive, None now and then when none does; ends at the deadline.

        Raises:
            Transient: at the beginning, no broker answers. Later this waits for it.
            Fatal: as the packages' errors.py say.
        """
        self._assign(starts)
        heard = False
        silent_s = monotonic() + _SILENT_S
        while monotonic() < deadline_s:
            for message in self._consumer.consume(_AT_ONCE, _POLL_S):
                error = message.error()
                if error is None:
                    heard = True
                    yield record_of(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                    heard = True
                elif not isinstance(trouble := _translated(error), Transient):
                    raise trouble
            if not heard and starts and monotonic() > silent_s:
                raise Transient(f"no broker answers within {_SILENT_S:.0f} s")
            yield None

    def _assign(self, starts: Mapping[Partition, int]) -> None:
        try:
            self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in starts.items()])
        except KafkaException as error:
            raise _translated(error.args[0]) from error

    def _messages(self, deadline_s: float) -> Iterator[Message]:
        """Yield messages and ends of partitions until the deadline.

        Raises:
            Transient: nothing came for a time.
            Fatal: as the packages' errors.py say.
        """
        silent_s = monotonic() + _SILENT_S
        while (now_s := monotonic()) < deadline_s:
            if now_s > silent_s:
                raise Transient(f"the brokers send nothing for {_SILENT_S:.0f} s")
            for message in self._consumer.consume(_AT_ONCE, _POLL_S):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                    if not isinstance(trouble := _translated(error), Transient):
                        raise trouble
                    continue
                silent_s = monotonic() + _SILENT_S
                yield message


def _contains(message: Message, needles: Sequence[bytes]) -> bool:
    """Tell whether a record may name what is searched for.

    The id of a request stands in the headers of what the ingress refused, which is JSON and has no frame.
    """
    value = message.value() or b""
    if value[:1] == b"\0":
        return any(needle in value for needle in needles)
    texts = (value, *(text for _, text in record_of(message).headers))
    return any(needle in text.lower() for needle in needles for text in texts)


def _translated(error: KafkaError) -> ConsumerError:
    if error.code() in _AWAY:
        return Transient("no broker answers")
    return of_kafka(error.name(), error.str())
