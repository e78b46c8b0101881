"""What the embedded ClickHouse lets nobody do: pages of other origins, the account default, and the server itself."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import Site, browsing, rendered
from tests.support.clickhouse import PASSWORD, USER, EmbeddedClickHouse
from tests.support.clickhouse_events import connect
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60
DENIED, PATH_DENIED, READONLY, OUT_OF_BOUNDS, FILE, PYTHON = 497, 481, 164, 452, 76, 446
TABLE = "headrace.of_another_account"


@pytest.fixture(scope="module", autouse=True)
def operator(embedded_clickhouse: EmbeddedClickHouse) -> Iterator[Client]:
    """The account that may do everything, which has made a table that default may read."""
    with connect(embedded_clickhouse) as client:
        client.command("CREATE DATABASE IF NOT EXISTS headrace")
        client.command(f"CREATE TABLE {TABLE} (n UInt64) ENGINE = MergeTree ORDER BY n")
        client.command(f"INSERT INTO {TABLE} VALUES (1)")
        yield client
        client.command(f"DROP TABLE {TABLE}")


class Answer:
    """Status, error code (0 for none), headers and text of one answer."""

    def __init__(self, clickhouse: EmbeddedClickHouse, statement: str, headers: dict[str, str] | None = None) -> None:
        """Send a statement in the body of a POST."""
        connection = HTTPConnection("127.0.0.1", clickhouse.port, timeout=WAIT_S)
        try:
            connection.request("POST", "/", statement.encode(), headers or {})
            response = connection.getresponse()
            self.status, self.headers = response.status, response.headers
            self.text = response.read().decode(errors="replace")
        finally:
            connection.close()
        self.code = int(self.headers.get("X-ClickHouse-Exception-Code") or 0)


ACCOUNT = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (f"INSERT INTO {TABLE} VALUES (2)", DENIED),
        (f"ALTER TABLE {TABLE} DELETE WHERE 1", DENIED),
        (f"TRUNCATE TABLE {TABLE}", DENIED),
        (f"DROP TABLE {TABLE}", DENIED),
        (f"OPTIMIZE TABLE {TABLE}", DENIED),
        ("CREATE TABLE headrace.mine (n UInt8) ENGINE = Memory", DENIED),
        ("CREATE TEMPORARY TABLE mine (n UInt8)", DENIED),
        ("CREATE DATABASE mine", DENIED),
        ("CREATE FUNCTION mine AS x -> x", DENIED),
        (f"BACKUP TABLE {TABLE} TO File('/tmp/backup')", DENIED),
        ("SYSTEM SHUTDOWN", DENIED),
        ("SYSTEM STOP LISTEN HTTP", READONLY),
        ("SYSTEM FLUSH LOGS", DENIED),
        ("KILL QUERY WHERE 1", DENIED),
        ("SET readonly = 0", READONLY),
        ("SELECT 1 SETTINGS readonly = 1", READONLY),
        ("SELECT * FROM system.users", DENIED),
        ("SELECT * FROM system.query_log", DENIED),
        ("SELECT * FROM system.processes", DENIED),
        ("SELECT * FROM default.`/etc/hostname`", DENIED),
        ("SELECT * FROM file('/etc/hostname', 'LineAsString')", DENIED),
        ("SELECT * FROM filesystem('/etc')", DENIED),
        ("SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')", DENIED),
        ("SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')", DENIED),
        ("SELECT * FROM remote('127.0.0.2:1', system.one)", DENIED),
        ("SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')", DENIED),
        ("SELECT * FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')", DENIED),
        ("SELECT * FROM mongodb('127.0.0.1:1', 'd', 'c', 'u', 'p', 'a String')", DENIED),
        ("SELECT * FROM sqlite('/tmp/x.db', 't')", PATH_DENIED),
        ("SELECT * FROM executable('x', 'TSV', 'a String')", DENIED),
        ("SELECT * FROM python(x)", PYTHON),
        ("INSERT INTO FUNCTION file('/tmp/x.csv', 'CSV', 'a String') VALUES ('x')", DENIED),
        ("INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'CSV', 'a String') VALUES ('x')", DENIED),
        ("INSERT INTO FUNCTION null('a String') VALUES ('x')", DENIED),
    ],
)
def test_default_may_only_read(embedded_clickhouse: EmbeddedClickHouse, statement: str, code: int) -> None:
    """The pipeline's tables and what clients ask of the catalogue; no file, no other server, no word to this one."""
    answer = Answer(embedded_clickhouse, statement)
    assert (answer.code, "DB::Exception" in answer.text) == (code, True), answer.text
    assert Answer(embedded_clickhouse, f"SELECT count() FROM {TABLE}").text == "1\n"


