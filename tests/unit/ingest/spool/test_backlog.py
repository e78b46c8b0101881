"""The drainer's view of a spool directory: files of the living and of the dead, whole and broken."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest.ports import NoMetrics
from ingest.publishing.ports import SpoolError
from ingest.spool.backlog import Backlog
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.file import SpoolFile, write_lock_of
from ingest.spool.locks import Lock
from tests.support.fake_broker import event


class Gauges(NoMetrics):
    """Remembers levels."""

    def __init__(self) -> None:
        """Begin with none."""
        self.levels: dict[str, float] = {}

    def set(self, name: str, value: float, **labels: str) -> None:  # noqa: ARG002  (the port's signature)
        """Remember."""
        self.levels[name] = value


class Scene:
    """A spool directory, its owners, and one who drains it."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """Make the directory."""
        self.directory = SpoolDirectory(path, SpoolBounds(2**30, 0))
        self.suspects: list[Path] = []
        self.gauges = Gauges()
        self.backlog = Backlog(self.directory, self.suspects.append, self.gauges)
        self._stack = stack
        stack.callback(self.backlog.release)

    def living(self, *numbers: int) -> SpoolFile:
        """Return a file with events whose owner lives until the end of the test."""
        file, lock = self._made(numbers)
        self._stack.callback(lock.release)
        self._stack.callback(file.close)
        return file

    def dead(self, *numbers: int) -> Path:
        """Return the path of a file with events whose owner has died."""
        file, lock = self._made(numbers)
        file.close()
        lock.release()
        return file.path

    def _made(self, numbers: tuple[int, ...]) -> tuple[SpoolFile, Lock]:
        file, lock = self.directory.new_file()
        if numbers:
            file.append([event(number) for number in numbers], 1000)
        return file, lock

    def next_values(self) -> list[bytes]:
        """Return the values of the next batch."""
        batch = self.backlog.next_batch(10, 2**20)
        return [] if batch is None else [spooled.record.value for spooled in batch.records]

    def drain(self) -> list[bytes]:
        """Take everything, in batches, and return the values in their order."""
        values: list[bytes] = []
        while batch := self.backlog.next_batch(2, 2**20):
            values += [spooled.record.value for spooled in batch.records]
            self.backlog.delete(batch.source, [spooled.seq for spooled in batch.records])
        return values


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """An empty spool directory."""
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def test_the_oldest_file_goes_first_and_each_in_its_order(scene: Scene) -> None:
    """Orphans of a crash and files in use are drained alike."""
    scene.dead(1, 2, 3)
    scene.living(4, 5)
    scene.dead(6)

    assert scene.drain() == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_records_that_could_not_be_deleted_are_not_sent(scene: Scene) -> None:
    """Their file's write lock can't be opened: they would be sent again and again. The other files are drained."""
    path = scene.dead(1)
    scene.dead(2)
    write_lock_of(path).unlink()
    write_lock_of(path).mkdir()  # root opens any file

    assert scene.drain() == [b"2"]
    write_lock_of(path).rmdir()
    assert scene.drain() == [b"1"]


def test_empty_files_of_the_dead_are_deleted_and_those_of_the_living_are_not(scene: Scene) -> None:
    """An owner finds its file where it made it."""
    scene.dead(1)
    scene.dead()
    living = scene.living(2)

    scene.drain()

    assert scene.directory.paths() == [living.path]
    living.append([event(3)], 1)
    assert scene.next_values() == [b"3"]


def test_a_file_is_adopted_when_its_owner_dies_while_it_is_drained(scene: Scene) -> None:
    """The lock is asked for each time: no second drainer is needed to clean up."""
    file, lock = scene.directory.new_file()
    file.append([event(1)], 1)
    assert scene.next_values() == [b"1"]

    file.close()
    lock.release()
    scene.drain()

    assert scene.directory.paths() == []


def test_a_file_that_its_owner_deleted_is_forgotten(scene: Scene) -> None:
    """A process that ends in order takes its empty file with it."""
    file, lock = scene.directory.new_file()
    assert scene.next_values() == []

    file.close()
    scene.directory.remove(file.path)
    lock.release()

    assert scene.next_values() == []
    assert scene.backlog.extents() == []


def test_a_corrupt_file_of_the_dead_is_set_aside_and_the_others_go_on(scene: Scene) -> None:
    """It is kept under another name, counted, and stands in nobody's way."""
    corrupt = scene.dead(1)
    corrupt.write_bytes(b"garbage of more than a header's length, over and over. " * 100)
    scene.dead(2)

    assert scene.drain() == [b"2"]

    (aside,) = scene.directory.set_aside_paths()
    assert aside.read_bytes().startswith(b"garbage")
    assert scene.suspects == []


