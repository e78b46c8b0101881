"""Deletes the rows that a second reading inserts again, as long as the log can give each of them back.

The plan has asked the log; that is seconds or minutes ago. An unclean election may have cut it since, or its retention
deleted its beginning, so it is asked once more just before: a row without a record would be lost for ever.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from consumer.clickhouse.offsets import OFFSET_END, Reading
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Partition
from consumer.errors import Transient
from consumer.operations.divergence import RecordAt
from consumer.operations.facts import Plan
from consumer.operations.plans import irretrievable
from consumer.operations.spans import intended

_TRIES: Final = 10  # brokers elect a leader within seconds, and a client learns of it a little later
_REST_S: Final = 1.0


class Log(Protocol):
    """What is asked of Kafka; consumer/operations/group.py has it."""

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return each partition's oldest offset and its end."""

    def reading(self, partition: Partition) -> AbstractContextManager[RecordAt]:
        """Yield a function that finds records of a partition."""


class Deleted(NamedTuple):
    """What became of a partition's earlier rows; `why_not` says why they were kept, "" when they were not."""

    partition: Partition
    rows: int
    why_not: str = ""


def delete_read_again(
    plans: Sequence[Plan],
    log: Log,
    readings: Callable[[Partition, str], Sequence[Reading]],
    delete: Callable[[Partition, Intent], int],
    rest: Callable[[float], None],
) -> Iterator[Deleted]:
    """Delete the rows that committed plans read again; yield what became of each partition's.

    Args:
        plans: what was committed: whatever ends this half way, no row is lost, and some are there twice.
        log: the log as it is now.
        readings: what the tables have of a partition, under a topic ID.
        delete: deletes the rows that a second reading inserts again; returns how many.
        rest: waits for so many seconds before the log is asked again.

    Raises:
        Transient, Fatal: as the packages' errors.py say; not when the log can't be asked: then its rows are kept.
    """
    for plan in plans:
        intent = intended(plan.mark) if plan.mark else None
        if intent is None:
            continue
        partition = plan.partition
        if why_not := _why_not(partition, intent, log, readings(partition, intent.topic_id), rest):
            yield Deleted(partition, 0, why_not)
        else:
            yield Deleted(partition, delete(partition, intent))


def _why_not(
    partition: Partition, intent: Intent, log: Log, readings: Sequence[Reading], rest: Callable[[float], None]
) -> str:
    wanted = range(intent.a, intent.detour.end if intent.detour else OFFSET_END)
    why = ""
    for _ in range(_TRIES):
        try:
            low, end = log.bounds([partition])[partition]
            if low > wanted.start and any(one.first < low and one.end > wanted.start for one in readings):
                return f"the log begins at offset {low} now: it can't give back those before"
            with log.reading(partition) as record_at:
                return irretrievable(readings, wanted, end, record_at)
        except Transient as error:  # an election is going on, perhaps an unclean one
            why = str(error)
            rest(_REST_S)
    return f"the log can't be asked now whether it still has their records: {why}"
