"""Tests of where `make test` keeps its files."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.in_memory import has_room, new_directory


def test_what_an_ended_session_has_left_is_removed(tmp_path: Path) -> None:
    """Its process is gone; the directory of one that runs stays, and so does what is not ours."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = f"headrace-tests-{ended.pid}-abc", f"headrace-tests-{os.getpid()}-abc", "tests-1-a"
    left, running, strange = (tmp_path / name for name in names)
    for directory in (left, running, strange):
        (directory / "files").mkdir(parents=True)

    made = new_directory(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted((running, strange, made))


def test_there_is_no_room_where_there_is_no_memory(tmp_path: Path) -> None:
    """The files are on the disk then."""
    assert not has_room(tmp_path / "none")
