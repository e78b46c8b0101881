"""The delivery reports of some records: a status for each, and the moment at which all of them have one.

Compiled code (delivery_reports.pyx) does what the class here does, where it could be compiled.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, Protocol

from ingest.publishing.ports import DELIVERED, UNKNOWN, DeliveryStatus

try:
    from ingest.publishing.delivery_reports import Reports as Reports  # noqa: PLC0414
except ImportError:  # there was no compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True


class Reported(Protocol):
    """A record as its delivery report shows it."""

    def offset(self) -> int | None:
        """Return its offset; None when librdkafka only concludes that it was stored."""


class ReportsInPython:
    """The statuses of some records; `ended` is called when all of them have one.

    Args:
        count: of the records.
        status_of: tells the status of a record whose report has an error.
        on_missing_offset: called for a report of success that names no offset.
    """

    def __init__(
        self, count: int, status_of: Callable[[Any], DeliveryStatus], on_missing_offset: Callable[[], None]
    ) -> None:
        self._statuses = [UNKNOWN] * count
        self._left = count
        self._status_of = status_of
        self._on_missing_offset = on_missing_offset
        self._lock = threading.Lock()  # flush() of a replaced producer reports on another thread

    def statuses(self) -> list[DeliveryStatus]:
        """Return the present statuses, in the records' order."""
        return self._statuses.copy()

    def takers(self, indexes: Iterator[int]) -> Iterator[Callable[[Any, Reported], None]]:
        """Yield what takes the delivery reports of records, by their indexes."""
        return map(partial, repeat(self._take), indexes)

    def give_up(self, status: DeliveryStatus = DeliveryStatus.FAILED, first: int = 0) -> None:
        """Settle the records, from the first one on, that will get no report."""
        with self._lock:
            before = self._left
            for index in range(first, len(self._statuses)):
                if self._statuses[index] is UNKNOWN:
                    self._statuses[index] = status
                    self._left -= 1
            if self._left or not before:
                return
        self.ended()

    def ended(self) -> None:
        """Learn that every record has its status."""
        raise NotImplementedError

    def _take(self, index: int, error: Any, message: Reported) -> None:
        """Take the delivery report of one record; of several the first counts."""
        status = DELIVERED
        if error is not None:
            status = self._status_of(error)
        elif message.offset() is None:
            status = DeliveryStatus.FAILED
            self._on_missing_offset()
        with self._lock:
            if self._statuses[index] is not UNKNOWN:
                return
            self._statuses[index] = status
            self._left -= 1
            if self._left:
                return
        self.ended()


if not IS_COMPILED:
    Reports = ReportsInPython  # type: ignore[assignment,misc]
