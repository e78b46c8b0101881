"""A Prometheus of Debian that scrapes what a test names, on its own port and directory."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port

_START_S: Final = 60.0


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression yields now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        """Tell whether it serves."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def scraping(jobs: Mapping[str, Sequence[str]], rules: Path, directory: Path) -> Iterator[Prometheus]:
    """Scrape each job's targets (host:port) every second, with these rules, until the block is left."""
    port = free_port()
    configs = [{"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()]
    times = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = directory / "prometheus.yml"
    config.write_text(json.dumps({"global": times, "rule_files": [str(rules)], "scrape_configs": configs}), "utf-8")
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    running = Prometheus(port)
    deadline_s = time.monotonic() + _START_S
    try:
        while not running.is_ready():
            assert process.poll() is None, (directory / "prometheus.log").read_text()[-2000:]
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(_START_S)
