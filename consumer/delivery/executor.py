"""What the pool does for a lane: starts the slow steps of its works, and takes what they came to."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, NamedTuple

from consumer.delivery.backoff import Backoff
from consumer.delivery.batch import Attempt, Inserted, Prepared, Sent
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.halting import Step, remind, say_over
from consumer.delivery.partition import PartitionState
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Metrics, Partition
from consumer.delivery.task import BatchTask, Stage
from consumer.errors import ConsumerError, Halt, HaltCode, TooLarge, Transient

log = logging.getLogger(__name__)

_CHECK_S: Final = 30.0
_HALT_BACKOFF: Final = Backoff(2.0, 60.0)
_STEPS: Final = {Stage.PREPARING: Step.PREPARE, Stage.SENDING: Step.SEND}


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker keeps to.

    Attributes:
        limits: of batches and memory.
        namespace: starts every token: the Kafka cluster's id.
        revoke_s: how long a rebalance may wait for inserts in flight; the intent covers the rest.
        backoff: between tries, of inserts and of commits.
        halt_backoff: between tries of what only a person can mend.
        late_s: an insert that was given up arrives at most so long after that.
        fence_s: an insert begins at most so long after its intent: what was meant long ago must not be sent now.
        keeps_metadata: whether the broker is known to keep a commit's metadata.
        now_s: the monotonic clock; any thread may ask it.
    """

    limits: BufferLimits
    namespace: str
    revoke_s: float
    backoff: Backoff
    halt_backoff: Backoff = _HALT_BACKOFF
    late_s: float = 120.0
    fence_s: float = 30.0
    keeps_metadata: bool = True
    now_s: Callable[[], float] = monotonic


class Pools(NamedTuple):
    """Where the slow steps run; a dead-letter topic that is away must not take the threads of those without poison."""

    rows: Executor
    letters: Executor


