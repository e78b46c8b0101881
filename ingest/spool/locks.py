"""Locks between processes: flock on a file. They end with their process, even on a kill, and need a local disk."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

_PAUSE_S: Final = 0.001
PAUSE_S_MAX: Final = 0.02
"""The longest pause between two tries of a waiting process."""


class Lock:
    """A held lock; it ends with `release` or with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock; call it once."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing alone does not, while a child process has it too
        os.close(self._descriptor)


class WriteLock:
    """A lock that is taken and released again and again; one thread at a time uses it.

    Its file stays open: taking it needs no free descriptor, and makes no file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            OSError: the file can't be opened.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock once it is free; False after the time-out. Who waits longest is not first."""
        until_s, pause_s = time.monotonic() + timeout_s, _PAUSE_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    return False
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
            else:
                return True

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which releases the lock."""
        os.close(self._descriptor)


def try_lock(path: Path, note: str = "") -> Lock | None:
    """Take a lock and write a note into its file, or return None when it is held.

    Raises:
        OSError: the file can't be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if note:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def is_locked(path: Path) -> bool:
    """Tell whether a lock is held."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, so that two processes that check don't mistake each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
