"""One spool file: what was appended is there, in order, and nothing else."""

import resource
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest.publishing.ports import Record, SpoolError
from ingest.spool.file import SpoolFile, write_lock_of
from ingest.spool.locks import PAUSE_S_MAX, WriteLock, try_lock
from tests.support.fake_broker import event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file goes."""
    return tmp_path / "a.db"


@pytest.fixture
def open_file(path: Path) -> Iterator[Callable[[], SpoolFile]]:
    """A function that opens the file; every opening is closed at the end."""
    with ExitStack() as opened:

        def open_it() -> SpoolFile:
            file = SpoolFile(path)
            opened.callback(file.close)
            return file

        yield open_it


def values(file: SpoolFile) -> list[bytes]:
    """Return the values in the file's order."""
    return [spooled.record.value for spooled in file.first(10_000, 2**40)]


def test_records_come_back_as_they_were_in_their_order(open_file: Callable[[], SpoolFile]) -> None:
    """Key, value, headers and kind survive, and the time of acceptance stands beside them."""
    records = [
        Record(b"k1", b"v1", (("traceparent", b"00-1"), ("traceparent", b"00-2"))),
        Record(b"", b"\x00\xff", (), dead=True),
        Record("ü".encode(), b"v3"),
    ]
    file = open_file()

    file.append(records, at_ms=7)

    found = file.first(10, 1000)
    assert [spooled.record for spooled in found] == records
    assert {(spooled.accepted_at_ms, spooled.is_whole) for spooled in found} == {(7, True)}


def test_another_connection_and_another_opening_see_what_was_appended(open_file: Callable[[], SpoolFile]) -> None:
    """The drainer reads beside the owner, and after it."""
    owner = open_file()
    owner.append([event(1)], 1)

    beside = open_file()
    assert values(beside) == [b"1"]
    owner.append([event(2)], 2)
    assert values(beside) == [b"1", b"2"]
    owner.close()
    beside.close()
    assert values(open_file()) == [b"1", b"2"]


def test_a_commit_is_forced_to_the_device(open_file: Callable[[], SpoolFile]) -> None:
    """WAL alone would leave the last commits to the operating system."""
    file = open_file()

    assert file._pragma("synchronous") == 2  # noqa: SLF001  (FULL; there is no other way to ask)
    file.close()
    assert open_file()._pragma("synchronous") == 2  # noqa: SLF001  (of each connection, not of the file)


def test_numbers_are_never_given_twice(open_file: Callable[[], SpoolFile]) -> None:
    """What was deleted last does not lend its number to what comes next: the drainer remembers by number."""
    file = open_file()
    file.append([event(1), event(2)], 1)
    file.delete([spooled.seq for spooled in file.first(10, 1000)])

    file.append([event(3)], 1)

    assert [spooled.seq for spooled in file.first(10, 1000)] == [3]


def test_a_batch_ends_at_its_bytes_but_holds_one_record_at_least(open_file: Callable[[], SpoolFile]) -> None:
    """A record larger than the bound still goes, alone."""
    file = open_file()
    file.append([event(number, size=100) for number in range(5)], 1)

    assert len(file.first(10, 250)) == 2
    assert len(file.first(10, 10)) == 1
    assert len(file.first(3, 2**40)) == 3


def test_the_extent_tells_what_is_there(open_file: Callable[[], SpoolFile]) -> None:
    """Events, the oldest time and the pages in use."""
    file = open_file()
    empty = file.extent()
    file.append([event(number, size=1000) for number in range(100)], 11)
    file.append([event(number, size=1000) for number in range(100)], 22)
    file.delete(range(1, 101))

    assert (empty.events, empty.oldest_at_ms) == (0, None)
    extent = file.extent()
    assert (extent.events, extent.oldest_at_ms, extent.parked) == (100, 22, 0)
    assert 100_000 < extent.size_bytes < 200_000


def test_an_emptied_file_gives_its_space_back(path: Path, open_file: Callable[[], SpoolFile]) -> None:
    """After an outage the disk is as free as before."""
    file = open_file()
    file.append([event(number, size=1000) for number in range(3000)], 1)
    full = file.used_bytes()

    file.delete(range(1, 3001))
    file.close()

    assert path.stat().st_size < full / 50


