"""Checks that a partition's log is still the one that was read: each record must follow the last one read.

A log that was cut (an unclean election, a restored copy) and has grown again has other records under the same offsets.
The leader epoch tells them apart: two logs with a record of the same epoch at the same offset are equal up to there. So
the last record is read again, and its epoch compared, when a partition is opened and whenever the epoch changes.
librdkafka compares too (KIP-320), but only an epoch's end offset, and not at every opening: it misses a former leader
that returns with an equally long log.

Nothing is compared where the epoch is unknown (the embedded broker), or where the last record is gone (retention,
compaction, a transaction marker).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.delivery.intent import NO_EPOCH, Intent
from consumer.delivery.ports import Position, Record


@dataclass(slots=True)
class Continuity:
    """What is known of the log up to the last record read.

    Attributes:
        last_offset: the last record's offset; -1 when unknown.
        leader_epoch: the last record's leader epoch.
        promised: a predecessor's promised range while it is read again: all of one epoch.
        is_proving: whether the last record is being read again.
        seek_to: where to seek for that, until the seek is done; records before that are from the old position.
        next_epoch: the epoch that may follow the last record, once it is proven.
        proven_epoch: the same, proven.
        broken_at: the offset of the first record of another log.
    """

    last_offset: int = -1
    leader_epoch: int = NO_EPOCH
    promised: Intent | None = None
    is_proving: bool = False
    seek_to: Position | None = None
    next_epoch: int = NO_EPOCH
    proven_epoch: int = NO_EPOCH
    broken_at: int | None = None

    @classmethod
    def at(cls, position: Position, low: int, promised: Intent | None) -> "Continuity":
        """Return the state of a partition opened at a position; `low` is the log's oldest offset."""
        last_offset, leader_epoch = position.offset - 1, position.leader_epoch
        if last_offset < low or leader_epoch == NO_EPOCH:
            return cls(-1, leader_epoch, promised)
        return cls(last_offset, leader_epoch, promised, is_proving=True)

    @property
    def is_waiting(self) -> bool:
        """Whether the log's end must be ignored, because the last record was not read again yet."""
        return self.is_proving or self.broken_at is not None

    def is_plain(self, record: Record) -> bool:
        """Tell whether a record surely follows the last one; almost all do."""
        return (
            record.leader_epoch == self.leader_epoch
            and not self.is_proving
            and self.promised is None
            and self.broken_at is None
        )

    def are_plain(self, records: Sequence[Record]) -> bool:
        """Tell whether all of some records surely follow the last one."""
        return self.is_plain(records[0]) and len({record.leader_epoch for record in records}) == 1

    def admits(self, record: Record) -> bool:
        """Tell whether a record may be accepted: nothing shows that it is of another log."""
        if self.broken_at is not None or self.seek_to is not None:
            return False
        if self.is_proving:
            if record.offset < self.last_offset:
                return False
            self._proven()
            if record.offset == self.last_offset:
                self._compare(record, self.leader_epoch)
                return False
        if self.promised is not None and record.offset < self.promised.b:
            return self._compare(record, self.promised.leader_epoch)
        self.promised = None
        return self._admits_epoch(record)

    def read(self, record: Record) -> None:
        """Record the last record read."""
        self.last_offset, self.leader_epoch = record.offset, record.leader_epoch

    def sought(self) -> None:
        """Record that the seek to `seek_to` is done."""
        self.seek_to = None

    def reached_end(self, offset: int) -> None:
        """Record that everything below an offset was read: a last record that was searched for is gone."""
        if self.is_proving and self.seek_to is None and offset > self.last_offset:
            self._proven()

    def _admits_epoch(self, record: Record) -> bool:
        before, now = self.leader_epoch, record.leader_epoch
        if before == now or NO_EPOCH in (before, now) or now == self.proven_epoch:
            return True
        if now < before:
            self.broken_at = record.offset
            return False
        if self.last_offset < 0:
            return True
        self.is_proving, self.next_epoch, self.seek_to = True, now, Position(self.last_offset, before)
        return False

    def _compare(self, record: Record, leader_epoch: int) -> bool:
        if record.leader_epoch != leader_epoch and NO_EPOCH not in (record.leader_epoch, leader_epoch):
            self.broken_at = record.offset
        return self.broken_at is None

    def _proven(self) -> None:
        self.is_proving, self.proven_epoch = False, self.next_epoch
