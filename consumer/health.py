"""Tells whether a worker makes progress, from what its thread records once a second.

verdict     when
----------  --------------------------------------------------------------------------------------------------
moving      a partition that is behind has moved within `stall_s`, or more of its poison was found
starting    no server has answered yet, or the group has not formed; the log says which
idle        no partition is behind
retrying    a step is being retried: a server is away or busy; the worker waits, and a restart can't help
stalled     behind, not retrying, not halted, and nothing has moved for `stall_s`: a restart may help
halted      a partition waits for an operator (the others go on), and a restart can't help
poll_stuck  the polling thread has not completed a turn for `stall_s`: a restart will help
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from consumer.delivery.halting import Halted
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Partition

_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One partition, as last recorded.

    Attributes:
        position: all offsets below it are in the table or in the dead letters.
        behind: records between it and the partition's end.
        newest_ms: the Kafka timestamp of the newest committed row, else of the oldest record that waits, else None.
        moved_s: when it last moved, was not behind, or had more poison found (monotonic).
        left_out: how many records of its head batch are left out so far; a batch may take several searches for poison.
        halt: why it waits for an operator, if it does.
    """

    position: int
    behind: int
    newest_ms: int | None
    moved_s: float
    left_out: int = 0
    halt: Halted | None = None

    def age_s(self, now_ms: int) -> float:
        """Return now minus the newest committed row's Kafka timestamp; 0 when nothing is behind."""
        return max(0.0, (now_ms - self.newest_ms) / 1000) if self.behind and self.newest_ms is not None else 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """What the health page says."""

    name: str
    detail: str

    @property
    def is_healthy(self) -> bool:
        """Whether a restart would not help."""
        return self.name in ("moving", "starting", "idle", "retrying", "halted")

    @property
    def is_ready(self) -> bool:
        """Whether every partition makes progress."""
        return self.name in ("moving", "idle")


class HealthMonitor:
    """Records each partition's progress. The polling thread writes, any thread reads."""

    def __init__(self, stall_s: float, now_s: Callable[[], float]) -> None:
        self._stall_s = stall_s
        self._now_s = now_s
        self._turned_s = now_s()
        self._noted_s = float("-inf")
        self._is_retrying = False
        self.has_begun = False
        self.progress: Mapping[Partition, PartitionProgress] = {}

    def turned(self, states: Mapping[Partition, PartitionState], end_of: Callable[[Partition], int | None]) -> None:
        """Record a turn of the polling thread, and once a second the progress of its partitions, halted ones too."""
        self._turned_s = now_s = self._now_s()
        self._is_retrying, self.has_begun = any(state.is_retrying for state in states.values()), True
        if now_s - self._noted_s < _EVERY_S:
            return
        self._noted_s = now_s
        before = self.progress
        self.progress = {
            partition: _progress(state, end_of(partition), before.get(partition), now_s)
            for partition, state in states.items()
        }

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
        now_s = self._now_s()
        if not self.has_begun:
            return Health("starting", "servers, tables and group are not ready yet; the log says which")
        if now_s - self._turned_s > self._stall_s:
            return Health(
                "poll_stuck", f"the polling thread has not completed a turn for {now_s - self._turned_s:.0f} s"
            )
        if self._is_retrying:
            return Health("retrying", "a step is being retried; see headrace_consumer_retries_total")
        return self._verdict_of_partitions(now_s)

    def _verdict_of_partitions(self, now_s: float) -> Health:
        count = len(self.progress)
        behind = {partition: item for partition, item in self.progress.items() if item.behind}
        for partition, item in behind.items():
            if item.halt is None and now_s - item.moved_s > self._stall_s:
                where = f"{partition.topic}/{partition.number} at offset {item.position}"
                return Health("stalled", f"{where}, {item.behind} behind, for {now_s - item.moved_s:.0f} s")
        if halts := self.halts:
            return Health("halted", f"{len(halts)} of {count} partitions; the first: {halts[0].sentence}")
        if not behind:
            return Health("idle", f"{count} partitions, none behind")
        return Health("moving", f"{len(behind)} of {count} partitions behind")


def _progress(
    state: PartitionState, end: int | None, before: PartitionProgress | None, now_s: float
) -> PartitionProgress:
    behind = 0 if state.has_all_below(end) else max(0, (end or 0) - state.position)
    left_out = len(state.tasks[0].batch.intent.excluded) if state.tasks else 0
    moved = before is None or not behind or state.position != before.position or left_out > before.left_out
    moved_s = now_s if moved or before is None else before.moved_s
    return PartitionProgress(state.position, behind, state.newest_ms, moved_s, left_out, state.halt)
