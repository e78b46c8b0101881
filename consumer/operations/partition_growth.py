"""Checks the deduplication windows again when partitions are added: more partitions insert more blocks in a second."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from consumer.errors import Fatal

log = logging.getLogger(__name__)

_REMIND_S: Final = 600.0


class PartitionGrowth:
    """Looks at the topics from time to time; one thread calls `look`.

    `count` returns how many partitions the topics have together. `check` checks the tables for that many, and raises
    Fatal with a sentence that says what to do.
    """

    def __init__(
        self, count: Callable[[], int], check: Callable[[int], None], now_s: Callable[[], float] = monotonic
    ) -> None:
        self._count = count
        self._check = check
        self._now_s = now_s
        self._checked = 0
        self._told_s = float("-inf")

    def look(self) -> bool:
        """Check if there are more partitions than at the last check that was passed; tell whether the tables fit.

        A fault is logged, and again every ten minutes until it is repaired: no insert is late enough yet to be doubled.

        Raises:
            Transient: a server is away.
        """
        partitions = self._count()
        if partitions <= self._checked:
            return True
        try:
            self._check(partitions)
        except Fatal as fault:
            if self._now_s() - self._told_s >= _REMIND_S:
                self._told_s = self._now_s()
                facts = {"partitions": partitions, "reason": str(fault)}
                log.error("the tables do not fit the topics", extra=facts)  # noqa: TRY400  (a trace adds nothing)
            return False
        self._checked = partitions
        return True
