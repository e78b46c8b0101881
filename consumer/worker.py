"""The worker: from records to rows, every one exactly once. No driver is imported here.

Per partition: seal a batch [a, b) -> screen it, poison to the dead letters -> commit its intent at a -> insert it as
one block under its token -> commit b. `turn` makes one round over all partitions; everything slow runs on the pool.

A crash after ...          The successor ...
-------------------------  ------------------------------------------------------------------------------
poll                       reads again from the committed offset
dead letters sent          sends them again, under the same key
intent committed           reads exactly [a, b) and inserts it under the same token: inserted once
insert sent, no answer     the same; a late insert carries the same token
insert acknowledged        the same; ClickHouse drops the block
b committed                goes on at b

Every retry of an insert goes through its intent again: a member that the group has expelled is refused there, and
stops. A member that is still in the group could commit a partition it no longer owns; so all commits are made by the
thread that hears of assignments, for lanes that it drops when they go.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from time import monotonic
from typing import Final

from consumer.batch import Inserted, Limits, Prepared
from consumer.errors import ConsumerError, Fenced, Transient
from consumer.intent import decode
from consumer.lane import Lane, Stage, Work
from consumer.pipeline import Pipeline
from consumer.ports import Assigned, Log, Mark, Meter, Partition, Record
from consumer.retry import Backoff

log = logging.getLogger(__name__)

_BUSY_POLL_S: Final = 0.02
_IDLE_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker keeps to.

    Attributes:
        limits: of batches and memory.
        namespace: starts every token: the Kafka cluster's id.
        revoke_s: how long a rebalance may wait for inserts in flight; the intent covers the rest.
        backoff: between tries, of inserts and of commits.
        now_s: the monotonic clock.
    """

    limits: Limits
    namespace: str
    revoke_s: float
    backoff: Backoff
    now_s: Callable[[], float] = monotonic