def test_a_corrupt_file_of_the_living_is_told_to_them(scene: Scene) -> None:
    """Its owner starts a new one and lets go; then it is set aside."""
    file, lock = scene.directory.new_file()
    file.append([event(number, size=1000) for number in range(200)], 1)
    scene.living(2)
    file.close()
    with file.path.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xa5" * 4096 * 60)

    assert scene.drain() == [b"2"]
    assert scene.suspects[0] == file.path
    assert scene.directory.set_aside_paths() == []
    lock.release()
    scene.drain()

    assert len(scene.directory.set_aside_paths()) == 1


def test_a_file_with_parked_events_is_kept(scene: Scene) -> None:
    """What waits for an operator is not deleted as empty, and comes back when the person says so."""
    path = scene.dead(1, 2)
    batch = scene.backlog.next_batch(1, 2**20)
    assert batch is not None
    batch.source.file.park(1, "refused")

    assert scene.drain() == [b"2"]
    assert scene.directory.paths() == [path]
    scene.backlog.unpark()
    assert scene.drain() == [b"1"]
    assert scene.directory.paths() == []


def test_what_could_not_be_deleted_is_not_sent_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk refuses deletions too; the file waits until it takes them."""
    scene.dead(1, 2, 3)
    batch = scene.backlog.next_batch(2, 2**20)
    assert batch is not None
    delete = batch.source.file.delete

    def refuse(_: object) -> None:
        raise SpoolError("spool_full", "no room")

    monkeypatch.setattr(batch.source.file, "delete", refuse)
    with pytest.raises(SpoolError):
        scene.backlog.delete(batch.source, [1, 2])
    assert scene.next_values() == []
    monkeypatch.setattr(batch.source.file, "delete", delete)

    assert scene.drain() == [b"3"]


def test_a_file_that_is_busy_is_only_passed_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer holds it for longer than usual; nothing is set aside for that."""
    monkeypatch.setattr("ingest.spool.file._BUSY_S", 0.05)
    path = scene.dead(1)
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("PRAGMA locking_mode = EXCLUSIVE")
        writer.execute("BEGIN EXCLUSIVE")
        scene.dead(2)

        assert scene.next_values() == [b"2"]
        writer.execute("ROLLBACK")
    writer.close()

    assert scene.next_values() == [b"1"]
    assert scene.directory.set_aside_paths() == []


def test_the_figures_are_of_the_whole_directory(scene: Scene) -> None:
    """Events, bytes and age over all files; a process that stops draining reports nothing any more."""
    scene.dead(1, 2)
    scene.living(3)
    assert scene.backlog.acquire()
    scene.next_values()
    scene.living(4, 5)
    for _ in range(2):
        scene.backlog._measured_at_s = float("-inf")  # noqa: SLF001  (a second has passed)
        scene.drain()
    scene.dead(6, 7, 8)
    scene.next_values()
    scene.backlog._measured_at_s = float("-inf")  # noqa: SLF001  (as above)
    scene.next_values()

    assert scene.gauges.levels["spool_events"] == 3
    assert scene.gauges.levels["spool_bytes"] > 0
    assert scene.gauges.levels["spool_oldest_seconds"] > 1_000_000
    scene.backlog.release()
    assert set(scene.gauges.levels.values()) == {0}
