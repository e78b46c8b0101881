"""The state of one partition in the protocol: records collected, batches in progress, and what to commit next.

It holds at most two batch tasks: the head, and the next one, which is prepared while the head is inserted. So the
commit that finishes one batch carries the intent of the next. It makes no calls and reads no clock.
"""

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from consumer.delivery.batch import Batch, Draft, Prepared
from consumer.delivery.buffer import LARGE_ROWS, BufferLimits
from consumer.delivery.halting import Halted, Step, renewed
from consumer.delivery.intent import NO_EPOCH, NO_SHARD, Intent
from consumer.delivery.ports import CommittedOffset, Poison
from consumer.delivery.reading import ReadingState
from consumer.delivery.task import BatchTask, Stage
from consumer.errors import OF_TABLE, Halt

# While more than a tenth of a batch lies ahead, it grows. A steady flow has less: what comes between two polls, and the
# marks of transactions, which are never read.
_REST: Final = 10
_FEW: Final = 100
# The rest of a backlog joins its last batch, if it comes within this.
_REST_S: Final = 0.5
_REPEATED: Final = "what an earlier try may have inserted is looked for, and inserted again"
SUSPECT_BATCHES: Final = 10
"""So many batches without poison end the suspicion: asking takes 10 µs an event, and a refused insert much longer."""


