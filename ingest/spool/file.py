"""One database file of the spool: records in the order of acceptance, each durable before `append` returns.

SQLite in WAL mode with synchronous=FULL: a commit returns after the log is on the device
(https://www.sqlite.org/pragma.html#pragma_synchronous). No other module imports SQLite.

A file's owner and the drainer have a connection each, and a lock lets one of them write: before version 3.51.3 SQLite
may lose commits if one connection begins its log anew while another one starts a checkpoint
(https://www.sqlite.org/wal.html#walresetbug).
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ingest.publishing.ports import Record, SpoolError
from ingest.spool.locks import PAUSE_S_MAX, WriteLock

_VERSION: Final = 1
_BUSY_S: Final = 2.0  # the lock is held for one commit, or one step of returning pages
_VACUUM_PAGES: Final = 2000
# auto_vacuum must be set before the tables exist: then an emptied file returns its pages to the file system.
_CREATE: Final = f"""
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    BEGIN;
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused, so it identifies what was sent
        dead INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL,
        accepted_at_ms INTEGER NOT NULL, crc INTEGER NOT NULL
    );
    CREATE TABLE parked (
        seq INTEGER PRIMARY KEY, dead INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL,
        accepted_at_ms INTEGER NOT NULL, crc INTEGER NOT NULL, reason TEXT NOT NULL
    );
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""
_INSERT: Final = "INSERT INTO records (dead, key, value, headers, accepted_at_ms, crc) VALUES (?, ?, ?, ?, ?, ?)"
_COLUMNS: Final = "seq, dead, key, value, headers, accepted_at_ms, crc"
PASSING: Final = frozenset({"spool_full", "spool_slow"})
"""Codes of a SpoolError after which the file is still good."""
_SLUGS: Final = {
    sqlite3.SQLITE_FULL: "spool_full",
    sqlite3.SQLITE_CORRUPT: "spool_corrupt",
    sqlite3.SQLITE_NOTADB: "spool_corrupt",
    sqlite3.SQLITE_BUSY: "spool_slow",
}
_encode_headers: Final = msgspec.msgpack.Encoder().encode
_decode_headers: Final = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


@dataclass(frozen=True, slots=True)
class Spooled:
    """A record in a file; `is_whole` is False when its checksum is wrong."""

    seq: int
    record: Record
    accepted_at_ms: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """What a file holds. `events` is the last number minus the first: exact unless some in between were deleted."""

    events: int
    size_bytes: int
    oldest_at_ms: int | None
    parked: int


