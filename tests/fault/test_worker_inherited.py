"""A range that a killed worker left is there in part, uncounted, and no table knows its token any more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.delivery.intent import Intent
from consumer.delivery.ports import Partition
from tests.conftest import SOAK_ONLY
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet
from tests.support.kafka import KafkaCluster

KILLED = -9
_MONTHS = "SELECT DISTINCT toYYYYMM(received_at) AS month FROM events ORDER BY month"
_COUNT = """
INSERT INTO offsets SELECT _topic, _topic_id, _partition, intDiv(_offset, 1000000) AS million, _reading, count(),
    groupBitmapState(_offset), min(_offset), max(_offset), max(_timestamp), map(_leader_epoch, min(_offset))
FROM events WHERE _topic = {topic:String} AND NOT (%s)
GROUP BY _topic, _topic_id, _partition, million, _reading, _leader_epoch
"""


@pytest.fixture
def fleet(broker: KafkaCluster, events: str, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[Fleet]:
    """Workers whose batches are small."""
    with Fleet(tmp_path, broker.bootstrap_servers, events, clickhouse.url) as fleet:
        fleet.settings |= {"batch_rows_max": 50}
        yield fleet


def lose_a_month(fleet: Fleet, ranges: dict[Partition, Intent]) -> int:
    """Lose the rows of one month of these ranges, and what was counted of them; return how many are left of them."""
    places = " OR ".join(
        f"(_partition = {place.number} AND _offset >= {intent.a} AND _offset < {intent.b})"
        for place, intent in ranges.items()
    )
    connection = fleet.connection
    month = connection.query(_MONTHS)[0]["month"]
    mutate(fleet, f"DELETE WHERE toYYYYMM(received_at) = {month} AND ({places})")
    connection.command("TRUNCATE TABLE offsets SYNC")
    connection.command(_COUNT % places, {"topic": fleet.topic})
    return int(connection.query(f"SELECT count() AS n FROM events WHERE {places}")[0]["n"])


def mutate(fleet: Fleet, change: str) -> None:
    """Change rows; merges, which would hide doubles, run meanwhile only."""
    fleet.connection.command("SYSTEM START MERGES events")
    fleet.connection.command(f"ALTER TABLE events {change}", settings={"mutations_sync": 2})
    fleet.connection.command("SYSTEM STOP MERGES events")


def forget_tokens(fleet: Fleet) -> None:
    """Let time pass, and so many blocks come that the tables know none of the tokens from before.

    It is less than an hour: no row is older than its record by more than clocks may differ.
    """
    window = "non_replicated_deduplication_window"
    stray = (
        "INSERT INTO events (event_id, received_at, _topic) SELECT generateUUIDv4(), received_at, 'stray' FROM events"
    )
    for table in ("events", "offsets"):
        fleet.connection.command(f"ALTER TABLE {table} MODIFY SETTING {window} = 1")
    fleet.connection.command(f"{stray} LIMIT 1 BY toYYYYMM(received_at)", settings={"async_insert": 0})
    for table in ("events", "offsets"):
        fleet.connection.command(f"ALTER TABLE {table} MODIFY SETTING {window} = 100000")
    mutate(fleet, "UPDATE _inserted_at = _inserted_at - INTERVAL 15 MINUTE WHERE 1")


@SOAK_ONLY
def test_what_a_range_lacks_is_inserted_and_nothing_twice(fleet: Fleet, broker: KafkaCluster, events: str) -> None:
    """The successor finds the rows that are there, though nobody has counted them."""
    feed = Feed(broker.bootstrap_servers, events, poison_every=40)
    feed.send(1000)
    assert fleet.start(doom="inserted:6").await_exit() == KILLED
    ranges = {place: intent for place, intent in fleet.intents().items() if place.topic == events}
    left = lose_a_month(fleet, ranges)
    assert ranges
    assert left
    forget_tokens(fleet)

    fleet.start()
    found = fleet.settle(feed)
    found.check()
    assert found.rows == len(feed.good)
