"""What one partition has collected, and the sealed batch that one insert covers."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from consumer.intent import Intent
from consumer.ports import Block, Partition, Poison, Record


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch closes, whichever comes first, and how much may wait in memory.

    Attributes:
        rows_max: at this many rows.
        bytes_max: at this many bytes of records.
        age_s_max: when its oldest record has waited this long.
        waiting_bytes_max: over all partitions; beyond it the fullest partitions are paused.
    """

    rows_max: int
    bytes_max: int
    age_s_max: float
    waiting_bytes_max: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of offsets [a, b) of one partition, gaps and all.

    Attributes:
        partition: whose.
        intent: the range and what is left out of it.
        records: in offset order; the excluded ones are still among them.
    """

    partition: Partition
    intent: Intent
    records: tuple[Record, ...]

    @property
    def included(self) -> tuple[Record, ...]:
        """The records that become rows."""
        excluded = frozenset(self.intent.excluded)
        return tuple(record for record in self.records if record.offset not in excluded) if excluded else self.records

    def without(self, poison: Sequence[Poison]) -> "Batch":
        """Return the batch with more records left out: the range stays, the intent lists them."""
        excluded = tuple(sorted({*self.intent.excluded, *(item.offset for item in poison)}))
        return replace(self, intent=replace(self.intent, excluded=excluded))

    @property
    def size_bytes(self) -> int:
        """What the records weigh in memory."""
        return sum(record.size_bytes for record in self.records)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch whose poison is in the dead letters, and the rest of it encoded.

    Attributes:
        batch: its intent lists the poison.
        blocks: one per writer schema; none when nothing is left.
        poison: what was sent to the dead letters this time.
        poison_run: the poison in a row at the batch's end.
    """

    batch: Batch
    blocks: tuple[Block, ...]
    poison: tuple[Poison, ...]
    poison_run: int


@dataclass(frozen=True, slots=True)
class Inserted:
    """What an insert came to: every block is in the table, unless some rows were refused."""

    refused: tuple[Poison, ...] = ()


@dataclass(slots=True)
class Buffer:
    """Records of one partition in offset order, waiting to be sealed."""

    records: deque[Record] = field(default_factory=deque)
    size_bytes: int = 0
    oldest_at_s: float = 0.0

    def add(self, record: Record, now_s: float) -> None:
        """Take one record; `now_s` is monotonic."""
        if not self.records:
            self.oldest_at_s = now_s
        self.records.append(record)
        self.size_bytes += record.size_bytes

    def is_due(self, limits: Limits, now_s: float) -> bool:
        """Tell whether a limit has been reached."""
        return bool(self.records) and (
            len(self.records) >= limits.rows_max
            or self.size_bytes >= limits.bytes_max
            or now_s - self.oldest_at_s >= limits.age_s_max
        )

    def take(self, limits: Limits) -> tuple[Record, ...]:
        """Remove and return the oldest records, within the limits of one batch and at least one."""
        taken: list[Record] = []
        size_bytes = 0
        while self.records and len(taken) < limits.rows_max and size_bytes < limits.bytes_max:
            record = self.records.popleft()
            taken.append(record)
            size_bytes += record.size_bytes
        self.size_bytes -= size_bytes
        return tuple(taken)

    def take_below(self, offset: int) -> tuple[Record, ...]:
        """Remove and return the records below an offset."""
        taken: list[Record] = []
        while self.records and self.records[0].offset < offset:
            taken.append(self.records.popleft())
        self.size_bytes -= sum(record.size_bytes for record in taken)
        return tuple(taken)
