"""Every panel shows something: Debian's Prometheus scrapes the pipeline under load, and each query yields series.

The names in the queries are checked in `make test` (tests/contract/test_dashboards.py); this takes a minute of traffic.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest

from deploy.grafana.panels import BOARDS
from tests.conftest import SOAK_ONLY
from tests.support.ports import free_port
from tests.support.prometheus import Prometheus, scraping
from tests.system.conftest import ROOT, Pipeline, start

pytestmark = [SOAK_ONLY, pytest.mark.timeout(600)]
RULES: Final = ROOT / "deploy/prometheus/headrace.rules.yml"
TRAFFIC_S: Final = 60.0


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Run the pipeline as `make run` does."""
    running = start(tmp_path_factory.mktemp("pipeline") / "headrace")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def prometheus(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrape it, and a canary, while traffic of all kinds comes in."""
    directory, port = tmp_path_factory.mktemp("prometheus"), free_port()
    environ = os.environ | {
        "CONSUMER_CLICKHOUSE_URL": pipeline.addresses["clickhouse"],
        "CONSUMER_CLICKHOUSE_USER": "headrace_worker",
        "CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(pipeline.data_dir / "clickhouse" / "password"),
        "CONSUMER_CANARY_URL": pipeline.addresses["ingest"],
        "CONSUMER_CANARY_EVERY_S": "1",
        "CONSUMER_HTTP_PORT": str(port),
    }
    jobs = {
        "headrace-ingest": [urlsplit(pipeline.addresses["ingest"]).netloc],
        "headrace-consumer": [_worker(pipeline)],
        "headrace-canary": [f"127.0.0.1:{port}"],
    }
    canary = subprocess.Popen([sys.executable, "-m", "consumer", "canary"], cwd=ROOT, env=environ)
    try:
        with scraping(jobs, RULES, directory) as running:
            _send(pipeline)
            yield running
    finally:
        canary.terminate()
        canary.wait(60)


def _worker(pipeline: Pipeline) -> str:
    """Return where the worker's /metrics is: the launcher notes it in a file."""
    (path,) = (pipeline.data_dir / "workers").iterdir()
    return urlsplit(path.read_text().strip()).netloc


def _send(pipeline: Pipeline) -> None:
    """Post good, bad and lenient requests for a minute."""
    until_s = time.monotonic() + TRAFFIC_S
    good: dict[str, object] = {"eventType": "VIEW", "clientId": "web"}
    while time.monotonic() < until_s:
        pipeline.post([good, {"eventType": "PING", "clientId": "app"}])
        for body in (b"{", json.dumps({"messageBody": [{"eventType": "NOTHING"}]}).encode()):
            request = urllib.request.Request(
                f"{pipeline.addresses['ingest']}/collect/event", body, {"Content-Type": "application/json"}
            )
            try:
                urllib.request.urlopen(request, timeout=30).close()
            except urllib.error.HTTPError as refused:
                refused.close()
        time.sleep(0.3)  # below the rate limit of an address


@pytest.mark.parametrize("uid", BOARDS)
def test_every_query_of_a_dashboard_yields_series(prometheus: Prometheus, uid: str) -> None:
    """None is empty for want of a name, a label, or a series that begins at 0. A week ago is five seconds ago here."""
    empty = {
        f"{panel.title}: {legend}"
        for panels in BOARDS[uid].rows.values()
        for panel in panels
        for legend, query in panel.queries.items()
        if not prometheus.series(query.replace("$__rate_interval", "20s").replace("offset 1w", "offset 5s"))
    }

    assert empty == set()


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    """On series of a pipeline that runs, and no alert of the processes or the workers rings there."""
    groups = prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule.get("state") == "firing"} <= {"HeadraceRetrying"}
