"""What the tables say of a partition's offsets, on ClickHouse."""

from time import monotonic

from consumer.clickhouse.client import Connection
from consumer.clickhouse.offsets import OffsetsTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.delivery.repeats import Held

PLACE = Partition("events", 3)


def test_nothing_is_behind_empty_tables(database: Connection) -> None:
    """0, and not the 1 that max(last + 1) of nothing is."""
    table = OffsetsTable(database, {"events": "events"})

    assert table.end(PLACE, "id", 0) == 0
    assert table.readings(PLACE, "id") == []


def test_rows_that_a_killed_server_did_not_count_are_there(database: Connection) -> None:
    """In the table, and not in the counts; those of another reading or partition are others."""
    table = OffsetsTable(database, {"events": "events"}, 600)
    columns = "(event_id, _topic, _topic_id, _partition, _offset, _reading, _inserted_at)"
    values = "generateUUIDv4(), 'events', 'id', {}, number, {}, now64(3)"
    insert = f"INSERT INTO events {columns} SELECT {values} FROM numbers({{}}, 2)"
    database.command(insert.format(3, 0, 10))
    database.command("DETACH TABLE events_to_offsets SYNC")
    for place in ((3, 0, 12), (3, 1, 14), (4, 0, 16)):
        database.command(insert.format(*place))
    block = Block(1, Origin("id"), "token", tuple(range(8, 18)), b"")

    batch = [Record(PLACE, offset, -1, b"", b"") for offset in block.offsets]
    table.await_replicas(batch, monotonic(), always=False)
    assert table.held(PLACE, block, batch) == Held(frozenset({10, 11, 12, 13}), is_remembered=True)
    assert table.present(PLACE, block) == {10, 11, 12, 13}
