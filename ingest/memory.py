"""The memory budget of all requests in progress, as an estimate in bytes; a request that exceeds it gets 503.

A request takes its share in steps, each before the memory is used: for its body as sent, for the inflated body, for the
parsed objects, for the records. It returns everything with its answer. No request waits for memory: while waiting, it
would hold what it already has.
"""

import threading
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec

from ingest.errors import Load, Overloaded

# An object with one member, the most expensive JSON value: measured 177 bytes (tracemalloc, 100,000 of them).
_NODE_BYTES: Final = 180
# The Avro value, the JSON text of its properties, and librdkafka's copy.
_RECORD_COPIES: Final = 3
# An event's dictionary of fields and librdkafka's bookkeeping.
_EVENT_BYTES: Final = 2048


class Lease(Protocol):
    """One request's share of the budget."""

    def grow(self, size_bytes: int) -> None:
        """Take more.

        Raises:
            Overloaded: the budget is used up.
        """


class Body(msgspec.Struct, frozen=True):
    """An inflated body, its size as sent, its request's share of memory, and whether it has one event a line."""

    text: bytes
    sent_bytes: int
    lease: Lease
    is_lines: bool = False


class MemoryBudget:
    """Hands out shares of a fixed number of bytes. Threads share it."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._lock = threading.Lock()

    @property
    def left_bytes(self) -> int:
        """The free bytes."""
        return self._left_bytes

    def lease(self) -> "Share":
        """Open an empty share."""
        return Share(self)

    def take(self, size_bytes: int) -> bool:
        """Take bytes, or return them when negative; False when too few are left."""
        with self._lock:
            left_bytes = self._left_bytes - size_bytes
            if left_bytes < 0:
                return False
            self._left_bytes = left_bytes
            return True


class Share:
    """A `Lease` of a budget; leaving its block returns all of it. One thread at a time uses it."""

    __slots__ = ("_take", "size_bytes")

    def __init__(self, budget: MemoryBudget) -> None:
        self._take = budget.take
        self.size_bytes = 0
        """Its present size."""

    def grow(self, size_bytes: int) -> None:
        """Take more, or raise Overloaded."""
        if not self._take(size_bytes):
            raise Overloaded(Load.MEMORY_FULL, "too many large requests are in work")
        self.size_bytes += size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take(-self.size_bytes)


def bytes_of_body(size_bytes: int, nodes: int) -> int:
    """Return the memory of a parsed body with this many JSON values."""
    return size_bytes + nodes * _NODE_BYTES


def bytes_of_records(events: int, size_bytes: int) -> int:
    """Return the memory of events, of this total size, until they are durable."""
    return events * _EVENT_BYTES + size_bytes * _RECORD_COPIES


class Unbounded:
    """A `Lease` without a bound."""

    def grow(self, size_bytes: int) -> None:
        """Accept any size."""


UNBOUNDED: Final = Unbounded()
