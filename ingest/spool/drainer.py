"""Sends the spool to the broker, in order and at a bounded rate, and deletes what was acknowledged.

A record without a report may have arrived or not. It is sent again, under the same event id.
"""

import logging
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

from ingest.ports import Metrics
from ingest.publishing.ports import Broker, DeliveryStatus, SpoolError
from ingest.spool.backlog import Backlog, Batch, Source
from ingest.spool.file import Spooled

log = logging.getLogger(__name__)

_IDLE_S: Final = 0.5
_ASK_AGAIN_S: Final = (
    2.0  # the longest delay until another process replaces a dead drainer, or a failed disk is tried again
)


class Note(Protocol):
    """Called with the outcome of each batch."""

    def __call__(self, *, is_well: bool) -> None:
        """Record whether the broker acknowledged promptly."""


@dataclass(frozen=True, slots=True)
class DrainPace:
    """How fast the spool is sent.

    Attributes:
        events_per_s: the highest rate.
        deadline_s: how long a batch waits for its reports.
        slow_s: a slower batch counts as a broker failure.
    """

    events_per_s: float
    deadline_s: float
    slow_s: float
    batch_events: int = 256
    batch_bytes: int = 512 * 1024
    backoff_s: float = 0.5
    # Like the breaker's: the longest delay in noticing that the broker is back.
    backoff_s_max: float = 15.0


class Drainer:
    """Drains one directory, one batch per step; `start` does it on a thread.

    Args:
        backlog: the records to send.
        broker: sends them.
        pace: how fast.
        note: called with the outcome of each batch.
        metrics: counts sent events and failures.
    """

    def __init__(self, backlog: Backlog, broker: Broker, pace: DrainPace, note: Note, metrics: Metrics) -> None:
        self._backlog = backlog
        self._broker = broker
        self._pace = pace
        self._note = note
        self._metrics = metrics
        self._batch_events = 1
        self._backoff_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-drain", daemon=True)

    def start(self) -> None:
        """Drain on a thread until `stop`."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Start no further batch."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """Wait for the batch on its way, at most this long; call it after `start`."""
        self.ask_to_stop()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            try:
                pause_s = self.step()
            except Exception:  # a defect must not stop draining for good
                log.exception("defect in the drainer")
                pause_s = self._pace.backoff_s_max
        self._backlog.release()

    def step(self) -> float:
        """Send one batch if there is one; return how many seconds to pause."""
        try:
            if not self._backlog.acquire():
                return _ASK_AGAIN_S
            batch = self._backlog.next_batch(self._batch_events, self._pace.batch_bytes)
            return _IDLE_S if batch is None else self._send(batch)
        except SpoolError as error:
            log.warning("spool can't be drained now", extra={"code": error.code, "reason": str(error)})
            return _ASK_AGAIN_S

    def _send(self, batch: Batch) -> float:
        since_s = monotonic()
        records = self._whole(batch)
        if not records:
            return 0.0
        delivery = self._broker.send([spooled.record for spooled in records])
        is_prompt = delivery.wait_in_thread(self._pace.slow_s)
        if not is_prompt:
            delivery.wait_in_thread(self._pace.deadline_s - self._pace.slow_s)
        statuses = delivery.statuses()
        arrived = [
            spooled.seq for spooled, status in zip(records, statuses, strict=True) if status is DeliveryStatus.DELIVERED
        ]
        if arrived:
            self._metrics.count("spool_drained_events_total", len(arrived))
            self._backlog.delete(batch.source, arrived)
        if DeliveryStatus.NO_ROOM in statuses:  # live requests fill the queue
            return self._pace.backoff_s
        if DeliveryStatus.FAILED in statuses or DeliveryStatus.UNKNOWN in statuses:
            self._note(is_well=False)
            return self._back_off(is_partial=bool(arrived))
        self._note(is_well=is_prompt)
        self._backoff_s = 0.0
        if DeliveryStatus.REFUSED in statuses:
            self._refused(batch.source, records, statuses)
        else:
            self._batch_events = min(2 * self._batch_events, self._pace.batch_events)
        return max(len(arrived) / self._pace.events_per_s - (monotonic() - since_s), 0)

    def _back_off(self, *, is_partial: bool) -> float:
        """After a failure, pause longer each time and continue with one record, or with many if some were delivered."""
        self._metrics.count("spool_drain_failures_total")
        self._backoff_s = min(max(2 * self._backoff_s, self._pace.backoff_s), self._pace.backoff_s_max)
        if is_partial:
            self._backoff_s = self._pace.backoff_s
        else:
            self._batch_events = 1
        return self._backoff_s * random.uniform(0.5, 1)  # noqa: S311  (spreads collectors over time)

    def _refused(self, source: Source, records: Sequence[Spooled], statuses: Sequence[DeliveryStatus]) -> None:
        """Park a single refused record. Of several, one may have caused the refusal of all, so send them one by one."""
        if len(records) > 1:
            self._batch_events = 1
            return
        for spooled, status in zip(records, statuses, strict=True):
            if status is DeliveryStatus.REFUSED:
                self._park(source, spooled.seq, "refused")

    def _whole(self, batch: Batch) -> list[Spooled]:
        """Return the records with a correct checksum; park the others."""
        for spooled in batch.records:
            if not spooled.is_whole:
                self._park(batch.source, spooled.seq, "checksum")
        return [spooled for spooled in batch.records if spooled.is_whole]

    def _park(self, source: Source, seq: int, reason: str) -> None:
        source.file.park(seq, reason)
        log.critical(
            "spooled event parked: it waits for an operator",
            extra={"path": str(source.file.path), "seq": seq, "reason": reason},
        )
