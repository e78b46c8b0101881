"""Writes days of a table as Parquet, and reads such files back.

A file has each column that the table stores; what ClickHouse computes is computed again. Rows are read back into a
table beside, whose parts are then attached: views do not see that, so `offsets`, which has counted these rows, counts
them no second time. Rows that are in the table, or that were erased since, are not brought back.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from uuid import uuid4

from consumer.clickhouse.client import Connection
from consumer.clickhouse.plain_copy import definition_of_copy
from consumer.clickhouse.replication import synced
from consumer.clickhouse.streams import pieces, send_file
from consumer.clickhouse.table_check import STORED, quoted
from consumer.errors import Cause, ConsumerError, Misconfigured, Transient
from consumer.operations.people import PLACE

TIME_OF: Final = {"events": "received_at", "dead_letters": "origin_at"}
"""The tables that can be archived, and the time whose day (UTC) a row belongs to."""
_LACKS: Final = {"events": "event_id = defaultValueOfTypeName('UUID')", "dead_letters": "letter_id = ''"}
"""True for rows of a file without the table's most important column: it is of another table."""
_MAGIC: Final = b"PAR1"  # a Parquet file begins and ends so; the end is written last
_FOOTER_BYTES: Final = 8
_COLUMNS: Final = """
SELECT name, default_kind AS kind FROM system.columns
WHERE database = currentDatabase() AND table = {table:String} ORDER BY position
"""
_ROWS: Final = """
FROM {table:Identifier} WHERE {time:Identifier} >= fromUnixTimestamp64Milli({low_ms:Int64}, 'UTC')
    AND {time:Identifier} < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
"""
_COMPRESSION: Final = {"output_format_parquet_compression_method": "zstd"}
# What a refused record holds is bytes: named text, other programs refuse the file at the first that are no UTF-8.
_IS_TEXT: Final = {"events": 1, "dead_letters": 0}
_OF_SHARD: Final = "-shard-{}"
_LISTED: Final = "topic, topic_id, partition, reading, offset"
_BESIDE: Final = f"{{table}}_mend_{sha256(b'restore').hexdigest()[:12]}_{'0' * 12}"
"""The table beside: one name, so of two restores at once only one creates it. `migrate` drops it after an hour."""
_IS_THERE: Final = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = {name:String}"
_KNOWN: Final = f"""
ALTER TABLE {{beside}} DELETE WHERE ({PLACE}) IN (
    SELECT {PLACE} FROM {{rows}} WHERE {{time}} BETWEEN {{low}} AND {{high}}
    UNION ALL SELECT {_LISTED} FROM {{erased}}
)
"""  # noqa: S608  (our own text)


class Archived(NamedTuple):
    """A file that was written."""

    path: Path
    rows: int
    size_bytes: int


class Restored(NamedTuple):
    """What a file brought: its rows, and how many of them are in the table now that were not before."""

    rows: int
    new: int


