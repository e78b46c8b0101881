"""Collects one partition's records until they are sealed into a batch."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from consumer.delivery.ports import Record


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """The limits of a batch, which closes at the first one reached, and of the memory for waiting records.

    Attributes:
        rows_max: rows.
        bytes_max: bytes of records.
        age_s_max: how long the oldest record may wait.
        waiting_bytes_max: memory over all partitions; see consumer/delivery/balance.py.
    """

    rows_max: int
    bytes_max: int
    age_s_max: float
    waiting_bytes_max: int


@dataclass(slots=True)
class Buffer:
    """Records of one partition in offset order, waiting to be sealed.

    Attributes:
        arrivals: each time at which records arrived, with the first offset that did.
    """

    records: deque[Record] = field(default_factory=deque)
    size_bytes: int = 0
    arrivals: deque[tuple[int, float]] = field(default_factory=deque)

    def add(self, record: Record, now_s: float) -> None:
        """Add one record; `now_s` is monotonic."""
        if not self.arrivals or self.arrivals[-1][1] != now_s:
            self.arrivals.append((record.offset, now_s))
        self.records.append(record)
        self.size_bytes += record.size_bytes

    def is_due(self, limits: BufferLimits, now_s: float) -> bool:
        """Tell whether a limit is reached."""
        return bool(self.records) and (
            len(self.records) >= limits.rows_max
            or self.size_bytes >= limits.bytes_max
            or now_s - self.arrivals[0][1] >= limits.age_s_max
        )

    def take(self, limits: BufferLimits) -> tuple[Record, ...]:
        """Remove and return the oldest records: at least one, within the limits of a batch, of one leader epoch."""
        taken: list[Record] = []
        size_bytes = 0
        while self.records and len(taken) < limits.rows_max and size_bytes < limits.bytes_max:
            if taken and self.records[0].leader_epoch != taken[0].leader_epoch:
                break
            record = self.records.popleft()
            taken.append(record)
            size_bytes += record.size_bytes
        self._removed(size_bytes)
        return tuple(taken)

    def take_below(self, offset: int) -> tuple[Record, ...]:
        """Remove and return the records below an offset."""
        taken: list[Record] = []
        while self.records and self.records[0].offset < offset:
            taken.append(self.records.popleft())
        self._removed(sum(record.size_bytes for record in taken))
        return tuple(taken)

    def put_back(self, records: Iterable[Record]) -> None:
        """Put back records that were removed last; they are due for a batch at once."""
        for record in reversed(tuple(records)):
            self.records.appendleft(record)
            self.size_bytes += record.size_bytes
        if self.records:
            self.arrivals.appendleft((self.records[0].offset, float("-inf")))

    def _removed(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes
        while self.arrivals and (
            not self.records or (len(self.arrivals) > 1 and self.arrivals[1][0] <= self.records[0].offset)
        ):
            self.arrivals.popleft()
