"""What the ingress needs from the world; each is implemented by one edge module and by a fake in the tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One event ready for the log: key and framed Avro value."""

    key: bytes
    value: bytes


class Publisher(Protocol):
    """Makes records durable. Threads share it."""

    def publish(self, records: Sequence[Record]) -> None:
        """Return when every record is durable.

        Raises:
            Unavailable: the deadline passed or there is no room; the records may be sent again.
        """

    def is_ready(self) -> bool:
        """Tell whether records can be made durable now."""
