"""The memory that requests in work may take together, as an estimate in bytes; who finds no room comes again.

A request takes its share step by step, each before the bytes or objects are made that it is for: its body as it is
read, what that inflates to, the objects that are built of it, the records that these become. It gives all of it back
with its answer. Nobody waits for room: waiting requests would hold what they have.
"""

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from ingest.errors import Load, Overloaded

# An object with one member, the most expensive kind of node: measured 177 bytes (tracemalloc, 100,000 of them).
_NODE_BYTES: Final = 180
# The Avro value, the JSON text of the properties that it was made of, and librdkafka's copy.
_RECORD_COPIES: Final = 3
# An event's dictionary of fields and librdkafka's bookkeeping.
_EVENT_BYTES: Final = 2048


class Lease(Protocol):
    """One request's share."""

    def grow(self, size_bytes: int) -> None:
        """Take more.

        Raises:
            Overloaded: there is no room.
        """


@dataclass(frozen=True, slots=True)
class Body:
    """A body as the client wrote it, its size as sent, and the share of memory that its request holds."""

    text: bytes
    sent_bytes: int
    lease: Lease


class MemoryBudget:
    """Hands out shares of so many bytes. Threads share it."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._lock = threading.Lock()

    @property
    def left_bytes(self) -> int:
        """What is free now."""
        return self._left_bytes

    def lease(self) -> "Share":
        """Open a share of nothing."""
        return Share(self)

    def move(self, size_bytes: int) -> bool:
        """Give bytes back, or take them when negative; False when there are not so many."""
        with self._lock:
            if self._left_bytes + size_bytes < 0:
                return False
            self._left_bytes += size_bytes
            return True


class Share:
    """A `Lease` of a budget; leaving its block gives back what it grew to. One thread at a time uses it."""

    __slots__ = ("_budget", "_size_bytes")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What it has grown to."""
        return self._size_bytes

    def grow(self, size_bytes: int) -> None:
        """Take more, or raise Overloaded."""
        if not self._budget.move(-size_bytes):
            raise Overloaded(Load.MEMORY_FULL, "too many large requests are in work")
        self._size_bytes += size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.move(self._size_bytes)


def bytes_of_body(size_bytes: int, nodes: int) -> int:
    """Return what the objects of a body of so many JSON values take."""
    return size_bytes + nodes * _NODE_BYTES


def bytes_of_records(events: int, size_bytes: int) -> int:
    """Return what events of so many bytes in all take until they are durable."""
    return events * _EVENT_BYTES + size_bytes * _RECORD_COPIES


class Unbounded:
    """A `Lease` of a process that has memory for everything."""

    def grow(self, size_bytes: int) -> None:
        """Take it."""


UNBOUNDED: Final = Unbounded()
