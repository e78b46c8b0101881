"""The collector as its users meet it: retries over workers and restarts, dead letters, keys, and bombs."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from backports import zstd
from confluent_kafka import TopicPartition

from ingest.access.clients import make_key
from ingest.publishing.ports import Record
from tests.support.collector import Answer, Collector, collector
from tests.support.freezing import freeze
from tests.support.front import event_of
from tests.support.kafka import EmbeddedKafka
from tests.support.kafka_clients import consumer, read

WAIT_S: Final = 60.0
MIB: Final = 1024 * 1024
VIEW: Final = {"eventType": "VIEW", "clientId": "web"}
LENIENT: Final = {"Prefer": "handling=lenient"}


@pytest.fixture
def topics(embedded_broker: EmbeddedKafka) -> dict[str, str]:
    """Topics of the test's own, as settings."""
    names = {name: f"test-{uuid.uuid4().hex[:12]}" for name in ("topic", "dead_letter_topic")}
    for name in names.values():
        embedded_broker.create_topic(name)
    return names


def records_of(broker: EmbeddedKafka, topic: str, count: int) -> list[Any]:
    """Return the first records of a topic with one partition."""
    reader = consumer(broker, "unused")
    try:
        reader.assign([TopicPartition(topic, 0, 0)])
        return list(read(reader, count))
    finally:
        reader.close()


def test_a_retry_gives_the_same_ids_to_any_worker_and_after_a_restart(
    embedded_broker: EmbeddedKafka, topics: dict[str, str]
) -> None:
    """While one worker is frozen the other one answers, so both do; then both are new."""
    answers: list[Answer] = []
    for _ in range(2):
        with collector(embedded_broker.bootstrap_servers, workers=2, **topics) as running:
            for pid in running.worker_pids:
                freeze(pid)
                try:
                    answers += [running.post([VIEW, VIEW | {"active": 1}], Idempotency_Key="order 7") for _ in range(3)]
                finally:
                    os.kill(pid, signal.SIGCONT)

    assert len(answers) == 12
    assert {answer.status for answer in answers} == {201}
    (body,) = {answer.body for answer in answers}
    ids = [json.loads(element["value"])["pingId"] for element in json.loads(body)]
    assert [uuid.UUID(event_id).version for event_id in ids] == [5, 5]
    stored = [event_of(Record(b"", record.value())) for record in records_of(embedded_broker, topics["topic"], 24)]
    assert [event["eventId"] for event in stored] == ids * 12


def test_a_refused_event_of_a_lenient_request_is_a_dead_letter(
    embedded_broker: EmbeddedKafka, topics: dict[str, str]
) -> None:
    """Its bytes are those that the client sent, and its headers say who refused it, when and why."""
    raw = b'{"eventType" : "CLIK", "n": 1.10}'
    with collector(embedded_broker.bootstrap_servers, **topics) as running:
        body = b'{"messageBody": [' + raw + b', {"eventType": "VIEW"}]}'
        answer = running.ask("POST", "/collect/event", body, LENIENT | {"X-Request-Id": "r-1"})
        figures = running.figures()

    assert answer.status == 201
    assert answer.headers["preference-applied"] == "handling=lenient"
    (letter,) = records_of(embedded_broker, topics["dead_letter_topic"], 1)
    headers = dict(letter.headers())
    assert letter.value() == raw
    assert letter.key().startswith(b"ingest/")
    assert abs(int(headers.pop("headrace.origin_at")) / 1000 - time.time()) < 60
    assert headers.pop("headrace.service").startswith(b"headrace-ingest/")
    assert headers == {
        "headrace.reason": b"bad_event_enum",
        "headrace.error": b"eventType got 'CLIK'; known are CLICK, EXIT, PING, PURCHASE, REGISTRATION, "
        b"TRANSACTION, VIEW",
        "headrace.request_id": b"r-1",
    }
    books = {
        outcome: figures[f'headrace_ingest_events_total{{outcome="{outcome}"}}']
        for outcome in ("received", "accepted", "refused", "delivered")
    }
    assert books == {"received": 2, "accepted": 1, "refused": 1, "delivered": 1}


def entry(client_id: str, stored: str) -> str:
    """Return a client of the registry with one key."""
    return f'[clients.{client_id}]\nname = "{client_id}"\nkeys = ["{stored}"]\n'


