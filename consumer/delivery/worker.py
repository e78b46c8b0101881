"""The worker: from records to rows, every one exactly once. No driver is imported here.

Per partition: seal a batch [a, b) -> screen and encode it -> commit its intent at a -> insert it as one block under its
token -> send its poison to the dead letters -> commit b. `turn` makes one round over all partitions; everything
slow runs on pools, and nothing but `poll` waits.

A crash after ...          The successor ...
-------------------------  ------------------------------------------------------------------------------
poll                       reads again from the committed offset
intent committed           reads exactly [a, b), inserts all but what the intent leaves out under the same token
                           (inserted once), and sends the dead letters of that
insert sent, no answer     the same; a late insert carries the same token
insert acknowledged        the same; ClickHouse drops the block
dead letters sent          the same; the letters bear the same keys
b committed                goes on at b

Nothing is written anywhere but behind an intent, and every retry goes through its intent again: a member that the
group has expelled is refused there, and stops. A member that is still in the group could commit a partition it no
longer owns; so all commits are made by the thread that hears of assignments, for lanes that it drops when they go.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from consumer.delivery.balance import pauses
from consumer.delivery.executor import Pools, StepExecutor, WorkerConfig
from consumer.delivery.halting import Step
from consumer.delivery.opening import RESUME, SET_OFFSET, cut_off, halted, open_lane, start_of
from consumer.delivery.partition import PartitionState
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Answer, Assigned, CommittedOffset, Cut, Log, Metrics, Partition, Polled, Position
from consumer.errors import Fatal, Fenced, Halt, HaltCode, Recreated

log = logging.getLogger(__name__)

_BUSY_POLL_S: Final = 0.02
_IDLE_POLL_S: Final = 0.1


class Worker:
    """Moves the records of the partitions it is assigned into the table.

    One thread makes all calls; it is the log's listener, and the log calls it back on that thread.
    """

    def __init__(
        self, log: Log, pipelines: Mapping[str, Pipeline], pools: Pools, config: WorkerConfig, metrics: Metrics
    ) -> None:
        self._log = log
        self._executor = StepExecutor(pipelines, pools, config, metrics)
        self._config = config
        self._metrics = metrics
        self._states: dict[Partition, PartitionState] = {}
        self._halted: dict[Partition, PartitionState] = {}
        self._cuts: dict[Partition, tuple[str, int]] = {}
        self._revoke_s = config.revoke_s
        self._failure: Fatal | None = None

    @property
    def states(self) -> Mapping[Partition, PartitionState]:
        """The partitions that are read now."""
        return self._states

    @property
    def owned(self) -> Mapping[Partition, PartitionState]:
        """The same, and those that were halted before anything was read of them."""
        return {**self._states, **self._halted}

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, Position | None]:
        """Open a lane for each partition and return where to read it from."""
        starts: dict[Partition, Position | None] = {}
        for item in partitions:
            state = open_lane(item, keeps_metadata=self._config.keeps_metadata)
            if self._cuts.get(item.partition) == (state.topic_id, state.read_to):
                state = halted(item, HaltCode.TRUNCATED, f"its log does not have the next offset; {RESUME}")
            if state.halt is not None:
                self._metrics.count("halts", code=state.halt.code)
            (self._halted if state.halt else self._states)[item.partition] = state
            starts[item.partition] = None if state.halt else start_of(state)
            if state.replay:
                self._metrics.count("intents", outcome="replayed")
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Wait for what is being written, at most `revoke_s`; commit what is finished; close the lanes."""
        going = [self._states[partition] for partition in partitions if partition in self._states]
        self._executor.await_writes(going, self._revoke_s)
        marks: dict[Partition, CommittedOffset] = {}
        for state in going:
            state.is_open = False
            self._collect_last(state)
            if state.pending_commit is None and (mark := state.final_mark()) is not None:
                marks[state.partition] = mark
        if marks:
            self._log.commit(marks)
        self.lost(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget the partitions and commit nothing: an insert in flight carries its successor's token."""
        for partition in partitions:
            state = self._states.pop(partition, None) or self._halted.pop(partition, None)
            if state is not None:
                self._executor.book(partition, "returned", state.waiting_records)
                state.cancel_jobs()

    def turn(self) -> None:
        """Poll once and move every lane on.

        Raises:
            Fatal: the worker must stop; nothing is committed that is not in the table.
        """
        busy = any(state.tasks for state in self._states.values())
        polled = self._log.poll(_BUSY_POLL_S if busy else _IDLE_POLL_S)
        if self._failure:
            raise self._failure
        now_s = self._config.now_s()
        self._take(polled, now_s)
        for state in self._states.values():
            if (partition := state.continuity.seek_to) is not None and self._log.seek(state.partition, partition):
                state.continuity.sought()
        for answer in polled.answers:
            self._take_answer(answer, now_s)
        for state in (*self._states.values(), *self._halted.values()):
            self._move(state, now_s)
        self._commit(now_s)
        self._balance()

    def drain(self, deadline_s: float) -> bool:
        """Insert and commit all that was taken, until a monotonic deadline; tell whether it was done."""
        while self._config.now_s() < deadline_s:
            for state in self._states.values():
                if state.is_open:
                    state.is_open = False
                    self._log.pause(state.partition)
            if all(state.is_done or (state.halt and not state.pending_commit) for state in self._states.values()):
                return all(state.is_done for state in self._states.values())
            self.turn()
        self._revoke_s = 0.0  # it has had its time
        return False

    def _take(self, polled: Polled, now_s: float) -> None:
        taken: Counter[Partition] = Counter()
        for record in polled.records:
            if (state := self._states.get(record.partition)) is not None and state.add(record, now_s):
                taken[record.partition] += 1
        for partition, count in taken.items():
            self._executor.book(partition, "read", count)
            self._executor.got_past(self._states[partition], Step.READ)
        for partition, why in polled.unreadable.items():
            if (state := self._states.get(partition)) is not None:
                told = f"its log can't be read on: {why}; {SET_OFFSET}"
                self._executor.halt(state, Step.READ, now_s, Halt(told, HaltCode.UNREADABLE))
        for partition, offset in polled.ends.items():
            if (state := self._states.get(partition)) is not None:
                state.reached_end(offset)
        for partition, cut in polled.cut.items():
            if (state := self._states.get(partition)) is not None and state.cut is None:
                state.cut = cut

    def _move(self, state: PartitionState, now_s: float) -> None:
        """Take what the pool has done for a lane, and give it more to do."""
        try:
            self._executor.collect(state, now_s)
        except Recreated:
            log.error("topic was recreated", extra={"topic": state.partition.topic})  # noqa: TRY400  (a trace says nothing more)
            self._give_up(state)
            return
        self._executor.remind(state, now_s)
        state.seal(self._executor.limits, now_s)
        self._executor.prepare(state, now_s)
        self._executor.check(state, now_s)
        if state.cut is not None and state.is_done:
            self._stop_at(state, state.cut)
        elif state.is_over and state.is_done:
            log.warning("second reading is done", extra={"partition": state.partition.number, "reading": state.reading})
            self._give_up(state)

    def _stop_at(self, state: PartitionState, cut: Cut) -> None:
        """Read no further; where the log merely lacks the next offset, ask once more where it begins."""
        if not cut.is_other:
            log.error("log can't be read on", extra={"partition": state.partition.number, "offset": state.read_to})
            self._cuts[state.partition] = (state.topic_id, state.read_to)
            self._give_up(state)
            return
        self.lost((state.partition,))
        self._log.pause(state.partition)
        self._halted[state.partition] = cut_off(state, cut)
        self._metrics.count("halts", code=HaltCode.TRUNCATED)

    def _collect_last(self, state: PartitionState) -> None:
        """Take what is finished of a lane that goes."""
        try:
            with suppress(Recreated):  # its marks say which incarnation they are of
                self._executor.collect(state, self._config.now_s())
        except Fatal as error:
            self._failure = error

    def _give_up(self, state: PartitionState) -> None:
        """Forget a lane, and ask for its partition again."""
        self.lost((state.partition,))
        self._log.rejoin()

    def _commit(self, now_s: float) -> None:
        """Send what the lanes wish to commit; a later poll brings the answers."""
        wishes = {partition: mark for partition, state in self._states.items() if (mark := state.next_commit(now_s))}
        for partition, mark in wishes.items():
            self._states[partition].pending_commit = mark
        if wishes:
            self._log.commit(wishes)

    def _take_answer(self, answer: Answer, now_s: float) -> None:
        """Note what the group now holds; a head whose intent it is begins; a fenced lane ends."""
        state = self._states.get(answer.partition)
        if state is None or state.pending_commit != answer.mark:
            return
        if answer.error is None:
            state.commit_succeeded(answer.mark)
            self._executor.got_past(state, Step.COMMIT)
            if state.intends(answer.mark):
                self._executor.begin(state, now_s)
            return
        if isinstance(answer.error, Halt):
            state.retry_commit_at(now_s + self._config.halt_backoff.delay_s(state.commit_attempt + 1))
            self._executor.halt(state, Step.COMMIT, now_s, answer.error)
            return
        if isinstance(answer.error, Fatal):
            raise answer.error
        log.warning("commit failed", extra={"partition": state.partition.number, "reason": str(answer.error)})
        if isinstance(answer.error, Fenced):
            self._metrics.count("intents", outcome="refused")
            self._give_up(state)
        else:
            state.retry_commit_at(now_s + self._config.backoff.delay_s(state.commit_attempt + 1))

    def _balance(self) -> None:
        """Keep memory to its bound."""
        states = self._states.values()
        paused, resumed = pauses(states, self._config.limits.waiting_bytes_max)
        for state in paused:
            state.is_paused = True
            self._log.pause(state.partition)
        for state in resumed:
            state.is_paused = False
            self._log.resume(state.partition)
        self._metrics.set("waiting_bytes", sum(state.size_bytes for state in states))
        self._metrics.set("partitions", len(states), state="owned")
        self._metrics.set("partitions", sum(state.is_paused for state in states), state="paused")
        self._metrics.set("partitions", sum(state.halt is not None for state in self.owned.values()), state="halted")
