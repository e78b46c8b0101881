"""The OpenAPI document and the running collector say the same.

schemathesis makes requests up, OPENAPI_EXAMPLES for each operation that takes a body; with `make soak` valid ones only,
too (4250 makes 20,000 in all), and about 3,000 more that cover the edges of the schemas one by one. ``make test`` takes
the same ones each time, ``make soak`` others.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ingest.errors import ErrorCode
from ingest.http.openapi import describe
from ingest.service import body_limits, build, event_limits
from ingest.settings import Settings
from schemas.event import read_catalogue
from tests.conftest import IS_SOAK, SOAK_ONLY
from tests.support.collector import Collector, collector
from tests.support.kafka import Broker

_EXAMPLES: Final = os.environ.get("OPENAPI_EXAMPLES", "10")
_PHASES: Final = "examples,coverage,fuzzing" if IS_SOAK else "examples,fuzzing"
_CHOICE: Final = () if IS_SOAK else ("--generation-deterministic",)
_ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def running(embedded_broker: Broker) -> Iterator[Collector]:
    """A collector without a rate limit."""
    embedded_broker.create_topic("openapi", 4)
    embedded_broker.create_topic("openapi.dead")
    with collector(
        embedded_broker.bootstrap_servers,
        topic="openapi",
        dead_letter_topic="openapi.dead",
        rate_limit_requests=0,
        log_refusals=False,
    ) as it:
        yield it


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("mode", "phases"),
    [pytest.param("all", _PHASES, id="any"), pytest.param("positive", "fuzzing", id="valid", marks=SOAK_ONLY)],
)
def test_the_collector_keeps_to_its_document(running: Collector, tmp_path: Path, mode: str, phases: str) -> None:
    """No generated request is answered 500, and no answer differs from what the document says of it."""
    before = running.figures()
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_ROOT / "tests/support/schemathesis.toml")),
        *("run", f"{running.url}/openapi.json", "--max-examples", _EXAMPLES, "--mode", mode, "--phases", phases),
        *("--workers", "2", "--no-color"),
        *_CHOICE,
    ]
    environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(_ROOT)}

    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) == int(passed[2]) >= int(_EXAMPLES)
    _assert_the_books_tell_of_it(before, running.figures())


def _assert_the_books_tell_of_it(before: dict[str, float], after: dict[str, float]) -> None:
    """No event of any generated request is lost or doubled on its way to the broker."""

    def events(outcome: str) -> float:
        name = f'headrace_ingest_events_total{{outcome="{outcome}"}}'
        return after[name] - before[name]

    assert not any('status="500"' in name for name in after)
    assert events("received") == events("accepted") + events("refused") + events("limited") + events("shed")
    assert events("accepted") == events("delivered") + events("spooled") > 0


def test_the_document_knows_every_route(embedded_broker: Broker, tmp_path: Path) -> None:
    """A route that is added is described; the files of a page, or of one version, are not."""
    settings = Settings(bootstrap_servers=embedded_broker.bootstrap_servers, schema_cache_dir=str(tmp_path))
    with build(settings) as service:
        routes = {rule.rule for rule in service.app.url_map.iter_rules()} - {
            "/docs/<name>",
            "/headrace/<version>/<name>",
        }

    assert set(describe(read_catalogue(), event_limits(settings), body_limits(settings))["paths"]) == routes


def test_every_link_of_the_root_is_a_route(running: Collector) -> None:
    """And the document names it."""
    links = running.ask("GET", "/").json["links"]

    assert set(links.values()) <= set(running.ask("GET", "/openapi.json").json["paths"])


def test_the_document_knows_every_status_that_a_refusal_can_have(running: Collector) -> None:
    """A new reason to refuse needs no new line in the document, a new status does."""
    paths = running.ask("GET", "/openapi.json").json["paths"]

    described = {int(status) for status in paths["/collect/event"]["post"]["responses"]}
    assert {slug.status for slug in ErrorCode} <= described
