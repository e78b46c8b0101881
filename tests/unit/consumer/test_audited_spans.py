"""Which offsets an audit looks at: from the log's beginning, or the first row's, or where a copy was adopted."""

from collections.abc import Sequence
from typing import cast

import pytest

from consumer.commands import spans
from consumer.delivery.intent import Intent
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.kafka.admin import Cluster, LogBounds, Topic
from consumer.operations.audit import Auditor
from consumer.operations.spans import Span

PLACE = Partition("events", 0)


class Tables:
    """What the tables know of the copied topic's only partition."""

    def __init__(self, first: int | None, adopted: int | None) -> None:
        self._first, self._adopted = first, adopted

    def topic_ids(self) -> list[Span]:
        """Return where its rows begin, and those of the original."""
        mine = [] if self._first is None else [Span(PLACE, "copy", self._first, 100)]
        return [*mine, Span(PLACE, "original", 3, 90)]

    def adopted(self) -> dict[tuple[Partition, str], int]:
        """Return from where on it is read."""
        return {} if self._adopted is None else {(PLACE, "copy"): self._adopted}


class Log:
    """A log that begins at 10, of which the group has read up to 100."""

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, CommittedOffset]:
        """Return the group's commit."""
        return dict.fromkeys(partitions, CommittedOffset(100, Intent("copy", 100, 100).encode()))

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, LogBounds]:
        """Return where the log begins and ends."""
        return dict.fromkeys(partitions, LogBounds(10, 100, 100))


@pytest.mark.parametrize(
    ("first", "adopted", "low"),
    [(None, None, 10), (5, None, 5), (50, None, 10), (50, 40, 40), (None, 40, 40), (20, 40, 20), (None, 100, 100)],
)
def test_an_audit_begins_where_offsets_were_first_to_become_rows(
    first: int | None, adopted: int | None, low: int
) -> None:
    """Of a copy, what comes before was inserted as the original's; unless somebody has had it read again."""
    found = spans(cast("Auditor", Tables(first, adopted)), cast("Cluster", Log()), {"events": Topic("copy", 1)})

    assert found == [Span(PLACE, "copy", low, 100), Span(PLACE, "original", 3, 90, is_gone=True)]
