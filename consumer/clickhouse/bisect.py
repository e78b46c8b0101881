"""Finds the rows that a table refuses, in few probes, without writing anything.

A probe sends some rows to a table that checks them and keeps none. First it tries the row that the error names, which
counts only when it is refused alone; then it bisects. It begins with all rows, which suffices for a few named ones.
Then it goes group by group, in offset order, so that each row found resends only its group. An accepted group makes the
next one larger; rows found by bisection set the group's size to the distance between them.

Probes needed: two for a named row, and one more for its group; for an unnamed row log2 of the distance to the next one,
and two more, which is close to the minimum.

A search with much poison ends in time, with the first poison in the order of the log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from consumer.delivery.ports import Poison
from consumer.errors import Halt, HaltCode, Rejected

Probe = Callable[[Sequence[int]], Rejected | None]
"""Takes row numbers (from 0) and returns the refusal, or None when all are accepted.

Raises Transient when there is no answer.
"""

_AT_ONCE_MAX: Final = 4  # named rows to search for among all rows: each resends nearly all of them
_GROUP_ROWS: Final = 500  # a probe of this many rows takes a quarter longer than a probe of one row (15 and 12 ms)
_NEWEST: Final = 0.25  # the last distance's weight in the mean
_OF_DISTANCE: Final = 0.7  # with ln 2 of the distance, half of the groups are refused


@dataclass(slots=True)
class Bisection:
    """One search through the rows of a refused block.

    Attributes:
        offsets: each row's offset.
        probe: asks the table.
        found_max: the search ends when this many are found.
        time_s_max: after this the search ends once it has found any; the rest is found after the next refusal.
        now_s: the monotonic clock.
        found: the poison so far, by row.
    """

    offsets: Sequence[int]
    probe: Probe
    found_max: int
    time_s_max: float = 10.0
    now_s: Callable[[], float] = monotonic
    found: dict[int, Poison] = field(default_factory=dict)
    _until_s: float = 0.0

    def run(self, refusal: Rejected) -> list[Poison]:
        """Return the poison, in offset order; none when every row is accepted alone.

        Raises:
            Halt: the table refuses even an insert without rows.
            Transient: a probe had no answer.
        """
        self._until_s = self.now_s() + self.time_s_max
        if (empty := self.probe(())) is not None:
            raise Halt(f"the table refuses even an insert without rows: {empty}", HaltCode.TABLE)
        left, again = self._named(list(range(len(self.offsets))), refusal, _AT_ONCE_MAX)
        if again is not None:
            self._search(left)
        return [self.found[row] for row in sorted(self.found)]

    def _search(self, rows: Sequence[int]) -> None:
        """Search rows group by group; no group was refused yet."""
        at, last, pace = 0, 0, BisectPace()
        while at < len(rows) and not self._is_over:
            end = at + pace.rows
            group = [row for row in rows[at:end] if row not in self.found]
            refusal = self.probe(group) if group else None
            if refusal is None:
                at = end
                pace.taken()
                continue
            settled = self._settled(group, refusal)
            at = end if settled is None else rows.index(settled, at) + 1
            if settled in self.found:
                pace.found(at - last)
                last = at

    def _settled(self, group: list[int], refusal: Rejected) -> int | None:
        """Search rows that were just refused together; return the last settled row, None when all are settled."""
        left, again = self._named(group, refusal, len(group))
        return None if again is None else self._first(left, again)

    def _first(self, rows: Sequence[int], refusal: Rejected) -> int:
        """Bisect rows that are refused together; return the first row to blame. The rows before it are accepted.

        A row that is only inferred, because those before it were accepted, is probed alone, and may be accepted.
        """
        alone: Rejected | None = refusal
        while len(rows) > 1:
            left, right = rows[: len(rows) // 2], rows[len(rows) // 2 :]
            alone = self.probe(left)
            rows = right if alone is None else left
        alone = alone or self.probe(rows)
        if alone is not None:
            self._blame(rows[0], alone)
        return rows[0]

    def _named(self, rows: list[int], refusal: Rejected, times: int) -> tuple[list[int], Rejected | None]:
        """Remove the rows that refusals name, one by one; return the rest, and its refusal if there is one."""
        again: Rejected | None = refusal
        for _ in range(times):
            row = self._confirmed(rows, again) if again is not None else None
            if row is None:
                break
            rows = [item for item in rows if item != row]
            again = self.probe(rows) if rows and not self._is_over else None
        return rows, again

    def _confirmed(self, rows: Sequence[int], refusal: Rejected) -> int | None:
        """Return the row that a refusal names (from 1, among `rows`) if it is also refused alone."""
        if refusal.row is None or not 1 <= refusal.row <= len(rows):
            return None
        row = rows[refusal.row - 1]
        alone = self.probe((row,))
        if alone is None:
            return None
        self._blame(row, alone)
        return row

    def _blame(self, row: int, refusal: Rejected) -> None:
        self.found[row] = Poison(self.offsets[row], refusal.reason, str(refusal))

    @property
    def _is_over(self) -> bool:
        return len(self.found) >= self.found_max or (bool(self.found) and self.now_s() >= self._until_s)


@dataclass(slots=True)
class BisectPace:
    """The number of rows in the next group.

    Attributes:
        distance: the mean of the last distances between rows found by bisection; 0 before the first.
    """

    rows: int = _GROUP_ROWS
    distance: float = 0.0

    def taken(self) -> None:
        """Record that a group was accepted."""
        self.rows *= 2

    def found(self, distance: int) -> None:
        """Record the distance from one such row to the next."""
        self.distance += (distance - self.distance) * (_NEWEST if self.distance else 1.0)
        self.rows = min(_GROUP_ROWS, max(1, int(self.distance * _OF_DISTANCE)))
