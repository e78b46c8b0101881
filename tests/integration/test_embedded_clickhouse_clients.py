"""The embedded ClickHouse under the programs that people bring: with their defaults, as the account that only reads."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import clickhouse_connect
import pytest
import sqlalchemy
from clickhouse_driver import Client as NativeClient

from tests.support import jdbc
from tests.support.chromium import browsing, rendered
from tests.support.clickhouse import PASSWORD, USER
from tests.support.clickhouse_events import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from tests.support.clickhouse import EmbeddedClickHouse

GO = Path(__file__).resolve().parents[1] / "support" / "clickhouse_go"
QUERY = "SELECT sum(n), any(s) FROM headrace.numbers_and_text"
FOUND = (499_500, "text")
WAIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def operator(embedded_clickhouse: EmbeddedClickHouse) -> Iterator[Client]:
    """The account that may do everything, which has made a table that default may read."""
    with connect(embedded_clickhouse) as client:
        client.command("CREATE DATABASE IF NOT EXISTS headrace")
        client.command("CREATE TABLE headrace.numbers_and_text (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
        client.command("INSERT INTO headrace.numbers_and_text SELECT number, 'text' FROM numbers(1000)")
        yield client
        client.command("DROP TABLE headrace.numbers_and_text")


def ask(clickhouse: EmbeddedClickHouse, body: str | bytes, user: str = "", **parameters: str) -> bytes:
    """Send a POST, as `default` when no user is named, and return the answer's body."""
    account = {"X-ClickHouse-User": user, "X-ClickHouse-Key": PASSWORD} if user else {}
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(f"{clickhouse.url}/?{urlencode(parameters)}", data, account)
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return bytes(answer.read())


def queries_of(operator: Client, text: str) -> list[Sequence[Any]]:
    """Return user and browser of the queries that have ended and begin with a text."""
    operator.command("SYSTEM FLUSH LOGS query_log")
    return list(
        operator.query(
            "SELECT user, match(http_user_agent, 'Chrome') FROM system.query_log"
            " WHERE type = 'QueryFinish' AND startsWith(query, {text:String})",
            parameters={"text": text},
        ).result_rows
    )


