"""Locks between processes: flock on a file. They end with their process, even on a kill, and need a local disk."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

_PAUSE_S: Final = 0.001
_PAUSE_S_MAX: Final = 0.02


class Lock:
    """A held lock; it ends with `release` or with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock; call it once."""
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


def await_lock(path: Path, timeout_s: float) -> Lock | None:
    """Take a lock once it is free, or return None after the time-out; who waits longest is not first.

    Raises:
        OSError: the file can't be opened.
    """
    until_s, pause_s = time.monotonic() + timeout_s, _PAUSE_S
    while (lock := try_lock(path)) is None and time.monotonic() < until_s:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)
    return lock


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
