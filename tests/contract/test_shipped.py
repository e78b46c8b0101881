"""The wheel: the request path is compiled in it, and the tests start the ingress from there."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

from tests.support.collector import collector
from tests.support.shipped import PACKED, ROOT, RULES, TREE, digest, tree

_SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))
_NOBODY: Final = "127.0.0.1:1"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of all that a wheel is built of, with what builds it."""
    made = tmp_path / "copy"
    for name in (*PACKED, *RULES, "README.md", "LICENSE", "deploy/ship.sh", "tests/__init__.py", "tests/support"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, made / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, made / name)
    (made / ".venv").symlink_to(ROOT / ".venv")
    return made


def test_the_tests_start_what_is_shipped() -> None:
    """Else they would say nothing of it: `make test` builds the wheel when a source has changed."""
    assert tree() == TREE, "a source has changed since the wheel was built: make test builds it"


@pytest.mark.parametrize("module", ["http/handler", "server/connection", "publishing/publisher", "counters"])
def test_the_request_path_is_compiled(module: str) -> None:
    """In the wheel, where its source lies beside it; not in the sources' tree, where it would hide edits."""
    assert [(TREE / f"ingest/{module}{suffix}").exists() for suffix in (_SUFFIX, ".py")] == [True, True]
    assert not (ROOT / f"ingest/{module}{_SUFFIX}").exists()


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
    assert list(ROOT.glob(f"ingest/events/*{_SUFFIX}")), "building a wheel removed modules from the sources' tree"
    subprocess.run([sys.executable, "-c", "import ingest.service"], cwd=made, check=True)


def test_a_source_that_mypyc_rejects_fails_the_build(copy: Path) -> None:
    """Else its wheel would be Python without anybody's knowledge."""
    source = copy / "ingest/http/inflight.py"
    source.write_text(source.read_text() + "\n_WRONG: Final[str] = 1\n")
    # Without a compiler mypyc looks at the sources all the same, and Cython's modules cost no time.
    done = subprocess.run(["bash", "deploy/ship.sh", "made"], cwd=copy, env=os.environ | {"CC": "false"}, check=False)

    assert done.returncode == 1
    assert not (copy / "made").exists()
    assert "inflight.py" in (copy / "made.log").read_text()


@pytest.mark.parametrize("path", ["ingest/counters.py", "clients/browser/headrace.js", "deploy/build_hook.py"])
def test_an_edit_makes_another_wheel(copy: Path, path: str) -> None:
    """Whatever the file's time says."""
    before, file = digest(copy), copy / path
    times = file.stat()
    file.write_text(file.read_text() + "\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert digest(copy) != before


def test_a_moved_file_makes_another_wheel(copy: Path) -> None:
    """The old wheel still has the module that is gone. What Python and compilers put there does not count."""
    before = digest(copy)
    (copy / "ingest/made.so").touch()
    (copy / "ingest/__pycache__").mkdir()
    (copy / "ingest/__pycache__/made.pyc").touch()
    assert digest(copy) == before

    counters = copy / "ingest/counters.py"
    counters.rename(counters.with_name("counts.py"))
    assert digest(copy) != before
