"""The view complete_until: the smallest claim over all partitions that a topic has, and none that it lacks."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database
from consumer.clickhouse.notes import write_heartbeats
from consumer.clickhouse.products import make_products
from consumer.delivery.ports import Partition
from consumer.operations.completeness import Heartbeat
from tests.support.clickhouse import ClickHouse
from tests.support.complete import complete_ms
from tests.support.fixtures_consumer import open_database
from tests.support.migrated import make_tables

START_S = 1_700_000_000
VIEW = "SELECT toUnixTimestamp64Milli(complete_until) AS at_ms FROM complete_until WHERE topic = {topic:String}"


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouse) -> Iterator[Connection]:
    """One database for all: each example has another topic."""
    name = f"test_{uuid.uuid4().hex}"
    first = open_database(clickhouse, "")
    create_database(first, name, time.sleep)
    ours = open_database(clickhouse, name)
    make_tables(ours)
    make_products(ours, "UTC", time.sleep)
    yield ours
    ours.close()
    first.command(f"DROP DATABASE {name}")
    first.close()


def beat_of(topic: str, partition: int, *, complete_s: int = 0, many: int = 1, counted_s: int = 0) -> Heartbeat:
    """Return a heartbeat, with moments in seconds after the start; 0: not known."""
    complete_ms, counted_ms = ((START_S + at_s) * 1000 if at_s else 0 for at_s in (complete_s, counted_s))
    return Heartbeat(Partition(topic, partition), "id-1", many, counted_ms, 5, 7, complete_ms, "")


def until_s(tables: Connection, topic: str) -> int | None:
    """Return what the view says, in seconds after the start; None when it does not know."""
    (row,) = tables.query(VIEW, {"topic": topic}) or [{"at_ms": None}]
    return None if row["at_ms"] is None else row["at_ms"] // 1000 - START_S


def write(tables: Connection, *beats: Heartbeat) -> None:
    """Write heartbeats."""
    write_heartbeats(tables, [beat.row() for beat in beats])


def test_the_partition_that_is_furthest_behind_decides(tables: Connection) -> None:
    """And one that nobody has claimed anything of leaves all unknown."""
    topic = uuid.uuid4().hex
    assert until_s(tables, topic) is None
    write(tables, beat_of(topic, 0, complete_s=50, many=2))
    assert until_s(tables, topic) is None
    write(tables, beat_of(topic, 1, complete_s=30, many=2))
    write(tables, beat_of(topic, 0, complete_s=60, many=2))
    assert until_s(tables, topic) == 30
    write(tables, beat_of(topic, 1, many=2))  # another worker, which does not know yet what its predecessor claimed
    assert until_s(tables, topic) == 30

    (row,) = tables.query("SELECT * FROM complete_until WHERE topic = {topic:String}", {"topic": topic})
    assert (row["partitions"], row["last_partition"], row["halted"], row["behind"]) == (2, 1, [], 4)


def test_a_partition_that_was_added_is_complete_until_it_was_not_there(tables: Connection) -> None:
    """Its records may be on the topic before any worker has heard of it."""
    topic = uuid.uuid4().hex
    write(tables, beat_of(topic, 0, complete_s=50, counted_s=50))
    assert until_s(tables, topic) == 50
    write(tables, beat_of(topic, 0, complete_s=60, counted_s=60, many=2))
    assert until_s(tables, topic) == 50
    write(tables, beat_of(topic, 1, complete_s=58, counted_s=60, many=2))
    assert until_s(tables, topic) == 58


def test_a_topic_that_was_recreated_begins_from_nothing(tables: Connection) -> None:
    """Its partitions have the numbers of the earlier one's."""
    topic = uuid.uuid4().hex
    write(tables, beat_of(topic, 0, complete_s=50))
    time.sleep(0.01)
    write(tables, Heartbeat(Partition(topic, 0), "id-2", 1, 0, 0, 3, 0, "deleted"))

    assert until_s(tables, topic) is None
    (row,) = tables.query("SELECT halted, behind FROM complete_until WHERE topic = {topic:String}", {"topic": topic})
    assert row == {"halted": ["deleted"], "behind": 3}


def test_a_worker_whose_clock_is_ahead_claims_no_later_than_clickhouses_clock(tables: Connection) -> None:
    """ClickHouse's clock bounds it."""
    topic, ahead_ms = uuid.uuid4().hex, int(time.time() * 1000) + 3_600_000
    write(tables, Heartbeat(Partition(topic, 0), "id-1", 1, ahead_ms, 7, 7, ahead_ms, ""))

    (row,) = tables.query(
        "SELECT complete_until AS at FROM complete_until WHERE topic = {topic:String}", {"topic": topic}
    )
    assert row["at"].replace(tzinfo=row["at"].tzinfo or UTC) <= datetime.now(UTC)


BEATS = st.lists(
    st.builds(
        lambda number, many, complete_s, counted_s: (number % many, many, complete_s, counted_s),
        st.integers(0, 4),
        st.integers(1, 5),
        st.one_of(st.just(0), st.integers(1, 50)),
        st.one_of(st.just(0), st.integers(1, 50)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(given_beats=BEATS)
def test_the_view_says_what_is_written_out_in_the_tests(
    tables: Connection, given_beats: list[tuple[int, int, int, int]]
) -> None:
    """The definition for which tests/property/test_completeness.py shows that no claim is false."""
    topic = uuid.uuid4().hex
    beats = [
        beat_of(topic, number, many=many, complete_s=complete_s, counted_s=counted_s)
        for number, many, complete_s, counted_s in given_beats
    ]
    write(tables, *beats)

    wanted_ms = complete_ms(beats)
    assert until_s(tables, topic) == (wanted_ms // 1000 - START_S if wanted_ms else None)
