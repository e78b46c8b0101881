"""Who gets an answer from the console: its own page, and nobody whom another web page sends."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from deploy.embedded.console.database import Database
from deploy.embedded.console.follow import Follower
from deploy.embedded.console.live import Live, Sources
from deploy.embedded.console.questions import Question
from deploy.embedded.console.routes import Parts, Routes
from deploy.embedded.console.server import HOST, ConsoleServer, read_assets, refusal_of
from deploy.embedded.console.traffic import Traffic
from schemas.event import read_catalogue

AWAY = "http://127.0.0.1:9"
OWN = {"Host": "127.0.0.1:8090"}
POST = OWN | {"X-Headrace": "console"}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A console whose servers are all away."""
    database, traffic = Database(AWAY), Traffic(AWAY, tmp_path / "traffic.log")
    live = Live(Sources(f"{AWAY}/metrics", database, tmp_path), traffic)
    question = Question("How many?", "", "SELECT 1")
    parts = Parts(live, Follower(AWAY, database), traffic, database, (question,), read_catalogue())
    server = ConsoleServer(0, Routes(parts))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port: int, method: str, path: str, headers: dict[str, str], body: str = "{}") -> tuple[int, str]:
    """Send one request; return status and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(method, path, body if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/start", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8090"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:8090"},
        {"Host": ""},
        OWN | {"Origin": "http://evil.example"},
        OWN | {"Origin": "null"},
        OWN | {"Origin": "https://127.0.0.1:8090"},
        OWN | {"Origin": "http://127.0.0.1:8080"},
        OWN | {"Origin": "http://localhost:8090"},
    ],
    ids=str,
)
def test_a_foreign_name_or_page_gets_nothing(port: int, path: str, headers: dict[str, str]) -> None:
    """A name that only resolves to this machine (DNS rebinding), and a page of another origin or port."""
    status, body = ask(port, "GET", path, headers)

    assert status == 403
    assert set(json.loads(body)) == {"message"}


@pytest.mark.parametrize(
    "headers", [OWN, {"Host": "localhost:9999"}, OWN | {"Origin": "http://127.0.0.1:8090"}], ids=str
)
def test_the_own_page_is_answered(port: int, headers: dict[str, str]) -> None:
    """Through a tunnel on another port, too."""
    assert ask(port, "GET", "/", headers)[0] == 200
    assert ask(port, "GET", "/api/start", headers)[0] == 200
    assert ask(port, "GET", "/api/start", headers | {"Sec-Fetch-Site": "same-origin"})[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_from_elsewhere_opens_the_page_and_reads_no_data(port: int, site: str) -> None:
    """Browsers say where a request comes from."""
    assert ask(port, "GET", "/", OWN | {"Sec-Fetch-Site": site})[0] == 200
    assert ask(port, "GET", "/api/live", OWN | {"Sec-Fetch-Site": site})[0] == 403


@pytest.mark.parametrize("route", ["send", "traffic", "ask", "follow", "event", "sample"])
def test_a_post_needs_a_header_that_no_form_has(port: int, route: str) -> None:
    """A form of another site sends no such header; a script's preflight is never answered with leave."""
    assert ask(port, "POST", f"/api/{route}", OWN, "{}")[0] == 403
    assert ask(port, "OPTIONS", f"/api/{route}", OWN | {"Access-Control-Request-Method": "POST"})[0] == 501


def test_two_hosts_are_no_host() -> None:
    """Whichever of them a proxy would read."""
    headers = Message()
    headers["Host"], headers["HOST"] = "127.0.0.1", "evil.example"

    assert refusal_of("GET", "/", headers)


