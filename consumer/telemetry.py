"""What ops see of a worker: one JSON object per log line, and its figures."""

import logging
import sys
import threading
from collections import Counter

from pythonjsonlogger.json import JsonFormatter


def start_logging(level: str) -> None:
    """Send the process's logs to standard error, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("{levelname}{name}{message}", style="{", timestamp="at"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Tally:
    """A `Meter` that keeps its figures in memory, for the last log line. Threads share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts["/".join((name, *labels.values()))] += int(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:  # noqa: ARG002  (the port's signature)
        """Count an observation."""
        self.count(name, 1, **labels)

    def level(self, name: str, value: float, **labels: str) -> None:
        """Levels are not kept."""

    def figures(self) -> dict[str, int]:
        """Return the counts so far."""
        with self._lock:
            return dict(self._counts)
