"""The directory of the worker processes' metric files, whose number is bounded.

prometheus-client gives each process its files and adds up all of them; those of dead processes must stay, or their
counts would be lost. Here a process is known by a number instead of its process id: a worker that replaces a dead one
takes over its number and its files. So there are never more files than concurrent workers need.

The directory is in memory. A master that is killed leaves it behind; the next one removes it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

_PREFIX: Final = "headrace-metrics-"
_LOCK: Final = "lock"


class MetricFiles:
    """A new directory for each run, so that no counts of an earlier run are added; `path` is its path."""

    def __init__(self, parent: str) -> None:
        """Create the directory, and remove those below `parent` whose processes have all ended."""
        for path in Path(parent).glob(f"{_PREFIX}*"):
            _remove_if_left(path)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # Locked before it gets its name, so that no other master finds it unlocked. Workers inherit the lock.
        draft = self.path / "draft"
        self._lock = draft.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove the directory and its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_if_left(path: Path) -> None:
    """Remove a directory whose lock is free; one without a lock file is being created, or not ours."""
    with suppress(OSError):  # another user's, or another master was quicker
        lock = os.open(path / _LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        finally:
            os.close(lock)


def free_number(taken: Iterable[int]) -> int:
    """Return the lowest positive number that no living worker has."""
    known = set(taken)
    return next(number for number in count(1) if number not in known)
