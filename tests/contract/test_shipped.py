"""The wheel: the way of a request is compiled in it, and the tests start the ingress from there."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

from tests.support.collector import collector
from tests.support.shipped import ROOT, TREE, tree

_SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))
_NOBODY: Final = "127.0.0.1:1"


def test_the_tests_start_what_is_shipped() -> None:
    """Else they would say nothing of it: `make test` builds the wheel when a source has changed."""
    assert tree() == TREE, "a source has changed since the wheel was built: make test builds it"


@pytest.mark.parametrize("module", ["http/handler", "server/connection", "publishing/publisher", "counters"])
def test_the_way_of_a_request_is_compiled(module: str) -> None:
    """Beside each compiled module lies its source."""
    assert [(TREE / f"ingest/{module}{suffix}").exists() for suffix in (_SUFFIX, ".py")] == [True, True]


def test_the_ingress_tells_that_it_is_compiled() -> None:
    """In its log; an operator sees from it whether an image's build had a compiler."""
    with collector(_NOBODY) as running:
        messages = {line["message"] for line in running.log_lines()}

    assert {"events are written with compiled code", "requests are handled by compiled code"} <= messages


def test_without_a_compiler_requests_are_handled_in_python(tmp_path: Path) -> None:
    """The wheel is made all the same, and says so."""
    made = tmp_path / "made"
    subprocess.run(["bash", "deploy/ship.sh", str(made)], cwd=ROOT, env=os.environ | {"CC": "false"}, check=True)

    assert made.joinpath("ingest/http/handler.py").exists()
    assert not list(made.rglob(f"*{_SUFFIX}"))
    assert "Python does the same" in Path(f"{made}.log").read_text()
    assert list(ROOT.rglob(f"ingest/events/*{_SUFFIX}")), "a build of a wheel leaves the developer's tree alone"
    subprocess.run([sys.executable, "-c", "import ingest.service"], cwd=made, check=True)