# These give what is in the statement itself, or computed values, or nothing.
HARMLESS = {
    "SQLStandardValues",
    "values",
    "generateRandom",
    "null",
    "numbers",
    "numbers_mt",
    "primes",
    "zeros",
    "zeros_mt",
}
ARGUMENTS = (
    "",
    "'/etc/hostname'",
    "'/etc/hostname', 'LineAsString'",
    "'127.0.0.1:1', 'system', 'one'",
    "'a', 'b', 'c'",
)


def test_no_table_function_gives_default_anything(embedded_clickhouse: EmbeddedClickHouse, operator: Client) -> None:
    """Whatever this version has, with arguments of the usual forms: an error, and the server goes on."""
    names = [row[0] for row in operator.query("SELECT name FROM system.table_functions").result_rows]
    assert len(names) > 50
    for name in set(names) - HARMLESS:
        for arguments in ARGUMENTS:
            answer = Answer(embedded_clickhouse, f"SELECT * FROM {name}({arguments}) LIMIT 1")
            assert answer.code, f"{name}({arguments}): {answer.text}"
    assert Answer(embedded_clickhouse, "SELECT 1").text == "1\n"


@pytest.mark.parametrize(
    "setting",
    [
        "max_execution_time = 0",
        "max_execution_time = 301",
        "max_result_rows = 0",
        "max_result_bytes = 2000000000",
        "max_memory_usage = 0",
        "max_memory_usage_for_user = 0",
        "max_concurrent_queries_for_user = 0",
        "max_temporary_data_on_disk_size_for_user = 0",
        "timeout_overflow_mode = 'break'",
        "allow_introspection_functions = 1",
        "allow_experimental_ai_functions = 1",
        "log_queries = 0",
    ],
)
def test_defaults_limits_bind(embedded_clickhouse: EmbeddedClickHouse, setting: str) -> None:
    """A query cannot set them aside; within the bounds it may."""
    assert Answer(embedded_clickhouse, f"SELECT 1 SETTINGS {setting}").code == OUT_OF_BOUNDS
    assert Answer(embedded_clickhouse, "SELECT 1 SETTINGS max_execution_time = 5, max_threads = 1").text == "1\n"


