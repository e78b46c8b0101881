"""Looks for records in a spool directory without disturbing the processes that use it: for `headrace find`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ingest.publishing.ports import Record, SpoolError
from ingest.spool.directory import SpoolBounds, SpoolDirectory, translated
from ingest.spool.file import Spooled, SpoolFile

_AT_ONCE: Final = 1000
_BYTES_MAX: Final = 8 * 1024 * 1024


class Held(msgspec.Struct, frozen=True):
    """A record in a file of the spool.

    Attributes:
        file: the file's name.
        record: the record.
        accepted_at_ms: when it was written, Unix ms.
        parked: why the broker refuses it; "" while it waits to be sent.
    """

    file: str
    record: Record
    accepted_at_ms: int
    parked: str = ""


class Searched(msgspec.Struct, frozen=True):
    """What a directory holds of what was searched for.

    Attributes:
        held: the records found.
        records: how many records were looked at.
        unread: a sentence for each file that can't be read: what is searched for may be in it.
    """

    held: Sequence[Held]
    records: int
    unread: Sequence[str]


def search(path: Path, is_wanted: Callable[[Record], bool]) -> Searched:
    """Return the records of a directory's files that are wanted.

    Raises:
        SpoolError: there is no such directory, or it or its files can't be looked at.
    """
    with translated(path):
        return _search(path, is_wanted)


def _search(path: Path, is_wanted: Callable[[Record], bool]) -> Searched:
    if not path.is_dir():
        raise SpoolError("spool_failed", f"{path} is no directory of this machine")
    next(path.iterdir(), None)  # globbing takes a directory that may not be read for an empty one
    place = SpoolDirectory(path, SpoolBounds(0, 0))
    held: list[Held] = []
    unread = [f"{name.name} was set aside: `headrace ingest spool salvage`" for name in place.set_aside_paths()]
    records = 0
    for name in place.paths():
        try:
            for one in _records(name):
                records += 1
                if is_wanted(one.record):
                    held.append(one)
        except SpoolError as error:
            if name.exists():  # otherwise its records were sent while this was reading
                unread.append(str(error))
    return Searched(held, records, unread)


def _records(path: Path) -> Iterator[Held]:
    file = SpoolFile(path, must_exist=True, is_reader=True)
    try:
        after_seq = 0
        while batch := file.first(_AT_ONCE, _BYTES_MAX, after_seq):
            yield from (_held(path, one) for one in batch)
            after_seq = batch[-1].seq
        yield from (_held(path, one, reason) for one, reason in file.parked())
    finally:
        file.close()


def _held(path: Path, spooled: Spooled, parked: str = "") -> Held:
    return Held(path.name, spooled.record, spooled.accepted_at_ms, parked)