@dataclass(slots=True)
class PartitionState(ReadingState):
    """The state of one owned partition, with what is read of it.

    Attributes:
        known: poison after the tasks' batches that was already found, by offset; no intent lists it.
        leader_epoch: of the last record below the position.
        reading: 0, and one more each time that an operator has offsets read again.
        pending_commit: the commit that was sent and is not answered yet.
        commit_at_s: no commit before this moment (monotonic); `commit_attempt` counts failed ones in a row.
        replay: the range that the predecessor left unfinished, until it is sealed.
        inserted_max: no offset from here on may be in the table yet; None once that was checked.
        denied: why reading is not permitted, if so; tried again at `ask_at_s` (monotonic).
        halt: why the partition waits for an operator; None when it does not.
        suspect_batches: of so many more batches the table is asked beforehand which rows it would refuse, because it
            would have refused some lately. That happens while the head is being inserted, so it holds up nothing.
        check: the running check that the topic is still the same; last started at `checked_at_s`.
        is_squeezed: whether the next batch must be sealed because memory is short.
        sealed_at_s: when the last batch was sealed (monotonic).
        turn_at_s: when its turn to read began (monotonic), if it has one; see consumer/delivery/balance.py.
        behind_at_s: when more than the rest of a backlog last lay ahead (monotonic).
        took_s: how long the last finished batch took since it was sealed.
        shard: the shard that its next batches go to; NO_SHARD when there is only one.
        cluster_id: the Kafka cluster's id; "" when not known.
    """

    replay: Intent | None = None
    known: dict[int, Poison] = field(default_factory=dict)
    leader_epoch: int = NO_EPOCH
    reading: int = 0
    tasks: deque[BatchTask] = field(default_factory=deque)
    pending_commit: CommittedOffset | None = None
    commit_at_s: float = 0.0
    commit_attempt: int = 0
    inserted_max: int | None = None
    denied: Halt | None = None
    ask_at_s: float = 0.0
    halt: Halted | None = None
    check: Future[None] | None = None
    checked_at_s: float = 0.0
    suspect_batches: int = 0
    is_squeezed: bool = False
    sealed_at_s: float = float("-inf")
    turn_at_s: float | None = None
    behind_at_s: float = float("-inf")
    took_s: float = 0.0
    shard: int = NO_SHARD
    cluster_id: str = ""

    def reached_end(self, offset: int) -> None:
        """Record that the log ends at an offset for now; see `ReadingState`."""
        ReadingState.reached_end(self, offset)
        if self.is_taking and not self.continuity.is_waiting:
            self._pass_gap()

    def _pass_gap(self) -> None:
        """Move the position up to `read_to` when no record below it waits."""
        if self.replay is None and not self.tasks and not self.buffer.records:
            self.position = max(self.position, self.read_to)

    @property
    def size_bytes(self) -> int:
        """The partition's memory: its records. Their encoded form is made when it is sent."""
        return self.buffer.size_bytes + sum(task.batch.size_bytes for task in self.tasks)

    @property
    def waiting_records(self) -> int:
        """The number of records that were read but are not finished."""
        return len(self.buffer.records) + sum(len(task.batch.records) for task in self.tasks)

    @property
    def oldest_ms(self) -> int | None:
        """The Kafka timestamp of the oldest record that was taken and is not finished; None when there is none."""
        records = next((task.batch.records for task in self.tasks if task.batch.records), self.buffer.records)
        return records[0].timestamp_ms if records and records[0].timestamp_ms > 0 else None

    @property
    def is_far_behind(self) -> bool:
        """Whether so much lies ahead that it is best read into one batch at once."""
        return self.known_end - self.read_to > LARGE_ROWS and not self.is_at_end

    def has_all_below(self, end: int | None) -> bool:
        """Tell whether everything below the partition's end is done; the end may be unknown."""
        return not self.tasks and not self.buffer.records and self.replay is None and (end or 0) <= self.read_to

    def seal(self, limits: BufferLimits, now_s: float) -> BatchTask | None:
        """Seal the next batch if one is due, or no more records will come, and the head is prepared."""
        if self.tasks and (len(self.tasks) > 1 or self.tasks[0].stage in (Stage.WAITING, Stage.PREPARING)):
            return None
        if self.replay is not None:
            return self._seal_replay(self.replay)
        if not self.buffer.records or (self.is_taking and not self._is_due(limits, now_s)):
            return None
        self.is_squeezed, self.sealed_at_s, self.turn_at_s = False, now_s, None
        a = self.tasks[-1].batch.intent.b if self.tasks else self.position
        before_bytes = self.buffer.size_bytes
        records = self.buffer.take(limits)
        intent = self._intent(a, records[-1].offset + 1, records[0].leader_epoch)
        task = self._start(Batch(self.partition, intent, records, before_bytes - self.buffer.size_bytes))
        task.sealed_at_s = now_s
        return task

    def _is_due(self, limits: BufferLimits, now_s: float) -> bool:
        if self.is_squeezed:
            return True
        rows, ahead = len(self.buffer.records), self.known_end - self.read_to
        is_behind = ahead > max(rows / _REST, _FEW) and not self.is_at_end
        self.behind_at_s = now_s if is_behind else self.behind_at_s
        is_behind = is_behind or (ahead > 0 and not self.is_at_end and now_s - self.behind_at_s < _REST_S)
        is_cheap = not self.tasks and self.took_s <= limits.early_s
        is_cheap = is_cheap or (self.is_at_end and rows >= LARGE_ROWS)
        since_s = self.buffer.arrivals[0][1]
        age_s = limits.age_s(self.partition.number, since_s, is_behind=is_behind, is_cheap=is_cheap)
        return self.buffer.is_due(limits, now_s, age_s)

    def _seal_replay(self, intent: Intent) -> BatchTask | None:
        if self.read_to < intent.b:
            return None
        self.replay = None
        return self._start(Batch.of(self.partition, intent, self.buffer.take_below(intent.b)), is_replay=True)

    def _start(self, batch: Batch, *, is_replay: bool = False) -> BatchTask:
        task = BatchTask(batch, is_replay, is_repeated=is_replay)
        self.tasks.append(task)
        return task

    def draft(self, task: BatchTask) -> Draft:
        """Return a task's draft for preparing."""
        is_inherited = task.is_replay and not task.intended
        known = {**self._known_of(task.batch), **{item.offset: item for item in task.letters}}
        return Draft(
            task.batch,
            task.refused,
            tuple(known.values()),
            task.is_fixed,
            is_inherited,
            task.refusals,
            self.inserted_max,
            task.is_too_large,
            self.suspect_batches > 0 and not task.is_promised,
        )

    def _known_of(self, batch: Batch) -> dict[int, Poison]:
        offsets = (record.offset for record in batch.records) if self.known else ()
        return {offset: self.known[offset] for offset in offsets if offset in self.known}

    def prepared(self, task: BatchTask, outcome: Prepared) -> None:
        """Take the result of preparing; records beyond a smaller batch wait for the next one."""
        self.inserted_max = None
        is_poisoned = any(item.reason in OF_TABLE for item in outcome.letters)
        self.suspect_batches = SUSPECT_BATCHES if is_poisoned else max(0, self.suspect_batches - 1)
        if rest := task.batch.records[len(outcome.batch.records) :]:
            self._unseal_behind(task)
            self.buffer.put_back(rest)
        self.known |= {item.offset: item for item in outcome.later}
        task.prepared(outcome)

    def _unseal_behind(self, task: BatchTask) -> None:
        """Unseal the task after one whose range now ends earlier; it has written nothing."""
        while self.tasks[-1] is not task:
            later = self.tasks.pop()
            if later.job is not None:
                later.job.cancel()
                later.job = None  # its result is ignored
            self.buffer.put_back(later.batch.records)

    def finished(self, now_s: float) -> None:
        """Remove the finished head: its rows are in the table, and its poison in the dead letters."""
        task = self.tasks.popleft()
        self.took_s = now_s - task.sealed_at_s
        self.position = task.batch.intent.b
        self.leader_epoch = task.batch.records[-1].leader_epoch if task.batch.records else self.leader_epoch
        if self.known:
            self.known = {offset: item for offset, item in self.known.items() if offset >= self.position}
        self._pass_gap()

    def commit_succeeded(self, mark: CommittedOffset) -> None:
        """Record that the group has a commit."""
        self.committed, self.pending_commit, self.commit_attempt, self.commit_at_s = mark, None, 0, 0.0

    def retry_commit_at(self, until_s: float) -> None:
        """Record that a commit failed, or that its outcome is unknown: send it again later."""
        self.pending_commit, self.commit_at_s = None, until_s
        self.commit_attempt += 1

    def halted(self, step: Step, error: Halt) -> None:
        """Record that a step waits for an operator."""
        self.halt = renewed(self.halt, Halted(self.partition, self.position, error.code, str(error), step))

    def got_past(self, step: Step) -> Halted | None:
        """Record that a step succeeded; return the halt that this ends, if any."""
        if self.halt is None or self.halt.step is not step:
            return None
        ended, self.halt = self.halt, None
        return ended

    @property
    def is_retrying(self) -> bool:
        """Whether a step is being retried that needs no operator, or waits for replicas, which may take long."""
        is_held = any(task.attempt or task.stage is Stage.AWAITING for task in self.tasks)
        return self.halt is None and bool(self.commit_attempt or is_held)

    @property
    def is_repeating(self) -> bool:
        """Whether an earlier try of the head may have inserted it, its predecessor's too."""
        return self.halt is None and bool(self.tasks) and self.tasks[0].is_repeated

    @property
    def trouble(self) -> str:
        """Why a batch is being retried; "" when none is."""
        return next((task.trouble for task in self.tasks if task.trouble), _REPEATED if self.is_repeating else "")

    def cancel_jobs(self) -> None:
        """Cancel jobs that have not started; do not wait for running ones."""
        for job in (self.check, *(task.job for task in self.tasks)):
            if job is not None:
                job.cancel()

    def next_commit(self, now_s: float) -> CommittedOffset | None:
        """Return what to commit now, if anything: the position, with the head's intent once it is prepared."""
        if self.pending_commit is not None or now_s < self.commit_at_s:
            return None
        head = self.tasks[0] if self.tasks else None
        if head is None or (head.stage is Stage.WAITING and head.attempt):
            return self.final_mark()  # finished batches do not wait for a failing one
        if head.is_ready(now_s):
            return self._mark(head.batch.intent)
        return None

    def intends(self, mark: CommittedOffset) -> bool:
        """Tell whether a commit carries the intent that the head waits for."""
        return (
            bool(self.tasks)
            and self.tasks[0].stage is Stage.PREPARED
            and mark == self._mark(self.tasks[0].batch.intent)
        )

    def final_mark(self) -> CommittedOffset | None:
        """Return what to commit when no more batches start: the position, unless an intent must stay for a successor.

        At the end of a second reading it is the commit from before that reading.
        """
        if self.replay is not None or (self.tasks and self.tasks[0].is_promised):
            return None
        if self.is_over and self.detour is not None and not self.tasks and not self.buffer.records:
            mark = CommittedOffset(self.detour.offset, self.detour.metadata, self.detour.leader_epoch)
        else:
            mark = self._mark(self._intent(self.position, self.position, self.leader_epoch))
        return None if self.committed == mark else mark

    def _intent(self, a: int, b: int, leader_epoch: int) -> Intent:
        return Intent(
            self.topic_id, a, b, (), leader_epoch, self.reading, self.cluster_id, self.shard, detour=self.detour
        )

    def _mark(self, intent: Intent) -> CommittedOffset:
        return CommittedOffset(self.position, intent.encode(), self.leader_epoch)

    @property
    def is_done(self) -> bool:
        """Whether everything read is in the table and committed; an unsealed replay is left to the successor."""
        return self.replay is not None or not (
            self.tasks or self.buffer.records or self.pending_commit or self.final_mark()
        )
