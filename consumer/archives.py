"""The commands archive and restore of `python -m consumer`: days of the tables as Parquet files."""

import argparse
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from consumer.arguments import day
from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import FIRST_SHARD
from consumer.clickhouse.servers import each_shard
from consumer.commands import PATIENCE_S, say, show
from consumer.errors import Misconfigured
from consumer.operations.archive import TIME_OF, Archive, shard_of_file
from consumer.parts import connect
from consumer.settings import Settings
from schemas.arguments import whole_number

ARCHIVE: Final = """
Writes a day (UTC) of `events` and `dead_letters` as Parquet: every row and every stored column, as
received. Any program that knows Parquet reads the files; `restore` brings them back into the tables,
also when Kafka has long deleted the records.

Archive a day when nothing of it can come any more, for example after a week: events that waited in
a spool keep the day on which they were received.

On a cluster each shard has its own files: events-2026-01-31-shard-2.parquet.

  python -m consumer archive --day 2026-01-31 --to /backup/headrace
"""
RESTORE: Final = """
Brings the rows of archive files back. Rows that are in the table already are left alone, and so are
rows that were erased; views do not see them, so nothing is counted twice. The server holds a whole
file in memory meanwhile. On a cluster a file goes to the shard in its name, or in --shard; without
either to the first, as files of the single server do from which the cluster has grown.

  python -m consumer restore /backup/headrace/events-2026-01-31.parquet
"""


def run_archive(settings: Settings, arguments: Namespace) -> int:
    """Write a day's files, of a cluster those of each shard."""
    connection = connect(settings).patient(PATIENCE_S)
    with each_shard(connection) as shards:
        places = shards or {0: connection}
        made = [
            Archive(one, table, shard).write(arguments.day, Path(arguments.to))
            for shard, one in places.items()
            for table in TIME_OF
        ]
    told = [{"file": str(one.path), "rows": one.rows, "bytes": one.size_bytes} for one in made]
    show(told, as_json=arguments.json)
    return 0


def run_restore(settings: Settings, arguments: Namespace) -> int:
    """Bring files back, of a cluster to the shard from which each is."""
    connection = connect(settings).patient(PATIENCE_S)
    tables = [_table_of(Path(name), arguments.table) for name in arguments.file]
    with each_shard(connection) as shards:
        places = [_place_of(Path(name), arguments.shard, shards or {0: connection}) for name in arguments.file]
        for name, table, one in zip(arguments.file, tables, places, strict=True):
            found = Archive(one, table).read(Path(name))
            show([{"file": name, "table": table, "rows": found.rows, "restored": found.new}], as_json=arguments.json)
    say("run `python -m consumer erase --again --go` if people were erased since", sys.stderr)
    return 0


def _place_of(path: Path, named: int, shards: Mapping[int, Connection]) -> Connection:
    """Return the connection to a file's shard: the named one, else that of its name, else the first.

    A file without a shard is of the single server from which a cluster has grown: that is the first shard.

    Raises:
        Misconfigured: the cluster has no such shard.
    """
    if not any(shards):
        return shards[0]
    shard = named or shard_of_file(path) or FIRST_SHARD
    if shard not in shards:
        raise Misconfigured(f"{path}: is of shard {shard}, and the cluster has {len(shards)}")
    return shards[shard]


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
    restore.add_argument(
        "--shard", type=whole_number(1, 10_000), default=0, help="of a cluster, where they go; default: by their names"
    )
    restore.add_argument("--table", choices=TIME_OF, default="", help="of which they are; default: by their names")
