"""Tells whether a worker makes progress, from what its thread records once a second.

verdict     when
----------  --------------------------------------------------------------------------------------------------
moving      a partition that is behind has moved within `stall_s`, or more of its poison was found
starting    no server has answered yet; the log says which
joining     the group has not formed, or a partition's broker has not told where it ends
idle        no partition is behind
no_topic    a topic is not there: it was deleted
retrying    a step is being retried: a server is away or busy; the worker waits, and a restart can't help. Or a batch is
            repeated, of this worker or its predecessor: a restart would begin it again
kept_back   nothing is behind but what an open transaction has kept back for a minute
stalled     behind, not retrying, not halted, and nothing has moved for `stall_s`: a restart may help
halted      a partition waits for an operator (the others go on), or the group refuses this account; a restart
            can't help
poll_stuck  the polling thread has not completed a turn for `stall_s`: a restart will help
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from consumer.advice import Sentence
from consumer.delivery.freshness import Arrivals
from consumer.delivery.halting import Halted
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Membership, Partition

_EVERY_S: Final = 1.0
_KEPT_BACK_S: Final = 60.0  # the default of transaction.timeout.ms: until then a transaction is nothing unusual
_ILL: Final = frozenset({"stalled", "poll_stuck"})
_READY: Final = frozenset({"moving", "idle"})
_MEMBER: Final = Membership()
_SEE: Final = "; see headrace_consumer_retries_total"


def _now_ms() -> float:
    return time.time() * 1000


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One partition, as of the last note; moments are monotonic.

    Attributes:
        position: all offsets below it are in the table or in the dead letters.
        behind: records between it and the readable end; None when that is unknown yet.
        moved_s: when it last moved, was not behind, or had more poison found.
        waits_since_s: when the oldest waiting record arrived in the log; None when nothing waits.
        kept_back: how many offsets an open transaction holds back.
        kept_since_s: since when it holds back the same offsets.
        left_out: how many records of its head batch are left out so far; a batch may take several searches for poison.
        halt: why it waits for an operator, if it does.
        arrivals: when its end was seen at which offset.
        topic_id: its topic's ID.
    """

    position: int
    behind: int | None
    moved_s: float
    waits_since_s: float | None = None
    kept_back: int = 0
    kept_since_s: float = 0.0
    left_out: int = 0
    halt: Halted | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)
    topic_id: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """What the health page says."""

    name: str
    detail: str

    @property
    def is_healthy(self) -> bool:
        """Whether a restart would not help."""
        return self.name not in _ILL

    @property
    def is_ready(self) -> bool:
        """Whether every partition makes progress."""
        return self.name in _READY


