"""The ports of inserts that are repeated: what the tables hold already, and what they have lost."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from consumer.delivery.ports import Block, Partition, Record

FENCE_S: Final = 30.0
"""An insert starts at most this long after its intent was committed: an older intent fences no more."""


class Repairer(Protocol):
    """Checks repeated inserts for lost rows. Called on the pool's threads; raises Transient and Fatal, as they say."""

    def repair(self, block: Block, records: Sequence[Record], *, is_awaited: bool) -> int:
        """Insert again the rows of a block that the server has lost since it acknowledged them; return how many.

        Args:
            block: the block.
            records: those of its batch.
            is_awaited: whether replicas were waited for after the acknowledgement.

        Raises:
            Unseen: rows are not to be seen, and replicas were not waited for.
        """

    def is_under_way(self, block: Block) -> bool:
        """Tell whether the server is inserting a block, from any worker."""


class Held(NamedTuple):
    """What the tables hold of a block that may have been inserted before.

    Attributes:
        offsets: those of its offsets that are counted, or are rows.
        is_remembered: none of them is there, or they came lately, and to this table: it still knows the block's token.
    """

    offsets: frozenset[int] = frozenset()
    is_remembered: bool = True


class InsertedOffsets(Protocol):
    """The record of what is in the tables. Called on the pool's threads; raises Transient and Fatal, as they say."""

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return the offset behind the last row of this reading or a later one, 0 when there is none."""

    def known_until_s(self, records: Sequence[Record], asked_s: float) -> float | None:
        """Return until when (monotonic) tables surely know the records' tokens; None if they may forget them soon.

        The polling thread asks: it takes no call to a server.
        """

    def await_replicas(self, records: Sequence[Record], asked_s: float, *, always: bool) -> float:
        """Wait until replicas have what was inserted of these records up to a moment (monotonic). That takes long.

        Not where tables are plain, nor where they surely still know the records' tokens, unless `always`.

        Returns:
            until when (monotonic) their intent must be committed: whatever replicas lack then, its token is known.
        """

    def held(self, partition: Partition, block: Block, records: Sequence[Record]) -> Held:
        """Return what is there of a block, in its reading, counted or not; `records` are those of its batch."""

    def present(self, partition: Partition, block: Block) -> frozenset[int]:
        """Return which of a block's offsets are counted, or are rows that a killed server did not come to count."""
