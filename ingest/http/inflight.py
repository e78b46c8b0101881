"""The bound on requests in flight: excess requests get 503 at once, if possible before their body is read.

A request is in flight from the end of its body to its answer: a client that sends slowly takes no place. Only
collecting routes are bounded: probes and metrics are always answered.
"""

import logging
from time import monotonic
from types import TracebackType
from typing import Final

from ingest.errors import Load, Overloaded

log = logging.getLogger(__name__)

_TELL_S: Final = 10.0


class LoadBound:
    """Counts the requests in flight. One event loop uses it.

    Args:
        requests_max: how many may be in flight at once.
        wait_s_max: a request that waited longer for the event loop is refused too.
    """

    def __init__(self, requests_max: int, wait_s_max: float) -> None:
        self._requests_max = requests_max
        self._wait_s_max = wait_s_max
        self._in_work = 0
        self._told_at_s = float("-inf")
        self.late_s = 0.0
        """How late the loop was when it last looked at the clock; the server tells."""

    def check(self, received_s: float) -> None:
        """Look at the load before a request's body is read; `received_s` is when it came in, monotonic.

        Raises:
            Overloaded: it must come again.
        """
        if self._in_work >= self._requests_max or monotonic() - received_s + self.late_s > self._wait_s_max:
            raise self._overloaded()

    def work(self) -> "LoadBound":
        """Return what takes a place for a request whose body is here, for as long as its block lasts.

        Entering raises:
            Overloaded: there is none.
        """
        return self

    def __enter__(self) -> None:
        if self._in_work >= self._requests_max:
            raise self._overloaded()
        self._in_work += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_work -= 1

    def _overloaded(self) -> Overloaded:
        """Log an overload, at most once in _TELL_S."""
        now_s = monotonic()
        if now_s - self._told_at_s > _TELL_S:
            self._told_at_s = now_s
            log.warning("overloaded: requests are turned away")
        return Overloaded(Load.OVERLOADED, "too many requests are in flight")
