"""The canary beside the pipeline that `make run` starts: it measures, survives both ends, and is in no product."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import ROOT, Pipeline, free_ports

WAIT_S = 60.0


class Canary:
    """A running `python -m consumer canary`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._port = port

    def figures(self) -> dict[str, float]:
        """Return its metrics by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line.startswith("headrace_canary_"))
        return {name.removeprefix("headrace_canary_"): float(value) for name, _, value in samples}

    def await_figure(self, name: str, least: float) -> dict[str, float]:
        """Wait until a figure is large enough; return all."""
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                figures = self.figures()
            except OSError:  # it is only starting
                figures = {}
            if figures.get(name, 0) >= least:
                return figures
            assert time.monotonic() < deadline_s, (name, figures)
            assert self.process.poll() is None
            time.sleep(0.1)


@pytest.fixture
def canary(pipeline: Pipeline, tmp_path: Path) -> Iterator[Canary]:
    """Start one that sends five events a second."""
    (port,) = free_ports(1)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")} | {
        "CONSUMER_CLICKHOUSE_URL": pipeline.addresses["clickhouse"],
        "CONSUMER_CLICKHOUSE_USER": "headrace_worker",
        "CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(pipeline.data_dir / "clickhouse" / "password"),
        "CONSUMER_CANARY_URL": pipeline.addresses["ingest"],
        "CONSUMER_CANARY_EVERY_S": "0.2",
        "CONSUMER_HTTP_HOST": "127.0.0.1",
        "CONSUMER_HTTP_PORT": str(port),
    }
    with (tmp_path / "canary.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer", "canary"], cwd=ROOT, env=environ, stdout=log, stderr=log
        )
    yield Canary(process, port)
    if process.poll() is None:
        process.terminate()
        process.wait(WAIT_S)


def test_it_measures_what_a_reader_sees_and_no_product_has_it(pipeline: Pipeline, canary: Canary) -> None:
    """Its events become rows; the table has them, and views for analysts leave them out."""
    figures = canary.await_figure('rows_total{outcome="found"}', 5)
    rows = pipeline.select("SELECT count() AS n FROM headrace.events WHERE client_id = 'headrace-canary'")
    shown = {
        view: pipeline.select(f"SELECT count() AS n FROM headrace.{view} WHERE client_id = 'headrace-canary'")
        for view in ("events_ready", "events_per_minute", "data_quality", "page_views")
    }
    canary.process.send_signal(signal.SIGTERM)

    assert int(str(rows[0]["n"])) >= 5
    assert figures["freshness_seconds_count"] >= 5
    assert figures['events_total{outcome="accepted"}'] >= 5
    assert figures['rows_total{outcome="late"}'] == 0
    assert {view: int(str(found[0]["n"])) for view, found in shown.items()} == dict.fromkeys(shown, 0)
    assert canary.process.wait(WAIT_S) == 0


def test_a_worker_that_stands_still_shows_in_the_age_and_comes_back(pipeline: Pipeline, canary: Canary) -> None:
    """Accepted events wait: the oldest one's age grows. When the worker goes on, they are found, none is lost."""
    canary.await_figure('rows_total{outcome="found"}', 1)
    workers = pipeline.running("consumer")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        waiting = canary.await_figure("oldest_waiting_seconds", 1)
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    accepted = waiting['events_total{outcome="accepted"}']
    after = canary.await_figure('rows_total{outcome="found"}', accepted)

    assert after['rows_total{outcome="late"}'] == 0


def test_a_collector_that_is_away_is_a_figure_and_not_its_end(tmp_path: Path) -> None:
    """Nobody listens where the collector and ClickHouse should be: it counts, and says so once."""
    port, nobody = free_ports(2)
    environ = os.environ | {
        "CONSUMER_CLICKHOUSE_URL": f"http://127.0.0.1:{nobody}",
        "CONSUMER_CANARY_URL": f"http://127.0.0.1:{nobody}",
        "CONSUMER_CANARY_EVERY_S": "0.1",
        "CONSUMER_HTTP_PORT": str(port),
    }
    log_path = tmp_path / "canary.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer", "canary"], cwd=ROOT, env=environ, stdout=log, stderr=log
        )
    running = Canary(process, port)
    try:
        running.await_figure('events_total{outcome="unanswered"}', 3)
    finally:
        process.terminate()

    assert process.wait(WAIT_S) == 0
    said = log_path.read_text()
    assert len(re.findall("did not accept the canary's event", said)) == 1
