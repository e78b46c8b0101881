"""How long records have waited in a log, by the worker's own clock, because a producer's clock may be wrong.

A record's age counts from the worker's first look that saw the log's end behind it. If the record was there before the
first look of all, its age follows from its timestamp if that is plausible, else it counts from that look.
"""

from dataclasses import dataclass, field
from typing import Final

_CLAIM_S_MAX: Final = (
    7 * 24 * 3600.0
)  # as long as Kafka keeps records by default: an older one is likelier a wrong clock
_LOOKS_MAX: Final = 64


@dataclass(slots=True)
class Arrivals:
    """The end of one partition over time; moments are monotonic.

    Attributes:
        looks: the first look at each end, and the one before the oldest that matters. The longer the backlog, the fewer
            are kept of a time: an age is too small by a few per cent at most.
    """

    looks: list[tuple[float, int]] = field(default_factory=list)

    def note(self, now_s: float, end: int, position: int) -> None:
        """Note that the partition ends here; all below the position is of no interest any more."""
        while len(self.looks) > 1 and self.looks[1][1] <= position:
            del self.looks[0]
        if not self.looks or (self.looks[-1][1] != end and now_s - self.looks[-1][0] >= self._gap_s(now_s)):
            self.looks.append((now_s, end))
        if len(self.looks) > _LOOKS_MAX:
            del self.looks[2:-1:2]

    def _gap_s(self, now_s: float) -> float:
        return (now_s - self.looks[1][0]) / (_LOOKS_MAX / 2) if len(self.looks) > 1 else 0.0

    def since_s(self, offset: int, claimed_s: float | None) -> float | None:
        """Return when the record at the position came into the log; None when no look has seen it there.

        Args:
            offset: the position that was noted last.
            claimed_s: when it came, by its timestamp.
        """
        index = next((index for index, (_, end) in enumerate(self.looks) if end > offset), None)
        if index is None:
            return None
        seen_s = self.looks[index][0]
        is_possible = claimed_s is not None and seen_s - _CLAIM_S_MAX <= claimed_s <= seen_s
        return claimed_s if index == 0 and is_possible else seen_s
