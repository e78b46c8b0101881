"""Makes records durable, with the broker while it answers, else on disk. Only then does the client get its 201.

    breaker closed ──▶ broker ──▶ all acknowledged in time ─────────────────────────────▶ BROKER
                          └─────▶ not all ──▶ what is not ──┐
    breaker open ─────────────────▶ all ────────────────────┴▶ spool ──▶ committed ─────▶ DISK
                                                                 └─────▶ full, failing ─▶ Unavailable

While the breaker is closed, a full queue of our own is overload, not an outage: Overloaded, nothing is written.

Only records that were not acknowledged go to the spool. Records of one key share a partition, and a partition
acknowledges in order, so a request's events of one key stay in order. Between requests there is no such order: an
event received after an outage may pass spooled ones. Each event has the time at which it was received.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.counters import EventCounters, Outcome
from ingest.errors import Load, Overloaded, Unavailable
from ingest.publishing.circuit_breaker import Breaker, State
from ingest.publishing.ports import DELIVERED, Broker, DeliveryStatus, Durability, Record, Spool, SpoolError, is_dead

log = logging.getLogger(__name__)

# A single failure may be a record that was on its way when the broker came back.
_STUCK_FAILURES: Final = 2
# New producers don't help when the broker answers and accepts nothing from anybody (too few replicas).
_RENEW_S: Final = 10.0
_RENEW_S_MAX: Final = 300.0
# Looking these up there takes 0.1 us, several times a request.
_CLOSED: Final = State.CLOSED
_DELIVERED: Final = Outcome.DELIVERED
_SPOOLED: Final = Outcome.SPOOLED
_BROKER: Final = Durability.BROKER
_DISK: Final = Durability.DISK
_RETRY_AFTER_S: Final = 5  # about as long as a broker's election, or as the drainer needs to free the disk


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a request waits for its acknowledgements, and how long until that counts as a broker failure."""

    deadline_s: float
    slow_s: float


