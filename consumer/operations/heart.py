"""Writes the heartbeats of a worker into ClickHouse every few seconds, on a thread beside the way of events.

A server that is away costs the beats of that time and nothing else: what the log held is remembered, and claimed later.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from consumer.delivery.ports import Metrics, Partition
from consumer.errors import Transient
from consumer.health import HealthMonitor, PartitionProgress
from consumer.kafka.admin import LogBounds, Topic
from consumer.operations.completeness import Completeness, Heartbeat, Look


class LogState(Protocol):
    """What a heartbeat asks the brokers; consumer.kafka.admin.Cluster implements it."""

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return where partitions end for their producers; one that no broker answers for is left out."""

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, LogBounds]:
        """Return the same, and more, from a fetch: that takes longer, and is right on every broker."""

    def topic(self, name: str) -> Topic | None:
        """Return a topic, or None when it does not exist."""


class CarefulClock:
    """Tells the time by the worker's clock, or by ClickHouse's if that is behind it; one thread asks.

    A claim may be made long after its moment was noted, so it does not help to bound it when it is written. While
    ClickHouse is away, the difference between the clocks is taken to be what it was.
    """

    def __init__(self, server_ms: Callable[[], int], now_s: Callable[[], float] = time.time) -> None:
        self._server_ms = server_ms
        self._now_s = now_s
        self._ahead_ms: int | None = None

    def now_ms(self) -> int:
        """Return Unix ms.

        Raises:
            Transient: ClickHouse has never answered.
        """
        now_ms = int(self._now_s() * 1000)
        try:
            self._ahead_ms = max(0, now_ms - self._server_ms())
        except Transient:
            if self._ahead_ms is None:
                raise
        return now_ms - self._ahead_ms


class Heart:
    """Beats for the partitions of a HealthMonitor; one thread calls `beat`.

    The embedded broker lists too small an end behind a batch of several records (deploy/embedded/broker.py). Once one
    was listed that lies before what was read, and a fetch tells another one, only fetches are believed.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (what it asks and tells)
        self,
        log: LogState,
        monitor: HealthMonitor,
        completeness: Completeness,
        write: Callable[[Sequence[Mapping[str, object]]], None],
        now_ms: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._monitor = monitor
        self._completeness = completeness
        self._write = write
        self._now_ms = now_ms
        self._metrics = metrics
        self._lists_ends = True

    def beat(self) -> list[Heartbeat]:
        """Look at the log once, and write what follows; return it.

        Raises:
            Transient, Fatal: a server is away, or refuses.
        """
        progress = self._monitor.progress
        owned = list(progress)
        at_ms = self._now_ms()  # before the brokers are asked: what comes later is not claimed
        ends = self._ends(owned, progress) if owned else {}
        topics = {name: self._log.topic(name) for name in {partition.topic for partition in owned}}
        known = {name: topic for name, topic in topics.items() if topic is not None}
        for name, topic in known.items():
            self._metrics.set("topic_partitions", topic.partitions, topic=name)
        made = self._completeness.beat(Look(at_ms, ends, known), progress)
        if made:
            self._write([item.row() for item in made])
        return made

    def _ends(
        self, owned: Sequence[Partition], progress: Mapping[Partition, PartitionProgress]
    ) -> dict[Partition, int]:
        if not self._lists_ends:
            return {partition: bounds.high for partition, bounds in self._log.bounds(owned).items()}
        ends = self._log.ends(owned)
        doubted = [partition for partition, end in ends.items() if self._is_before(end, progress[partition])]
        if doubted:
            bounds = self._log.bounds(doubted)
            self._lists_ends = any(self._is_before(bounds[name].high, progress[name]) for name in doubted)
        return ends  # of a log that seems cut nothing is claimed until the next beat, as of one that is

    @staticmethod
    def _is_before(end: int, item: PartitionProgress) -> bool:
        """Tell whether a log ends before what was read of it: it was cut, unless the broker is wrong."""
        return item.halt is None and end < item.position