def test_every_answer_confines_the_page(port: int) -> None:
    """No script but the page's files, no markup out of text, nothing from or to another place, in no frame."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    for path in ("/", "/main.js", "/api/live", "/nothing"):
        connection.request("GET", path, headers=OWN)
        answer = connection.getresponse()
        answer.read()
        policy = answer.headers["Content-Security-Policy"]
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
        assert "require-trusted-types-for 'script'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers
    connection.close()


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("ask", '{"question": "SELECT 1"}'),
        ("ask", '{"question": 1}'),
        ("ask", '{"question": -1}'),
        ("ask", '{"question": true}'),
        ("ask", '{"statement": "SELECT 1"}'),
        ("traffic", '{"mode": "--url=http://evil.example"}'),
        ("traffic", '{"mode": ["live-10"]}'),
        ("sample", '{"type": "NONE"}'),
        ("sample", '{"type": "VIEW", "fault": "none"}'),
        ("event", '{"id": "1 OR 1"}'),
        ("follow", '{"request": "x", "sent_ms": 1, "rows": 1, "dead": 0}'),
        ("follow", '{"request": "0123456789abcdef0123456789abcdef", "sent_ms": 1, "rows": 1e9, "dead": 0}'),
        ("follow", '{"request": "0123456789abcdef0123456789abcdef", "sent_ms": NaN, "rows": 1, "dead": 0}'),
        ("send", '{"body": 1}'),
        ("send", "[]"),
        ("send", "{"),
        ("send", "[" * 100_000),
    ],
)
def test_what_the_page_never_asks_for_is_refused(port: int, route: str, body: str) -> None:
    """No statement, address or program of the asker's is ever run; the answer is a sentence."""
    status, said = ask(port, "POST", f"/api/{route}", POST, body)

    assert status == 400
    assert json.loads(said)["message"].endswith(".")


@pytest.mark.parametrize(("route", "body"), [("ask", '{"question": 0}'), ("send", '{"body": "{}"}')])
def test_a_server_that_is_away_is_a_sentence(port: int, route: str, body: str) -> None:
    """ClickHouse, the collector."""
    status, said = ask(port, "POST", f"/api/{route}", POST, body)

    assert status == 502
    assert "does not answer" in json.loads(said)["message"]


def test_the_live_part_answers_while_everything_is_away(port: int) -> None:
    """And says what is."""
    status, said = ask(port, "GET", "/api/live", OWN)

    assert status == 200
    assert json.loads(said)["problems"] == ["The collector does not answer.", "ClickHouse does not answer."]


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "9999999"}, {"Content-Length": "x"}, {"Transfer-Encoding": "chunked"}]
)
def test_a_body_out_of_bounds_is_not_read(port: int, headers: dict[str, str]) -> None:
    """The connection ends, so that its rest is no request."""
    lines = [f"{name}: {value}\r\n" for name, value in (POST | headers).items()]
    with socket.create_connection((HOST, port), 30) as client:
        client.sendall(("POST /api/send HTTP/1.1\r\n" + "".join(lines) + "\r\n").encode())
        said = b""
        while piece := client.recv(65536):
            said += piece

    assert said.startswith(b"HTTP/1.1 413 ")
    assert said.count(b"HTTP/1.1") == 1


def test_connections_are_bounded(port: int) -> None:
    """Those beyond the bound are closed; when others have ended, new ones are served."""
    idle = [socket.create_connection((HOST, port), 30) for _ in range(32)]
    with socket.create_connection((HOST, port), 30) as one_more:
        assert one_more.recv(1) == b""
    for connection in idle:
        connection.close()
    status = 0
    while status != 200:
        try:
            status, _ = ask(port, "GET", "/", OWN)
        except (http.client.RemoteDisconnected, ConnectionResetError):
            continue

    assert status == 200


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No address of another host in any of its files, but names of XML."""
    texts = {path: reply.body.decode() for path, reply in read_assets().items()}

    assert {"/", "/console.css", "/main.js", "/icon.svg"} <= set(texts)
    for path, text in texts.items():
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", ""), path
        assert "innerHTML" not in text
        assert "<script>" not in text
        assert " style=" not in text