class DurablePublisher:
    """The `Publisher` of a process. Coroutines of one event loop and threads share it.

    Args:
        broker: the first choice.
        spool: the second choice.
        breaker: decides between them.
        timeouts: how long to wait for the broker.
        counters: counts what became durable, and where.
        now_s: monotonic seconds.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (what it composes)
        self,
        broker: Broker,
        spool: Spool,
        breaker: Breaker,
        timeouts: Timeouts,
        counters: EventCounters,
        now_s: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._spool = spool
        self._breaker = breaker
        self._timeouts = timeouts
        self._counters = counters
        self._observe_wait = counters.metrics.observer("acknowledgement_seconds")
        self._now_s = now_s
        self._broker_answers = False
        self._failures = 0  # in a row, while the broker answers
        self._renew_after_s = _RENEW_S
        self._renewed_at_s = float("-inf")
        self._is_draining = False
        self._active = 0
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)

    async def publish(self, records: Sequence[Record]) -> Durability:
        """Make all records durable and return where; the module's docstring says how that is decided."""
        self._broker.check(records)
        with self._lock:
            self._active += 1
        try:
            left = await self._send(records) if self._permits() else records
            delivered = _events(records)
            if left:
                spooled = _events(left)
                delivered -= spooled
                await self._keep(left, len(records) - len(left), delivered)
                self._counters.count(_SPOOLED, spooled)
            self._counters.count(_DELIVERED, delivered)
            return _DISK if left else _BROKER
        finally:
            with self._lock:
                self._active -= 1
                if not self._active:
                    self._change.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no request is being published; False after the timeout."""
        with self._change:
            return self._change.wait_for(lambda: self._active == 0, timeout_s)

    def drain(self) -> None:
        """Report from now on that this process is not ready; requests are still accepted."""
        self._is_draining = True

    def is_ready(self) -> bool:
        """Tell, without waiting, whether events can be made durable, with the broker or on disk."""
        return not self._is_draining and (
            self._breaker.state is _CLOSED or self._spool.is_usable() or self._broker_answers
        )

    def _permits(self) -> bool:
        """Ask the breaker; no request probes a broker that did not answer `poll_health`."""
        if self._breaker.state is _CLOSED:
            return True
        return self._broker_answers and self._breaker.permits(self._now_s())

    async def _send(self, records: Sequence[Record]) -> list[Record]:
        """Send records and return those that were not acknowledged before the deadline."""
        since_s = self._now_s()
        delivery = self._broker.send(records)
        is_slow = False
        wait_s = min(self._timeouts.slow_s, self._timeouts.deadline_s)
        while wait_s > 0 and not await delivery.wait(wait_s):
            is_slow = True
            self.record_outcome(is_well=False)
            wait_s = min(self._timeouts.slow_s, since_s + self._timeouts.deadline_s - self._now_s())
        self._observe_wait(self._now_s() - since_s)
        statuses = delivery.statuses()
        if not is_slow and statuses.count(DELIVERED) == len(records):  # nearly always
            self.record_outcome(is_well=True)
            return []
        left = [record for record, status in zip(records, statuses, strict=True) if status is not DELIVERED]
        if left and DeliveryStatus.NO_ROOM in statuses:
            if self._breaker.state is _CLOSED:
                raise Overloaded(Load.QUEUE_FULL, "too many events await their acknowledgement")
        elif left and DeliveryStatus.FAILED in statuses:
            self.record_outcome(is_well=False)
        elif not is_slow:
            self.record_outcome(is_well=True)
        return left

    async def _keep(self, records: Sequence[Record], arrived: int, arrived_events: int) -> None:
        """Put records into the spool, or refuse the request; its events that have arrived are then orphans."""
        try:
            await self._spool.append(records)
        except SpoolError as error:
            self._counters.count(Outcome.ORPHANED, arrived_events)
            log.warning("request not durable", extra={"code": error.code, "reason": str(error), "arrived": arrived})
            message = "neither the broker nor the disk takes events now"
            raise Unavailable(error.code, message, _RETRY_AFTER_S) from error

    def record_outcome(self, *, is_well: bool) -> None:
        """Record one outcome with the breaker; when that opens it, release all requests that wait for the broker."""
        now_s = self._now_s()
        if is_well:
            self._failures, self._renew_after_s = 0, _RENEW_S
            if self._breaker.succeeded(now_s):
                log.warning("the broker acknowledges again")
            return
        self._failures += self._broker_answers
        if self._breaker.failed(now_s):
            self._opened("the broker does not acknowledge: events go to disk")

    def _opened(self, message: str) -> None:
        self._broker_answers = False  # until `poll_health` has asked again
        self._counters.metrics.count("breaker_opened_total")
        log.error(message)
        self._broker.purge()

    def check_at_startup(self, timeout_s: float) -> None:
        """Ask the broker before the first request; if it does not answer, begin with the spool."""
        if not self._broker.answers(timeout_s):
            self._breaker.open(self._now_s())
            self._opened("the broker does not answer at the start: events go to disk")

    def poll_health(self, timeout_s: float) -> None:
        """Check a broker that is away and a spool that failed; called every second."""
        is_closed = self._breaker.state is _CLOSED
        if not is_closed:
            self._broker_answers = self._broker.answers(timeout_s)
            self._renew_if_stuck()
        self._counters.metrics.set("breaker_open", not is_closed)
        self._counters.metrics.set("spool_usable", self._spool.is_usable())

    def _renew_if_stuck(self) -> None:
        """Replace the producer when it keeps failing although the broker answers; each time after a longer pause."""
        now_s = self._now_s()
        if not self._broker_answers:
            self._failures = 0
        elif self._failures >= _STUCK_FAILURES and now_s - self._renewed_at_s >= self._renew_after_s:
            log.warning("the broker answers but accepts nothing: making a new producer")
            self._failures, self._renewed_at_s = 0, now_s
            self._renew_after_s = min(2 * self._renew_after_s, _RENEW_S_MAX)
            self._broker.renew()
            self._breaker.hurry()


def _events(records: Sequence[Record]) -> int:
    """Return how many records are events, not dead letters."""
    return len(records) - sum(map(is_dead, records))
