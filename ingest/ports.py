"""Where metrics go."""

from collections.abc import Callable
from typing import Protocol


class Metrics(Protocol):
    """Records metrics; ingest/metric_table.py lists their names and labels. Any thread may call."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Set a gauge to what `read` returns at each scrape and once a second; any thread may call it."""

    def adder(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return a function that adds to one counter: it is faster, for what each request does."""

    def observer(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return a function that adds an observation to one histogram: it is faster, too."""


class NoMetrics:
    """A `Metrics` that records nothing."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Forget."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Forget."""

    def adder(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return what adds as `count` does."""
        return lambda amount: self.count(name, amount, **labels)

    def observer(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return what adds as `observe` does."""
        return lambda value: self.observe(name, value, **labels)
