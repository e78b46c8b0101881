"""Collects one partition's records until they are sealed into a batch."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Final

from consumer.delivery.ports import Record, total_bytes

DUE_S: Final = float("-inf")
"""The arrival of records that are due for a batch at once."""
# The golden section: of a few multiples in a row, modulo one, no two are close together.
_SPREAD: Final = (sqrt(5) - 1) / 2
LARGE_ROWS: Final = 10_000
"""At its log's end a batch of so many rows closes early, whatever inserts cost: so many wait, and no more are there."""
_FIRST_PART: Final = 4  # of the rows: a quarter
GROWTH: Final = 10
"""A batch under a backlog may be so many times older than others, so that it grows large."""


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """The limits of a batch, which closes at the first one reached, and of the memory for waiting records.

    Attributes:
        rows_max: rows.
        bytes_max: bytes of records.
        age_s_max: how long the oldest record may wait; under a backlog `GROWTH` times as long.
        waiting_bytes_max: memory over all partitions; see consumer/delivery/balance.py.
        early_s: the time between the moments at which a partition's batches may close early; see `age_s`.
    """

    rows_max: int
    bytes_max: int
    age_s_max: float
    waiting_bytes_max: int
    early_s: float = float("inf")

    @property
    def first(self) -> "BufferLimits":
        """The limits of the first batch after a pause: a quarter of the rows, inserted while the next ones grow."""
        return replace(self, rows_max=min(self.rows_max, max(LARGE_ROWS, self.rows_max // _FIRST_PART)))

    def age_s(self, partition: int, since_s: float, *, is_behind: bool, is_cheap: bool) -> float:
        """Return the age at which a partition's batch closes whose first records arrived at `since_s` (monotonic).

        While enough records lie ahead (`is_behind`), it may grow: another insert for them would cost more. If it may
        close early (`is_cheap`), it does so at the partition's next moment. Moments are `early_s` apart on the
        monotonic clock, and the partitions' numbers spread them: inserts that begin together delay each other. What was
        put back is due at any age.
        """
        if is_behind:
            return self.age_s_max * GROWTH
        if not is_cheap or self.early_s >= self.age_s_max or since_s == DUE_S:
            return self.age_s_max
        return self.early_s - (since_s + partition * _SPREAD * self.early_s) % self.early_s


@dataclass(slots=True)
class Buffer:
    """Records of one partition in offset order, waiting to be sealed.

    Attributes:
        arrivals: each time at which records arrived, with the first offset that did.
        is_mixed: whether the records may be of several leader epochs.
    """

    records: deque[Record] = field(default_factory=deque)
    size_bytes: int = 0
    arrivals: deque[tuple[int, float]] = field(default_factory=deque)
    is_mixed: bool = False

    def add(self, record: Record, now_s: float) -> None:
        """Add one record; `now_s` is monotonic."""
        self.add_all((record,), now_s)

    def add_all(self, records: Sequence[Record], now_s: float) -> None:
        """Add records of one leader epoch, at least one; `now_s` is monotonic."""
        if not self.arrivals or self.arrivals[-1][1] != now_s:
            self.arrivals.append((records[0].offset, now_s))
        before = self.records[-1].leader_epoch if self.records else records[0].leader_epoch
        self.is_mixed = before != records[0].leader_epoch or (self.is_mixed and bool(self.records))
        self.records.extend(records)
        self.size_bytes += total_bytes(records)

    def is_due(self, limits: BufferLimits, now_s: float, age_s: float) -> bool:
        """Tell whether the limit of rows or bytes is reached, or an age."""
        return bool(self.records) and (
            len(self.records) >= limits.rows_max
            or self.size_bytes >= limits.bytes_max
            or now_s - self.arrivals[0][1] >= age_s
        )

    def take(self, limits: BufferLimits) -> tuple[Record, ...]:
        """Remove and return the oldest records: at least one, within the limits of a batch, of one leader epoch."""
        if len(self.records) <= limits.rows_max and self.size_bytes <= limits.bytes_max and not self.is_mixed:
            return self._take_all()
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

    def _take_all(self) -> tuple[Record, ...]:
        taken = tuple(self.records)
        self.records.clear()
        self.arrivals.clear()
        self.size_bytes = 0
        return taken

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
        self.is_mixed = True  # not known
        if self.records:
            self.arrivals.appendleft((self.records[0].offset, DUE_S))

    def _removed(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes
        while self.arrivals and (
            not self.records or (len(self.arrivals) > 1 and self.arrivals[1][0] <= self.records[0].offset)
        ):
            self.arrivals.popleft()
