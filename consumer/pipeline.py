"""The slow steps of one batch, each a call that the pool makes. Holds no state of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.batch import Batch, Inserted, Prepared
from consumer.errors import Cause, Rejected, Transient
from consumer.poison import PoisonLimits
from consumer.ports import Block, DeadLetters, Poison, Rows, Table


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Screens, dead-letters, encodes and inserts batches through its four ports."""

    rows: Rows
    table: Table
    letters: DeadLetters
    limits: PoisonLimits

    def prepare(self, batch: Batch, refused: tuple[Poison, ...], token: str, poison_run: int) -> Prepared:
        """Send a batch's poison (and what the table refused of it) to the dead letters, encode the rest.

        Raises:
            Transient: the registry or the broker is away.
            Fatal: more poison than is believed.
        """
        screened = self.rows.screen(batch.without(refused).included)
        poison = (*refused, *screened)
        batch = batch.without(poison)
        poison_run = self.limits.check(batch.records, frozenset(batch.intent.excluded), poison_run)
        if poison:
            self.letters.send(batch.records, poison)
        return Prepared(
            batch, tuple(self.rows.blocks(batch.included, batch.intent.topic_id, token)), poison, poison_run
        )

    def insert(self, batch: Batch, blocks: Sequence[Block]) -> Inserted:
        """Insert blocks one after another; on a refusal find the rows that caused it, and stop there.

        Raises:
            Transient: a server was away, or the outcome is not known, or no single row is to blame.
            Fatal: the table or the account is not as it must be.
        """
        for block in blocks:
            try:
                self.table.insert(block)
            except Rejected as refusal:
                poison = self.table.find_poison(block, refusal, batch.included)
                if not poison:
                    raise Transient(f"refused, and no row is to blame: {refusal}", Cause.REFUSED) from refusal
                return Inserted(refused=tuple(poison))
        return Inserted()
