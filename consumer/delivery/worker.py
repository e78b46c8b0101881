"""The worker: turns records into rows, each exactly once. Imports no driver.

Per partition: seal a batch [a, b) -> screen it -> commit its intent at a -> encode it, and insert it as one block under
its token -> send its poison to the dead letters -> commit b. `turn` goes once over all partitions; slow steps run on
pools. Only `poll` waits, and `turn` waits a moment for a batch in preparation.

A crash after ...          The successor ...
-------------------------  ------------------------------------------------------------------------------
poll                       reads again from the committed offset
intent committed           reads exactly [a, b), inserts it without the excluded offsets under the same token (so it is
                           inserted once), and sends the dead letters of the excluded offsets
insert sent, no answer     does the same; a late insert has the same token
insert acknowledged        does the same; ClickHouse drops the block
dead letters sent          does the same; the dead letters have the same keys
b committed                continues at b

Every write follows a committed intent, and every retry commits its intent again: the broker refuses that commit of a
member that the group has expelled, and the member stops. A member still in the group could commit for a partition that
it no longer owns; so all commits are made by the thread that handles assignments, only for partitions that it still
owns.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Final

from consumer.delivery.balance import balance
from consumer.delivery.executor import Pools, StepExecutor, WorkerConfig
from consumer.delivery.halting import Step
from consumer.delivery.opening import RESUME, SET_OFFSET, cut_off, halted, open_state, start_of
from consumer.delivery.partition import PartitionState
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Answer, Assigned, CommittedOffset, Cut, Log, Metrics, Partition, Polled, Position
from consumer.delivery.reading import Intake
from consumer.errors import Denied, Fatal, Fenced, Halt, HaltCode, Recreated

log = logging.getLogger(__name__)

_PARTITION: Final = attrgetter("partition")
_BUSY_POLL_S: Final = 0.02
_IDLE_POLL_S: Final = 0.1
_PAUSE_S: Final = 3.0  # so long without a record is a pause
_ASK_AGAIN_S: Final = 15.0
_ASKED_ONCE_S: Final = 60.0  # a rebalance that comes later is another question


class Worker:
    """Moves the records of its assigned partitions into the table.

    One thread makes all calls. It is the log's listener; the log calls back on that thread.
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
        self._cuts: dict[Partition, tuple[str, int, float]] = {}  # topic id, offset, and when it was not there
        self._revoke_s = config.revoke_s
        self._held_at_s = float("-inf")  # when it last held records
        self._is_first = False  # whether the next batch is the first one after a pause
        self._failure: Fatal | None = None

    @property
    def states(self) -> Mapping[Partition, PartitionState]:
        """The partitions that are being read."""
        return self._states

    @property
    def owned(self) -> Mapping[Partition, PartitionState]:
        """The same, and those that were halted at their assignment."""
        return {**self._states, **self._halted}

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, Position | None]:
        """Open each partition and return where to read it from."""
        starts: dict[Partition, Position | None] = {}
        for item in partitions:
            config = self._config
            state = open_state(
                item, keeps_metadata=config.keeps_metadata, cluster_id=config.namespace, shards=config.shards
            )
            if state.halt is None and self._was_cut(state):  # else the log says what is wrong
                state = halted(item, HaltCode.TRUNCATED, f"its log lacks the next offset; {RESUME}")
            if state.halt is not None:
                self._metrics.count("halts", code=state.halt.code)
            (self._halted if state.halt else self._states)[item.partition] = state
            starts[item.partition] = None if state.halt else start_of(state)
            if state.replay:
                self._metrics.count("intents", outcome="replayed")
        return starts

    def _was_cut(self, state: PartitionState) -> bool:
        """Tell whether the log lacked a partition's next offset when it was asked for a moment ago."""
        topic_id, offset, at_s = self._cuts.get(state.partition, ("", 0, 0.0))
        is_recent = self._config.now_s() - at_s < _ASKED_ONCE_S
        return is_recent and (topic_id, offset) == (state.topic_id, state.read_to)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Wait for running writes, at most `revoke_s`; commit what is finished; give up the partitions."""
        going = [self._states[partition] for partition in partitions if partition in self._states]
        self._executor.await_writes(going, self._revoke_s)
        marks: dict[Partition, CommittedOffset] = {}
        for state in going:
            state.intake = Intake.CLOSED
            self._collect_last(state)
            if state.pending_commit is None and (mark := state.final_mark()) is not None:
                marks[state.partition] = mark
        if marks:
            self._log.commit(marks)
        self.lost(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Drop the partitions without committing: the successor repeats an insert in flight under the same token."""
        for partition in partitions:
            state = self._states.pop(partition, None) or self._halted.pop(partition, None)
            if state is not None:
                self._executor.book(partition, "returned", state.waiting_records)
                state.cancel_jobs()

    def turn(self) -> None:
        """Poll once, and advance every partition.

        Raises:
            Fatal: the worker must stop; only offsets of inserted rows are committed.
        """
        busy = any(state.tasks for state in self._states.values())
        polled = self._log.poll(_BUSY_POLL_S if busy else _IDLE_POLL_S)
        if self._failure:
            raise self._failure
        now_s = self._config.now_s()
        self._take(polled, now_s)
        for state in self._states.values():
            if (position := state.continuity.seek_to) is not None and self._log.seek(state.partition, position):
                state.continuity.sought()
            if state.denied is not None and now_s >= state.ask_at_s:
                self._ask_again(state, state.denied, now_s)
        for answer in polled.answers:
            self._take_answer(answer, now_s)
        self._is_first = self._is_first or now_s - self._held_at_s >= _PAUSE_S
        self._move_all(now_s)
        if self._executor.await_prepared(self._states.values(), now_s):
            self._move_all(now_s)
        self._commit(now_s)
        self._balance(now_s)

    def drain(self, deadline_s: float) -> bool:
        """Insert and commit everything that was read, until a monotonic deadline; tell whether it was finished."""
        while self._config.now_s() < deadline_s:
            for state in self._states.values():
                if state.intake is not Intake.CLOSED:
                    state.intake = Intake.CLOSED
                    self._log.pause(state.partition)
            if all(state.is_done or (state.halt and not state.pending_commit) for state in self._states.values()):
                return all(state.is_done for state in self._states.values())
            self.turn()
        self._revoke_s = 0.0  # its time is over
        return False

    def _take(self, polled: Polled, now_s: float) -> None:
        taken: Counter[Partition] = Counter()
        for partition, records in groupby(polled.records, _PARTITION):
            if (state := self._states.get(partition)) is not None:
                taken[partition] += state.add_all(list(records), now_s)
        for partition, count in (+taken).items():
            self._executor.book(partition, "read", count)
            self._is_read(self._states[partition])
        for partition, offset in polled.known_ends.items():
            if (state := self._states.get(partition)) is not None:
                state.known_end = offset
        for partition, offset in polled.ends.items():
            if (state := self._states.get(partition)) is not None:
                state.reached_end(offset)
                self._is_read(state)
        self._take_troubles(polled, now_s)  # a denial is told once: what came before it in this poll does not end it
        for partition, cut in polled.cut.items():
            if (state := self._states.get(partition)) is not None and state.cut is None:
                state.cut = cut

    def _take_troubles(self, polled: Polled, now_s: float) -> None:
        """Halt what can't be read."""
        for partition, why in polled.unreadable.items():
            if (state := self._states.get(partition)) is not None:
                told = f"its log can't be read further: {why}; {SET_OFFSET}"
                self._executor.halt(state, Step.READ, now_s, Halt(told, HaltCode.UNREADABLE))
        for partition, why in polled.denied.items():
            if (state := self._states.get(partition)) is not None:
                state.denied, state.ask_at_s = Denied(why), now_s + _ASK_AGAIN_S
                self._executor.halt(state, Step.READ, now_s, state.denied)

    def _is_read(self, state: PartitionState) -> None:
        state.denied = None
        self._executor.got_past(state, Step.READ)

    def _ask_again(self, state: PartitionState, denied: Halt, now_s: float) -> None:
        """Ask for what may not be read: a client is silent when a right is back and no record has come."""
        state.ask_at_s = now_s + _ASK_AGAIN_S
        if state.halt is None:  # another one, that has ended, took its place
            self._executor.halt(state, Step.READ, now_s, denied)
        self._log.seek(state.partition, start_of(state))

    def _move_all(self, now_s: float) -> None:
        for state in (*self._states.values(), *self._halted.values()):
            self._move(state, now_s)

    def _move(self, state: PartitionState, now_s: float) -> None:
        """Collect a partition's results from the pool, and start its next steps."""
        try:
            self._executor.collect(state, now_s)
        except Recreated:
            log.error("topic was recreated", extra={"topic": state.partition.topic})  # noqa: TRY400  (a trace adds nothing)
            self._give_up(state)
            return
        self._executor.remind(state, now_s)
        limits = self._executor.limits
        if state.seal(limits.first if self._is_first and state.buffer.records else limits, now_s) is not None:
            self._is_first = False
        if state.tasks or state.buffer.records:
            self._held_at_s = now_s
        self._executor.prepare(state, now_s)
        self._executor.await_replicas(state, now_s)
        self._executor.check(state, now_s)
        if state.cut is not None and state.is_done:
            self._stop_at(state, state.cut)
        elif state.is_over and state.is_done:
            log.warning(
                "second reading finished", extra={"partition": state.partition.number, "reading": state.reading}
            )
            self._give_up(state)

    def _stop_at(self, state: PartitionState, cut: Cut) -> None:
        """Stop reading; when the log only lacks the next offset, rejoin to learn where it begins."""
        if not cut.is_other:
            log.error("log lacks the next offset", extra={"partition": state.partition.number, "offset": state.read_to})
            self._cuts[state.partition] = (state.topic_id, state.read_to, self._config.now_s())
            self._give_up(state)
            return
        self.lost((state.partition,))
        self._log.pause(state.partition)
        self._halted[state.partition] = cut_off(state, cut)
        self._metrics.count("halts", code=HaltCode.TRUNCATED)

    def _collect_last(self, state: PartitionState) -> None:
        """Collect the finished steps of a partition that is being revoked."""
        try:
            with suppress(Recreated):  # its commits name the topic ID
                self._executor.collect(state, self._config.now_s())
        except Fatal as error:
            self._failure = error

    def _give_up(self, state: PartitionState) -> None:
        """Drop a partition, and rejoin to get it again."""
        self.lost((state.partition,))
        self._log.rejoin()

    def _commit(self, now_s: float) -> None:
        """Send the partitions' next commits; a later poll returns the answers."""
        wishes = {partition: mark for partition, state in self._states.items() if (mark := state.next_commit(now_s))}
        for partition, mark in wishes.items():
            self._states[partition].pending_commit = mark
        if wishes:
            self._log.commit(wishes)

    def _take_answer(self, answer: Answer, now_s: float) -> None:
        """Handle a commit's answer: start the head whose intent is committed, or give up a fenced partition."""
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

    def _balance(self, now_s: float) -> None:
        """Keep memory within its bound."""
        states = self._states.values()
        paused, resumed, squeezed, turn = balance(states, self._config.limits.waiting_bytes_max, now_s)
        if turn is not None and turn.turn_at_s is None:
            turn.turn_at_s = now_s
        if squeezed is not None:
            squeezed.is_squeezed = True
        for state in paused:
            state.intake = Intake.PAUSED
            self._log.pause(state.partition)
        for state in resumed:
            state.intake = Intake.OPEN
            self._log.resume(state.partition)
        self._metrics.set("waiting_bytes", sum(state.size_bytes for state in states))
        self._metrics.set("partitions", len(states), state="owned")
        self._metrics.set("partitions", sum(state.intake is Intake.PAUSED for state in states), state="paused")
        self._metrics.set("partitions", sum(state.halt is not None for state in self.owned.values()), state="halted")
