"""What the ingress needs from the world; each is implemented by one edge module and by a fake in the tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One event ready for the log: key and framed Avro value, and the headers that travel beside it.

    A `dead` one is a refused event for the dead-letter topic: its value is the JSON that the client sent, its headers
    say why. It is no event of the books: neither delivered nor spooled counts it.
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    dead: bool = False


class Publisher(Protocol):
    """Makes records durable. Threads share it."""

    def publish(self, records: Sequence[Record]) -> None:
        """Return when every record is durable.

        Raises:
            Unavailable: the deadline passed or there is no room; the records may be sent again.
        """

    def is_ready(self) -> bool:
        """Tell whether records can be made durable now."""


class Meter(Protocol):
    """Takes figures; names and labels stand in one table, in telemetry. Any thread may call."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""

    def level(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Add to a gauge, or take from it."""


class NoMeter:
    """A `Meter` that forgets."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Forget."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def level(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Forget."""
