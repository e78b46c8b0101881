"""Finding the rows that a table refuses, in few probes, without writing anything.

In this order: the row that the message names, believed only when it is refused alone; decoding in Python, when a row of
a wrong length may have shifted what is read behind it; halving. A probe sends some rows to a table that checks them and
keeps none.

How many probes: the row that is named costs two; without a name, one of n rows costs log2(n) to twice that. Decoding
costs about 30 microseconds a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumer.errors import Fatal, Reason, Rejected
from consumer.ports import Poison

Probe = Callable[[Sequence[int]], Rejected | None]
"""Takes row numbers (from 0) and returns the refusal, or None when all are taken.

Raises Transient when there is no answer.
"""

Faults = Callable[[Sequence[int]], Mapping[int, Poison]]
"""Takes row numbers and returns those that do not decode."""


@dataclass(slots=True)
class Search:
    """One search through the rows of a refused block.

    Attributes:
        offsets: each row's offset.
        probe: asks the table.
        faults: decodes.
        found_max: no more is searched when so many are found; the caller stops at that number anyway.
        found: the poison so far, by row.
    """

    offsets: Sequence[int]
    probe: Probe
    faults: Faults
    found_max: int
    found: dict[int, Poison] = field(default_factory=dict)

    def run(self, refusal: Rejected) -> list[Poison]:
        """Return the poison, in offset order; none when every row is taken alone.

        Raises:
            Fatal: the table refuses even an insert without rows.
            Transient: a probe had no answer.
        """
        if (empty := self.probe(())) is not None:
            raise Fatal(f"the table refuses even an insert without rows: {empty}")
        left, again = self._named(list(range(len(self.offsets))), refusal)
        if again is not None and _may_be_shifted(again):
            left, again = self._decoded(left)
        if again is not None:
            self._search(left, again, is_seen=again is not refusal)
            if not self.found:
                self._decoded(left)
        return [self.found[row] for row in sorted(self.found)]

    def _decoded(self, rows: list[int]) -> tuple[list[int], Rejected | None]:
        """Take out the rows that do not decode; return what is left and its refusal, if any."""
        faults = self.faults(rows)
        self.found |= faults
        left = [row for row in rows if row not in faults]
        return left, self.probe(left)

    def _named(self, rows: list[int], refusal: Rejected) -> tuple[list[int], Rejected | None]:
        """Take out the rows that the refusals name, one by one; return what is left and its refusal, if any."""
        again: Rejected | None = refusal
        while again is not None and not self._is_full:
            row = self._confirmed(rows, again)
            if row is None:
                return rows, again
            rows = [item for item in rows if item != row]
            again = self.probe(rows) if rows else None
        return rows, None if self._is_full else again

    def _confirmed(self, rows: Sequence[int], refusal: Rejected) -> int | None:
        """Return the row that a refusal names, counted from 1 among `rows`, if it is refused alone."""
        if refusal.row is None or not 1 <= refusal.row <= len(rows):
            return None
        row = rows[refusal.row - 1]
        alone = self.probe((row,))
        if alone is None:
            return None
        self._blame(row, alone)
        return row

    def _halve(self, rows: Sequence[int], refusal: Rejected | None) -> None:
        """Search rows that are refused together; None when that is only inferred, from the other half being taken."""
        if self._is_full:
            return
        if len(rows) == 1:
            refusal = refusal or self.probe(rows)
            if refusal is not None:
                self._blame(rows[0], refusal)
            return
        left, right = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        on_left = self.probe(left)
        if on_left is None:
            self._halve(right, None)
            return
        self._search(left, on_left)
        if (on_right := self.probe(right)) is not None:
            self._search(right, on_right)

    def _search(self, rows: Sequence[int], refusal: Rejected, *, is_seen: bool = True) -> None:
        """Search rows; a refusal that this search has not seen itself is a hint, and no proof against a single row."""
        left, again = self._named(list(rows), refusal)
        if again is not None:
            self._halve(left, again if is_seen or again is not refusal else None)

    def _blame(self, row: int, refusal: Rejected) -> None:
        self.found[row] = Poison(self.offsets[row], refusal.reason, str(refusal))

    @property
    def _is_full(self) -> bool:
        return len(self.found) >= self.found_max


def _may_be_shifted(refusal: Rejected) -> bool:
    """Tell whether a row of a wrong length may stand before the one that was refused: all behind it is read askew."""
    return refusal.reason is Reason.BAD_AVRO or refusal.row is not None
