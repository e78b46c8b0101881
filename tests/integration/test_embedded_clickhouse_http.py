"""The embedded ClickHouse's HTTP interface, byte by byte: curl and plain sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from deploy.embedded.clickhouse_encodings import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

    from tests.support.clickhouse import EmbeddedClickHouse

    Strings = Mapping[str, str]

ROWS = "CREATE TABLE rows (n UInt32, s String DEFAULT 'd') ENGINE = MergeTree ORDER BY n"


class Answer:
    """One answer, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()


class Server:
    """Requests to the embedded engine, in one database, over one connection."""

    def __init__(self, port: int, database: str) -> None:
        self.port, self.database = port, database
        self.url = f"http://127.0.0.1:{port}/?database={database}"
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def post(self, body: bytes | str, parameters: Strings | None = None, headers: Strings | None = None) -> Answer:
        """Send a POST with parameters in the URL."""
        return self.ask("POST", {"database": self.database, **(parameters or {})}, body, headers or {})

    def ask(self, method: str, parameters: Strings, body: bytes | str, headers: Strings) -> Answer:
        """Send a request to `/`."""
        self.connection.request(method, f"/?{urlencode(parameters)}", body, dict(headers))
        return Answer(self.connection.getresponse())

    def curl(self, *arguments: str) -> str:
        """Run curl and return what it prints."""
        command = ["curl", "--silent", "--show-error", "--max-time", "30", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def count(self) -> str:
        """Return the number of rows in the table."""
        return self.post("SELECT count() FROM rows").body.decode().strip()


@pytest.fixture
def server(embedded_clickhouse: EmbeddedClickHouse, embedded_client: Client) -> Iterator[Server]:
    """The embedded engine with one table, `rows`."""
    server = Server(embedded_clickhouse.port, str(embedded_client.command("SELECT currentDatabase()")))
    assert server.post(ROWS).status == 200
    yield server
    server.connection.close()


def test_curl_asks_in_every_way(server: Server) -> None:
    """Query in the URL, in the body, in both; answers packed and not; HEAD and ping."""
    assert server.curl(f"{server.url}&query=SELECT%201%2B1") == "2\n"
    assert server.curl(server.url, "--data-binary", "SELECT 1 AS x FORMAT JSONEachRow") == '{"x":1}\n'
    assert server.curl(f"{server.url}&query=SELECT", "--data-binary", "3") == "3\n"
    assert server.curl("--compressed", f"{server.url}&enable_http_compression=1&query=SELECT%204") == "4\n"
    assert server.curl("--head", f"{server.url}&query=SELECT%201").startswith("HTTP/1.1 200 OK\n")
    assert server.curl(server.url.partition("?")[0]) == "Ok.\n"
    assert server.curl(server.url.partition("?")[0] + "ping") == "Ok.\n"
    assert server.curl(server.url.partition("?")[0] + "replicas_status") == "Ok.\n"
    assert server.curl("--user", "default:", f"{server.url}&query=SELECT%20user()") == "default\n"


def test_curl_inserts_in_every_way(server: Server, tmp_path: Path) -> None:
    """Statement and data in one body, apart, in chunks, packed, and larger than what curl asks leave for."""
    (tmp_path / "rows.csv").write_text("".join(f"{n},row\n" for n in range(200_000)))
    (tmp_path / "rows.gz").write_bytes(gzip.compress(b"7,packed\n"))
    insert = f"{server.url}&query=INSERT%20INTO%20rows%20FORMAT%20CSV"
    server.curl("--fail", server.url, "--data-binary", "INSERT INTO rows VALUES (1, 'a;b'), (2, 'c')")
    server.curl("--fail", insert, "--data-binary", f"@{tmp_path}/rows.csv")
    server.curl("--fail", insert, "--data-binary", f"@{tmp_path}/rows.csv", "--header", "Transfer-Encoding: chunked")
    server.curl("--fail", insert, "--data-binary", f"@{tmp_path}/rows.gz", "--header", "Content-Encoding: gzip")
    assert server.count() == str(2 + 2 * 200_000 + 1)
    assert server.post("SELECT s FROM rows WHERE n = 7 AND s != 'row' OR s = 'a;b'").body == b"a;b\npacked\n"


def test_an_answer_says_what_it_is(server: Server) -> None:
    """Query id, summary, format, time zone and the server's name stand in the head."""
    answer = server.post("SELECT number FROM numbers(5) FORMAT JSONCompact", {"query_id": "mine"})
    assert (
        json.loads(answer.body)["data"] == [["0"], ["1"], ["2"], ["3"], ["4"]] or json.loads(answer.body)["rows"] == 5
    )
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert answer.headers["X-ClickHouse-Timezone"]
    assert answer.headers["X-ClickHouse-Server-Display-Name"]
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["result_rows"]) == ("5", "5")
    written = server.post("INSERT INTO rows (n) VALUES (1), (2), (3)")
    assert json.loads(written.headers["X-ClickHouse-Summary"])["written_rows"] == "3"
    assert "X-ClickHouse-Format" not in written.headers


@pytest.mark.parametrize(
    ("parameters", "headers", "body"),
    [
        ({"default_format": "CSV"}, {}, b'"a",1\n'),
        ({}, {"X-ClickHouse-Format": "JSONEachRow"}, b'{"\'a\'":"a","1":1}\n'),
        ({}, {}, b"a\t1\n"),
    ],
)
def test_the_answer_comes_in_the_format_asked_for(
    server: Server, parameters: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    """By parameter, by header, else tab separated."""
    assert server.post("SELECT 'a', 1", parameters, headers).body == body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "lz4"])
