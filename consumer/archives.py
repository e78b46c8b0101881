"""The commands archive and restore of `python -m consumer`: days of the tables as Parquet files."""

import argparse
import sys
from argparse import Namespace
from pathlib import Path
from typing import Final

from consumer.arguments import day
from consumer.commands import PATIENCE_S, say, show
from consumer.errors import Misconfigured
from consumer.operations.archive import TIME_OF, Archive
from consumer.parts import connect_to_shard
from consumer.settings import Settings

ARCHIVE: Final = """
Writes a day (UTC) of `events` and `dead_letters` as Parquet: every row and every stored column, as
received. Any program that knows Parquet reads the files; `restore` brings them back into the tables,
also when Kafka has long deleted the records.

Archive a day when nothing of it can come any more, for example after a week: events that waited in
a spool keep the day on which they were received.

  python -m consumer archive --day 2026-01-31 --to /backup/headrace
"""
RESTORE: Final = """
Brings the rows of archive files back. Rows that are in the table already are left alone, and so are
rows that were erased; views do not see them, so nothing is counted twice. The server holds a whole
file in memory meanwhile.

  python -m consumer restore /backup/headrace/events-2026-01-31.parquet
"""


def run_archive(settings: Settings, arguments: Namespace) -> int:
    """Write a day's files."""
    connection = connect_to_shard(settings).patient(PATIENCE_S)
    made = [Archive(connection, table).write(arguments.day, Path(arguments.to)) for table in TIME_OF]
    told = [{"file": str(one.path), "rows": one.rows, "bytes": one.size_bytes} for one in made]
    show(told, as_json=arguments.json)
    return 0


def run_restore(settings: Settings, arguments: Namespace) -> int:
    """Bring files back."""
    connection = connect_to_shard(settings).patient(PATIENCE_S)
    tables = [_table_of(Path(name), arguments.table) for name in arguments.file]
    for name, table in zip(arguments.file, tables, strict=True):
        found = Archive(connection, table).read(Path(name))
        show([{"file": name, "table": table, "rows": found.rows, "restored": found.new}], as_json=arguments.json)
    say("run `python -m consumer erase --again --go` if people were erased since", sys.stderr)
    return 0


def _table_of(path: Path, named: str) -> str:
    """Return the table that a file's name begins with, or the one that was named.

    Raises:
        Misconfigured: the name tells none.
    """
    found = named or next((table for table in TIME_OF if path.name.startswith(f"{table}-")), "")
    if not found:
        raise Misconfigured(f"{path}: of which table? give --table")
    return found


def add_archives(archive: argparse.ArgumentParser, restore: argparse.ArgumentParser) -> None:
    """Add the options of both commands."""
    archive.add_argument("--day", type=day, required=True, help="the day, UTC, such as 2026-01-31")
    archive.add_argument("--to", default=".", metavar="DIRECTORY", help="where to write (default: here)")
    restore.add_argument("file", nargs="+", metavar="FILE", help="files that archive wrote")
    restore.add_argument("--table", choices=TIME_OF, default="", help="of which they are; default: by their names")
