"""Starts the slow steps of each partition's batches on pools, and collects their results."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

from consumer.delivery.backoff import Backoff
from consumer.delivery.batch import Attempt, Awaited, Inserted, Prepared
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.halting import Step, remind, say_over
from consumer.delivery.partition import PartitionState
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Metrics, Partition
from consumer.delivery.repeats import FENCE_S
from consumer.delivery.task import BatchTask, Outcome, Stage
from consumer.errors import Cause, ConsumerError, Halt, HaltCode, TooLarge, Transient, Unseen

log = logging.getLogger(__name__)

_CHECK_S: Final = 30.0
_PREPARE_S: Final = 0.5  # measured for 75,000 records: 0.05 to 0.24 s
_HALT_BACKOFF: Final = Backoff(2.0, 60.0)
ACCEPTED_BATCHES: Final = 20
"""So many batches that a proxy accepts let the next ones be twice as large, if it has refused larger ones."""
_LATE_COMMIT: Final = "the broker took so long to commit its intent that replicas must be waited for again"
_STEPS: Final = {Stage.PREPARING: Step.PREPARE, Stage.AWAITING: Step.AWAIT, Stage.SENDING: Step.SEND}


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A worker's parameters.

    Attributes:
        limits: the limits of batches and memory.
        namespace: the prefix of every token: the Kafka cluster's id.
        revoke_s: how long a rebalance may wait for inserts in flight; the intent covers the rest.
        backoff: the waits between tries of inserts and commits.
        halt_backoff: the waits between tries of a halted step.
        late_s: an insert that was given up arrives at most this much later.
        fence_s: an insert starts at most this long after its intent was committed.
        await_s: how long reading waits for a batch that is being prepared.
        keeps_metadata: whether the broker is known to keep a commit's metadata.
        shards: how many shards the tables lie on; 0: on a single server.
        now_s: the monotonic clock; any thread may call it.
    """

    limits: BufferLimits
    namespace: str
    revoke_s: float
    backoff: Backoff
    halt_backoff: Backoff = _HALT_BACKOFF
    late_s: float = 120.0
    fence_s: float = FENCE_S
    await_s: float = 0.02
    keeps_metadata: bool = True
    shards: int = 0
    now_s: Callable[[], float] = monotonic


class Pools(NamedTuple):
    """Thread pools of the slow steps.

    They are apart, so that neither a dead-letter topic that is away nor a replica that lags can block other batches.

    Attributes:
        rows: prepares and inserts the batches of all topics.
        letters: sends their dead letters.
        waits: waits for replicas, by topic: those of one table may lag for minutes, and another topic's batches not.
    """

    rows: Executor
    letters: Executor
    waits: Mapping[str, Executor]

    @classmethod
    def of_threads(cls, insert_threads: int, topics: Iterable[str]) -> "Pools":
        """Return pools of threads; one thread waits for a topic's replicas, for all of its batches at once."""
        waits = {topic: ThreadPoolExecutor(1, f"replicas-{topic}") for topic in topics}
        return cls(ThreadPoolExecutor(insert_threads, "rows"), ThreadPoolExecutor(1, "letters"), waits)

    def shutdown(self) -> None:
        """Start nothing more; running calls are not waited for."""
        for pool in (self.rows, self.letters, *self.waits.values()):
            pool.shutdown(wait=False, cancel_futures=True)