@dataclass(frozen=True, slots=True)
class Archive:
    """Archives and restores the rows of one table; `table` is one of `TIME_OF`.

    Of a cluster the connection leads to a server of one shard, whose number is in the names of the files.
    """

    connection: Connection
    table: str
    shard: int = 0

    def write(self, day: date, directory: Path) -> Archived:
        """Write a day's rows to a new file `<table>-<day>.parquet`, or `<table>-<day>-shard-<n>.parquet`.

        Raises:
            Misconfigured: the file is there, or can't be written.
            Transient, Fatal: as errors.py says; no file is left.
        """
        path = directory / f"{self.table}-{day.isoformat()}{_OF_SHARD.format(self.shard) if self.shard else ''}.parquet"
        synced(self.connection, self.table)
        low = datetime(day.year, day.month, day.day, tzinfo=UTC)
        bounds = {
            "table": self.table,
            "time": TIME_OF[self.table],
            "low_ms": _ms(low),
            "end_ms": _ms(low + timedelta(1)),
        }
        (found,) = self.connection.query(f"SELECT count() AS n {_ROWS}", bounds)
        columns = ", ".join(quoted(name) for name in self._columns())
        statement = f"SELECT {columns} {_ROWS} FORMAT Parquet"
        settings = _COMPRESSION | {"output_format_parquet_string_as_string": _IS_TEXT[self.table]}
        with _new(path) as file:
            for piece in pieces(self.connection, statement, bounds, settings=settings):
                file.write(piece)
            if not is_whole(file):
                raise Transient("the answer is no whole Parquet file", Cause.UNKNOWN)
        return Archived(path, found["n"], path.stat().st_size)

    def read(self, path: Path) -> Restored:
        """Bring the rows of a file back.

        Raises:
            Misconfigured: it is no whole Parquet file, or not of this table.
            Transient, Fatal: as errors.py says; nothing is attached then. Transient too when another restore runs: of
                two at once each would attach what the other has not yet.
        """
        try:
            with path.open("rb") as file, self._beside() as beside:
                if not is_whole(file):
                    raise Misconfigured(f"{path}: is no whole Parquet file")
                file.seek(0)
                synced(self.connection, self.table, "erased_rows")
                send_file(self.connection, beside, self._columns(), file)
                return self._attach(path, beside)
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}") from error

    def _attach(self, path: Path, beside: str) -> Restored:
        time_column = TIME_OF[self.table]
        counts = f"count() AS n, countIf({_LACKS[self.table]}) AS lacking, min({time_column}) AS low"
        counts = f"{counts}, max({time_column}) AS high"
        (found,) = self.connection.query(f"SELECT {counts} FROM {beside}")  # noqa: S608  (as above)
        if found["n"] and found["lacking"] == found["n"]:
            raise Misconfigured(f"{path}: its rows are not of the table {self.table}")
        low, high = (f"toDateTime64('{found[name]:%Y-%m-%d %H:%M:%S.%f}', 3, 'UTC')" for name in ("low", "high"))
        database, over_all = self.connection.database, self.connection.layout.over_all  # a file may go to another shard
        rows, erased = (f"{database}.{over_all(table)}" for table in (self.table, "erased_rows"))
        values = {"beside": beside, "rows": rows, "erased": erased, "time": time_column, "low": low, "high": high}
        settings = {"mutations_sync": 2, "allow_nondeterministic_mutations": 1}
        self.connection.command(_KNOWN.format(**values), settings=settings)
        (left,) = self.connection.query(f"SELECT count() AS n FROM {beside}")  # noqa: S608  (as above)
        if left["n"]:
            self.connection.command(f"ALTER TABLE {self.table} ATTACH PARTITION ALL FROM {beside}")
        return Restored(found["n"], left["n"])

    def _columns(self) -> list[str]:
        rows = self.connection.query(_COLUMNS, {"table": self.table})
        return [row["name"] for row in rows if row["kind"] in STORED]

    @contextmanager
    def _beside(self) -> Iterator[str]:
        """Yield an empty copy of the table that nobody else has."""
        name = _BESIDE.format(table=self.table)
        try:
            self.connection.command(f"CREATE TABLE {name} {definition_of_copy(self.connection, self.table)}")
        except ConsumerError as error:
            if not self.connection.query(_IS_THERE, {"name": name}):
                raise
            left = f"another restore of {self.table} is running; if it has died, run DROP TABLE {name}"
            raise Transient(left, Cause.BUSY) from error
        try:
            yield name
        finally:
            with suppress(ConsumerError):
                self.connection.command(f"DROP TABLE IF EXISTS {name} SYNC")


def shard_of_file(path: Path) -> int:
    """Return the shard that a file's name says; 0 when it says none."""
    found = re.search(r"-shard-(\d{1,4})\.parquet$", path.name)
    return int(found[1]) if found else 0


def is_whole(file: BinaryIO) -> bool:
    """Tell whether a file begins and ends as Parquet."""
    size = file.seek(0, os.SEEK_END)
    if size < len(_MAGIC) + _FOOTER_BYTES:
        return False
    file.seek(size - len(_MAGIC))
    end = file.read()
    file.seek(0)
    return end == _MAGIC == file.read(len(_MAGIC))


@contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is there under its name only once it is whole and on the disk.

    Raises:
        Misconfigured: a file of the name is there, or it can't be written.
    """
    if path.exists():
        raise Misconfigured(f"{path}: is there already")
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with draft.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
