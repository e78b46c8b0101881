"""A sealed batch and the results of its steps, as immutable values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from consumer.delivery.intent import Intent
from consumer.delivery.ports import Block, Partition, Poison, Record, total_bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one partition with offsets [a, b), which may have gaps.

    Attributes:
        partition: their partition.
        intent: the range, and the offsets left out of it.
        records: all records in offset order, including those left out.
        size_bytes: their size in memory.
    """

    partition: Partition
    intent: Intent
    records: tuple[Record, ...]
    size_bytes: int

    @classmethod
    def of(cls, partition: Partition, intent: Intent, records: tuple[Record, ...]) -> "Batch":
        """Return a batch, computing the records' size once."""
        return cls(partition, intent, records, total_bytes(records))

    @property
    def included(self) -> tuple[Record, ...]:
        """The records that become rows."""
        excluded = frozenset(self.intent.excluded)
        return tuple(record for record in self.records if record.offset not in excluded) if excluded else self.records

    @property
    def left_out(self) -> tuple[Record, ...]:
        """The records that the intent excludes."""
        excluded = frozenset(self.intent.excluded)
        return tuple(record for record in self.records if record.offset in excluded) if excluded else ()

    def without(self, poison: Sequence[Poison]) -> "Batch":
        """Return the batch with more records left out: the range stays, the intent lists them."""
        if not poison:
            return self
        excluded = tuple(sorted({*self.intent.excluded, *(item.offset for item in poison)}))
        return replace(self, intent=replace(self.intent, excluded=excluded))

    def first(self, count: int) -> "Batch":
        """Return a batch of the first `count` records, at least one, with a range that ends after them."""
        records = self.records[:count]
        b = records[-1].offset + 1
        excluded = tuple(offset for offset in self.intent.excluded if offset < b)
        return Batch.of(self.partition, replace(self.intent, b=b, excluded=excluded), records)

    def token(self, namespace: str) -> str:
        """Return the prefix of its blocks' tokens, which must be unique to its rows."""
        return self.intent.token(namespace, self.partition.number)


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch to prepare.

    Attributes:
        batch: the sealed batch.
        refused: the rows that the table refused last.
        known: poison found earlier, whose dead letters are not sent yet.
        is_fixed: part of it may be in the table under its range's token, so its range can't be made smaller.
        is_inherited: its intent is another worker's, which may not have sent its dead letters.
        refusals: how often the table has refused it.
        inserted_max: no offset from here on may be in the table yet; None once that was checked.
        is_too_large: a proxy before ClickHouse did not accept it.
        is_suspect: the table would have refused rows of a batch before it; of this one, no intent was committed.
    """

    batch: Batch
    refused: tuple[Poison, ...] = ()
    known: tuple[Poison, ...] = ()
    is_fixed: bool = False
    is_inherited: bool = False
    refusals: int = 0
    inserted_max: int | None = None
    is_too_large: bool = False
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch with its poison left out, and the rest as blocks.

    Attributes:
        batch: its intent lists the poison; it may end earlier than the draft's.
        blocks: one per writer schema; none when no rows are left.
        letters: all of its poison, to be sent as dead letters once its rows are in the table.
        later: known poison after the batch's end, for later batches.
    """

    batch: Batch
    blocks: tuple[Block, ...]
    letters: tuple[Poison, ...]
    later: tuple[Poison, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a block is inserted.

    Attributes:
        number: of the block in its batch, from 0; all before it are in the table.
        is_fresh: tells whether its intent still fences.
        is_repeated: an earlier try may have brought its rows into the table.
        is_settled: none of those can arrive any more.
        is_unseen: the table has acknowledged it, replicas were waited for since, and not all of its rows were seen.
    """

    number: int
    is_fresh: Callable[[], bool]
    is_repeated: bool = False
    is_settled: bool = True
    is_unseen: bool = False


@dataclass(frozen=True, slots=True)
class Inserted:
    """The result of an insert: the block is in the table, unless rows were refused.

    Attributes:
        refused: some of its rows.
        is_too_large: the first block was too large for a proxy, and nothing of the batch is in the table.
        is_untouched: the refused block was the first. Then no row of the batch is in the table: earlier tries of its
            range, by any worker, had these rows too (rows left out of a range stay out), and failed at them or before;
            and none of them is there or counted, as it would be if the table had accepted them before.
    """

    refused: tuple[Poison, ...] = ()
    is_untouched: bool = False
    is_too_large: bool = False


@dataclass(frozen=True, slots=True)
class Awaited:
    """Replicas have what earlier tries may have inserted; the intent must be committed by `until_s` (monotonic)."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    """The dead letters are acknowledged."""
