"""How many blocks a table must remember, and for how long, so that a repeated insert is known as one."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from consumer.clickhouse.table import GROWTH_MAX

_WEEK_S: Final = 604_800
_MONTHS: Final = 2  # table partitions that one insert touches at the turn of a month; the window counts each


@dataclass(frozen=True, slots=True)
class InsertPace:
    """The highest rate of inserts into a table, and how late an insert may arrive.

    Attributes:
        partitions: the partitions of all topics: one insert at a time for each. All of them write to `offsets`.
        age_s: the time between a partition's batches, on average, when they come fastest.
        timeout_s: the client gives up an insert after this, and the server a little earlier.
        session_s: a frozen worker is expelled after this; it may have been about to send.
    """

    partitions: int
    age_s: float
    timeout_s: float
    session_s: float

    @property
    def late_s(self) -> float:
        """How late an insert may arrive, from the moment at which it may be sent.

        An insert that had no answer in its time is given more, up to `GROWTH_MAX` times as much; its successor, which
        begins with the least, may be in the table that much earlier. One more for the server's queue in front of it.
        """
        return self.session_s + (GROWTH_MAX + 1) * self.timeout_s

    @property
    def window(self) -> int:
        """The blocks that a table must remember: inserts per second x partitions of the table x seconds.

        A block is sent again up to `late_s` after an earlier try began, and may arrive `late_s` after that.
        """
        return ceil(self.partitions / self.age_s * _MONTHS * 2 * self.late_s)

    @property
    def window_s(self) -> int:
        """The seconds that a replicated table must remember blocks: a week, or as late as an insert may arrive."""
        return max(_WEEK_S, ceil(2 * self.late_s))