def test_the_readmes_curl_reads(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """Without an account, a password or a database."""
    said = subprocess.run(
        ["curl", "-sS", embedded_clickhouse.url, "-d", QUERY],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    ).stdout
    assert said == "499500\ttext\n"


def test_blocks_compressed_for_the_wire_go_out_and_in(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """compress=1 and decompress=1: what one gives the other takes, and they are LZ4, which every client reads."""
    packed = ask(embedded_clickhouse, f"{QUERY} FORMAT Native", compress="1")
    assert packed[16] == 0x82  # 16 bytes of checksum, then the method
    insert = "INSERT INTO FUNCTION null('n UInt64, s String') FORMAT Native"
    ask(embedded_clickhouse, packed, USER, query=insert, decompress="1")
    with pytest.raises(urllib.error.HTTPError):
        ask(embedded_clickhouse, b"x" * 64, USER, query=insert, decompress="1")


def test_a_session_keeps_its_temporary_table(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """From one request to the next; another session knows nothing of it."""
    ask(embedded_clickhouse, "CREATE TEMPORARY TABLE kept (n UInt8)", USER, session_id="mine")
    ask(embedded_clickhouse, "INSERT INTO kept VALUES (7)", USER, session_id="mine")
    assert ask(embedded_clickhouse, "SELECT n FROM kept", USER, session_id="mine") == b"7\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(embedded_clickhouse, "SELECT n FROM kept", USER, session_id="another's")


@pytest.mark.parametrize("compression", [False, "lz4"])
def test_clickhouse_driver_reads_and_writes(
    embedded_clickhouse: EmbeddedClickHouse, *, compression: bool | str
) -> None:
    """Over the native protocol: default reads, headrace writes too."""
    reader = NativeClient("127.0.0.1", embedded_clickhouse.native_port, compression=compression)
    writer = NativeClient(
        "127.0.0.1", embedded_clickhouse.native_port, user=USER, password=PASSWORD, compression=compression
    )
    try:
        assert reader.execute(QUERY) == [FOUND]
        writer.execute("CREATE TABLE headrace.written (n UInt64) ENGINE = Memory")
        writer.execute("INSERT INTO headrace.written VALUES", [(number,) for number in range(1000)])
        assert reader.execute("SELECT sum(n) FROM headrace.written") == [(499_500,)]
    finally:
        writer.execute("DROP TABLE IF EXISTS headrace.written")
        reader.disconnect()
        writer.disconnect()


def test_clickhouse_connect_reads_without_an_account(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """With everything at its default."""
    with clickhouse_connect.get_client(host="127.0.0.1", port=embedded_clickhouse.port) as client:
        assert client.query(QUERY).result_rows == [FOUND]


def test_sqlalchemy_reads_and_finds_tables(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """As Superset does, through clickhouse-connect's dialect."""
    engine = sqlalchemy.create_engine(f"clickhousedb://default@127.0.0.1:{embedded_clickhouse.port}/headrace")
    try:
        with engine.connect() as connection:
            assert [tuple(row) for row in connection.execute(sqlalchemy.text(QUERY))] == [FOUND]
        inspector = sqlalchemy.inspect(engine)
        assert "numbers_and_text" in inspector.get_table_names()
        assert [column["name"] for column in inspector.get_columns("numbers_and_text")] == ["n", "s"]
    finally:
        engine.dispose()


def test_jdbc_reads_and_finds_columns(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """With the driver's defaults, LZ4 among them."""
    url = f"jdbc:clickhouse://127.0.0.1:{embedded_clickhouse.port}/headrace"
    header, row, columns, *found = jdbc.rows(url, "default", QUERY, "!columns numbers_and_text")
    assert (header, row) == (["sum(n)", "any(s)"], ["499500", "text"])
    name = columns.index("COLUMN_NAME")
    assert [column[name] for column in found] == ["n", "s"]


@pytest.mark.soak(only=True)
def test_clickhouse_go_reads_over_both_protocols(embedded_clickhouse: EmbeddedClickHouse, tmp_path: Path) -> None:
    """With lz4. It compiles for a minute, and needs Go, which this project needs for nothing else."""
    assert shutil.which("go"), "go is not on the PATH"
    program = tmp_path / "client"
    subprocess.run(["go", "build", "-o", program, "."], cwd=GO, check=True, timeout=900)
    addresses = [f"native=127.0.0.1:{embedded_clickhouse.native_port}", f"http=127.0.0.1:{embedded_clickhouse.port}"]
    said = subprocess.run([program, QUERY, *addresses], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (said.stdout, said.stderr) == ("499500 text\n" * 2, "")


def test_play_runs_a_query_as_default(embedded_clickhouse: EmbeddedClickHouse, operator: Client) -> None:
    """The page is ClickHouse's own, in a real browser."""
    query = f"SELECT 'asked by the page at {time.monotonic_ns()}'"
    with browsing(f"{embedded_clickhouse.url}/play?run=1#{base64.b64encode(query.encode()).decode()}"):
        deadline_s = time.monotonic() + WAIT_S
        while not (found := queries_of(operator, query)) and time.monotonic() < deadline_s:
            time.sleep(0.2)
    assert found == [("default", 1)]


def test_the_dashboard_shows_its_charts(embedded_clickhouse: EmbeddedClickHouse, operator: Client) -> None:
    """Once there are log tables, without one error."""
    operator.command("SYSTEM FLUSH LOGS")
    page = rendered(f"{embedded_clickhouse.url}/dashboard")
    for chart in ("Queries/second", "Memory (tracked)", "Inserted Rows/second"):
        assert f">{chart}<" in page or chart in page
    assert "DB::Exception" not in page


def test_metrics_come_in_the_format_of_prometheus(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """Under /metrics, to be scraped."""
    with urllib.request.urlopen(f"{embedded_clickhouse.url}/metrics", timeout=WAIT_S) as answer:
        assert b"\nClickHouseMetrics_Query " in answer.read()
