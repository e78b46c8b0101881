"""The recipes of docs/CLIENTS.md, as they stand there: each event is in the topic once, after two failures."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.codec import FRAME_BYTES, decode, read_schema
from tests.conftest import SOAK_ONLY
from tests.support.collector import collector
from tests.support.kafka import Broker
from tests.support.kafka_clients import read_all
from tests.support.storm import Storm, Weather

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/CLIENTS.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8080"
FIRST = (Weather.OVERLOADED, Weather.OFFLINE)


def recipe(title: str) -> str:
    """Return the first block of code below a title."""
    block = re.search(rf"^## {title}\n.*?^```\w+\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert ADDRESS in block[1]
    return block[1]


def run_curl(code: str, _: Path) -> list[str]:
    """Return the command."""
    return ["sh", "-c", code]


def run_python(code: str, directory: Path) -> list[str]:
    """Return the command."""
    (directory / "recipe.py").write_text(code, "utf-8")
    return [sys.executable, "recipe.py"]


def run_node(code: str, directory: Path) -> list[str]:
    """Return the command."""
    assert shutil.which("node"), "node is not on the PATH"
    (directory / "recipe.mjs").write_text(code, "utf-8")
    return ["node", "recipe.mjs"]


def run_go(code: str, directory: Path) -> list[str]:
    """Return the command."""
    assert shutil.which("go"), "go is not on the PATH"
    (directory / "recipe.go").write_text(code, "utf-8")
    return ["go", "run", "recipe.go"]


@pytest.fixture
def topic(embedded_broker: Broker, new_topic: Callable[..., str]) -> Iterator[tuple[Storm, str]]:
    """A front that refuses the first two requests, and the topic behind it."""
    name = new_topic()
    with (
        collector(embedded_broker.bootstrap_servers, topic=name, dead_letter_topic=new_topic()) as running,
        Storm(running.port, FIRST) as storm,
    ):
        yield storm, name


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("title", "command"),
    [
        ("curl", run_curl),
        ("Python", run_python),
        pytest.param("Node", run_node, marks=SOAK_ONLY),
        pytest.param("Go", run_go, marks=SOAK_ONLY),
    ],
)
def test_a_recipe_delivers_its_event(
    title: str,
    command: Callable[[str, Path], list[str]],
    topic: tuple[Storm, str],
    embedded_broker: Broker,
    tmp_path: Path,
) -> None:
    """Through a 503 and a cut connection, with the same bytes each time."""
    storm, name = topic
    environ = os.environ | {"PYTHONPATH": str(ROOT / "clients/python")}

    ended = subprocess.run(
        command(recipe(title).replace(ADDRESS, storm.url), tmp_path),
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert [weather for _, weather, _ in storm.seen] == [*FIRST, Weather.FAIR]
    assert len({body for _, _, body in storm.seen}) == 1
    schema = read_schema("event")
    (event,) = [decode(value[FRAME_BYTES:], schema) for value in read_all(embedded_broker, name, 1)]
    assert (event["eventType"], event["clientId"], event["userId"]) == ("PURCHASE", "shop", "u1")