class SpoolFile:
    """A connection to one database file, used by one thread at a time.

    Every method raises SpoolError for faults of the disk or the file.
    """

    def __init__(self, path: Path, *, must_exist: bool = False, is_reader: bool = False) -> None:
        """Open the file, or create it and fsync its directory.

        A reader may lack the right to write; it opens the file of the lock only if it must finish a new file.
        """
        self.path = path
        self._lock: WriteLock | None = None
        address = f"{path.absolute().as_uri()}?mode=rw"
        with _translated(path):
            is_new = not must_exist and _touch(path)
            self._connection = sqlite3.connect(
                address, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True
            )
            try:
                if not is_reader:
                    self._lock = WriteLock(write_lock_of(path))
                self._prepare(is_new=is_new)
                self._inode = _inode(path)
            except BaseException:
                self._close()
                raise
            if is_new:
                _sync_directory(path.parent)

    def _prepare(self, *, is_new: bool) -> None:
        ask = self._connection.execute
        if is_new or self._pragma("user_version") == 0:  # 0: it is being created, or who did that died on the way
            with self._locked():
                if self._pragma("user_version") == 0:
                    self._connection.executescript(_CREATE)
        mode, version = ask("PRAGMA journal_mode").fetchone()[0], self._pragma("user_version")
        if mode != "wal" or version != _VERSION:
            raise SpoolError("spool_failed", f"{self.path} has journal mode {mode} and version {version}")
        ask("PRAGMA synchronous = FULL")

    def append(self, records: Iterable[Record], at_ms: int) -> None:
        """Write records in one transaction; all are durable when it returns, none when it raises."""
        rows = [_row(record, at_ms) for record in records]
        with _translated(self.path), self._transaction() as connection:
            connection.executemany(_INSERT, rows)
        if not self.is_in_place():
            raise SpoolError("spool_failed", f"{self.path} was deleted or replaced")

    def first(self, records_max: int, bytes_max: int, after_seq: int = 0) -> list[Spooled]:
        """Return the oldest records after a number, in order; at least one if there is any, whatever its size."""
        query = f"SELECT {_COLUMNS} FROM records WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608  (constants)
        found: list[Spooled] = []
        with _translated(self.path):
            cursor = self._connection.execute(query, (after_seq, records_max))
            size = 0
            for row in cursor:
                size += len(row[3])
                if found and size > bytes_max:
                    break
                found.append(_spooled(row))
            cursor.close()
        return found

    def parked(self) -> Iterator[tuple[Spooled, str]]:
        """Yield the parked records, oldest first, each with the reason."""
        with _translated(self.path):
            for row in self._connection.execute(f"SELECT {_COLUMNS}, reason FROM parked ORDER BY seq"):  # noqa: S608  (constants)
                yield _spooled(row[:-1]), row[-1]

    def delete(self, seqs: Sequence[int]) -> None:
        """Delete records; a file that is empty afterwards releases its space."""
        with _translated(self.path):
            with self._transaction() as connection:
                connection.executemany("DELETE FROM records WHERE seq = ?", [(seq,) for seq in seqs])
            while self._is_empty() and self._pragma("freelist_count"):
                # In steps with pauses, so that the writer gets the lock; executescript: execute() stops after one page.
                with self._locked():
                    self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
                time.sleep(2 * PAUSE_S_MAX)

    def park(self, seq: int, reason: str) -> None:
        """Move a record that the broker refuses out of the queue; it stays in the file."""
        with _translated(self.path), self._transaction() as connection:
            connection.execute(
                f"INSERT INTO parked SELECT {_COLUMNS}, ? FROM records WHERE seq = ?",  # noqa: S608  (constants)
                (reason, seq),
            )
            connection.execute("DELETE FROM records WHERE seq = ?", (seq,))

    def unpark(self) -> None:
        """Put all parked records at the end of the queue, to be sent again."""
        columns = _COLUMNS.removeprefix("seq, ")
        with _translated(self.path), self._transaction() as connection:
            connection.execute(f"INSERT INTO records ({columns}) SELECT {columns} FROM parked ORDER BY seq")  # noqa: S608  (constants)
            connection.execute("DELETE FROM parked")

    def extent(self) -> Extent:
        """Return what the file holds; cheap, whatever its size."""
        with _translated(self.path):
            ask = self._connection.execute
            low, high = ask("SELECT (SELECT min(seq) FROM records), (SELECT max(seq) FROM records)").fetchone()
            oldest = ask("SELECT accepted_at_ms FROM records ORDER BY seq LIMIT 1").fetchone()
            parked = ask("SELECT count(*) FROM parked").fetchone()[0]
        return Extent(0 if low is None else high - low + 1, self.used_bytes(), oldest and oldest[0], parked)

    def used_bytes(self) -> int:
        """Return the size of the pages in use, without deleted ones."""
        with _translated(self.path):
            return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _is_empty(self) -> bool:
        return self._connection.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None

    def is_in_place(self) -> bool:
        """Tell whether the path still names this file: writes to a deleted file succeed and are lost."""
        try:
            return _inode(self.path) == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Close the connection; closing a file's last one merges its log into it."""
        with _translated(self.path):
            self._close()

    def _close(self) -> None:
        self._connection.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def check_lock(self) -> None:
        """Return once a write could begin.

        Raises:
            SpoolError: spool_slow, as a write would.
        """
        with _translated(self.path), self._locked():
            pass

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._locked():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, so that no other connection commits or checkpoints.

        Raises:
            SpoolError: spool_slow, when another process does not release it.
        """
        if self._lock is None:
            self._lock = WriteLock(write_lock_of(self.path))
        if not self._lock.acquire(_BUSY_S):
            raise SpoolError("spool_slow", f"{self.path} has been written to by others for {_BUSY_S} s")
        try:
            yield
        finally:
            self._lock.release()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Translate the errors of SQLite and the file system to SpoolError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        raise SpoolError(_SLUGS.get(code, "spool_failed"), f"{path}: {error}") from error
    except OSError as error:
        raise SpoolError("spool_failed", f"{path}: {error.strerror}") from error


def _touch(path: Path) -> bool:
    """Create an empty file that only its owner may read; SQLite's other files inherit that. False when it exists."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _sync_directory(path: Path) -> None:
    """Make the name of a new file durable: fsync of a file does not cover its directory."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_lock_of(path: Path) -> Path:
    """Return the file that a process locks while it writes to a database file."""
    return path.with_suffix(".write-lock")


def _row(record: Record, at_ms: int) -> tuple[int, bytes, bytes, bytes, int, int]:
    headers = _encode_headers(record.headers)
    return int(record.dead), record.key, record.value, headers, at_ms, _crc(record.key, record.value, headers)


def _spooled(row: tuple[int, int, bytes, bytes, bytes, int, int]) -> Spooled:
    seq, dead, key, value, headers, at_ms, crc = row
    is_whole = crc == _crc(key, value, headers)
    record = Record(key, value, _decode_headers(headers) if is_whole else (), dead=bool(dead))
    return Spooled(seq, record, at_ms, is_whole)


def _crc(key: bytes, value: bytes, headers: bytes) -> int:
    return zlib.crc32(headers, zlib.crc32(value, zlib.crc32(key)))
