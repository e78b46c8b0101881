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
from consumer.delivery.executor import Pools, Steps, Terms
from consumer.delivery.halting import Step
from consumer.delivery.opening import RESUME, SET_OFFSET, cut_off, halted, open_lane, start_of
from consumer.delivery.partition import Lane
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Answer, Assigned, Cut, Log, Mark, Meter, Partition, Polled, Position
from consumer.errors import Fatal, Fenced, Halt, HaltCode, Recreated

log = logging.getLogger(__name__)

_BUSY_POLL_S: Final = 0.02
_IDLE_POLL_S: Final = 0.1


class Worker:
    """Moves the records of the partitions it is assigned into the table.

    One thread makes all calls; it is the log's listener, and the log calls it back on that thread.
    """

    def __init__(self, log: Log, pipelines: Mapping[str, Pipeline], pools: Pools, terms: Terms, meter: Meter) -> None:
        self._log = log
        self._steps = Steps(pipelines, pools, terms, meter)
        self._terms = terms
        self._meter = meter
        self._lanes: dict[Partition, Lane] = {}
        self._halted: dict[Partition, Lane] = {}
        self._cuts: dict[Partition, tuple[str, int]] = {}
        self._revoke_s = terms.revoke_s
        self._failure: Fatal | None = None

    @property
    def lanes(self) -> Mapping[Partition, Lane]:
        """The partitions that are read now."""
        return self._lanes

    @property
    def owned(self) -> Mapping[Partition, Lane]:
        """The same, and those that were halted before anything was read of them."""
        return {**self._lanes, **self._halted}

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, Position | None]:
        """Open a lane for each partition and return where to read it from."""
        starts: dict[Partition, Position | None] = {}
        for item in partitions:
            lane = open_lane(item, keeps_metadata=self._terms.keeps_metadata)
            if self._cuts.get(item.partition) == (lane.topic_id, lane.read_to):
                lane = halted(item, HaltCode.TRUNCATED, f"its log does not have the next offset; {RESUME}")
            if lane.halt is not None:
                self._meter.count("halts", code=lane.halt.code)
            (self._halted if lane.halt else self._lanes)[item.partition] = lane
            starts[item.partition] = None if lane.halt else start_of(lane)
            if lane.replay:
                self._meter.count("intents", outcome="replayed")
        return starts

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Wait for what is being written, at most `revoke_s`; commit what is finished; close the lanes."""
        going = [self._lanes[partition] for partition in partitions if partition in self._lanes]
        self._steps.await_writes(going, self._revoke_s)
        marks: dict[Partition, Mark] = {}
        for lane in going:
            lane.is_open = False
            self._collect_last(lane)
            if lane.asked is None and (mark := lane.final_mark()) is not None:
                marks[lane.partition] = mark
        if marks:
            self._log.commit(marks)
        self.lost(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget the partitions and commit nothing: an insert in flight carries its successor's token."""
        for partition in partitions:
            lane = self._lanes.pop(partition, None) or self._halted.pop(partition, None)
            if lane is not None:
                self._steps.book(partition, "returned", lane.waiting_records)
                lane.cancel_jobs()

    def turn(self) -> None:
        """Poll once and move every lane on.

        Raises:
            Fatal: the worker must stop; nothing is committed that is not in the table.
        """
        busy = any(lane.works for lane in self._lanes.values())
        polled = self._log.poll(_BUSY_POLL_S if busy else _IDLE_POLL_S)
        if self._failure:
            raise self._failure
        now_s = self._terms.now_s()
        self._take(polled, now_s)
        for lane in self._lanes.values():
            if (place := lane.continuity.seek_to) is not None and self._log.seek(lane.partition, place):
                lane.continuity.sought()
        for answer in polled.answers:
            self._take_answer(answer, now_s)
        for lane in (*self._lanes.values(), *self._halted.values()):
            self._move(lane, now_s)
        self._commit(now_s)
        self._balance()

    def drain(self, deadline_s: float) -> bool:
        """Insert and commit all that was taken, until a monotonic deadline; tell whether it was done."""
        while self._terms.now_s() < deadline_s:
            for lane in self._lanes.values():
                if lane.is_open:
                    lane.is_open = False
                    self._log.pause(lane.partition)
            if all(lane.is_done or (lane.halt and not lane.asked) for lane in self._lanes.values()):
                return all(lane.is_done for lane in self._lanes.values())
            self.turn()
        self._revoke_s = 0.0  # it has had its time
        return False

    def _take(self, polled: Polled, now_s: float) -> None:
        taken: Counter[Partition] = Counter()
        for record in polled.records:
            if (lane := self._lanes.get(record.partition)) is not None and lane.add(record, now_s):
                taken[record.partition] += 1
        for partition, count in taken.items():
            self._steps.book(partition, "read", count)
            self._steps.got_past(self._lanes[partition], Step.READ)
        for partition, why in polled.unreadable.items():
            if (lane := self._lanes.get(partition)) is not None:
                told = f"its log can't be read on: {why}; {SET_OFFSET}"
                self._steps.halt(lane, Step.READ, now_s, Halt(told, HaltCode.UNREADABLE))
        for partition, offset in polled.ends.items():
            if (lane := self._lanes.get(partition)) is not None:
                lane.reached_end(offset)
        for partition, cut in polled.cut.items():
            if (lane := self._lanes.get(partition)) is not None and lane.cut is None:
                lane.cut = cut

    def _move(self, lane: Lane, now_s: float) -> None:
        """Take what the pool has done for a lane, and give it more to do."""
        try:
            self._steps.collect(lane, now_s)
        except Recreated:
            log.error("topic was made anew", extra={"topic": lane.partition.topic})  # noqa: TRY400  (a trace says nothing more)
            self._give_up(lane)
            return
        self._steps.remind(lane, now_s)
        lane.seal(self._steps.limits, now_s)
        self._steps.prepare(lane, now_s)
        self._steps.check(lane, now_s)
        if lane.cut is not None and lane.is_done:
            self._stop_at(lane, lane.cut)
        elif lane.is_over and lane.is_done:
            log.warning("second reading is done", extra={"partition": lane.partition.number, "reading": lane.reading})
            self._give_up(lane)

    def _stop_at(self, lane: Lane, cut: Cut) -> None:
        """Read no further; where the log merely lacks the next offset, ask once more where it begins."""
        if not cut.is_other:
            log.error("log can't be read on", extra={"partition": lane.partition.number, "offset": lane.read_to})
            self._cuts[lane.partition] = (lane.topic_id, lane.read_to)
            self._give_up(lane)
            return
        self.lost((lane.partition,))
        self._log.pause(lane.partition)
        self._halted[lane.partition] = cut_off(lane, cut)
        self._meter.count("halts", code=HaltCode.TRUNCATED)

    def _collect_last(self, lane: Lane) -> None:
        """Take what is finished of a lane that goes."""
        try:
            with suppress(Recreated):  # its marks say which incarnation they are of
                self._steps.collect(lane, self._terms.now_s())
        except Fatal as error:
            self._failure = error

    def _give_up(self, lane: Lane) -> None:
        """Forget a lane, and ask for its partition again."""
        self.lost((lane.partition,))
        self._log.rejoin()

    def _commit(self, now_s: float) -> None:
        """Send what the lanes wish to commit; a later poll brings the answers."""
        wishes = {partition: mark for partition, lane in self._lanes.items() if (mark := lane.wish(now_s))}
        for partition, mark in wishes.items():
            self._lanes[partition].asked = mark
        if wishes:
            self._log.commit(wishes)

    def _take_answer(self, answer: Answer, now_s: float) -> None:
        """Note what the group now holds; a head whose intent it is begins; a fenced lane ends."""
        lane = self._lanes.get(answer.partition)
        if lane is None or lane.asked != answer.mark:
            return
        if answer.error is None:
            lane.took(answer.mark)
            self._steps.got_past(lane, Step.COMMIT)
            if lane.intends(answer.mark):
                self._steps.begin(lane, now_s)
            return
        if isinstance(answer.error, Halt):
            lane.put_off(now_s + self._terms.halt_backoff.delay_s(lane.commit_attempt + 1))
            self._steps.halt(lane, Step.COMMIT, now_s, answer.error)
            return
        if isinstance(answer.error, Fatal):
            raise answer.error
        log.warning("commit failed", extra={"partition": lane.partition.number, "reason": str(answer.error)})
        if isinstance(answer.error, Fenced):
            self._meter.count("intents", outcome="refused")
            self._give_up(lane)
        else:
            lane.put_off(now_s + self._terms.backoff.delay_s(lane.commit_attempt + 1))

    def _balance(self) -> None:
        """Keep memory to its bound."""
        lanes = self._lanes.values()
        paused, resumed = pauses(lanes, self._terms.limits.waiting_bytes_max)
        for lane in paused:
            lane.is_paused = True
            self._log.pause(lane.partition)
        for lane in resumed:
            lane.is_paused = False
            self._log.resume(lane.partition)
        self._meter.level("waiting_bytes", sum(lane.size_bytes for lane in lanes))
        self._meter.level("partitions", len(lanes), state="owned")
        self._meter.level("partitions", sum(lane.is_paused for lane in lanes), state="paused")
        self._meter.level("partitions", sum(lane.halt is not None for lane in self.owned.values()), state="halted")
