"""What a running worker does when partitions are added."""

import pytest

from consumer.errors import Fatal
from consumer.operations.partition_growth import PartitionGrowth


class Topics:
    """Topics that grow, and tables that fit up to a number of partitions."""

    def __init__(self) -> None:
        self.partitions, self.fits, self.now_s = 5, 43, 0.0
        self.checked: list[int] = []
        self.growth = PartitionGrowth(lambda: self.partitions, self.check, lambda: self.now_s)

    def check(self, partitions: int) -> None:
        """Refuse more than fit."""
        self.checked.append(partitions)
        if partitions > self.fits:
            raise Fatal("events remembers 100000 blocks, but 200000 are needed here")


def test_windows_are_checked_again_when_partitions_are_added_and_only_then() -> None:
    """Each look asks the brokers, and ClickHouse only for a larger number."""
    topics = Topics()
    assert topics.growth.look()
    assert topics.growth.look()
    topics.partitions = 9
    assert topics.growth.look()

    assert topics.checked == [5, 9]


def test_a_window_that_became_too_small_is_told_until_it_is_enlarged(caplog: pytest.LogCaptureFixture) -> None:
    """At once, every ten minutes, and no more once an operator has altered the table."""
    topics = Topics()
    topics.growth.look()
    topics.partitions = 90
    for topics.now_s in (60.0, 120.0, 659.0, 660.0):
        assert not topics.growth.look()
    assert [record.reason for record in caplog.records] == [  # type: ignore[attr-defined]  # from extra
        "events remembers 100000 blocks, but 200000 are needed here"
    ] * 2

    topics.fits = 90
    assert topics.growth.look()
    assert topics.growth.look()
    assert topics.checked == [5, 90, 90, 90, 90, 90]
