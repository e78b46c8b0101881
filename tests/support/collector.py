"""The collector as its users meet it: `python -m ingest` with settings, asked over HTTP."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.shipped import ROOT, tree

_START_S: Final = 60.0
_STOP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)


class Collector:
    """A running collector.

    Attributes:
        port: where it listens on 127.0.0.1.
        url: the same as a URL, without a slash at its end.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process = process
        self._log_path = log_path

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()

    def post(self, events: object, **headers: str) -> Answer:
        """Send events as JSON; a header's dashes are written as underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"messageBody": events}).encode()
        return self.ask("POST", "/collect/event", body, {"Content-Type": "application/json"} | named)

    def figures(self) -> dict[str, float]:
        """Return the samples of /metrics by name and labels, as they are written there."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log so far; each line must be one JSON object."""
        return [json.loads(line) for line in self._log_path.read_text().splitlines()]

    @property
    def worker_pids(self) -> list[int]:
        """The worker processes that live now."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> int:
        """Send SIGTERM and wait for the end; return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def kill(self) -> None:
        """SIGKILL all of its processes: who still waits for an answer gets none."""
        for pid in (self._process.pid, *self.worker_pids):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def await_ready(self) -> None:
        """Wait until /readyz says so; raises RuntimeError when the process ends first or a minute has passed."""
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                if self.ask("GET", "/readyz").status == http.client.OK:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the collector did not get ready: {self._log_path.read_text()[-2000:]}")


@contextmanager
def collector(bootstrap_servers: str, **settings: object) -> Iterator[Collector]:
    """Run a collector with these settings, by their names in ingest/settings.py; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="headrace-collector-") as directory:
        port = free_port()
        defaults = {
            "bootstrap_servers": bootstrap_servers,
            "host": "127.0.0.1",
            "port": port,
            "schema_cache_dir": f"{directory}/schemas",
            "spool_dir": f"{directory}/spool",
            "shutdown_grace_s": 0,
            # Other tests use the same processor and disk: who stood still for a moment is neither overloaded nor slow.
            "queue_wait_s": 30,
            "ack_slow_s": 30,
            "spool_deadline_s": 20,
            "gunicorn_config": ROOT / "deploy/gunicorn.conf.py",
        }
        given = {f"INGEST_{name.upper()}": str(value) for name, value in (defaults | settings).items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "PROMETHEUS_"))}
        log_path = Path(directory) / "ingest.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ingest"], cwd=tree(), env=kept | given, stdout=log, stderr=subprocess.STDOUT
            )
        running = Collector(process, port, log_path)
        try:
            running.await_ready()
            yield running
        finally:
            running.stop()