class Worker:
    """Moves the records of the partitions it is assigned into the table.

    One thread makes all calls; it is the log's listener, and the log calls it back on that thread.
    """

    def __init__(self, log: Log, pipelines: Mapping[str, Pipeline], pool: Executor, terms: Terms, meter: Meter) -> None:
        self._log = log
        self._pipelines = pipelines
        self._pool = pool
        self._terms = terms
        self._meter = meter
        self._lanes: dict[Partition, Lane] = {}
        self._halted: set[Partition] = set()
        self._commit_at_s = 0.0
        self._commit_attempt = 0

    @property
    def lanes(self) -> Mapping[Partition, Lane]:
        """The partitions owned now."""
        return self._lanes

    @property
    def is_held(self) -> bool:
        """Whether some step is being retried: a server is away, or busy."""
        return self._commit_attempt > 0 or any(work.attempt for lane in self._lanes.values() for work in lane.works)

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, int | None]:
        """Open a lane for each partition and return where to read it from."""
        starts: dict[Partition, int | None] = {}
        for item in partitions:
            lane = open_lane(item)
            starts[item.partition] = lane.read_to if lane else None
            if lane:
                self._lanes[item.partition] = lane
                if lane.replay:
                    self._meter.count("intents", outcome="replayed")
            else:
                self._halted.add(item.partition)
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Wait for inserts in flight, at most `revoke_s`; commit what is finished; close the lanes."""
        going = {partition: self._lanes[partition] for partition in partitions if partition in self._lanes}
        works = [work for lane in going.values() for work in lane.works if work.stage is Stage.INSERTING]
        wait([work.job for work in works if work.job], self._terms.revoke_s)
        for lane in going.values():
            lane.is_open = False
            self._collect(lane, self._terms.now_s())
        marks = {partition: mark for partition, lane in going.items() if (mark := lane.final_mark())}
        if marks:
            self._take_answers(marks, self._log.commit(marks))
        self.lost(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget the partitions and commit nothing: an insert in flight carries its successor's token."""
        for partition in partitions:
            self._halted.discard(partition)
            if (lane := self._lanes.pop(partition, None)) is not None:
                self._book(partition, "returned", lane.waiting_records)

    def turn(self) -> None:
        """Poll once and move every lane on.

        Raises:
            Fatal: the worker must stop; nothing is committed that is not in the table.
        """
        busy = any(lane.works for lane in self._lanes.values())
        records, ends = self._log.poll(_BUSY_POLL_S if busy else _IDLE_POLL_S)
        now_s = self._terms.now_s()
        self._take(records, now_s)
        for partition, offset in ends.items():
            if (lane := self._lanes.get(partition)) is not None:
                lane.reached_end(offset)
        for lane in self._lanes.values():
            self._move(lane, now_s)
        self._commit(now_s)
        self._balance()

    def _take(self, records: Sequence[Record], now_s: float) -> None:
        taken: Counter[Partition] = Counter()
        for record in records:
            if (lane := self._lanes.get(record.partition)) is not None and lane.add(record, now_s):
                taken[record.partition] += 1
        for partition, count in taken.items():
            self._book(partition, "read", count)

    def _book(self, partition: Partition, outcome: str, count: int) -> None:
        """Note what became of records: read = rows_inserted + dead_letters + returned, once a partition is given up."""
        self._meter.count("records", count, topic=partition.topic, partition=str(partition.number), outcome=outcome)

    def drain(self, deadline_s: float) -> bool:
        """Insert and commit all that was taken, until a monotonic deadline; tell whether it was done."""
        while self._terms.now_s() < deadline_s:
            for lane in self._lanes.values():
                self._close_intake(lane)
            if all(lane.is_done for lane in self._lanes.values()):
                return True
            self.turn()
        return False

    def _close_intake(self, lane: Lane) -> None:
        if lane.is_open:
            lane.is_open = False
            self._log.pause(lane.partition)

    def _move(self, lane: Lane, now_s: float) -> None:
        self._collect(lane, now_s)
        if not lane.works or lane.works[-1].stage is not Stage.WAITING:
            lane.seal(self._terms.limits, now_s)
        for work in lane.works:
            if work.stage is Stage.WAITING and now_s >= work.retry_at_s:
                self._prepare(lane, work)

    def _prepare(self, lane: Lane, work: Work) -> None:
        intent = work.batch.intent
        token = f"{self._terms.namespace}/{intent.topic_id}/{lane.partition.number}/{intent.a}/{intent.b}"
        work.stage = Stage.PREPARING
        work.job = self._pool.submit(
            self._pipelines[lane.partition.topic].prepare, work.batch, work.poison, token, lane.poison_run
        )

    def _collect(self, lane: Lane, now_s: float) -> None:
        """Take the results of the pool's finished jobs."""
        for work in tuple(lane.works):
            if work.job is None or not work.job.done():
                continue
            job, work.job = work.job, None
            try:
                outcome = job.result()
            except Transient as error:
                self._postpone(work, now_s, error)
                continue
            if isinstance(outcome, Prepared):
                self._take_prepared(lane, work, outcome)
            else:
                self._take_inserted(lane, work, outcome)

    def _take_prepared(self, lane: Lane, work: Work, outcome: Prepared) -> None:
        work.prepared(outcome)
        lane.poison_run = outcome.poison_run
        for item in outcome.poison:
            self._meter.count("dead_letters", reason=item.reason)

    def _take_inserted(self, lane: Lane, work: Work, outcome: Inserted) -> None:
        if outcome.refused:
            work.poison, work.stage = outcome.refused, Stage.WAITING
            return
        rows = len(work.batch.included)
        lane.finished()
        self._book(lane.partition, "rows_inserted", rows)
        self._book(lane.partition, "dead_letters", len(work.batch.records) - rows)
        self._meter.observe("batch_rows", rows, topic=lane.partition.topic)
        log.debug("inserted", extra={"partition": lane.partition.number, "rows": rows, "b": work.batch.intent.b})

    def _postpone(self, work: Work, now_s: float, error: Transient) -> None:
        """Try the same again later; a failed insert goes through its intent again."""
        stage = Stage.WAITING if work.stage is Stage.PREPARING else Stage.PREPARED
        work.postpone(stage, now_s + self._terms.backoff.delay_s(work.attempt + 1))
        self._meter.count("retries", step="prepare" if stage is Stage.WAITING else "insert", cause=error.cause)
        log.warning("will try again", extra={"attempt": work.attempt, "reason": str(error)[:300]})

    def _commit(self, now_s: float) -> None:
        """Commit what the lanes wish, in one call; inserts start where their intent was taken."""
        if now_s < self._commit_at_s:
            return
        wishes = {partition: mark for partition, lane in self._lanes.items() if (mark := lane.wish(now_s))}
        if not wishes:
            return
        failed = self._take_answers(wishes, self._log.commit(wishes))
        self._commit_attempt = self._commit_attempt + 1 if failed else 0
        self._commit_at_s = now_s + self._terms.backoff.delay_s(self._commit_attempt) if failed else 0.0
        for partition, mark in wishes.items():
            if (lane := self._lanes.get(partition)) is not None and lane.committed == mark:
                self._insert(lane)

    def _take_answers(self, marks: Mapping[Partition, Mark], answers: Mapping[Partition, ConsumerError | None]) -> bool:
        """Note what the group now holds, drop fenced lanes, and tell whether any commit has to be tried again."""
        failed = False
        for partition, mark in marks.items():
            error = answers[partition]
            if error is None:
                self._lanes[partition].committed = mark
            elif isinstance(error, Fenced):
                self._meter.count("intents", outcome="refused")
                log.warning("fenced", extra={"partition": partition.number, "reason": str(error)})
                self.lost((partition,))
            else:
                failed = True
                log.warning("commit failed", extra={"partition": partition.number, "reason": str(error)})
        return failed

    def _insert(self, lane: Lane) -> None:
        """Start the head's insert, now that its intent is committed."""
        if not lane.works or lane.works[0].stage is not Stage.PREPARED:
            return
        work = lane.works[0]
        work.stage, work.intended = Stage.INSERTING, True
        self._meter.count("intents", outcome="written")
        work.job = self._pool.submit(self._pipelines[lane.partition.topic].insert, work.batch, work.blocks)

    def _balance(self) -> None:
        """Pause the fullest partitions above the memory bound, resume all below half of it."""
        bound = self._terms.limits.waiting_bytes_max
        sizes = {partition: lane.size_bytes for partition, lane in self._lanes.items()}
        total = sum(sizes.values())
        for partition, lane in self._lanes.items():
            if not lane.is_open:
                continue
            if total >= bound and sizes[partition] * len(sizes) >= total and not lane.is_paused:
                lane.is_paused = True
                self._log.pause(partition)
            elif total <= bound // 2 and lane.is_paused:
                lane.is_paused = False
                self._log.resume(partition)
        self._meter.level("waiting_bytes", total)
        self._meter.level("partitions", len(sizes), state="owned")
        self._meter.level("partitions", sum(lane.is_paused for lane in self._lanes.values()), state="paused")
        self._meter.level("partitions", len(self._halted), state="halted")


def open_lane(item: Assigned) -> Lane | None:
    """Return the lane of a newly assigned partition, or None when reading on would skip records.

    A mark of another incarnation of the topic says nothing about this one, which is read from its start.
    """
    intent = decode(item.committed.metadata) if item.committed else None
    if item.committed is None or (intent and intent.topic_id != item.topic_id):
        if intent:
            log.error("topic was made anew; reading it from its start", extra={"topic": item.partition.topic})
        return Lane(item.partition, item.topic_id, item.low, None, read_to=item.low)
    offset = item.committed.offset
    if offset < item.low:
        log.error(
            "records were deleted before they were read: partition halted",
            extra={"partition": item.partition.number, "committed": offset, "low": item.low},
        )
        return None
    replay = intent if intent and intent.is_range and intent.a == offset else None
    return Lane(item.partition, item.topic_id, offset, item.committed, replay, read_to=offset)
