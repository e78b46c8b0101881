"""The embedded ClickHouse under clickhouse-connect's ordinary client: every way in."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.summary import QuerySummary

from tests.support.clickhouse_events import AT, EVENTS, FROM_AVRO, avro

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def test_rows_go_in_by_every_call(embedded_client: Client) -> None:
    """Native, Arrow, rows of JSON, CSV and Avro, with defaults for the columns that do not come."""
    embedded_client.command(EVENTS)
    native = embedded_client.insert("events", [[uuid.UUID(int=1), 1]], column_names=["id", "n"])
    embedded_client.insert_arrow("events", pa.table({"n": pa.array([2], pa.uint32()), "name": ["arrow"]}))
    embedded_client.raw_insert("events", ["n", "name"], b'{"n": 3, "name": "json"}\n', fmt="JSONEachRow")
    embedded_client.raw_insert("events", ["n", "name"], b"4,csv\n", fmt="CSV")
    embedded_client.raw_insert("events", ["n"], avro(range(5, 6)), fmt="Avro")
    embedded_client.command("INSERT INTO events (n, name) VALUES (6, 'val;ues'), (7, DEFAULT)")
    assert native.written_rows == 1
    assert embedded_client.query("SELECT n, name FROM events ORDER BY n").result_rows == [
        (1, "event 1"),
        (2, "arrow"),
        (3, "json"),
        (4, "csv"),
        (5, "event 5"),
        (6, "val;ues"),
        (7, "event 7"),
    ]


def test_an_insert_through_input_reads_avro(embedded_client: Client) -> None:
    """The worker's path: SELECT over input() makes the table's columns of the container's."""
    embedded_client.command(EVENTS)
    summary = embedded_client.command(FROM_AVRO, data=avro(range(3)))
    assert isinstance(summary, QuerySummary)
    assert summary.written_rows == 3
    assert embedded_client.query("SELECT id, n, name, at, tags, properties FROM events WHERE n = 2").result_rows == [
        (uuid.UUID(int=2), 2, "event 2", AT, {"k": "v"}, {"price": 1.5, "items": [1, 2]})
    ]
    assert embedded_client.command("SELECT sum(properties.price::Float64) FROM events") == "4.5"


def test_an_insert_is_one_part_and_a_token_counts_once(embedded_client: Client) -> None:
    """The same token again adds nothing, on either path, whatever the rows; another token adds."""
    embedded_client.command(EVENTS)
    settings = {"insert_deduplication_token": "a", "async_insert": 0, "wait_end_of_query": 1, "max_insert_threads": 1}
    for numbers in (range(200_000), range(200_000), range(5)):
        embedded_client.command(FROM_AVRO, data=avro(numbers), settings=settings)
    for body in (b'{"n": 7}', b'{"n": 7}', b'{"n": 8}'):
        embedded_client.raw_insert(
            "events", ["n"], body, fmt="JSONEachRow", settings={**settings, "insert_deduplication_token": "b"}
        )
    embedded_client.command(FROM_AVRO, data=avro(range(3)), settings={**settings, "insert_deduplication_token": "c"})
    parts = embedded_client.query(
        "SELECT rows FROM system.parts WHERE database = currentDatabase() AND level = 0 ORDER BY min_block_number"
    )
    assert parts.result_rows == [(200_000,), (1,), (3,)]


def test_a_view_deduplicates_in_a_window_of_its_own(embedded_client: Client) -> None:
    """A retry counts once in the target that has a window and twice in the one that has none."""
    embedded_client.command(EVENTS)
    for name, window in (("counted_once", 100), ("counted_twice", 0)):
        embedded_client.command(
            f"CREATE TABLE {name} (day Date, events UInt64) ENGINE = SummingMergeTree ORDER BY day"
            f" SETTINGS non_replicated_deduplication_window = {window}"
        )
        embedded_client.command(
            f"CREATE MATERIALIZED VIEW {name}_view TO {name} AS"
            " SELECT toDate(at) AS day, count() AS events FROM events GROUP BY day"
        )
    settings = {"insert_deduplication_token": "a", "deduplicate_blocks_in_dependent_materialized_views": 1}
    for _ in range(2):
        embedded_client.command(FROM_AVRO, data=avro(range(10)), settings=settings)
    assert embedded_client.command("SELECT sum(events) FROM counted_once") == 10
    assert embedded_client.command("SELECT count() FROM events") == 10
    assert embedded_client.command("SELECT sum(events) FROM counted_twice") == 20


def test_final_keeps_the_last_of_the_same_key(embedded_client: Client) -> None:
    """ReplacingMergeTree works as on a server, background merges or not."""
    embedded_client.command("CREATE TABLE latest (k String, v UInt32) ENGINE = ReplacingMergeTree ORDER BY k")
    for value in range(3):
        embedded_client.insert("latest", [["a", value], ["b", value]], column_names=["k", "v"])
    assert embedded_client.query("SELECT k, v FROM latest FINAL ORDER BY k").result_rows == [("a", 2), ("b", 2)]


def test_a_bad_avro_body_inserts_nothing(embedded_client: Client) -> None:
    """Neither half a container nor a value that the table's type refuses."""
    embedded_client.command(EVENTS)
    with pytest.raises(DatabaseError, match="EOF"):
        embedded_client.command(FROM_AVRO, data=avro(range(50_000))[:-100])
    refused = FROM_AVRO.replace("toUUID(id)", "toUUID(concat(id, 'x'))")
    with pytest.raises(DatabaseError, match="CANNOT_PARSE_TEXT"):
        embedded_client.command(refused, data=avro(range(3)))
    assert embedded_client.command("SELECT count() FROM events") == 0


def test_two_inserts_at_once_are_both_there(embedded_client: Client) -> None:
    """Each with its own rows, its own token and its own settings."""
    embedded_client.command(EVENTS)

    def insert(number: int) -> None:
        rows = range(number * 20_000, (number + 1) * 20_000)
        embedded_client.command(FROM_AVRO, data=avro(rows), settings={"insert_deduplication_token": f"t{number}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(insert, [*range(8), *range(8)]))
    assert embedded_client.query("SELECT count(), uniqExact(n), max(n) FROM events").result_rows == [
        (160_000, 160_000, 159_999)
    ]
