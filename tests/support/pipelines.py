"""A pipeline over the fakes of its ports."""

from consumer.delivery.batch import Batch, Draft
from consumer.delivery.intent import Intent
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Partition, Record
from tests.support.fake_group import TOPIC, FakeBroker
from tests.support.fake_table import FakeLetters, FakeRows, FakeTable

PLACE = Partition(TOPIC, 0)


class Around:
    """A pipeline and what is around it."""

    def __init__(self) -> None:
        self.broker, self.table, self.rows = FakeBroker(1), FakeTable(10), FakeRows({1, 2})
        self.letters = FakeLetters()
        self.pipeline = Pipeline(self.rows, self.table, self.letters, self.broker, self.table, self.table)

    def draft(self, *values: bytes, excluded: tuple[int, ...] = (), **fields: bool) -> Draft:
        """Return a draft of a batch with these values from offset 0 on."""
        records = tuple(
            Record(PLACE, offset, 0, f"id-1/0/{offset}".encode(), item) for offset, item in enumerate(values)
        )
        return Draft(Batch.of(PLACE, Intent("id-1", 0, len(values), excluded), records), **fields)  # type: ignore[arg-type]  # flags
