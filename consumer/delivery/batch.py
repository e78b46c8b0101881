"""A sealed batch that one insert covers, and what its steps make of it. All values, none changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from consumer.delivery.intent import Intent
from consumer.delivery.ports import Block, Partition, Poison, Record


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of offsets [a, b) of one partition, gaps and all.

    Attributes:
        partition: whose.
        intent: the range and what is left out of it.
        records: in offset order; the excluded ones are still among them.
        size_bytes: what the records weigh in memory.
    """

    partition: Partition
    intent: Intent
    records: tuple[Record, ...]
    size_bytes: int

    @classmethod
    def of(cls, partition: Partition, intent: Intent, records: tuple[Record, ...]) -> "Batch":
        """Weigh the records, once, and return the batch."""
        return cls(partition, intent, records, sum(record.size_bytes for record in records))

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
        """Return the batch of the first so many records, at least one, with a range that ends behind them."""
        records = self.records[:count]
        b = records[-1].offset + 1
        excluded = tuple(offset for offset in self.intent.excluded if offset < b)
        return Batch.of(self.partition, replace(self.intent, b=b, excluded=excluded), records)

    def token(self, namespace: str) -> str:
        """Return the start of its blocks' tokens: no other rows may ever have them."""
        return self.intent.token(namespace, self.partition.number)


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch to prepare.

    Attributes:
        batch: sealed.
        refused: what the table has refused of it at last.
        known: poison of it that was found before, whose dead letters are not sent.
        is_fixed: part of it may be in the table under its range's token, so that its range can't be made smaller.
        is_inherited: its intent is another worker's, which may have left its dead letters unsent.
        refusals: how often the table has refused it.
        inserted_max: nothing from this offset on may be in the table yet; None once that was asked for.
        is_too_large: a server before ClickHouse has not taken it.
    """

    batch: Batch
    refused: tuple[Poison, ...] = ()
    known: tuple[Poison, ...] = ()
    is_fixed: bool = False
    is_inherited: bool = False
    refusals: int = 0
    inserted_max: int | None = None
    is_too_large: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch whose poison is known, and the rest of it encoded.

    Attributes:
        batch: its intent lists the poison; it may end earlier than the draft's.
        blocks: one per writer schema; none when nothing is left.
        letters: all of its poison, to be sent to the dead letters once its rows are in the table.
        later: poison behind the batch's end that was found already, for the batches to come.
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
    """

    number: int
    is_fresh: Callable[[], bool]
    is_repeated: bool = False
    is_settled: bool = True


@dataclass(frozen=True, slots=True)
class Inserted:
    """What an insert came to: the block is in the table, unless some rows were refused.

    Attributes:
        refused: some of its rows.
        is_too_large: the first block was, for a server before ClickHouse, and nothing of the batch is in the table.
        is_untouched: it was the first block. Then no row of the batch is in the table: earlier tries of its range, by
            whomever, held these rows too (what has been left out of a range stays out), and began with them or stopped
            before them; and none of them is counted, as it would be had the table taken them before.
    """

    refused: tuple[Poison, ...] = ()
    is_untouched: bool = False
    is_too_large: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The dead letters are acknowledged."""
