"""The directory of the spool: which process owns which file, the room left, and the files set aside.

    <nanoseconds>-<pid>.db          a process's file; names sort by creation time (SQLite adds -wal and -shm)
    <nanoseconds>-<pid>.lock        locked (flock) while that process lives; once it is free, the file may be adopted
    <nanoseconds>-<pid>.write-lock  locked (flock) while a process writes to the file
    drainer.lock                    locked by the process that drains the directory; holds its pid
    <...>.db.corrupt                a file that SQLite can't read, set aside; it is never deleted

flock's locks end with their process, even on a kill. They and SQLite's WAL need a local disk: not NFS.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.publishing.ports import SpoolError
from ingest.spool.file import SpoolFile, write_lock_of
from ingest.spool.locks import Lock, is_locked, try_lock

log = logging.getLogger(__name__)

_CORRUPT: Final = ".corrupt"
_DRAINER: Final = "drainer.lock"


@dataclass(frozen=True, slots=True)
class SpoolBounds:
    """How large the spool may grow, and how much of the disk it leaves free."""

    size_bytes_max: int
    free_bytes_min: int


class SpoolDirectory:
    """Names, locks and room. It has no state, so processes and threads may each have one."""

    def __init__(self, path: Path, bounds: SpoolBounds) -> None:
        self.path = path
        self._bounds = bounds

    def make(self) -> None:
        """Create the directory if its parent exists. Only at the start: later a missing directory may be a lost mount.

        Raises:
            SpoolError: the directory can't be created.
        """
        with translated(self.path):
            self.path.mkdir(mode=0o700, exist_ok=True)

    def new_file(self) -> tuple[SpoolFile, Lock]:
        """Create a file that belongs to this process while the lock is held.

        Raises:
            SpoolError: the directory is missing, or the file can't be created.
        """
        with translated(self.path):
            path = self.path / f"{time.time_ns():020d}-{os.getpid()}.db"
            lock = try_lock(lock_of(path))
            if lock is None:
                raise SpoolError("spool_failed", f"{path} belongs to another process")
            try:
                return SpoolFile(path), lock
            except BaseException:
                lock_of(path).unlink(missing_ok=True)
                lock.release()
                raise

    def paths(self) -> list[Path]:
        """Return the database files, oldest first; none when the directory is missing."""
        return sorted(self.path.glob("*.db"))

    def set_aside_paths(self) -> list[Path]:
        """Return the files that were set aside."""
        return sorted(self.path.glob(f"*.db{_CORRUPT}"))

    def adopt(self, path: Path) -> Lock | None:
        """Lock a file whose owner is dead; None while the owner lives."""
        with translated(path):
            return try_lock(lock_of(path))

    def remove(self, path: Path) -> None:
        """Delete a closed, empty file that this process has locked."""
        with translated(path):
            for name in (path, _beside(path, "-wal"), _beside(path, "-shm"), write_lock_of(path), lock_of(path)):
                name.unlink(missing_ok=True)

    def set_aside(self, path: Path) -> Path:
        """Rename a file that can't be read, with its log: nothing writes to it, and an operator can inspect it."""
        aside = _beside(path, _CORRUPT)
        with translated(path):
            for end in ("-wal", "-shm"):
                if _beside(path, end).exists():
                    _beside(path, end).rename(_beside(aside, end))
            path.rename(aside)
            write_lock_of(path).unlink(missing_ok=True)
            lock_of(path).unlink(missing_ok=True)
        return aside

    def lock_for_draining(self) -> Lock | None:
        """Become the drainer of this directory; None while another process is."""
        with translated(self.path):
            lock = try_lock(self.path / _DRAINER, f"{os.getpid()}\n")
            if lock is not None:
                self._sweep()
            return lock

    def _sweep(self) -> None:
        """Delete the write locks of files that are gone. A new file is made before its write lock is."""
        for lock in self.path.glob("*.write-lock"):
            if not lock.with_suffix(".db").exists():
                lock.unlink(missing_ok=True)

    def drainer_pid(self) -> int | None:
        """Return the drainer's process id, or None."""
        path = self.path / _DRAINER
        return int(path.read_text() or 0) if is_locked(path) else None

    def check_room(self, more_bytes: int, own: SpoolFile | None, others_bytes: int) -> None:
        """Return if this many more bytes fit.

        Raises:
            SpoolError: spool_full, or spool_failed when the sizes can't be read.
        """
        with translated(self.path):
            free = shutil.disk_usage(self.path).free
        if free - more_bytes < self._bounds.free_bytes_min:
            raise SpoolError(
                "spool_full", f"{self.path} has {free} bytes free, {self._bounds.free_bytes_min} must stay free"
            )
        used = others_bytes + (own.used_bytes() if own else 0)
        if used + more_bytes > self._bounds.size_bytes_max:
            raise SpoolError("spool_full", f"{self.path} holds {used} bytes of {self._bounds.size_bytes_max}")

    def size_bytes(self, besides: Path | None = None) -> int:
        """Return the size on disk of all files of the spool, including those set aside, but without `besides`."""
        own = () if besides is None else (besides.name, f"{besides.name}-wal", f"{besides.name}-shm")
        with translated(self.path):
            return sum(_size_bytes(entry) for entry in os.scandir(self.path) if entry.name not in own)


def lock_of(path: Path) -> Path:
    """Return the lock file of a database file."""
    return path.with_suffix(".lock")


def _size_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # a drained file may be deleted at any time
        return 0


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate OSError to SpoolError."""
    try:
        yield
    except OSError as error:
        raise SpoolError("spool_failed", f"{path}: {error.strerror or error}") from error
