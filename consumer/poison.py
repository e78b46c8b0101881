"""When poison is not a few bad records but a mistake of ours: the worker stops instead of emptying a good topic."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from consumer.errors import Fatal
from consumer.ports import Record


@dataclass(frozen=True, slots=True)
class PoisonLimits:
    """How much poison is believed.

    Attributes:
        share_max: of a batch that has at least `share_rows_min` records.
        run_max: records in a row, across the batches of one worker.
    """

    share_max: float = 0.5
    share_rows_min: int = 50
    run_max: int = 200

    def check(self, records: Sequence[Record], bad: Collection[int], run: int) -> None:
        """Judge the poison of a batch, `run` being the poison in a row before it.

        Raises:
            Fatal: a limit is passed; none of this batch's poison has been sent then.
        """
        shown = f"{len(bad)} of {len(records)} records, the first at offset {min(bad, default=-1)}"
        if len(records) >= self.share_rows_min and len(bad) > self.share_max * len(records):
            raise Fatal(f"more poison than a share of {self.share_max}: {shown}")
        if bad and longest_run(records, bad, run) > self.run_max:
            raise Fatal(f"more poison in a row than {self.run_max}: {shown}")


def longest_run(records: Sequence[Record], bad: Collection[int], run: int) -> int:
    """Return the most poison in a row, `run` being what stands before the first record."""
    longest = run
    for record in records:
        run = run + 1 if record.offset in bad else 0
        longest = max(longest, run)
    return longest


def last_run(records: Sequence[Record], bad: Collection[int], run: int) -> int:
    """Return the poison in a row at the end, `run` being what stands before the first record."""
    ended = 0
    for record in reversed(records):
        if record.offset not in bad:
            return ended
        ended += 1
    return run + ended