def test_a_parked_record_is_out_of_the_way_and_kept(open_file: Callable[[], SpoolFile]) -> None:
    """It no longer stands before the others; unparked it stands behind them."""
    file = open_file()
    file.append([event(1), event(2)], 1)

    file.park(1, "refused")

    assert values(file) == [b"2"]
    assert file.extent().parked == 1
    file.unpark()
    assert values(file) == [b"2", b"1"]
    assert file.extent().parked == 0


def test_a_changed_record_is_told(path: Path, open_file: Callable[[], SpoolFile]) -> None:
    """A bit that flipped on the disk does not go to the broker as an event."""
    file = open_file()
    file.append([event(1), event(2)], 1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET value = x'00' WHERE seq = 1")
    connection.close()

    assert [spooled.is_whole for spooled in file.first(10, 1000)] == [False, True]


def test_a_file_that_is_no_database_is_corrupt(path: Path, open_file: Callable[[], SpoolFile]) -> None:
    """It is told from a disk that fails, for it is treated otherwise."""
    path.write_bytes(b"not a database, and longer than a header of one hundred bytes " * 10)

    with pytest.raises(SpoolError) as caught:
        open_file()
    assert caught.value.code == "spool_corrupt"


def test_damage_inside_is_corrupt(path: Path, open_file: Callable[[], SpoolFile]) -> None:
    """A page overwritten with garbage is found when it is read."""
    file = open_file()
    file.append([event(number, size=1000) for number in range(500)], 1)
    file.close()
    with path.open("r+b") as raw:
        raw.seek(4096 * 3)
        raw.write(b"\xa5" * 4096 * 100)

    with pytest.raises(SpoolError) as caught:
        open_file().first(500, 2**40)
    assert caught.value.code == "spool_corrupt"


def test_a_file_of_another_version_is_left_alone(path: Path, open_file: Callable[[], SpoolFile]) -> None:
    """A newer release's file is no garbage."""
    open_file().close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(SpoolError, match="version 99") as caught:
        open_file()
    assert caught.value.code == "spool_failed"


@pytest.mark.parametrize("how", ["directory", "file", "replaced"])
def test_what_nobody_will_find_again_is_not_appended(path: Path, how: str, open_file: Callable[[], SpoolFile]) -> None:
    """Writing to a deleted file succeeds in Unix; the records would be gone with the process."""
    file = open_file()
    file.append([event(1)], 1)
    if how == "directory":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if how == "replaced":
        path.touch()

    with pytest.raises(SpoolError) as caught:
        file.append([event(2)], 1)
    assert caught.value.code == "spool_failed"


def test_a_missing_directory_is_a_failure(tmp_path: Path) -> None:
    """And it is not made: it may be a mount that is lost."""
    with pytest.raises(SpoolError) as caught:
        SpoolFile(tmp_path / "away" / "a.db")
    assert caught.value.code == "spool_failed"


def test_a_file_that_is_gone_is_not_made_by_who_only_reads(path: Path) -> None:
    """Its owner may have ended in order a moment ago."""
    with pytest.raises(SpoolError):
        SpoolFile(path, must_exist=True)

    assert list(path.parent.iterdir()) == []


def test_a_file_that_its_maker_left_before_it_had_tables_is_finished(
    path: Path, open_file: Callable[[], SpoolFile]
) -> None:
    """A process may die between making the file and making its tables."""
    path.touch()

    file = open_file()
    file.append([event(1)], 1)

    assert values(file) == [b"1"]


def test_a_file_is_its_owners_alone(path: Path, open_file: Callable[[], SpoolFile]) -> None:
    """Events tell of people."""
    file = open_file()
    file.append([event(1)], 1)

    assert {name.stat().st_mode & 0o077 for name in path.parent.iterdir()} == {0}


@pytest.mark.parametrize(
    ("code", "slug"),
    [
        (sqlite3.SQLITE_FULL, "spool_full"),
        (sqlite3.SQLITE_CORRUPT, "spool_corrupt"),
        (sqlite3.SQLITE_NOTADB, "spool_corrupt"),
        (sqlite3.SQLITE_BUSY, "spool_slow"),
        (sqlite3.SQLITE_IOERR, "spool_failed"),
        (sqlite3.SQLITE_READONLY, "spool_failed"),
        (sqlite3.SQLITE_CANTOPEN, "spool_failed"),
        (sqlite3.SQLITE_IOERR | 4 << 8, "spool_failed"),
        (None, "spool_failed"),
    ],
)
def test_every_error_of_sqlite_has_a_slug(path: Path, code: int | None, slug: str) -> None:
    """Whatever SQLite raises, the caller learns whether to wait, to go elsewhere or to set the file aside."""
    from ingest.spool.file import _translated  # noqa: PLC0415  (the table, without a disk for each row)

    kinds: list[type[sqlite3.Error]] = [
        sqlite3.Error,
        *sqlite3.Error.__subclasses__(),
        *sqlite3.DatabaseError.__subclasses__(),
    ]
    for kind in kinds:
        error = kind("words")
        if code is not None:
            error.sqlite_errorcode = code
        with pytest.raises(SpoolError, match="words") as caught, _translated(path):
            raise error
        assert caught.value.code == slug


def test_who_writes_keeps_others_from_writing_and_not_from_reading(
    open_file: Callable[[], SpoolFile], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite alone lets one connection commit while another one starts a checkpoint."""
    monkeypatch.setattr("ingest.spool.file._BUSY_S", 0.05)
    owner, drainer = open_file(), open_file()
    owner.append([event(1), event(2)], 1)
    lock = try_lock(write_lock_of(path))
    assert lock is not None

    writes: list[Callable[[], None]] = [
        lambda: owner.append([event(3)], 1),
        lambda: drainer.delete([1]),
        lambda: drainer.park(1, "refused"),
        drainer.unpark,
        owner.check_lock,
    ]
    for write in writes:
        with pytest.raises(SpoolError, match="by others") as refused:
            write()
        assert refused.value.code == "spool_slow"

    assert values(drainer) == [event(1).value, event(2).value]
    lock.release()
    drainer.delete([1])
    owner.append([event(3)], 1)
    assert values(drainer) == [event(2).value, event(3).value]


def test_a_write_waits_for_the_lock(open_file: Callable[[], SpoolFile], path: Path) -> None:
    """Another process holds it for about an fsync."""
    file = open_file()
    lock = try_lock(write_lock_of(path))
    assert lock is not None
    ended: list[bool] = []

    def end() -> None:
        ended.append(True)
        lock.release()

    timer = threading.Timer(0.1, end)
    timer.start()
    file.append([event(1)], 1)

    assert ended
    timer.join()
    assert values(file) == [event(1).value]


def test_the_owner_gets_the_lock_while_pages_are_returned(
    open_file: Callable[[], SpoolFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is released between two steps, for longer than a waiting process pauses."""
    monkeypatch.setattr("ingest.spool.file._VACUUM_PAGES", 1)
    seen: list[str] = []

    class Watched(WriteLock):
        def acquire(self, timeout_s: float) -> bool:
            seen.append("acquired")
            return super().acquire(timeout_s)

        def release(self) -> None:
            seen.append("released")
            super().release()

    def rest(seconds: float) -> None:
        seen.append("longer" if seconds > PAUSE_S_MAX else "shorter")

    monkeypatch.setattr("ingest.spool.file.WriteLock", Watched)
    file = open_file()
    file.append([Record(b"k", b"x" * 50_000)], 1)
    seen.clear()
    with monkeypatch.context() as patched:
        patched.setattr("ingest.spool.file.time.sleep", rest)
        file.delete([1])

    assert seen[:2] == ["acquired", "released"]  # the deletion
    steps = [seen[at : at + 3] for at in range(2, len(seen), 3)]
    assert len(steps) > 5
    assert all(step == ["acquired", "released", "longer"] for step in steps)


def test_a_new_file_is_made_under_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drainer may open it before its owner has made the tables."""
    monkeypatch.setattr("ingest.spool.file._BUSY_S", 0.05)
    lock = try_lock(write_lock_of(path))
    assert lock is not None

    with pytest.raises(SpoolError, match="by others"):
        SpoolFile(path)

    lock.release()
    SpoolFile(path, must_exist=True).close()


def test_a_write_needs_no_free_descriptor(open_file: Callable[[], SpoolFile]) -> None:
    """Clients may hold them all."""
    file = open_file()
    file.append([event(1)], 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        file.append([event(2)], 1)
        file.delete([1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert values(file) == [event(2).value]


def test_a_reader_leaves_nothing(open_file: Callable[[], SpoolFile], path: Path) -> None:
    """It makes no file for a lock that it does not take."""
    open_file().append([event(1)], 1)
    write_lock_of(path).unlink()

    reader = SpoolFile(path, must_exist=True, is_reader=True)
    found = values(reader)
    reader.close()

    assert found == [event(1).value]
    assert not write_lock_of(path).exists()
