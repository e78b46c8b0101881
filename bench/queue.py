"""A simulation, second by second, of the two queues of a plan: the spools of the ingress, and the log.

Arrivals pass the ingress up to its capacity; beyond it they are refused with 503. While the brokers are away, what was
accepted goes to the spools, and behind that it is drained to the log. Workers take the log up to theirs, unless
ClickHouse is away. Pure; docs/SCALE.md has its figures.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Stages:
    """What each stage can do, in events a second.

    Attributes:
        ingress: accept.
        drain: send from the spools to the log, beside what is accepted.
        workers: insert.
        latency_s: from the log into the table when nothing waits.
    """

    ingress: float
    drain: float
    workers: float
    latency_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation showed.

    Attributes:
        refused: the share of events that were answered 503.
        spool_max: the most events in the spools.
        lag_max: the most events in the log that are not in the table.
        age_s_max: how old an event in the table was at most when it got there, since it was accepted.
        recovered_s: when both queues were empty again, after the trouble began.
        lost: events that were accepted and are nowhere at the end; anything but 0 is a defect of the simulation.
    """

    refused: float
    spool_max: float
    lag_max: float
    age_s_max: float
    recovered_s: int
    lost: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens from the first second on.

    Attributes:
        arrivals: events in each second.
        broker_back_s: the brokers are away until then.
        table_back_s: ClickHouse is away until then.
    """

    arrivals: Callable[[int], float]
    broker_back_s: int = 0
    table_back_s: int = 0


def flash_crowd(rate: float, times: float = 10.0, ramp_s: int = 30, lasts_s: int = 600) -> Trouble:
    """Return a crowd: the rate grows within the ramp to a multiple, stays there, and falls as it grew."""

    def arrivals(second: int) -> float:
        up, down = second / ramp_s, (lasts_s - second) / ramp_s
        return rate * (1 + (times - 1) * max(0.0, min(1.0, up, down)))

    return Trouble(arrivals)


def outage(rate: float, *, of_brokers: bool = False, lasts_s: int = HOUR_S) -> Trouble:
    """Return an outage of ClickHouse, or of all brokers, at an even rate."""
    back_s = {"broker_back_s": lasts_s} if of_brokers else {"table_back_s": lasts_s}
    return Trouble(lambda _: rate, **back_s)


def simulate(stages: Stages, trouble: Trouble, limit_s: int = 12 * HOUR_S) -> Outcome:
    """Run until both queues are empty behind the trouble, at most so long."""
    spool, log = _Queue(), _Queue()
    offered = accepted_all = inserted = refused = spool_max = lag_max = age_s_max = 0.0
    second, calm_s = 0, max(1, trouble.broker_back_s, trouble.table_back_s)
    while second < limit_s:
        arriving = trouble.arrivals(second)
        accepted = min(arriving, stages.ingress)
        offered, refused, accepted_all = offered + arriving, refused + arriving - accepted, accepted_all + accepted
        if second < trouble.broker_back_s:
            spool.put(second, accepted)
        else:
            for at_s, count in spool.take(stages.drain):
                log.put(at_s, count)
            log.put(second, accepted)
        spool_max, lag_max = max(spool_max, spool.size), max(lag_max, log.size)
        if second >= trouble.table_back_s and second >= trouble.broker_back_s:
            for at_s, count in log.take(stages.workers):
                inserted += count
                age_s_max = max(age_s_max, second - at_s + stages.latency_s)
        second += 1
        is_calm = second >= calm_s and trouble.arrivals(second) <= trouble.arrivals(0)
        if is_calm and spool.size < 1 and log.size < 1:
            break
    lost = accepted_all - inserted - spool.size - log.size
    return Outcome(refused / offered if offered else 0.0, spool_max, lag_max, age_s_max, second, lost)


class _Queue:
    """Counts of events with the second of their acceptance, in the order in which they came."""

    def __init__(self) -> None:
        self._parts: deque[tuple[int, float]] = deque()
        self.size = 0.0

    def put(self, at_s: int, count: float) -> None:
        self._parts.append((at_s, count))
        self.size += count

    def take(self, most: float) -> list[tuple[int, float]]:
        taken = []
        while self._parts and most > 0:
            at_s, count = self._parts.popleft()
            part = min(count, most)
            if part < count:
                self._parts.appendleft((at_s, count - part))
            taken.append((at_s, part))
            most -= part
            self.size -= part
        if not self._parts:
            self.size = 0.0  # rounding
        return taken
