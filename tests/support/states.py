"""A partition's state without a worker: its records, its batches, and what the pool makes of them."""

from consumer.delivery.batch import Inserted, Prepared
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.intent import Intent
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import CommittedOffset, Partition, Poison, Record
from consumer.delivery.task import BatchTask
from consumer.errors import Reason

PLACE = Partition("events", 3)
LIMITS = BufferLimits(rows_max=3, bytes_max=100_000, age_s_max=10.0, waiting_bytes_max=0)


def opened(position: int = 0, replay: Intent | None = None) -> PartitionState:
    """Return a state at a position."""
    committed = CommittedOffset(position, replay.encode()) if replay else None
    return PartitionState(PLACE, "id", position, committed, replay=replay, read_to=position)


def feed(state: PartitionState, *offsets: int, now_s: float = 0.0, epoch: int = -1) -> None:
    """Add records."""
    for offset in offsets:
        state.add(Record(PLACE, offset, 1000 + offset, b"", b"v", (), epoch), now_s)


def prepare(state: PartitionState, work: BatchTask, *poison: int) -> None:
    """Let a work be prepared, with this poison."""
    letters = tuple(Poison(offset, Reason.FRAME, "") for offset in poison)
    state.prepared(work, Prepared(work.batch.without(letters), (), letters))


def sealed(state: PartitionState, now_s: float = 0.0) -> BatchTask:
    """Seal the next batch, which must be due."""
    work = state.seal(LIMITS, now_s)
    assert work is not None
    return work


def refusal(*offsets: int, is_untouched: bool = True) -> Inserted:
    """Return what an insert came to whose block was refused for these rows."""
    return Inserted(tuple(Poison(offset, Reason.BAD_VALUE, "") for offset in offsets), is_untouched)


def make_smaller(state: PartitionState, work: BatchTask) -> None:
    """Let a work be prepared again, with half of its records."""
    state.prepared(work, Prepared(work.batch.first(len(work.batch.records) // 2), (), ()))


def mark(offset: int, a: int, b: int, *excluded: int) -> CommittedOffset:
    """Return the mark of an offset with an intent."""
    return CommittedOffset(offset, Intent("id", a, b, excluded).encode())
