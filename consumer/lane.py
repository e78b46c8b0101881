"""One partition's way through the protocol: what is collected, what is under way, and what to commit next.

A lane holds at most two works: the head, and the next one that is prepared meanwhile, so that the commit which
finishes one batch carries the intent of the next. It makes no call and reads no clock.

stage       means                                        left when
----------  -------------------------------------------  ------------------------------------------------------
PREPARING   screened and encoded on the pool, its        prepared -> PREPARED; transient -> WAITING
            poison sent to the dead letters
WAITING     a try failed for now                         the time has come -> PREPARING again
PREPARED    its intent waits to be committed             committed -> INSERTING; fenced -> the lane is dropped
INSERTING   sent to the table under its token            inserted -> gone; transient -> PREPARED, later: the same
                                                         bytes again behind a fresh intent, which fences; refused
                                                         -> PREPARING, without the poison
"""

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto

from consumer.batch import Batch, Buffer, Inserted, Limits, Prepared
from consumer.intent import Intent
from consumer.ports import Block, Mark, Partition, Poison, Record


class Stage(Enum):
    """Where a work stands; see the module's table."""

    PREPARING = auto()
    WAITING = auto()
    PREPARED = auto()
    INSERTING = auto()


@dataclass(slots=True)
class Work:
    """A sealed batch under way.

    Attributes:
        batch: what is inserted; replaced by one whose intent lists the poison.
        blocks: its encoded form, once prepared.
        poison: records to dead-letter before the next intent.
        job: what runs on the pool now, if anything does.
        retry_at_s: not before this moment (monotonic).
        attempt: failed tries in a row.
        intended: whether its intent has been committed at least once.
    """

    batch: Batch
    stage: Stage = Stage.WAITING
    blocks: tuple[Block, ...] = ()
    poison: tuple[Poison, ...] = ()
    job: Future[Prepared | Inserted] | None = None
    retry_at_s: float = 0.0
    attempt: int = 0
    intended: bool = False

    def postpone(self, stage: Stage, until_s: float) -> None:
        """Try again from a stage, later."""
        self.stage, self.retry_at_s = stage, until_s
        self.attempt += 1

    def prepared(self, outcome: Prepared) -> None:
        """Take the result of preparing."""
        self.batch, self.blocks, self.poison = outcome.batch, outcome.blocks, ()
        self.stage, self.retry_at_s, self.attempt = Stage.PREPARED, 0.0, 0


@dataclass(slots=True)
class Lane:
    """The state of one owned partition.

    Attributes:
        position: all offsets below it are in the table or in the dead letters.
        read_to: the next offset to take from the log.
        committed: the mark that the group holds, as far as known.
        replay: the range that the predecessor left behind, until it is sealed.
        poison_run: dead letters in a row, so far.
        is_open: False once no more records are taken (revoked, or stopping).
        newest_ms: the Kafka timestamp of the newest finished record, else of the oldest taken; None when there is none.
    """

    partition: Partition
    topic_id: str
    position: int
    committed: Mark | None
    replay: Intent | None = None
    buffer: Buffer = field(default_factory=Buffer)
    works: deque[Work] = field(default_factory=deque)
    read_to: int = 0
    poison_run: int = 0
    is_open: bool = True
    is_paused: bool = False
    newest_ms: int | None = None

    def add(self, record: Record, now_s: float) -> bool:
        """Take one record; one taken before is dropped (after a seek it may come again); tell which."""
        if not self.is_open or record.offset < self.read_to:
            return False
        self.buffer.add(record, now_s)
        self.read_to = record.offset + 1
        if self.newest_ms is None and record.timestamp_ms >= 0:
            self.newest_ms = record.timestamp_ms
        return True

    def reached_end(self, offset: int) -> None:
        """Learn that the log ends at an offset for now: gaps below it hold no records."""
        self.read_to = max(self.read_to, offset)

    @property
    def size_bytes(self) -> int:
        """What waits in memory for this partition."""
        return self.buffer.size_bytes + sum(work.batch.size_bytes for work in self.works)

    @property
    def waiting_records(self) -> int:
        """How many records were taken and are not finished."""
        return len(self.buffer.records) + sum(len(work.batch.records) for work in self.works)

    def has_all_below(self, end: int | None) -> bool:
        """Tell whether nothing is left to do below the partition's end, which may be unknown."""
        return not self.works and not self.buffer.records and self.replay is None and (end or 0) <= self.read_to

    def seal(self, limits: Limits, now_s: float) -> Work | None:
        """Seal the next batch if one is due, or no more will come, and there is room for it."""
        if len(self.works) >= 2:  # noqa: PLR2004  (the head and the next one)
            return None
        if self.replay is not None:
            return self._seal_replay(self.replay)
        if not self.buffer.records or (self.is_open and not self.buffer.is_due(limits, now_s)):
            return None
        a = self.works[-1].batch.intent.b if self.works else self.position
        records = self.buffer.take(limits)
        return self._start(Intent(self.topic_id, a, records[-1].offset + 1), records)

    def _seal_replay(self, intent: Intent) -> Work | None:
        if self.read_to < intent.b:
            return None
        self.replay = None
        return self._start(intent, self.buffer.take_below(intent.b))

    def _start(self, intent: Intent, records: tuple[Record, ...]) -> Work:
        work = Work(Batch(self.partition, intent, records))
        self.works.append(work)
        return work

    def finished(self) -> None:
        """Account for the head: its rows are in the table."""
        batch = self.works.popleft().batch
        self.position = batch.intent.b
        if batch.records and batch.records[-1].timestamp_ms >= 0:
            self.newest_ms = batch.records[-1].timestamp_ms

    def wish(self, now_s: float) -> Mark | None:
        """Return what to commit now, if anything: the position, with the head's intent once it is prepared."""
        head = self.works[0] if self.works else None
        if head is None:
            return self.final_mark()
        if head.stage is Stage.PREPARED and now_s >= head.retry_at_s:
            return Mark(self.position, head.batch.intent.encode())
        return None

    def final_mark(self) -> Mark | None:
        """Return what to commit when no more work begins: the position, unless an intent must stay for a successor."""
        if self.replay is not None or (self.works and self.works[0].intended):
            return None
        mark = Mark(self.position, Intent(self.topic_id, self.position, self.position).encode())
        return None if self.committed == mark else mark

    @property
    def is_done(self) -> bool:
        """Whether all that was taken is in the table and committed; a replay is left to whoever reads it."""
        return self.replay is not None or not (self.works or self.buffer.records or self.final_mark())
