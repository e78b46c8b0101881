"""Sets of offsets that may be large: all are counted, and the first ones listed."""

from collections.abc import Iterable, Iterator
from typing import Final

NAMED_MAX: Final = 20


class Runs:
    """Ascending offsets as runs of consecutive ones. Keeps the first twenty runs, and the number of all offsets.

    Attributes:
        count: the number of all offsets.
        is_bounded: whether `bounds` are known: no offsets were only counted.
    """

    def __init__(self, offsets: Iterable[int] = ()) -> None:
        self.count = 0
        self.is_bounded = True
        self._end = 0
        self._named = 0
        self._runs: list[tuple[int, int]] = []  # [first, end)
        for first, end in runs_of(offsets):
            self.add(first, end)

    def add(self, first: int, end: int) -> None:
        """Add the offsets [first, end), all above the earlier ones."""
        is_full = self.is_full
        self.count += end - first
        self._end = max(self._end, end)
        if is_full or first == end:
            return
        if self._runs and self._runs[-1][1] == first:
            self._runs[-1] = (self._runs[-1][0], end)
        elif len(self._runs) < NAMED_MAX:
            self._runs.append((first, end))
        else:
            return
        self._named = self.count

    def add_unnamed(self, count: int) -> None:
        """Add this many offsets without listing them."""
        self.count += count
        self.is_bounded = self.is_bounded and not count

    @property
    def bounds(self) -> tuple[int, int]:
        """The first offset, and the one after the last; there must be one, and `is_bounded`."""
        return self._runs[0][0], self._end

    @property
    def is_full(self) -> bool:
        """Whether no more runs are listed."""
        return self._named < self.count

    def __str__(self) -> str:
        shown = ", ".join(str(first) if end == first + 1 else f"{first}-{end - 1}" for first, end in self._runs)
        more = self.count - self._named
        return f"{shown}, and {more} more" if more else shown

    def __bool__(self) -> bool:
        return self.count > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and (self.count, self._runs) == (other.count, other._runs)

    def __hash__(self) -> int:
        return hash(self.count)


def runs_of(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending offsets as runs [first, end)."""
    first = end = None
    for offset in offsets:
        if first is not None and offset != end:
            yield first, end or 0
            first = None
        first, end = (offset if first is None else first), offset + 1
    if first is not None:
        yield first, end or 0