def test_bodies_and_answers_come_packed(server: Server, coding: str) -> None:
    """The answer is packed where the client takes that and does not forbid it."""
    body, _ = encoded(b"INSERT INTO rows (n) FORMAT CSV\n" + b"1\n" * 10_000, [coding])
    assert server.post(body, headers={"Content-Encoding": coding}).status == 200
    query = "SELECT n FROM rows"
    packed = server.post(query, headers={"Accept-Encoding": coding})
    assert packed.headers["Content-Encoding"] == coding
    assert len(packed.body) < 1000
    assert b"".join(decoded([packed.body], coding)) == b"1\n" * 10_000
    plain = server.post(query, {"enable_http_compression": "0"}, {"Accept-Encoding": coding})
    assert plain.body == server.post(query).body == b"1\n" * 10_000


@pytest.mark.parametrize(
    ("sql", "parameters", "status", "code"),
    [
        ("SELECT * FROM nowhere", {}, 404, "60"),
        ("SELEC 1", {}, 400, "62"),
        ("SELECT throwIf(1)", {}, 500, "395"),
        ("SELECT 1", {"no_such_setting": "1"}, 404, "115"),
        ("SELECT 1", {"max_threads": "many"}, 400, "27"),
        ("SELECT 1", {"database": "nowhere"}, 404, "81"),
        ("SELECT 1", {"user": "someone"}, 403, "516"),
        ("SELECT 1", {"compress": "1"}, 501, "48"),
        ("SELECT {x:Int8}", {}, 500, "456"),
        ("SELECT count() FROM numbers(1e12)", {"max_execution_time": "0.2"}, 408, "159"),
        ("SELECT '" + "x" * 300_000 + "'", {}, 400, "62"),
        ("", {}, 400, "62"),
    ],
)
def test_an_error_has_clickhouses_status_code_and_text(
    server: Server, sql: str, parameters: dict[str, str], status: int, code: str
) -> None:
    """And the connection goes on."""
    answer = server.post(sql, parameters)
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, code)
    text = answer.body.decode()
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert text.endswith(")\n")
    assert "(version 26." in text
    assert server.post("SELECT 1").body == b"1\n"


def test_what_speaks_to_the_handler_is_no_setting(server: Server) -> None:
    """A client may send all that a server's handler takes."""
    names = ("session_id", "session_timeout", "buffer_size", "password", "quota_key", "role", "stacktrace")
    parameters = dict.fromkeys(names, "7")
    flags = {"wait_end_of_query": "1", "compress": "0", "decompress": "0", "client_protocol_version": "54405"}
    more = {"user": "default", "async_insert": "0", "send_progress_in_http_headers": "1", "query_id": ""}
    answer = server.post("SELECT 1", {**parameters, **flags, **more})
    assert (answer.status, answer.body) == (200, b"1\n")
    assert answer.headers["X-ClickHouse-Query-Id"]


def test_a_database_comes_by_parameter_or_header(server: Server) -> None:
    """The parameter wins."""
    headers = {"X-ClickHouse-Database": "system"}
    assert server.ask("POST", {}, "SELECT currentDatabase()", headers).body == b"system\n"
    assert server.post("SELECT currentDatabase()", headers=headers).body.decode().strip() == server.database


def test_get_only_reads(server: Server) -> None:
    """A link that somebody follows changes nothing."""
    refused = server.ask("GET", {"database": server.database, "query": "INSERT INTO rows (n) VALUES (1)"}, b"", {})
    assert (refused.status, refused.headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    assert b"Use method POST" in refused.body
    assert server.count() == "0"


def test_parameters_come_in_a_form_too(server: Server) -> None:
    """As clients send them that fear for the length of a URL."""
    fields = {"query": "SELECT {x:String}, {y:UInt8}", "param_x": "it's", "param_y": "2"}
    form = [argument for name, value in fields.items() for argument in ("--form", f"{name}={value}")]
    assert server.curl(server.url, *form) == "it\\'s\t2\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_half_a_body_inserts_nothing(server: Server, chunked: bool) -> None:  # noqa: FBT001 - pytest's parameter
    """A client that goes away in the middle leaves no row, and the server goes on."""
    query = urlencode({"database": server.database, "query": "INSERT INTO rows (n) FORMAT CSV"})
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000"
    body = b"6\r\n1\n2\n3\n\r\n6\r\n4\n" if chunked else b"1\n2\n3\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as half:
        half.sendall(f"POST /?{query} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode() + body)
        half.shutdown(socket.SHUT_WR)
        answer = half.recv(4096)
    assert b"X-ClickHouse-Exception-Code: 33" in answer
    assert server.count() == "0"


def test_an_error_before_the_body_is_read_leaves_the_connection_usable(server: Server) -> None:
    """The next answer belongs to the next request, also after a body in chunks."""
    large = b"1\n" * 1_000_000
    for body in (large, (large for _ in range(3))):
        headers = {"Transfer-Encoding": "chunked"} if body is not large else {}
        server.connection.request(
            "POST", "/?query=INSERT%20INTO%20nowhere%20FORMAT%20CSV&user=someone", body, headers, encode_chunked=True
        )
        assert Answer(server.connection.getresponse()).status == 403
        assert server.post("SELECT 5").body == b"5\n"


def test_32_connections_are_served_side_by_side(server: Server) -> None:
    """Each asks again and again over its one connection and gets its own answers."""

    def ask(number: int) -> int:
        own = Server(server.port, server.database)
        rights = sum(own.post(f"SELECT {number}").body == b"%d\n" % number for _ in range(20))
        own.connection.close()
        return rights

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, range(32))) == [20] * 32
