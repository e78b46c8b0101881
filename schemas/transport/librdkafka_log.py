"""Formats librdkafka's own messages as lines of the process's log."""

import logging
import threading
from collections.abc import Callable
from re import sub
from time import monotonic
from typing import Final

LIBRARY: Final = "librdkafka"
"""The logger of librdkafka's own lines."""
_REPEAT_S: Final = 30.0
_KINDS_MAX: Final = 200


class LineFilter(logging.Filter):
    """Reformats librdkafka's lines, and passes repeated ones once in 30 s.

    The next line of the same kind that passes says how many were left out.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Split a record into message, facility and client, and decide whether it passes."""
        if record.msg == "%s [%s] %s" and isinstance(record.args, tuple):
            facility, client, text = map(str, record.args)
            record.msg, record.args = sub(r"^\[thrd:[^\]]*\]: ", "", text), ()
            record.facility, record.client = facility, client
            if facility == "CONFWARN" and "and will be ignored by this" in text:
                return False  # the file's properties go to all kinds of clients
        said = (record.msg, *(getattr(record, name, "") for name in ("facility", "reason", "detail")))
        left_out = self._count(sub(r"[0-9]+", "0", " ".join(said)), self._now_s())
        if left_out > 0:
            record.repeated = left_out
        return left_out >= 0

    def _count(self, kind: str, now_s: float) -> int:
        """Return how many lines of a kind were left out before this one; -1 when this one is left out too."""
        with self._lock:
            until_s, left_out = self._told.get(kind, (0.0, 0))
            passes = now_s >= until_s
            if len(self._told) >= _KINDS_MAX and kind not in self._told:
                self._told.clear()
            self._told[kind] = (now_s + _REPEAT_S, 0) if passes else (until_s, left_out + 1)
            return left_out if passes else -1
