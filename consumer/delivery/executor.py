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
from consumer.delivery.batch import Inserted, Prepared, Sent
from consumer.delivery.buffer import Limits
from consumer.delivery.halting import Step, remind, say_over
from consumer.delivery.partition import Lane
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Meter, Partition
from consumer.delivery.task import Stage, Work
from consumer.errors import ConsumerError, Halt, HaltCode, TooLarge, Transient

log = logging.getLogger(__name__)

_CHECK_S: Final = 30.0
_HALT_BACKOFF: Final = Backoff(2.0, 60.0)
_STEPS: Final = {Stage.PREPARING: Step.PREPARE, Stage.SENDING: Step.SEND}


@dataclass(frozen=True, slots=True)
class Terms:
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

    limits: Limits
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


class Steps:
    """Runs each topic's pipeline on the pools. The polling thread makes all calls."""

    def __init__(self, pipelines: Mapping[str, Pipeline], pools: Pools, terms: Terms, meter: Meter) -> None:
        self._pipelines = pipelines
        self._pools = pools
        self._terms = terms
        self._meter = meter
        self._limits = terms.limits

    @property
    def limits(self) -> Limits:
        """Of the next batches: the terms', or less when a server before ClickHouse has not taken as much."""
        return self._limits

    def prepare(self, lane: Lane, now_s: float) -> None:
        """Start to prepare every work whose time has come."""
        for work in lane.works:
            if work.stage is Stage.WAITING and now_s >= work.retry_at_s:
                pipeline = self._pipelines[lane.partition.topic]
                work.stage = Stage.PREPARING
                work.job = self._pools.rows.submit(pipeline.prepare, lane.draft(work), self._terms.namespace)

    def check(self, lane: Lane, now_s: float) -> None:
        """Ask now and then about the topic of a lane that has nothing to do: a work asks for itself.

        Only so is a topic seen that was made anew and ends where this one ended.
        """
        if lane.works or lane.check is not None or now_s - lane.checked_at_s < _CHECK_S:
            return
        lane.checked_at_s = now_s
        check = self._pipelines[lane.partition.topic].check
        lane.check = self._pools.rows.submit(check, lane.partition.topic, lane.topic_id)

    def begin(self, lane: Lane, now_s: float) -> None:
        """Write what the head holds, now that its intent is committed: rows first, then dead letters.

        So a batch that the table refuses has sent nothing, and its range can be another one.
        """
        work, pipeline = lane.works[0], self._pipelines[lane.partition.topic]
        if not work.intended:
            self._meter.count("intents", outcome="written")
        work.begun()
        if work.is_inserted:
            self._send(lane, work)
            return
        until_s = now_s + self._terms.fence_s
        work.stage = Stage.INSERTING
        work.job = self._pools.rows.submit(
            pipeline.insert,
            work.batch,
            work.blocks,
            lambda: self._terms.now_s() < until_s,
            is_repeated=work.is_repeated,
            is_settled=work.too_large_since_s is not None and now_s - work.too_large_since_s >= self._terms.late_s,
        )

    def collect(self, lane: Lane, now_s: float) -> None:
        """Take the results of the jobs that have ended; what fails for a reason that nobody foresaw halts the lane.

        Raises:
            Recreated, Fatal: as they say, but for Halt.
        """
        if lane.check is not None and lane.check.done() and not lane.check.cancelled():
            check, lane.check = lane.check, None
            with suppress(Transient, Halt):
                check.result()
        for work in tuple(lane.works):
            if work.job is None or not work.job.done() or work.job.cancelled():
                continue
            job, work.job = work.job, None
            step = _STEPS.get(work.stage, Step.INSERT)
            try:
                outcome = job.result()
            except Transient as error:
                self._postpone(work, step, now_s, error)
            except Halt as error:
                self._halt(lane, work, step, now_s, error)
            except ConsumerError:
                raise
            except Exception as error:  # whatever a record brings about costs its partition, never the process
                log.exception("a step failed in a way that nobody foresaw")
                why = f"{type(error).__name__} in the step {step}: the log has a trace; report it"
                self._halt(lane, work, step, now_s, Halt(why, HaltCode.DEFECT))
            else:
                self._take(lane, work, outcome)
                self.got_past(lane, step)

    def halt(self, lane: Lane, step: Step, now_s: float, error: Halt) -> None:
        """Halt a lane, and say so; the caller puts off the next try."""
        lane.halted(step, error)
        self._meter.count("halts", code=error.code)
        self.remind(lane, now_s)

    def got_past(self, lane: Lane, step: Step) -> None:
        """End the lane's halt when it is this step's."""
        if (ended := lane.got_past(step)) is not None:
            say_over(ended)

    def remind(self, lane: Lane, now_s: float) -> None:
        """Say that a lane is halted, now and then."""
        if lane.halt is not None:
            lane.halt = remind(lane.halt, now_s)

    def _take(self, lane: Lane, work: Work, outcome: Prepared | Sent | Inserted) -> None:
        if isinstance(outcome, Prepared):
            lane.prepared(work, outcome)
        elif isinstance(outcome, Inserted):
            self._take_inserted(lane, work, outcome)
        else:
            self._tell_of(lane, work)
            self._finish(lane, work)

    def await_writes(self, lanes: list[Lane], timeout_s: float) -> None:
        """Wait until what is being written for these lanes has ended; what has not begun never will."""
        works = (work for lane in lanes for work in lane.works)
        jobs = [work.job for work in works if work.job and work.stage in (Stage.SENDING, Stage.INSERTING)]
        wait([job for job in jobs if not job.cancel()], timeout_s)

    def book(self, partition: Partition, outcome: str, count: int) -> None:
        """Note what became of records: read = rows_inserted + dead_letters + returned, once a partition is given up."""
        self._meter.count("records", count, topic=partition.topic, partition=str(partition.number), outcome=outcome)

    def _take_inserted(self, lane: Lane, work: Work, outcome: Inserted) -> None:
        if outcome.refused:
            work.was_refused(outcome)
            return
        if outcome.is_too_large:
            self._make_smaller(lane, work)
            return
        work.is_inserted = True
        if work.letters:
            self._send(lane, work)
        else:
            self._finish(lane, work)

    def _make_smaller(self, lane: Lane, work: Work) -> None:
        """Try half of a batch that a server before ClickHouse does not take, and seal no larger ones from now on."""
        work.was_too_large()
        bytes_max = max(1, work.batch.size_bytes // 2)
        self._limits = replace(self._limits, bytes_max=min(self._limits.bytes_max, bytes_max))
        place = {"topic": lane.partition.topic, "partition": lane.partition.number}
        why = "a server before ClickHouse takes no request of their size (HTTP 413)"
        log.warning("batches are made smaller: %s", why, extra=place | {"bytes_max": self._limits.bytes_max})

    def _tell_of(self, lane: Lane, work: Work) -> None:
        """Count the dead letters of a batch, and log one line for all of them."""
        reasons = Counter(str(item.reason) for item in work.letters)
        for reason, count in reasons.items():
            self._meter.count("dead_letters", count, reason=reason)
        first, place = work.letters[0], {"topic": lane.partition.topic, "partition": lane.partition.number}
        told = {"reasons": dict(reasons), "first_offset": first.offset, "first_error": first.error[:300]}
        log.warning("records became dead letters", extra=place | told)

    def _send(self, lane: Lane, work: Work) -> None:
        work.stage = Stage.SENDING
        pipeline = self._pipelines[lane.partition.topic]
        work.job = self._pools.letters.submit(pipeline.send, work.batch, work.letters)

    def _finish(self, lane: Lane, work: Work) -> None:
        rows = len(work.batch.included)
        lane.finished()
        self.book(lane.partition, "rows_inserted", rows)
        self.book(lane.partition, "dead_letters", len(work.batch.records) - rows)
        self._meter.observe("batch_rows", rows, topic=lane.partition.topic)
        log.debug("inserted", extra={"partition": lane.partition.number, "rows": rows, "b": work.batch.intent.b})

    def _halt(self, lane: Lane, work: Work, step: Step, now_s: float, error: Halt) -> None:
        work.postpone(now_s + self._terms.halt_backoff.delay_s(work.attempt + 1))
        self.halt(lane, step, now_s, error)

    def _postpone(self, work: Work, step: Step, now_s: float, error: Transient) -> None:
        """Try the same again later; what was prepared goes through its intent again."""
        until_s = now_s + self._terms.backoff.delay_s(work.attempt + 1)
        if isinstance(error, TooLarge):
            work.postpone_too_large(now_s, until_s)
        else:
            work.postpone(until_s)
        self._meter.count("retries", step=step, cause=error.cause)
        log.warning("will try again", extra={"step": step, "attempt": work.attempt, "reason": str(error)[:300]})
