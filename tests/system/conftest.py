"""The pipeline as `make run` starts it, on free ports, in its own directory; nothing of ours is imported."""

import http
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, and that no outgoing connection or other process of tests is given."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % processes
    share = 2000 // processes
    found: set[int] = set()
    while len(found) < count:
        port = 10_000 + number * share + secrets.randbelow(share)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


@dataclass
class Pipeline:
    """A running `python -m deploy.embedded`.

    Attributes:
        process: the program.
        addresses: what its ready line says: ingest, clickhouse, clickhouse_native, kafka, console.
        started_s: how long it took to say so.
        data_dir: where it keeps everything.
    """

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    started_s: float
    data_dir: Path

    def post(self, events: list[dict[str, object]]) -> list[str]:
        """Post events in one request and return their pingIds; a collector that is overloaded is asked again."""
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                return self._post(events)
            except urllib.error.HTTPError as refused:
                with refused:
                    if refused.code != http.HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline_s:
                        raise
            time.sleep(0.1)

    def _post(self, events: list[dict[str, object]]) -> list[str]:
        request = urllib.request.Request(
            f"{self.addresses['ingest']}/collect/event",
            json.dumps({"messageBody": events}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 201
            return [json.loads(item["value"])["pingId"] for item in json.load(response)]

    def select(self, query: str) -> list[dict[str, object]]:
        """Run a query over HTTP and return its rows."""
        request = urllib.request.Request(self.addresses["clickhouse"], f"{query} FORMAT JSONEachRow".encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            return [json.loads(line) for line in response.read().splitlines()]

    def await_rows(self, query: str, count: int, timeout_s: float) -> list[dict[str, object]]:
        """Run a query until it gives so many rows, or the time is over; return what it gave last."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            rows = self.select(query)
            if len(rows) >= count or time.monotonic() > deadline_s:
                return rows
            time.sleep(0.05)

    def children(self) -> list[int]:
        """Return the ids of all processes below the program, from /proc."""
        parents: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found, queue = [], [self.process.pid]
        while queue:
            below = parents.get(queue.pop(), [])
            found += below
            queue += below
        return found

    def running(self, module: str) -> list[int]:
        """Return the ids of those that run a module."""
        wanted, found = f"-m\0{module}\0".encode(), []
        for pid in self.children():
            with suppress(OSError):  # it has ended meanwhile
                if wanted in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=150)
        return self.process.returncode


PORTS = ("http-port", "clickhouse-port", "clickhouse-native-port", "kafka-port", "console-port")


def embedded(data_dir: Path, ports: list[int], *more: str) -> subprocess.Popen[str]:
    """Start the program with ports for HTTP, ClickHouse's two interfaces, Kafka and the console."""
    flags = [f"--{name}={port}" for name, port in zip(PORTS, ports, strict=True)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "CONSUMER_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.embedded", *flags, f"--data-dir={data_dir}", *more],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start(data_dir: Path, *more: str) -> Pipeline:
    """Start the pipeline and wait for its ready line."""
    began_s = time.monotonic()
    process = embedded(data_dir, free_ports(len(PORTS)), *more)
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready "):
            return Pipeline(process, json.loads(line.removeprefix("ready ")), time.monotonic() - began_s, data_dir)
    process.communicate()
    raise AssertionError(f"the pipeline ended with {process.returncode} and said: {''.join(said)}")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a directory that does not exist yet."""
    return tmp_path / "headrace"


@pytest.fixture(scope="package")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Run the pipeline for all of these tests: each asks for its own events, by what only they have."""
    running = start(tmp_path_factory.mktemp("pipeline") / "headrace")
    yield running
    running.stop()


@pytest.fixture
def new_pipeline(data_dir: Path) -> Iterator[Pipeline]:
    """Run another one as long as the test."""
    running = start(data_dir)
    yield running
    running.stop()
