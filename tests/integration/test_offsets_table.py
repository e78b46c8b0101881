"""What the tables say of a partition's offsets, on ClickHouse."""

from consumer.clickhouse.client import Connection
from consumer.clickhouse.offsets import OffsetsTable
from consumer.delivery.ports import Partition

PLACE = Partition("events", 3)


def test_nothing_is_behind_empty_tables(database: Connection) -> None:
    """0, and not the 1 that max(last + 1) of nothing is."""
    table = OffsetsTable(database, {"events": "events"})

    assert table.end(PLACE, "id", 0) == 0
    assert table.readings(PLACE, "id") == []
