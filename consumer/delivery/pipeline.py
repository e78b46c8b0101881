"""The slow steps of one batch: prepare, insert, send. Called on a pool; stateless."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from consumer.delivery.batch import Attempt, Awaited, Batch, Draft, Inserted, Prepared, Sent
from consumer.delivery.intent import NO_SHARD, Intent
from consumer.delivery.ports import (
    Block,
    DeadLetters,
    InsertSpans,
    Partition,
    Poison,
    Rows,
    Table,
    Topics,
)
from consumer.delivery.repeats import Held, InsertedOffsets, Repairer
from consumer.delivery.sizing import bounded, fitting, halved, searched
from consumer.errors import Cause, Halt, HaltCode, Reason, Recreated, Rejected, TooLarge, Transient

log = logging.getLogger(__name__)

_NOT_SENT: Final = (
    "rows came long ago, or were moved by a migration, and are not sent again: a view of your own that failed then"
    " lacks them"
)
# With this reason the search decodes the record too.
_UNEXPLAINED: Final = Rejected("left out by an earlier attempt", 0, reason=Reason.BAD_AVRO)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Screens, encodes and inserts batches, and sends their dead letters, through its ports."""

    rows: Rows
    table: Table
    letters: DeadLetters
    topics: Topics
    repairer: Repairer
    inserted: InsertedOffsets
    spans: InsertSpans | None = None

    def prepare(self, draft: Draft, namespace: str) -> Prepared:
        """Find a batch's poison by frame and schema, and make blocks of the rest; write nothing.

        The topic's ID is checked after the records were read: an ID is never reused, so they are of that topic.

        Raises:
            Transient: the registry or a broker is away.
            Recreated: the topic is not the one that was assigned.
            Halt: a schema is newer, there is more poison than an intent can list, or a row's schema is forgotten.
        """
        intent = draft.batch.intent
        self.check(draft.batch.partition.topic, intent.topic_id)
        if draft.inserted_max is not None:
            self._check_inserted(draft.batch.partition, intent, draft.inserted_max)
        inherited = self._inherited(draft.batch) if draft.is_inherited else ()
        known = (*inherited, *draft.known, *draft.refused)
        screened = self.rows.screen(draft.batch.without(known).included)
        if screened and draft.is_fixed:
            self._check_no_rows(draft.batch, screened)
        if draft.is_suspect:
            known = (*known, *self._refusable(draft.batch.without((*known, *screened))))
        batch = halved(searched(draft.batch.without((*known, *screened)), draft), draft)
        batch = fitting(batch, is_fixed=draft.is_fixed)
        blocks = self.rows.blocks(batch.included, intent.origin, batch.token(namespace))
        if len(blocks) > 1 and (shorter := bounded(batch, is_fixed=draft.is_fixed)) is not batch:
            batch, blocks = shorter, self.rows.blocks(shorter.included, intent.origin, shorter.token(namespace))
        end = batch.intent.b
        letters = tuple(item for item in (*known, *screened) if item.offset < end)
        later = tuple(item for item in known if item.offset >= end)
        return Prepared(batch, _for_shard(blocks, intent.shard), letters, later)

    def _check_no_rows(self, batch: Batch, screened: Sequence[Poison]) -> None:
        """Return if none of these records is a row already: a worker that knew its schema may have inserted it.

        Raises:
            Transient: ClickHouse is away.
            Halt: one is.
        """
        block = Block(-1, batch.intent.origin, "", tuple(item.offset for item in screened), b"")
        present = self.inserted.present(batch.partition, block)
        if rows := [item for item in screened if item.offset in present]:
            why = f"offset {rows[0].offset} is a row, and this worker can't read it now: {rows[0].error}"
            raise Halt(f"{why}; give the registry the schema back, until this batch is through", HaltCode.NEWER)

    def _refusable(self, batch: Batch) -> list[Poison]:
        """Return the rows that the table would refuse, as far as it tells beforehand.

        So where poison goes on and on, a batch is inserted at the first try.
        """
        records = batch.included
        blocks = self.rows.blocks(records, batch.intent.origin, "screened")
        return [poison for block in blocks for poison in self.table.screen(block, records)]

    def _check_inserted(self, partition: Partition, intent: Intent, inserted_max: int) -> None:
        """Return if the tables have no offset from here on; else the group's offset was lost or set back.

        Raises:
            Transient: ClickHouse is away.
            Halt: they have such offsets.
        """
        end = self.inserted.end(partition, intent.topic_id, intent.reading)
        if end > inserted_max:
            raise Halt(
                f"the tables hold its offsets up to {end - 1}, but the group says that only those below {inserted_max}"
                " were read: its offsets have expired, or were set back. Stop the workers:"
                " `python -m consumer resume --go` goes on behind what is there, `python -m consumer reprocess"
                f" --partition {partition.topic}/{partition.number} --from-offset {inserted_max} --go` reads it again",
                HaltCode.ALREADY_READ,
            )

    def check(self, topic: str, topic_id: str) -> None:
        """Return if the topic still has this ID.

        Raises:
            Transient: a broker is away.
            Recreated: it has another ID.
        """
        if self.topics.id_of(topic) != topic_id:
            raise Recreated(f"{topic} is no longer {topic_id}")

    def _inherited(self, batch: Batch) -> tuple[Poison, ...]:
        """Return the records that a predecessor left out; it may have died before their dead letters were acknowledged.

        The reasons are found again, because these dead letters replace the predecessor's. A record that the table would
        accept today gets no specific reason.

        Raises:
            Transient: the registry or the table is away.
            Halt: the table is wrong.
        """
        found = {item.offset: item for item in self.rows.screen(batch.left_out)}
        while rest := [record for record in batch.left_out if record.offset not in found]:
            blocks = self.rows.blocks(rest, batch.intent.origin, "left out")
            more = [poison for block in blocks for poison in self.table.find_poison(block, _UNEXPLAINED, rest)]
            found |= {item.offset: item for item in more}
            if not more:
                break  # a search may end before it has found all, but not before it has found one
        return tuple(
            found.get(record.offset, Poison(record.offset, Reason.LEFT_OUT, "left out by an earlier attempt"))
            for record in batch.left_out
        )

    def send(self, batch: Batch, poison: Sequence[Poison]) -> Sent:
        """Send the dead letters of a batch whose rows are in the table.

        Raises:
            Transient: the broker is away.
        """
        self.letters.send(batch.records, poison, batch.intent.origin)
        return Sent()

    def young(self, batch: Batch, asked_s: float) -> Awaited | None:
        """Return what stands for a wait where none is needed: the tables surely know the batch's tokens."""
        until_s = self.inserted.known_until_s(batch.included, asked_s)
        return None if until_s is None else Awaited(until_s)

    def await_replicas(self, batch: Batch, asked_s: float, *, always: bool) -> Awaited:
        """Wait until replicas have what earlier tries of a batch may have inserted up to a moment (monotonic).

        What an expelled worker inserts behind that moment they may lack. It has a token that tables know until the time
        that is returned, so it is dropped or it drops ours; see docs/decisions/exactly-once.md.

        Raises:
            Transient: a replica does not catch up, or a server is away.
            Halt: the account may not wait for replicas.
        """
        return Awaited(self.inserted.await_replicas(batch.included, asked_s, always=always))

    def insert(self, batch: Batch, block: Block, attempt: Attempt) -> Inserted:
        """Insert a block of a batch; on a refusal find the rows that caused it.

        Before a block is sent again, the tables are asked what they hold of it. If they still know its token, it is
        sent whole: they drop what is there, and a view that missed it takes it. If they may have forgotten the token (a
        migration, a long outage), only those rows are sent that are not there. They keep the token: it counts for each
        month of rows by itself, and an insert brings a month whole or not at all. A server that died during an earlier
        try may have the token or the counts, but not the rows; so after a repeat the rows are looked for. Where they
        may be on a replica only, they are looked for once more when all replicas have caught up.

        Raises:
            Unseen: some rows are not to be seen, and replicas must be waited for.
            Transient: a server was away, or the outcome is not known, or so much time has passed (for want of a
                thread) that the intent fences no more.
            Halt: the table or the account is not as it must be, or no single row is to blame.
        """
        if self.spans is None:
            return self._insert(batch, block, attempt)
        with self.spans.inserting(batch.partition, batch.included, is_repeated=attempt.is_repeated):
            return self._insert(batch, block, attempt)

    def _insert(self, batch: Batch, block: Block, attempt: Attempt) -> Inserted:
        if attempt.is_unseen:
            self.repairer.repair(block, batch.included, is_awaited=True)
            return Inserted()
        held = self.inserted.held(batch.partition, block, batch.included) if attempt.is_repeated else Held()
        is_there = held.offsets.issuperset(block.offsets)
        sent = block if held.is_remembered else self._lacking(batch, block, held.offsets)
        if sent.offsets:
            if not attempt.is_fresh():
                raise Transient("too long after its intent, which must be committed again first", Cause.BUSY)
            try:
                self.table.insert(sent)
            except Rejected as refusal:
                if not is_there:
                    refused = self._refused(batch, sent, attempt, refusal)
                    return refused if sent is block else replace(refused, is_untouched=False)
            except TooLarge as refusal:
                if not is_there:
                    return self._too_large(batch, block, attempt, refusal, is_part=sent is not block)
        if attempt.is_repeated:
            self.repairer.repair(block, batch.included, is_awaited=False)
        return Inserted()

    def _lacking(self, batch: Batch, block: Block, there: frozenset[int]) -> Block:
        """Return a block of those rows that are not there, under the same token; it may be empty."""
        where = {"partition": batch.partition.number, "a": batch.intent.a, "b": batch.intent.b}
        log.warning(_NOT_SENT, extra=where | {"rows": len(there)})
        lacking = frozenset(block.offsets) - there
        records = [record for record in batch.included if record.offset in lacking]
        if not records:
            return replace(block, offsets=(), payload=b"")
        (part,) = self.rows.blocks(records, block.origin, block.token)
        return replace(part, token=block.token, shard=block.shard)

    def _refused(self, batch: Batch, block: Block, attempt: Attempt, refusal: Rejected) -> Inserted:
        """Return the rows of a block that the table refuses, none of which is in it.

        Raises:
            Transient, Halt: as insert.
        """
        if attempt.is_repeated and self.repairer.is_under_way(block):
            raise Transient("an earlier insert of the same rows still runs", Cause.BUSY) from refusal
        present = self.inserted.present(batch.partition, block) if attempt.is_repeated else frozenset()
        poison = self.table.find_poison(block, refusal, batch.included)
        if not poison:
            raise Halt(f"refused, and no row is to blame: {refusal}", HaltCode.REFUSED) from refusal
        if taken := [item for item in poison if item.offset in present]:
            why = f"offset {taken[0].offset} is a row, and the table would refuse it now: {taken[0].error}"
            raise Halt(f"{why}; take back what the table has got since, until this batch is through", HaltCode.REFUSED)
        return Inserted(refused=tuple(poison), is_untouched=attempt.number == 0 and not present)

    def _too_large(self, batch: Batch, block: Block, attempt: Attempt, refusal: TooLarge, *, is_part: bool) -> Inserted:
        """Return that a batch can be made smaller, if it can: it can't once a part of it is there.

        Raises:
            TooLarge: not yet.
            Halt: it can't.
        """
        if attempt.number or len(block.offsets) == 1 or is_part:
            why = f"HTTP 413 for a request of {refusal.size_bytes} bytes, which can't be smaller: raise the limit"
            where = "of the proxy before ClickHouse (nginx: client_max_body_size)"
            raise Halt(f"{why} {where}", HaltCode.TOO_LARGE) from refusal
        if attempt.is_repeated and not (attempt.is_settled and self._is_nowhere(batch, block)):
            raise refusal
        return Inserted(is_too_large=True)

    def _is_nowhere(self, batch: Batch, block: Block) -> bool:
        """Tell whether no row of a batch is in the table, and no insert of its first block is running."""
        intent = batch.intent
        end = self.inserted.end(batch.partition, intent.topic_id, intent.reading)
        if end > intent.a or self.repairer.is_under_way(block):
            return False
        return not self.inserted.present(batch.partition, block)


def _for_shard(blocks: Sequence[Block], shard: int) -> tuple[Block, ...]:
    """Return the blocks, each with the shard that its intent names."""
    return tuple(blocks) if shard == NO_SHARD else tuple(replace(block, shard=shard) for block in blocks)