class StepExecutor:
    """Runs each topic's pipeline on the pools. The polling thread makes all calls."""

    def __init__(self, pipelines: Mapping[str, Pipeline], pools: Pools, config: WorkerConfig, metrics: Metrics) -> None:
        self._pipelines = pipelines
        self._pools = pools
        self._config = config
        self._metrics = metrics
        self._limits = config.limits
        self._accepted = 0  # batches since their size last changed

    @property
    def limits(self) -> BufferLimits:
        """The limits of the next batches: the configured ones, or less for a while after a proxy refused their size."""
        return self._limits

    def prepare(self, state: PartitionState, now_s: float) -> None:
        """Start preparing every batch that is due."""
        for task in state.tasks:
            if task.is_due(now_s):
                pipeline = self._pipelines[state.partition.topic]
                task.preparing(self._pools.rows.submit(pipeline.prepare, state.draft(task), self._config.namespace))

    def await_prepared(self, states: Iterable[PartitionState], now_s: float) -> bool:
        """Wait a moment until one of the batches in preparation is ready; tell whether one is.

        Preparing mostly computes: if the worker read records meanwhile, both would share the interpreter, and the
        insert would start later. A preparation that takes long is waiting for a server; it holds up nobody.
        """
        tasks = (task for state in states for task in state.tasks if task.stage is Stage.PREPARING)
        jobs = [task.job for task in tasks if task.job is not None and now_s - task.sealed_at_s < _PREPARE_S]
        return bool(jobs) and bool(wait(jobs, self._config.await_s, FIRST_COMPLETED).done)

    def await_replicas(self, state: PartitionState, now_s: float) -> None:
        """Start to wait for replicas, before the head's intent is committed: an intent fences only for a while."""
        task, pipeline = state.tasks[0] if state.tasks else None, self._pipelines[state.partition.topic]
        if task is None or not task.must_await(now_s):
            return
        if not task.is_unseen and (young := pipeline.young(task.batch, now_s)):  # not in line behind old ones
            task.awaited(young)
            return
        call = partial(pipeline.await_replicas, always=task.is_unseen)
        task.awaiting(self._pools.waits[state.partition.topic].submit(call, task.batch, now_s))

    def check(self, state: PartitionState, now_s: float) -> None:
        """Check from time to time the topic of an idle partition; a batch checks it itself.

        Only this notices a recreated topic that ends where the old one ended.
        """
        if state.tasks or state.check is not None or now_s - state.checked_at_s < _CHECK_S:
            return
        state.checked_at_s = now_s
        check = self._pipelines[state.partition.topic].check
        state.check = self._pools.rows.submit(check, state.partition.topic, state.topic_id)

    def begin(self, state: PartitionState, now_s: float) -> None:
        """Write the head batch, whose intent is committed: rows first, then dead letters.

        So a batch that the table refuses has sent nothing, and its range can still change.
        """
        task, pipeline = state.tasks[0], self._pipelines[state.partition.topic]
        if task.must_await(now_s):
            self._postpone(state.partition, task, Step.AWAIT, Transient(_LATE_COMMIT, Cause.BUSY))
            return
        if not task.intended:
            self._metrics.count("intents", outcome="written")
        task.begun()
        if task.is_inserted:
            self._rows_are_in(state, task)
            return
        until_s = now_s + self._config.fence_s
        is_settled = task.too_large_since_s is not None and now_s - task.too_large_since_s >= self._config.late_s
        is_fresh = lambda: self._config.now_s() < until_s  # noqa: E731  (called on the pool's thread)
        attempt = Attempt(task.blocks_in, is_fresh, task.is_repeated, is_settled, task.is_unseen)
        task.inserting(self._pools.rows.submit(pipeline.insert, task.batch, task.blocks[task.blocks_in], attempt))

    def collect(self, state: PartitionState, now_s: float) -> None:
        """Take the results of finished jobs; an unforeseen error halts the partition.

        Raises:
            Recreated, Fatal: as they say; Halt is handled here.
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
                self._postpone(state.partition, task, step, error)
            except Halt as error:
                self._halt(state, task, step, now_s, error)
            except ConsumerError:
                raise
            except Exception as error:  # a record may halt its partition, but never stop the process
                log.exception("unforeseen error in a step")
                why = f"{type(error).__name__} in the step {step}: the log has a trace; report it"
                self._halt(state, task, step, now_s, Halt(why, HaltCode.DEFECT))
            else:
                self._take(state, task, outcome)
                self.got_past(state, step)

    def halt(self, state: PartitionState, step: Step, now_s: float, error: Halt) -> None:
        """Halt a partition and log it; the caller schedules the next try."""
        state.halted(step, error)
        self._metrics.count("halts", code=error.code)
        self.remind(state, now_s)

    def got_past(self, state: PartitionState, step: Step) -> None:
        """End the partition's halt if this step caused it."""
        if (ended := state.got_past(step)) is not None:
            say_over(ended)

    def remind(self, state: PartitionState, now_s: float) -> None:
        """Log a halted partition from time to time."""
        if state.halt is not None:
            state.halt = remind(state.halt, now_s)

    def _take(self, state: PartitionState, task: BatchTask, outcome: Outcome) -> None:
        if isinstance(outcome, Prepared):
            state.prepared(task, outcome)
        elif isinstance(outcome, Awaited):
            task.awaited(outcome)
        elif isinstance(outcome, Inserted):
            self._take_inserted(state, task, outcome)
        else:
            self._tell_of(state, task)
            self._finish(state, task)

    def await_writes(self, states: list[PartitionState], timeout_s: float) -> None:
        """Wait for the writes of these partitions to end; writes that have not started are cancelled."""
        tasks = (task for state in states for task in state.tasks)
        jobs = [task.job for task in tasks if task.job and task.stage in (Stage.SENDING, Stage.INSERTING)]
        wait([job for job in jobs if not job.cancel()], timeout_s)

    def book(self, partition: Partition, outcome: str, count: int) -> None:
        """Count records by outcome: read = rows_inserted + dead_letters + returned, once a partition is given up."""
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
            self._make_larger()
            self._rows_are_in(state, task)

    def _rows_are_in(self, state: PartitionState, task: BatchTask) -> None:
        """Go on with a batch whose rows are all in the table, or that has none."""
        if task.letters:
            self._send(state, task)
        else:
            self._finish(state, task)

    def _make_smaller(self, state: PartitionState, task: BatchTask) -> None:
        """Try half of a batch that a proxy did not accept, and seal no larger ones for now."""
        task.was_too_large()
        self._accepted = 0
        bytes_max = max(1, task.batch.size_bytes // 2)
        self._limits = replace(self._limits, bytes_max=min(self._limits.bytes_max, bytes_max))
        where = {"topic": state.partition.topic, "partition": state.partition.number}
        why = "a proxy before ClickHouse does not accept requests of their size (HTTP 413)"
        log.warning("batches are made smaller: %s", why, extra=where | {"bytes_max": self._limits.bytes_max})

    def _make_larger(self) -> None:
        """Seal larger batches again, step by step: somebody may have raised the proxy's limit."""
        self._accepted += 1
        configured = self._config.limits.bytes_max
        if self._limits.bytes_max < configured and self._accepted >= ACCEPTED_BATCHES:
            self._accepted = 0
            self._limits = replace(self._limits, bytes_max=min(configured, 2 * self._limits.bytes_max))

    def _tell_of(self, state: PartitionState, task: BatchTask) -> None:
        """Count a batch's dead letters, and log one line for all of them."""
        reasons = Counter(str(item.reason) for item in task.letters)
        for reason, count in reasons.items():
            self._metrics.count("dead_letters", count, reason=reason)
        first, where = task.letters[0], {"topic": state.partition.topic, "partition": state.partition.number}
        told = {"reasons": dict(reasons), "first_offset": first.offset, "first_error": first.error[:300]}
        log.warning("records became dead letters", extra=where | told)

    def _send(self, state: PartitionState, task: BatchTask) -> None:
        pipeline = self._pipelines[state.partition.topic]
        task.sending(self._pools.letters.submit(pipeline.send, task.batch, task.letters))

    def _finish(self, state: PartitionState, task: BatchTask) -> None:
        rows = len(task.batch.included)
        state.finished(self._config.now_s())
        self.book(state.partition, "rows_inserted", rows)
        self.book(state.partition, "dead_letters", len(task.batch.records) - rows)
        self._metrics.observe("batch_rows", rows, topic=state.partition.topic)
        log.debug("inserted", extra={"partition": state.partition.number, "rows": rows, "b": task.batch.intent.b})

    def _halt(self, state: PartitionState, task: BatchTask, step: Step, now_s: float, error: Halt) -> None:
        task.postpone(now_s + self._config.halt_backoff.delay_s(task.attempt + 1))
        self.halt(state, step, now_s, error)

    def _postpone(self, partition: Partition, task: BatchTask, step: Step, error: Transient) -> None:
        """Retry later; a prepared batch commits its intent again first."""
        now_s, why = self._config.now_s(), str(error)[:300]
        until_s = now_s + self._config.backoff.delay_s(task.attempt + 1)
        if isinstance(error, TooLarge):
            task.postpone_too_large(now_s, until_s, why)
        else:
            task.postpone(until_s, why)
        task.is_unseen = task.is_unseen or isinstance(error, Unseen)
        self._metrics.count("retries", step=step, cause=error.cause)
        where = {"topic": partition.topic, "partition": partition.number}
        log.warning("will try again", extra=where | {"step": step, "attempt": task.attempt, "reason": why})
