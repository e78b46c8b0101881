"""An ingress that tests kill and start again: its port, its spool and its log stay."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ingest.commands import listing
from tests.support.ports import free_port
from tests.support.shipped import ROOT, tree

_START_S: Final = 60.0


class Ingress:
    """`python -m ingest` with settings, by their names in ingest/settings.py."""

    def __init__(self, directory: Path, bootstrap_servers: str, **settings: object) -> None:
        """Choose a port; nothing is started yet. `root` is the tree of its code, `prefix` the command before it.

        `address` is where the test asks it.
        """
        self.root = tree()
        self.prefix: tuple[str, ...] = ()
        self.address = "127.0.0.1"
        self.port = free_port()
        self.spool = Path(str(settings.get("spool_dir", directory / "spool")))
        self.log_path = directory / "ingest.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: dict[str, object] = {
            "bootstrap_servers": bootstrap_servers,
            "host": "127.0.0.1",
            "port": self.port,
            "schema_cache_dir": directory / "schemas",
            "spool_dir": self.spool,
            "gunicorn_config": ROOT / "deploy/gunicorn.conf.py",
            "rate_limit_requests": 0,
            "shutdown_grace_s": 0,
            "spool_deadline_s": 20,  # other tests write to the same disk
            "queue_wait_s": 30,  # and use the same processor: a process that stood still is no overload
            **settings,
        }

    def start(self, timeout_s: float = _START_S) -> None:
        """Start it and wait until it answers on /healthz."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "ingest"],
                cwd=self.root,
                env=self.environ(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline_s = time.monotonic() + timeout_s
        while self.status("/healthz") != http.client.OK:
            assert self._process.poll() is None, f"the ingress ended: {self.log_path.read_text()[-2000:]}"
            assert time.monotonic() < deadline_s, f"the ingress did not start: {self.log_path.read_text()[-2000:]}"
            time.sleep(0.05)

    def environ(self) -> dict[str, str]:
        """Return the environment that it runs in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INGEST_", "PROMETHEUS_"))}
        return kept | {f"INGEST_{name.upper()}": str(value) for name, value in self._settings.items()}

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The master, which must have been started."""
        assert self._process is not None
        return self._process

    @property
    def workers(self) -> list[int]:
        """The pids of the workers that live now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()] if children.exists() else []

    def kill_worker(self) -> None:
        """SIGKILL one worker, once there is one."""
        deadline_s = time.monotonic() + _START_S
        while not (workers := self.workers):
            assert time.monotonic() < deadline_s, "no worker was started again"
            time.sleep(0.05)
        os.kill(workers[0], signal.SIGKILL)

    def kill_master(self) -> None:
        """SIGKILL the master, and wait until its workers have noticed and ended."""
        workers = self.workers
        self.process.kill()
        self.process.wait()
        deadline_s = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline_s, "a worker outlives its master"
            time.sleep(0.05)

    def end(self) -> None:
        """SIGKILL everything that is left."""
        workers = self.workers
        self.process.kill()
        self.process.wait()
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.process.send_signal(signal.SIGTERM)

    def await_end(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout_s)

    def status(self, path: str, timeout_s: float = 60.0) -> int:
        """Ask for a path on a new connection; 0 when nobody answers."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def figures(self) -> dict[str, float]:
        """Return the samples of /metrics by name, without the prefix."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name.removeprefix("headrace_ingest_"): float(value) for name, _, value in samples}

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log so far; each line is one JSON object."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def spooled(self) -> int:
        """Return how many events lie in the spool, as `python -m ingest spool list` says."""
        # A file that its owner removes meanwhile is told in words: what it held is drained.
        columns = (line.split() for line in listing(self.spool) if ".db " in line)
        return sum(int(words[2]) + int(words[3]) for words in columns if words[2].isdigit())

    def await_drained(self, timeout_s: float) -> float:
        """Wait until the spool is empty and return how long that took (s)."""
        began_s = time.monotonic()
        while self.spooled():
            assert time.monotonic() - began_s < timeout_s, f"{self.spooled()} events are still in the spool"
            time.sleep(0.1)
        return time.monotonic() - began_s


@contextmanager
def ingress(directory: Path, bootstrap_servers: str, **settings: object) -> Iterator[Ingress]:
    """Run an ingress; whatever is left of it ends with the block."""
    made = Ingress(directory, bootstrap_servers, **settings)
    try:
        made.start()
        yield made
    finally:
        made.end()
