"""Where the worker processes count: files of one directory, which neither dead workers nor dead masters fill.

prometheus-client gives each process files of its own and adds up all that there are, those of dead ones too, or their
counts would be lost. Here a process is known by a number instead of its process id: the worker that replaces a dead one
gets its number and goes on counting in its files, so there are never more than workers at once.

The directory lies in memory. A master that was killed leaves it behind; the next one removes it.
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
    """A fresh directory, so that nothing of an earlier run is added in; `path` is where."""

    def __init__(self, parent: str) -> None:
        """Make it, and remove those below `parent` whose processes have all ended."""
        for path in Path(parent).glob(f"{_PREFIX}*"):
            _remove_if_left(path)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # Locked before it has its name, so that nobody finds it unlocked. Workers inherit the lock.
        draft = self.path / "draft"
        self._lock = draft.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_if_left(path: Path) -> None:
    """Remove a directory whose lock nobody holds; one without a lock is being made, or none of ours."""
    with suppress(OSError):  # another user's, or another master was quicker
        lock = os.open(path / _LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        finally:
            os.close(lock)


def free_number(accepted_body: Iterable[int]) -> int:
    """Return the lowest number from 1 on that no living worker has."""
    known = set(accepted_body)
    return next(number for number in count(1) if number not in known)