class HealthMonitor:
    """Records each partition's progress. The polling thread writes, any thread reads.

    Args:
        stall_s: how long a worker may stand still.
        now_s: the monotonic clock.
        servers: the brokers' addresses, for the commands that it names.
        now_ms: the wall clock.
    """

    def __init__(
        self, stall_s: float, now_s: Callable[[], float], servers: str = "", now_ms: Callable[[], float] = _now_ms
    ) -> None:
        self._stall_s = stall_s
        self._now_s = now_s
        self._now_ms = now_ms
        self._servers = servers
        self._turned_s = now_s()
        self._noted_s = float("-inf")
        self._is_retrying, self._trouble = False, ""
        self._membership = Membership(is_formed=False)
        self.has_begun = False
        self.progress: Mapping[Partition, PartitionProgress] = {}

    def turned(
        self,
        states: Mapping[Partition, PartitionState],
        end_of: Callable[[Partition], int | None],
        membership: Membership = _MEMBER,
    ) -> None:
        """Record a turn of the polling thread, and once a second the progress of its partitions, halted ones too."""
        self._turned_s = now_s = self._now_s()
        held = {partition: state for partition, state in states.items() if state.is_retrying or state.is_repeating}
        retried = {partition: state.trouble for partition, state in held.items()}
        self._is_retrying, self.has_begun = bool(retried), True
        self._trouble = next((f" of {name.topic}/{name.number}: {why}" for name, why in retried.items() if why), "")
        self._membership = membership
        if now_s - self._noted_s < _EVERY_S and states.keys() == self.progress.keys():
            return
        self._noted_s = now_s
        before = self.progress
        self.progress = {
            partition: self._progress(state, end_of(partition), before.get(partition))
            for partition, state in states.items()
        }

    def _progress(self, state: PartitionState, high: int | None, before: PartitionProgress | None) -> PartitionProgress:
        now_s = self._turned_s
        if before is not None and state.position < before.position:  # another log, or one that is read again
            before = None
        end = state.read_to if state.is_at_end else high
        behind = None if end is None else 0 if state.has_all_below(end) else max(0, end - state.position)
        left_out = len(state.tasks[0].batch.intent.excluded) if state.tasks else 0
        moved = before is None or not behind or state.position != before.position or left_out > before.left_out
        kept_back = max(0, (high or 0) - state.read_to) if state.is_at_end else 0
        is_kept = before is not None and before.kept_back and kept_back and before.position == state.position
        arrivals = before.arrivals if before is not None else Arrivals()
        if end is not None:
            arrivals.note(now_s, end, state.position)
        return PartitionProgress(
            state.position,
            behind,
            now_s if moved or before is None else before.moved_s,
            arrivals.since_s(state.position, self._claimed_s(state.oldest_ms)) if behind else None,
            kept_back,
            before.kept_since_s if before is not None and is_kept else now_s,
            left_out,
            state.halt,
            arrivals,
            state.topic_id,
        )

    def _claimed_s(self, at_ms: int | None) -> float | None:
        """Return a moment of the wall clock by the monotonic one."""
        return None if at_ms is None else self._turned_s - (self._now_ms() - at_ms) / 1000

    def age_s(self, item: PartitionProgress) -> float:
        """Return how long the oldest record that waits has lain in the log; 0 when nothing is behind."""
        return 0.0 if item.waits_since_s is None else max(0.0, self._now_s() - item.waits_since_s)

    @property
    def is_retrying(self) -> bool:
        """Whether a step is being retried."""
        return self._is_retrying

    @property
    def halts(self) -> list[Halted]:
        """The halted partitions, as last recorded."""
        return [item.halt for item in self.progress.values() if item.halt is not None]

    def verdict(self) -> Health:
        """Return the worker's health; see the module's table."""
        stood_s = self._now_s() - self._turned_s
        if not self.has_begun:
            return Health("starting", "servers and tables are not ready yet; the log says which")
        if stood_s > self._stall_s:
            return Health("poll_stuck", f"the polling thread has not come round for {stood_s:.0f} s")
        return self._verdict_of_membership() or self._verdict_of_partitions(self._now_s())

    def _verdict_of_membership(self) -> Health | None:
        is_formed, gone, trouble, refusal = self._membership
        if gone:
            sentences = (Sentence.NO_TOPIC.format(topic=name, servers=self._servers) for name in gone)
            return Health("no_topic", "; ".join(sentences))
        if refusal:
            return Health("halted", refusal)
        if self._is_retrying:
            return Health("retrying", f"a step is being retried{self._trouble or _SEE}")
        if not is_formed:
            return Health("joining", trouble or "the group has not given out its partitions yet")
        return None

    def _verdict_of_partitions(self, now_s: float) -> Health:
        count = len(self.progress)
        behind = {partition: item for partition, item in self.progress.items() if item.behind}
        for partition, item in behind.items():
            if item.halt is None and now_s - item.moved_s > self._stall_s:
                where = f"{partition.topic}/{partition.number} at offset {item.position}"
                return Health("stalled", f"{where}, {item.behind} behind, for {now_s - item.moved_s:.0f} s")
        if halts := self.halts:
            return Health("halted", f"{len(halts)} of {count} partitions; the first: {halts[0].sentence}")
        if untold := sum(item.behind is None for item in self.progress.values()):
            return Health("joining", f"the brokers have not told yet where {untold} of {count} partitions end")
        for partition, item in self.progress.items():
            if item.kept_back and now_s - item.kept_since_s > min(_KEPT_BACK_S, self._stall_s):
                return Health("kept_back", self._kept_back(partition, item, now_s - item.kept_since_s))
        if not behind:
            return Health("idle", f"{count} partitions, none behind")
        return Health("moving", f"{len(behind)} of {count} partitions behind")

    def _kept_back(self, partition: Partition, item: PartitionProgress, age_s: float) -> str:
        what = {"count": item.kept_back, "offset": item.position, "since": f" for {age_s:.0f} s"}
        where = {"servers": self._servers, "topic": partition.topic, "partition": partition.number}
        return f"{partition.topic}/{partition.number}: {Sentence.KEPT_BACK.format(**what, **where)}"
