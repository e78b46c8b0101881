"""The embedded ClickHouse as a process: start, stop, kill, and what its directory keeps."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.support.clickhouse import ClickHouse, EmbeddedClickHouse
from tests.support.clickhouse_events import EVENTS, FROM_AVRO, avro, connect
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory that does not exist yet."""
    return tmp_path / "clickhouse"


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the server's command to its end, which has to come."""
    command = [sys.executable, "-m", "deploy.embedded.clickhouse", "--data-dir", str(data_dir), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def insert(clickhouse: ClickHouse, numbers: range, token: str) -> None:
    """Insert events as the worker does."""
    with connect(clickhouse) as client:
        client.command(FROM_AVRO, data=avro(numbers), settings={"insert_deduplication_token": token})


def count(clickhouse: ClickHouse) -> object:
    """Return the number of events."""
    with connect(clickhouse) as client:
        return client.command("SELECT count() FROM events")


def test_a_restart_keeps_rows_and_tokens(data_dir: Path) -> None:
    """What was inserted is there, and its token still counts."""
    with EmbeddedClickHouse(data_dir) as clickhouse:
        with connect(clickhouse) as client:
            client.command(EVENTS)
        insert(clickhouse, range(1000), "a")
        clickhouse.stop()
        clickhouse.start()
        assert count(clickhouse) == 1000
        insert(clickhouse, range(1000), "a")
        assert count(clickhouse) == 1000
        insert(clickhouse, range(1000), "b")
        assert count(clickhouse) == 2000


def test_a_kill_keeps_acknowledged_rows_and_tokens(data_dir: Path) -> None:
    """SIGKILL amid inserts, again and again: each acknowledged one is there whole, and a retry counts once."""
    acknowledged: list[int] = []

    def write(clickhouse: EmbeddedClickHouse, numbers: range) -> None:
        for number in numbers:
            try:
                insert(clickhouse, range(number * 1000, (number + 1) * 1000), f"t{number}")
            except DatabaseError:  # the one above all of the driver's
                return
            acknowledged.append(number)

    with EmbeddedClickHouse(data_dir) as clickhouse:
        with connect(clickhouse) as client:
            client.command(EVENTS)
        for kill in range(3):
            before = len(acknowledged)
            writer = threading.Thread(target=write, args=(clickhouse, range(kill * 300, kill * 300 + 290)))
            writer.start()
            deadline_s = time.monotonic() + LIMIT_S
            while len(acknowledged) < before + 10 and time.monotonic() < deadline_s:
                time.sleep(0.001)
            clickhouse.kill()
            writer.join()
            clickhouse.start()
        with connect(clickhouse) as client:
            found = client.query("SELECT intDiv(n, 1000) AS t, count(), uniqExact(n) FROM events GROUP BY t")
        batches = {batch: (rows, numbers) for batch, rows, numbers in found.result_rows}
        assert len(acknowledged) >= 30
        assert set(acknowledged) <= set(batches)
        assert set(batches.values()) == {(1000, 1000)}
        for number in acknowledged[-3:]:
            insert(clickhouse, range(number * 1000, (number + 1) * 1000), f"t{number}")
        assert count(clickhouse) == 1000 * len(batches)
        print(f"3 kills: {len(acknowledged)} acknowledged inserts, {len(batches)} in the table")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_a_running_statement_finish(data_dir: Path, number: signal.Signals) -> None:
    """The answer comes, no new request is taken, and the process ends well."""
    clickhouse = EmbeddedClickHouse(data_dir)
    clickhouse.start()
    answers: list[bytes] = []
    url = f"{clickhouse.url}/?query_id=slow&query=SELECT%20sleep(1.5)"
    asking = threading.Thread(target=lambda: answers.append(urllib.request.urlopen(url, timeout=LIMIT_S).read()))
    asking.start()
    with connect(clickhouse) as client:
        running = "SELECT count() FROM system.processes WHERE query_id = 'slow'"
        while client.command(running) != 1 and asking.is_alive():
            time.sleep(0.01)
    clickhouse.send(number)
    clickhouse.stop()
    asking.join()
    assert answers == [b"0\n"]


def test_a_frozen_server_goes_on(data_dir: Path) -> None:
    """A pause is a slow answer, no lost one."""
    with EmbeddedClickHouse(data_dir) as clickhouse:
        clickhouse.pause()
        asking = threading.Thread(target=urllib.request.urlopen, args=(f"{clickhouse.url}/ping", None, LIMIT_S))
        asking.start()
        asking.join(0.5)
        assert asking.is_alive()
        clickhouse.resume()
        asking.join(LIMIT_S)
        assert not asking.is_alive()


@pytest.mark.parametrize("flag", ["--port", "--native-port"])
def test_a_taken_port_is_one_sentence(data_dir: Path, flag: str) -> None:
    """And no success."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--port": free_port(), "--native-port": free_port(), flag: port}
        ended = run(data_dir, *(f"{name}={number}" for name, number in ports.items()))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"clickhouse: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_directory_in_use_is_one_sentence(data_dir: Path) -> None:
    """The one that has it goes on."""
    with EmbeddedClickHouse(data_dir) as clickhouse:
        ended = run(data_dir)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith(f"clickhouse: the data directory {data_dir} is in use by process ")
        with connect(clickhouse) as client:
            assert client.command("SELECT 1") == 1


def test_a_directory_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    """A file stands where it should be made."""
    (tmp_path / "file").write_text("")
    ended = run(tmp_path / "file" / "below")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"clickhouse: cannot use the data directory {tmp_path}/file/below: Not a directory\n"


def test_a_missing_extra_is_one_sentence(data_dir: Path) -> None:
    """It says what to install."""
    code = "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
    code += "from deploy.embedded.clickhouse import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--data-dir", str(data_dir)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "clickhouse: chdb-core is missing: pip install 'headrace[embedded]'\n"


def test_it_ends_with_its_parent(data_dir: Path) -> None:
    """A test run that is killed leaves no server behind."""
    code = (
        "import os, sys, tempfile; from pathlib import Path; from tests.support.clickhouse import launch\n"
        f"process = launch(Path({str(data_dir)!r}), {(free_port(), free_port())}, sys.stderr)\n"
        "print(process.stdout.readline(), process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    child = int(parent.stdout.split()[-1])
    deadline_s = time.monotonic() + LIMIT_S
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_a_kernel_without_landlock_is_told(data_dir: Path) -> None:
    """It serves all the same, and says what that means."""
    code = "import sys; import deploy.embedded.sandbox as sandbox; sandbox._CREATE_RULESET = 1_000_000\n"
    code += "from deploy.embedded.clickhouse import main; main()"
    command = [sys.executable, "-c", code, f"--data-dir={data_dir}", f"--port={free_port()}"]
    with subprocess.Popen(
        [*command, f"--native-port={free_port()}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("ready ")
        process.terminate()
        _, said = process.communicate(timeout=LIMIT_S)
    assert "this kernel has no Landlock" in said


def test_what_it_writes_about_itself_goes_again(embedded_clickhouse: EmbeddedClickHouse) -> None:
    """Each table of the server's own has a time to live, whatever this version makes."""
    with connect(embedded_clickhouse) as client:
        client.command("SYSTEM FLUSH LOGS")
        own = "FROM system.tables WHERE database = 'system' AND engine LIKE '%MergeTree'"
        assert client.command(f"SELECT count() {own}") == 3
        assert client.query(f"SELECT name {own} AND engine_full NOT LIKE '%TTL%'").result_rows == []


@pytest.mark.soak(only=True)
def test_its_log_is_bounded(data_dir: Path) -> None:
    """Three files of ten megabytes, whatever happens."""
    with EmbeddedClickHouse(data_dir) as clickhouse:
        with connect(clickhouse) as client:
            for _ in range(20_000):
                with pytest.raises(DatabaseError):
                    client.command("SELECT throwIf(1)")
        sizes = [path.stat().st_size for path in (data_dir / "log").iterdir()]
    assert len(sizes) > 1
    assert sum(sizes) < 35_000_000


def test_the_sessions_clickhouse_answers(clickhouse: ClickHouse) -> None:
    """Whichever it is, it has a URL and a name, and speaks ClickHouse."""
    assert clickhouse.name in ("address", "container", "embedded server")
    with connect(clickhouse) as client:
        assert client.command("SELECT 1") == 1
