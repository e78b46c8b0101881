"""One database file of the spool: records in the order in which they were accepted, each fsynced before it counts.

SQLite in WAL mode with synchronous=FULL: a commit returns after the log is on the device
(https://www.sqlite.org/pragma.html#pragma_synchronous). The only module that knows SQLite.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ingest.publishing.ports import Record, SpoolError

_VERSION: Final = 1
_BUSY_S: Final = 2.0  # writer and drainer hold the file for one fsync each
_VACUUM_PAGES: Final = 2000
# auto_vacuum stands in the file's first page, so it comes before the tables: an emptied file gives its pages back.
_CREATE: Final = f"""
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    BEGIN;
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, so that what was sent is known by it
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
"""Slugs of a SpoolError after which the file is as well as before."""
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
    """A record as it lies in a file; `is_whole` is False when its checksum says that it is not what was written."""

    seq: int
    record: Record
    accepted_at_ms: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """What a file holds. `events` are counted by the ends of their numbers: exact unless some in the middle went."""

    events: int
    size_bytes: int
    oldest_at_ms: int | None
    parked: int


class SpoolFile:
    """A connection of its own to one database file, used by one thread at a time.

    Every method raises SpoolError for what the disk or the file does.
    """

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        """Open the file, or make it and fsync its directory."""
        self.path = path
        address = f"{path.absolute().as_uri()}?mode=rw"
        with _translated(path):
            is_new = not must_exist and _touch(path)
            self._connection = sqlite3.connect(
                address, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True
            )
            try:
                self._prepare(is_new=is_new)
                self._inode = _inode(path)
            except BaseException:
                self._connection.close()
                raise
            if is_new:
                _sync_directory(path.parent)

    def _prepare(self, *, is_new: bool) -> None:
        ask = self._connection.execute
        if is_new or self._pragma("user_version") == 0:  # 0: made by a process that died on the way
            self._connection.executescript(_CREATE)
        mode, version = ask("PRAGMA journal_mode").fetchone()[0], self._pragma("user_version")
        if mode != "wal" or version != _VERSION:
            raise SpoolError("spool_failed", f"{self.path} has journal mode {mode} and version {version}")
        ask("PRAGMA synchronous = FULL")

    def append(self, records: Iterable[Record], at_ms: int) -> None:
        """Write records in one transaction; all are on the device when it returns, none when it raises."""
        rows = [_row(record, at_ms) for record in records]
        with _translated(self.path), self._transaction() as connection:
            connection.executemany(_INSERT, rows)
        if not self.is_in_place():
            raise SpoolError("spool_failed", f"{self.path} was deleted or replaced")

    def first(self, records_max: int, bytes_max: int, after_seq: int = 0) -> list[Spooled]:
        """Return the oldest records, in order, beyond a number; at least one, if there is one, whatever its size."""
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

    def delete(self, seqs: Sequence[int]) -> None:
        """Forget records; a file that is empty afterwards gives its space back."""
        with _translated(self.path):
            with self._transaction() as connection:
                connection.executemany("DELETE FROM records WHERE seq = ?", [(seq,) for seq in seqs])
            while self._is_empty() and self._pragma("freelist_count"):
                # Some at a time, so that the writer gets its turn; a script, for execute() would stop after one page.
                self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def park(self, seq: int, reason: str) -> None:
        """Put a record that the broker does not take out of the way of the others; it stays in the file."""
        with _translated(self.path), self._transaction() as connection:
            connection.execute(
                f"INSERT INTO parked SELECT {_COLUMNS}, ? FROM records WHERE seq = ?",  # noqa: S608  (constants)
                (reason, seq),
            )
            connection.execute("DELETE FROM records WHERE seq = ?", (seq,))

    def unpark(self) -> None:
        """Put all parked records behind the others, to be sent again."""
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
        """Return the size of the pages in use: what was deleted does not count."""
        with _translated(self.path):
            return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _is_empty(self) -> bool:
        return self._connection.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None

    def is_in_place(self) -> bool:
        """See that the path still leads to this file: writing to a deleted one succeeds, and nobody finds it again."""
        try:
            return _inode(self.path) == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Close the connection; the last one of a file folds its log into it."""
        with _translated(self.path):
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into SpoolError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        raise SpoolError(_SLUGS.get(code, "spool_failed"), f"{path}: {error}") from error
    except OSError as error:
        raise SpoolError("spool_failed", f"{path}: {error.strerror}") from error


def _touch(path: Path) -> bool:
    """Make an empty file that only its owner may read, as SQLite's other files of it will be; False: it is there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _sync_directory(path: Path) -> None:
    """Make the name of a new file last: fsync of a file does not cover its directory."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
