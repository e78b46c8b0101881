"""When poison is not a few bad records but a mistake of ours: the worker stops instead of emptying a good topic."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.errors import Fatal
from consumer.intent import EXCLUDED_MAX
from consumer.ports import Record


@dataclass(frozen=True, slots=True)
class PoisonLimits:
    """How much poison is believed.

    Attributes:
        share_max: of a batch that has at least `share_rows_min` records.
        run_max: records in a row, across batches.
    """

    share_max: float = 0.5
    share_rows_min: int = 50
    run_max: int = 200

    def check(self, records: Sequence[Record], bad: frozenset[int], run: int) -> int:
        """Return the run of poison at the batch's end, `run` being the one before it.

        Raises:
            Fatal: a limit is passed; nothing of this batch's new poison has been sent then.
        """
        shown = f"{len(bad)} of {len(records)} records, the first at offset {min(bad, default=-1)}"
        if len(bad) > EXCLUDED_MAX:
            raise Fatal(f"more poison than an intent can list ({EXCLUDED_MAX}): {shown}")
        if len(records) >= self.share_rows_min and len(bad) > self.share_max * len(records):
            raise Fatal(f"more poison than a share of {self.share_max}: {shown}")
        for record in records:
            run = run + 1 if record.offset in bad else 0
            if run > self.run_max:
                raise Fatal(f"more poison in a row than {self.run_max}: {shown}")
        return run
