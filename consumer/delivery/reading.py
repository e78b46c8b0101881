"""What is read of one partition: which records are taken, and up to where the log was read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from consumer.delivery.buffer import Buffer
from consumer.delivery.continuity import Continuity
from consumer.delivery.intent import Detour
from consumer.delivery.ports import CommittedOffset, Cut, Partition, Record


class Intake(Enum):
    """Whether a partition's records are taken."""

    OPEN = "open"
    PAUSED = "paused"
    """Not for now: too much of it waits in memory."""
    CLOSED = "closed"
    """Not any more: it is revoked, an operator must decide, or the worker is stopping."""


@dataclass(slots=True)
class ReadingState:
    """How far a partition is read, and what was read and is in no batch yet.

    Attributes:
        position: all offsets below it are in the table or in the dead letters.
        committed: the mark that the group holds, as far as known.
        detour: where this reading ends, if it does.
        continuity: whether what is read is still the log that was read before.
        read_to: the next offset to take from the log.
        intake: whether its records are taken.
        cut: why the log can't be read from `read_to` on, if so.
        ended_at: the readable end when the log was last read to its end; None before that.
        known_end: the log's end as last heard; what lies beyond is not known.
    """

    partition: Partition
    topic_id: str
    position: int
    committed: CommittedOffset | None
    detour: Detour | None = None
    continuity: Continuity = field(default_factory=Continuity)
    buffer: Buffer = field(default_factory=Buffer)
    read_to: int = 0
    intake: Intake = Intake.OPEN
    cut: Cut | None = None
    ended_at: int | None = None
    known_end: int = 0

    def add_all(self, records: Sequence[Record], now_s: float) -> int:
        """Add records that were polled together, at least one, in offset order; return how many were not dropped."""
        is_plain = self.is_taking and self.detour is None and self.continuity.are_plain(records)
        if not is_plain or records[0].offset < self.read_to:
            return sum(self.add(record, now_s) for record in records)
        self.buffer.add_all(records, now_s)
        self.continuity.read(records[-1])
        self.read_to = records[-1].offset + 1
        return len(records)

    def add(self, record: Record, now_s: float) -> bool:
        """Add one record; False when it is dropped, such as one that a seek has brought again."""
        if not self.is_taking or not self._follows(record) or record.offset < self.read_to:
            return False
        if self.detour is not None and record.offset >= self.detour.end:
            self.read_to = self.detour.end
            return False
        self.buffer.add(record, now_s)
        self.continuity.read(record)
        self.read_to = record.offset + 1
        return True

    def _follows(self, record: Record) -> bool:
        if self.continuity.is_plain(record) or self.continuity.admits(record):
            return True
        if self.continuity.broken_at is not None:
            self.cut = Cut(is_other=True, end=self.continuity.broken_at)
        return False

    def reached_end(self, offset: int) -> None:
        """Record that the log ends at an offset for now: gaps below it hold no records.

        A partition that is not reading ignores it, because it has dropped records.
        """
        self.continuity.reached_end(offset)
        if not self.is_taking or self.continuity.is_waiting:
            return
        self.ended_at = offset
        self.read_to = max(self.read_to, offset if self.detour is None else min(offset, self.detour.end))

    @property
    def is_at_end(self) -> bool:
        """Whether all was read that can be, as of the last poll: what lies behind, a transaction keeps back."""
        return self.ended_at is not None and self.ended_at >= self.read_to and self.intake is Intake.OPEN

    @property
    def is_taking(self) -> bool:
        """Whether more records may come."""
        return self.intake is not Intake.CLOSED and self.cut is None and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether a second reading has reached its end."""
        return self.detour is not None and self.read_to >= self.detour.end
