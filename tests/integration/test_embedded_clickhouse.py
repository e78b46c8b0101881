"""The embedded ClickHouse under clickhouse-connect's ordinary client: queries, errors, many at once."""

from __future__ import annotations

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.support.clickhouse_events import EVENTS

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from tests.support.clickhouse import EmbeddedClickHouse


def test_the_client_connects_pings_and_queries(embedded_client: Client) -> None:
    """What the client does by itself at its start succeeds, and values come back as they went."""
    assert embedded_client.ping()
    assert str(embedded_client.server_version).startswith("26.")
    assert embedded_client.command("SELECT 40 + 2") == 42
    rows = embedded_client.query("SELECT number AS n, toString(n) AS s, map('k', n) AS m FROM numbers(2)")
    assert (rows.column_names, rows.result_rows) == (("n", "s", "m"), [(0, "0", {"k": 0}), (1, "1", {"k": 1})])
    assert embedded_client.query("SELECT 1 AS x WHERE 0").result_rows == []
    assert embedded_client.raw_query("SELECT 1 AS x", fmt="JSONEachRow") == b'{"x":1}\n'
    assert embedded_client.query_arrow("SELECT number FROM numbers(3)").column("number").to_pylist() == [0, 1, 2]


def test_a_large_result_comes_whole(embedded_client: Client) -> None:
    """Also as a stream of blocks, compressed as the client asks for by itself."""
    with embedded_client.query_column_block_stream("SELECT number FROM numbers(3_000_000)") as blocks:
        assert sum(sum(block[0]) for block in blocks) == 3_000_000 * 2_999_999 // 2


@pytest.mark.parametrize(
    ("sql", "code", "text"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(1, 'so it is')", 395, "so it is"),
        ("INSERT INTO events (n) VALUES (2000000)", 469, "Constraint `small`"),
        ('INSERT INTO events (n) FORMAT JSONEachRow {"n":1} {"n":2} {"n":"x"}', 27, "(at row 3)"),
        ("SELECT 1; SELECT 2", 62, "Multi-statements are not allowed"),
    ],
)
def test_an_error_has_the_code_and_the_text(embedded_client: Client, sql: str, code: int, text: str) -> None:
    """What the engine says arrives as a DatabaseError with its number, and nothing was inserted."""
    embedded_client.command(EVENTS)
    with pytest.raises(DatabaseError) as failed:
        embedded_client.command(sql)
    assert failed.value.code == code
    assert text in str(failed.value)
    assert embedded_client.command("SELECT count() FROM events") == 0


def test_parameters_are_bound_by_the_server(embedded_client: Client) -> None:
    """Text with every awkward character comes back as it went, and a name can be a parameter too."""
    awkward = 'it\'s \\ "q" \n\t {x:String} ; -- \u2603'
    found = embedded_client.query(
        "SELECT {text:String}, {list:Array(Int32)}, {none:Nullable(String)}, count() FROM {db:Identifier}.one",
        parameters={"text": awkward, "list": [1, -2], "none": None, "db": "system"},
    )
    assert found.result_rows == [(awkward, [1, -2], None, 1)]


def test_a_long_parameter_comes_whole(embedded_client: Client) -> None:
    """The client sends it as a form; it may be longer than SQL may be."""
    long = "it's long " * 100_000
    assert embedded_client.query("SELECT {long:String}", parameters={"long": long}).result_rows == [(long,)]


def test_sql_may_hold_any_bytes(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """ClickHouse's strings are bytes."""
    with urllib.request.urlopen(embedded_clickhouse.url, b"SELECT hex('\xff\x00')", timeout=30) as answer:
        assert answer.read() == b"FF00\n"


def test_settings_hold_for_one_statement(embedded_client: Client) -> None:
    """No request leaves a setting behind for the next."""
    show = "SELECT getSetting('max_block_size')"
    assert embedded_client.query(show, settings={"max_block_size": 1234}).result_rows == [(1234,)]
    assert embedded_client.query(show).result_rows != [(1234,)]


def test_a_slow_query_holds_up_nobody(embedded_client: Client) -> None:
    """While 31 queries sleep, pings, queries and inserts are answered at once."""
    embedded_client.command(EVENTS)
    slow = "SELECT sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1"
    with ThreadPoolExecutor(31) as pool:
        sleeping = [pool.submit(embedded_client.query, slow) for _ in range(31)]
        longest_s, rounds = 0.0, 0
        while not all(query.done() for query in sleeping):
            start_s = time.monotonic()
            assert embedded_client.ping()
            assert embedded_client.command("SELECT 1") == 1
            embedded_client.raw_insert("events", ["n"], b'{"n": 1}', fmt="JSONEachRow")
            longest_s, rounds = max(longest_s, time.monotonic() - start_s), rounds + 1
        for query in sleeping:
            query.result()
    print(f"31 sleeping: {rounds} rounds of ping, query and insert, the longest {longest_s * 1000:.0f} ms")
    assert longest_s < 1.0


def test_a_busy_engine_still_answers(embedded_client: Client) -> None:
    """A query that takes every core leaves room for short ones."""
    query = "SELECT count() FROM numbers(1e12) WHERE sipHash64(number) = 0"
    settings = {"max_execution_time": 2, "timeout_overflow_mode": "break"}
    busy = threading.Thread(target=embedded_client.query, args=(query,), kwargs={"settings": settings})
    busy.start()
    longest_s = 0.0
    while busy.is_alive():
        start_s = time.monotonic()
        assert embedded_client.command("SELECT 1") == 1
        longest_s = max(longest_s, time.monotonic() - start_s)
    busy.join()
    assert longest_s < 1.0