def await_status(running: Collector, key: str, status: int, times: int) -> None:
    """Wait until a key is answered so, a few times on end: by every worker."""
    deadline_s = time.monotonic() + WAIT_S
    good = 0
    while good < times:
        assert time.monotonic() < deadline_s
        good = good + 1 if running.post([VIEW], X_API_Key=key).status == status else 0


def test_a_registry_is_edited_while_the_collector_runs(embedded_broker: EmbeddedKafka, tmp_path: Path) -> None:
    """Every worker sees a new key and a broken file; the log says what is in force, and never a key."""
    (key, stored), (new_key, new_stored) = make_key(), make_key()
    path, draft = tmp_path / "clients.toml", tmp_path / "draft"
    path.write_text(entry("web", stored))
    with collector(embedded_broker.bootstrap_servers, workers=2, clients_file=path) as running:
        await_status(running, key, 201, 10)
        await_status(running, new_key, 401, 10)
        draft.write_text(entry("web", new_stored))
        draft.rename(path)
        await_status(running, new_key, 201, 20)
        await_status(running, key, 401, 20)
        draft.write_text("[clients")
        draft.rename(path)
        deadline_s = time.monotonic() + WAIT_S
        while len({line["pid"] for line in running.log_lines() if "stays in force" in line["message"]}) < 2:
            assert running.post([VIEW], X_API_Key=new_key).status == 201
            assert time.monotonic() < deadline_s
        assert running.ask("POST", f"/collect/event?key={new_key}", b"{", {"Content-Type": "text/csv"}).status == 415
        assert running.ask("GET", f"/\x7f?key={new_key}".replace("\x7f", "%7f")).status == 404
        log = json.dumps(running.log_lines())

    assert "collector open to the clients of a registry" in log
    assert key not in log
    assert new_key not in log


def test_a_broken_registry_stops_the_start(tmp_path: Path) -> None:
    """One sentence with the variable's name, and exit code 2."""
    path = tmp_path / "clients.toml"
    path.write_text('[clients.web]\nname = "Web"\nkeys = ["in the clear"]\n')
    environ = {"INGEST_BOOTSTRAP_SERVERS": "127.0.0.1:1", "INGEST_CLIENTS_FILE": str(path)}
    done = subprocess.run(
        [sys.executable, "-m", "ingest"],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith(f"ingest: INGEST_CLIENTS_FILE: {path}: ")
    assert "in the clear" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_makes_a_key_that_opens(tmp_path: Path, embedded_broker: EmbeddedKafka) -> None:
    """What `python -m ingest key` prints is all that it takes."""
    printed = subprocess.check_output([sys.executable, "-m", "ingest", "key"], text=True, timeout=60)
    key, stored = (line.split()[1] for line in printed.splitlines())
    path = tmp_path / "clients.toml"
    path.write_text(entry("web", stored))
    with collector(embedded_broker.bootstrap_servers, clients_file=path) as running:
        answer = running.ask("POST", f"/collect/event?key={key}", json.dumps({"messageBody": [VIEW]}).encode())

    assert answer.status == 201


def bomb(coding: str) -> bytes:
    """Compress 1 GiB of zeros, a MiB at a time."""
    packer: Any = zstd.ZstdCompressor() if coding == "zstd" else zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(1024)) + bytes(packer.flush())


@pytest.fixture(scope="module")
def running(embedded_broker: EmbeddedKafka) -> Iterator[Collector]:
    """A collector with one worker."""
    with collector(embedded_broker.bootstrap_servers) as started:
        yield started


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_is_refused_for_less_than_50_mib(running: Collector, coding: str) -> None:
    """The worker's resident memory is looked at at its highest, which the kernel keeps."""
    sent = bomb(coding)
    (pid,) = running.worker_pids
    running.post([VIEW])
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is measured from here on
    before_kib = memory_kib(pid, "VmRSS")

    answer = running.ask("POST", "/collect/event", sent, {"Content-Encoding": coding})

    grown_kib = memory_kib(pid, "VmHWM") - before_kib
    print(f"{coding}: {len(sent)} bytes sent, {grown_kib} KiB more at the peak")
    assert (answer.status, answer.json["message"]) == (413, "the body inflates to more than 5242880 bytes")
    assert grown_kib < 50 * 1024


def memory_kib(pid: int, name: str) -> int:
    """Return one figure of a process's memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)