def test_python_stays_off_for_everybody(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """One call would end the server."""
    for headers in ({}, ACCOUNT):
        assert Answer(embedded_clickhouse, "SET allow_python_table_function = 1", headers).code
        assert Answer(embedded_clickhouse, "SELECT * FROM python(x)", headers).code == PYTHON
    assert Answer(embedded_clickhouse, "SELECT 1").text == "1\n"


FORMS_OF_FILE = [
    "SELECT file({})",
    "SELECT * APPLY(file) FROM (SELECT {})",
    "SELECT arrayMap(file, [{}])",
    "SELECT * FROM view(SELECT file({}))",
]


@pytest.mark.parametrize("form", FORMS_OF_FILE)
@pytest.mark.parametrize("account", [{}, ACCOUNT], ids=["default", USER])
def test_the_server_reads_no_file_but_its_own(
    embedded_clickhouse: EmbeddedClickHouse, form: str, account: dict[str, str]
) -> None:
    """SQL's function file() asks for no right, so the kernel refuses: for every account, in every form."""
    for path in ("/etc/hostname", embedded_clickhouse.data_dir / "password", Path(__file__)):
        answer = Answer(embedded_clickhouse, form.format(f"'{path}'"), account)
        assert answer.code == FILE, answer.text
        assert "Permission denied" in answer.text
        instead = Answer(embedded_clickhouse, f"SELECT file('{path}', 'no such file')", account)
        assert instead.text == "no such file\n"


def test_the_server_keeps_nothing_of_its_callers_environment(
    embedded_clickhouse: EmbeddedClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc/self/environ is one of the files that it may read."""
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "abracadabra")
    with EmbeddedClickHouse(tmp_path / "clickhouse") as clickhouse:
        environment = Answer(clickhouse, "SELECT file('/proc/self/environ')").text
        assert "TZ=UTC" in environment
        assert "SECRET" not in environment
        assert "abracadabra" not in environment
    del embedded_clickhouse


def test_the_server_writes_and_connects_nowhere(embedded_clickhouse: EmbeddedClickHouse, tmp_path: Path) -> None:
    """Not for the account that may do everything either; in its own directory it writes."""
    write = "INSERT INTO FUNCTION file('{}', 'CSV', 'a String') VALUES ('x')"
    refused = Answer(embedded_clickhouse, write.format(tmp_path / "x.csv"), ACCOUNT)
    assert (refused.code, list(tmp_path.iterdir())) == (FILE, [])
    inside = embedded_clickhouse.data_dir / "engine" / f"{uuid.uuid4().hex}.csv"
    assert Answer(embedded_clickhouse, write.format(inside), ACCOUNT).status == 200
    assert inside.read_text() == '"x"\n'
    with Site({"/": "here"}) as site:
        url = f"SELECT * FROM url('{site.origin}/', 'LineAsString') SETTINGS http_max_tries = 1"
        assert Answer(embedded_clickhouse, url, ACCOUNT).status != 200
        assert urllib.request.urlopen(site.origin, timeout=WAIT_S).read() == b"here"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("account", [{}, ACCOUNT], ids=["default", USER])
def test_what_a_foreign_page_sends_is_not_run(
    embedded_clickhouse: EmbeddedClickHouse, headers: dict[str, str], account: dict[str, str]
) -> None:
    """Whatever account it names; and no answer lets a page read it."""
    sent = {name: text.format(port=embedded_clickhouse.port) for name, text in headers.items()}
    answer = Answer(embedded_clickhouse, "SELECT 1", account | sent)
    assert answer.status in (400, 404), answer.text
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "TRACE"])
def test_no_preflight_is_answered_with_leave(embedded_clickhouse: EmbeddedClickHouse, method: str) -> None:
    """A page that asks before it sends is told nothing."""
    connection = HTTPConnection("127.0.0.1", embedded_clickhouse.port, timeout=WAIT_S)
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    connection.request(method, "/?query=SELECT%201", headers=headers)
    answer = connection.getresponse()
    assert answer.status >= 400
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    connection.close()


def test_the_servers_own_pages_may_ask(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """By either name of this machine."""
    for host in ("127.0.0.1", "localhost"):
        here = f"{host}:{embedded_clickhouse.port}"
        headers = {"Host": here, "Origin": f"http://{here}", "Sec-Fetch-Site": "same-origin"}
        assert Answer(embedded_clickhouse, "SELECT 1", headers).text == "1\n"


@pytest.mark.parametrize("path", ["binary", "merges", "replicas_status", "etc/passwd", "query/x", "js/other.js"])
def test_there_is_no_other_door(embedded_clickhouse: EmbeddedClickHouse, path: str) -> None:
    """What is not listed in config.xml is not served."""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{embedded_clickhouse.url}/{path}", timeout=WAIT_S)


def test_it_listens_on_one_address_alone(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """Another address of the loopback already finds nobody."""
    listening = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    for port in (embedded_clickhouse.port, embedded_clickhouse.native_port):
        assert {where for where in listening if where.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


def test_the_password_is_its_owners_and_stays(tmp_path: Path) -> None:
    """Made at the first start, for one pair of eyes; the same after the next; a wrong one is refused."""
    data_dir, ports = tmp_path / "clickhouse", (free_port(), free_port())
    command = [sys.executable, "-m", "deploy.embedded.clickhouse", f"--data-dir={data_dir}"]
    command += [f"--port={ports[0]}", f"--native-port={ports[1]}"]
    found = []
    for _ in range(2):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout
        assert process.stdout.readline().startswith("ready ")
        password = (data_dir / "password").read_text()
        found.append(password)
        assert oct((data_dir / "password").stat().st_mode & 0o777) == "0o600"
        for key, status in ((password, 200), ("wrong", 403), ("", 403)):
            request = urllib.request.Request(
                f"http://127.0.0.1:{ports[0]}", b"SELECT 1", {"X-ClickHouse-User": USER, "X-ClickHouse-Key": key}
            )
            try:
                assert urllib.request.urlopen(request, timeout=WAIT_S).status == status
            except urllib.error.HTTPError as refused:
                assert refused.code == status  # noqa: PT017  (both ways of an answer)
        process.terminate()
        process.communicate(timeout=WAIT_S)
        (data_dir / "password").chmod(0o644)
    assert found[0] == found[1]
    assert len(found[0]) == 64


def test_nobody_can_end_the_servers_own_query(embedded_clickhouse: EmbeddedClickHouse, operator: Client) -> None:
    """The one that keeps it there, not even the account that may end all."""
    operator.command("KILL QUERY WHERE user = '' ASYNC")
    time.sleep(0.2)
    assert Answer(embedded_clickhouse, "SELECT 1").text == "1\n"


PAGE = """<!DOCTYPE html><title>a page of another origin</title><body><script>
const clickhouse = "CLICKHOUSE/", file = "FILE", mark = "MARK";
const write = (name) => `/* ${mark} */ INSERT INTO FUNCTION file('${file}-${name}', 'CSV', 'a String') VALUES ('x')`;
const read = `SELECT * FROM file('/etc/hostname', 'LineAsString') /* ${mark} */`;
const fetchUrl = `SELECT * FROM url('${location.origin}/fetched', 'LineAsString') /* ${mark} */`;
const account = "?user=USER&password=PASSWORD";
const send = async (url, options) => {
  try { const answer = await fetch(url, options); return `${answer.type} ${answer.ok} ${await answer.text()}`; }
  catch (error) { return "refused"; }
};
const posted = (action, text) => new Promise((resolve) => {
  const frame = document.body.appendChild(document.createElement("iframe"));
  frame.name = "f" + Math.random();
  const form = document.body.appendChild(document.createElement("form"));
  Object.assign(form, {method: "POST", action, target: frame.name, enctype: "text/plain"});
  const input = form.appendChild(document.createElement("input"));
  Object.assign(input, {name: text, value: ""});
  frame.onload = () => resolve("sent");
  setTimeout(() => resolve("sent"), 3000);
  form.submit();
});
const loaded = (url) => new Promise((resolve) => {
  const image = new Image(); image.onload = image.onerror = () => resolve("sent"); image.src = url;
});
(async () => {
  const said = {};
  for (const [name, query] of [["anybody", ""], ["knows", account]]) {
    const url = clickhouse + query;
    said[name] = [
      await send(url, {method: "POST", body: "SELECT 1 /* " + mark + " */"}),
      await send(url, {method: "POST", body: read}),
      await send(url, {method: "POST", mode: "no-cors", body: write(name)}),
      await send(url, {method: "POST", mode: "no-cors", body: fetchUrl}),
      await send(url + (query ? "&" : "?") + "query=" + encodeURIComponent(read), {mode: "no-cors"}),
      await send(url, {method: "POST", headers: {"X-ClickHouse-User": "default"}, body: read}),
      await posted(url, write(name + "-form")),
      await loaded(url + (query ? "&" : "?") + "query=" + encodeURIComponent(read)),
    ];
    navigator.sendBeacon(url, write(name + "-beacon"));
  }
  await fetch("/report", {method: "POST", body: JSON.stringify(said)});
})();
</script>"""


def test_a_page_of_another_origin_reads_writes_and_fetches_nothing(
    embedded_clickhouse: EmbeddedClickHouse, operator: Client
) -> None:
    """In a real browser, by every way that a page has; not even one that knows the password, with statements that run.

    A program that sends the same with that password does write the file.
    """
    mark, file = uuid.uuid4().hex, embedded_clickhouse.data_dir / "engine" / uuid.uuid4().hex
    texts = {"CLICKHOUSE": embedded_clickhouse.url, "FILE": str(file), "MARK": mark}
    page = PAGE.replace("USER&password=PASSWORD", f"{USER}&password={PASSWORD.replace(' ', '%20')}")
    for name, text in texts.items():
        page = page.replace(name, text)
    with Site({"/": page}) as site, browsing(f"{site.origin}/"):
        said = site.next_report()

    for answers in said.values():
        assert answers[:2] == ["refused", "refused"]
        assert answers[5] == "refused"
        assert {answer for answer in answers[2:5] if answer != "refused"} <= {"opaque false "}
    operator.command("SYSTEM FLUSH LOGS query_log")
    ran = f"SELECT query FROM system.query_log WHERE position(query, '{mark}') AND position(query, 'query_log') = 0"
    assert operator.query(ran).result_rows == []
    assert list(file.parent.glob(f"{file.name}*")) == []

    write = f"/* {mark} */ INSERT INTO FUNCTION file('{file}-program', 'CSV', 'a String') VALUES ('x')"
    assert Answer(embedded_clickhouse, write, ACCOUNT).status == 200
    assert list(file.parent.glob(f"{file.name}*"))
    operator.command("SYSTEM FLUSH LOGS query_log")
    assert operator.query(ran).result_rows


def test_a_name_that_points_here_is_no_way_in(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """A page may have its own host's name point to 127.0.0.1, and is of the same origin then: the name is refused."""
    rebound = f"http://evil.example:{embedded_clickhouse.port}"
    rule = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    for path in ("/?query=SELECT%2040%2B2", "/play"):
        assert "There is no handle" in rendered(rebound + path, rule)
    assert "There is no handle" not in rendered(f"{embedded_clickhouse.url}/play", rule)