class StepExecutor:
    """Runs each topic's pipeline on the pools. The polling thread makes all calls."""

    def __init__(self, pipelines: Mapping[str, Pipeline], pools: Pools, config: WorkerConfig, metrics: Metrics) -> None:
        self._pipelines = pipelines
        self._pools = pools
        self._config = config
        self._metrics = metrics
        self._limits = config.limits

    @property
    def limits(self) -> BufferLimits:
        """Of the next batches: the terms', or less when a server before ClickHouse has not taken as much."""
        return self._limits

    def prepare(self, state: PartitionState, now_s: float) -> None:
        """Start to prepare every work whose time has come."""
        for task in state.tasks:
            if task.is_due(now_s):
                pipeline = self._pipelines[state.partition.topic]
                task.preparing(self._pools.rows.submit(pipeline.prepare, state.draft(task), self._config.namespace))

    def check(self, state: PartitionState, now_s: float) -> None:
        """Ask now and then about the topic of a lane that has nothing to do: a work asks for itself.

        Only so is a topic seen that was recreated and ends where this one ended.
        """
        if state.tasks or state.check is not None or now_s - state.checked_at_s < _CHECK_S:
            return
        state.checked_at_s = now_s
        check = self._pipelines[state.partition.topic].check
        state.check = self._pools.rows.submit(check, state.partition.topic, state.topic_id)

    def begin(self, state: PartitionState, now_s: float) -> None:
        """Write what the head holds, now that its intent is committed: rows first, then dead letters.

        So a batch that the table refuses has sent nothing, and its range can be another one.
        """
        task, pipeline = state.tasks[0], self._pipelines[state.partition.topic]
        if not task.intended:
            self._metrics.count("intents", outcome="written")
        task.begun()
        if task.is_inserted:
            self._rows_are_in(state, task)
            return
        until_s = now_s + self._config.fence_s
        is_settled = task.too_large_since_s is not None and now_s - task.too_large_since_s >= self._config.late_s
        attempt = Attempt(task.blocks_in, lambda: self._config.now_s() < until_s, task.is_repeated, is_settled)
        task.inserting(self._pools.rows.submit(pipeline.insert, task.batch, task.blocks[task.blocks_in], attempt))

    def collect(self, state: PartitionState, now_s: float) -> None:
        """Take the results of the jobs that have ended; what fails for a reason that nobody foresaw halts the lane.

        Raises:
            Recreated, Fatal: as they say, but for Halt.
        """
        if state.check is not None and state.check.done() and not state.check.cancelled():
            check, state.check = state.check, None
            with suppress(Transient, Halt):
                check.result()
        for task in tuple(state.tasks):
            if task.job is None or not task.job.done() or task.job.cancelled():
                continue
            job, task.job = task.job, None
            step = _STEPS.get(task.stage, Step.INSERT)
            try:
                outcome = job.result()
            except Transient as error:
                self._postpone(task, step, now_s, error)
            except Halt as error:
                self._halt(state, task, step, now_s, error)
            except ConsumerError:
                raise
            except Exception as error:  # whatever a record brings about costs its partition, never the process
                log.exception("a step failed in a way that nobody foresaw")
                why = f"{type(error).__name__} in the step {step}: the log has a trace; report it"
                self._halt(state, task, step, now_s, Halt(why, HaltCode.DEFECT))
            else:
                self._take(state, task, outcome)
                self.got_past(state, step)

    def halt(self, state: PartitionState, step: Step, now_s: float, error: Halt) -> None:
        """Halt a lane, and say so; the caller puts off the next try."""
        state.halted(step, error)
        self._metrics.count("halts", code=error.code)
        self.remind(state, now_s)

    def got_past(self, state: PartitionState, step: Step) -> None:
        """End the lane's halt when it is this step's."""
        if (ended := state.got_past(step)) is not None:
            say_over(ended)

    def remind(self, state: PartitionState, now_s: float) -> None:
        """Say that a lane is halted, now and then."""
        if state.halt is not None:
            state.halt = remind(state.halt, now_s)

    def _take(self, state: PartitionState, task: BatchTask, outcome: Prepared | Sent | Inserted) -> None:
        if isinstance(outcome, Prepared):
            state.prepared(task, outcome)
        elif isinstance(outcome, Inserted):
            self._take_inserted(state, task, outcome)
        else:
            self._tell_of(state, task)
            self._finish(state, task)

    def await_writes(self, states: list[PartitionState], timeout_s: float) -> None:
        """Wait until what is being written for these lanes has ended; what has not begun never will."""
        tasks = (task for state in states for task in state.tasks)
        jobs = [task.job for task in tasks if task.job and task.stage in (Stage.SENDING, Stage.INSERTING)]
        wait([job for job in jobs if not job.cancel()], timeout_s)

    def book(self, partition: Partition, outcome: str, count: int) -> None:
        """Note what became of records: read = rows_inserted + dead_letters + returned, once a partition is given up."""
        self._metrics.count("records", count, topic=partition.topic, partition=str(partition.number), outcome=outcome)

    def _take_inserted(self, state: PartitionState, task: BatchTask, outcome: Inserted) -> None:
        if outcome.refused:
            task.was_refused(outcome)
            return
        if outcome.is_too_large:
            self._make_smaller(state, task)
            return
        task.block_inserted()
        if task.is_inserted:
            self._rows_are_in(state, task)

    def _rows_are_in(self, state: PartitionState, task: BatchTask) -> None:
        """Go on with a batch whose rows are all in the table, or that has none."""
        if task.letters:
            self._send(state, task)
        else:
            self._finish(state, task)

    def _make_smaller(self, state: PartitionState, task: BatchTask) -> None:
        """Try half of a batch that a server before ClickHouse does not take, and seal no larger ones from now on."""
        task.was_too_large()
        bytes_max = max(1, task.batch.size_bytes // 2)
        self._limits = replace(self._limits, bytes_max=min(self._limits.bytes_max, bytes_max))
        partition = {"topic": state.partition.topic, "partition": state.partition.number}
        why = "a server before ClickHouse takes no request of their size (HTTP 413)"
        log.warning("batches are made smaller: %s", why, extra=partition | {"bytes_max": self._limits.bytes_max})

    def _tell_of(self, state: PartitionState, task: BatchTask) -> None:
        """Count the dead letters of a batch, and log one line for all of them."""
        reasons = Counter(str(item.reason) for item in task.letters)
        for reason, count in reasons.items():
            self._metrics.count("dead_letters", count, reason=reason)
        first, partition = task.letters[0], {"topic": state.partition.topic, "partition": state.partition.number}
        told = {"reasons": dict(reasons), "first_offset": first.offset, "first_error": first.error[:300]}
        log.warning("records became dead letters", extra=partition | told)

    def _send(self, state: PartitionState, task: BatchTask) -> None:
        pipeline = self._pipelines[state.partition.topic]
        task.sending(self._pools.letters.submit(pipeline.send, task.batch, task.letters))

    def _finish(self, state: PartitionState, task: BatchTask) -> None:
        rows = len(task.batch.included)
        state.finished()
        self.book(state.partition, "rows_inserted", rows)
        self.book(state.partition, "dead_letters", len(task.batch.records) - rows)
        self._metrics.observe("batch_rows", rows, topic=state.partition.topic)
        log.debug("inserted", extra={"partition": state.partition.number, "rows": rows, "b": task.batch.intent.b})

    def _halt(self, state: PartitionState, task: BatchTask, step: Step, now_s: float, error: Halt) -> None:
        task.postpone(now_s + self._config.halt_backoff.delay_s(task.attempt + 1))
        self.halt(state, step, now_s, error)

    def _postpone(self, task: BatchTask, step: Step, now_s: float, error: Transient) -> None:
        """Try the same again later; what was prepared goes through its intent again."""
        until_s = now_s + self._config.backoff.delay_s(task.attempt + 1)
        if isinstance(error, TooLarge):
            task.postpone_too_large(now_s, until_s)
        else:
            task.postpone(until_s)
        self._metrics.count("retries", step=step, cause=error.cause)
        log.warning("will try again", extra={"step": step, "attempt": task.attempt, "reason": str(error)[:300]})
