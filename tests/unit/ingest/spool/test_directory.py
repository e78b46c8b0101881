"""The spool's directory: whose file is whose, and how much room there is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.publishing.ports import SpoolError
from ingest.spool.directory import SpoolBounds, SpoolDirectory, lock_of
from ingest.spool.file import write_lock_of
from ingest.spool.locks import is_locked, try_lock
from tests.support.fake_broker import event

_HOLD = """
import sys
from pathlib import Path
from ingest.spool.locks import try_lock

kept = try_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def directory(path: Path, size_bytes_max: int = 10_000_000, free_bytes_min: int = 0) -> SpoolDirectory:
    """Return a directory with bounds."""
    return SpoolDirectory(path, SpoolBounds(size_bytes_max, free_bytes_min))


def test_a_lock_is_one_processs_until_it_ends(tmp_path: Path) -> None:
    """It is held while the process lives, and free once it was killed."""
    path = tmp_path / "a.lock"
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"

    assert is_locked(path)
    assert try_lock(path) is None
    holder.kill()
    holder.communicate()
    assert not is_locked(path)
    lock = try_lock(path)
    assert lock is not None
    lock.release()


def test_a_lock_is_held_against_the_own_process_too(tmp_path: Path) -> None:
    """The drainer of a process must not adopt that process's own file."""
    lock = try_lock(tmp_path / "a.lock")
    assert lock is not None

    assert try_lock(tmp_path / "a.lock") is None
    lock.release()
    assert not is_locked(tmp_path / "a.lock")


def test_a_new_file_is_owned_and_files_stand_in_their_order(tmp_path: Path) -> None:
    """Older files sort first, and none of them can be adopted while its owner lives."""
    spool = directory(tmp_path)

    made = [spool.new_file() for _ in range(3)]

    assert spool.paths() == [file.path for file, _ in made]
    assert [spool.adopt(path) for path in spool.paths()] == [None, None, None]
    for file, lock in made:
        file.close()
        lock.release()
    adopted = spool.adopt(spool.paths()[0])
    assert adopted is not None
    adopted.release()


def test_a_removed_file_leaves_nothing(tmp_path: Path) -> None:
    """Neither SQLite's side files nor the lock."""
    spool = directory(tmp_path)
    file, lock = spool.new_file()
    file.append([event(1)], 1)
    file.close()

    spool.remove(file.path)
    lock.release()

    assert list(tmp_path.iterdir()) == []


def test_a_drainer_deletes_the_locks_of_files_that_are_gone(tmp_path: Path) -> None:
    """A crash between the deletions leaves one; those of files that are there stay."""
    spool = directory(tmp_path)
    file, lock = spool.new_file()
    (tmp_path / "00000000000000000001-1.write-lock").touch()

    drainer = spool.lock_for_draining()

    assert [path.name for path in tmp_path.glob("*.write-lock")] == [write_lock_of(file.path).name]
    assert drainer is not None
    for one in (drainer, lock):
        one.release()
    file.close()


def test_a_lock_ends_although_a_child_process_has_it(tmp_path: Path) -> None:
    """A child has its parent's open files."""
    lock = try_lock(tmp_path / "a.lock")
    assert lock is not None
    descriptor = lock._descriptor  # noqa: SLF001  (no public way)
    with subprocess.Popen(["sleep", "60"], pass_fds=[descriptor]) as child:
        lock.release()
        is_held = is_locked(tmp_path / "a.lock")
        child.kill()

    assert not is_held


def test_a_file_set_aside_is_kept_and_no_longer_drained(tmp_path: Path) -> None:
    """Its log goes with it, because an operator may still recover something from both."""
    spool = directory(tmp_path)
    file, lock = spool.new_file()
    file.append([event(1)], 1)

    aside = spool.set_aside(file.path)

    assert spool.paths() == []
    assert spool.set_aside_paths() == [aside]
    assert aside.with_name(aside.name + "-wal").exists()
    assert not [*tmp_path.glob("*.write-lock"), *tmp_path.glob("*.lock")]
    file.close()
    lock.release()


def test_the_bound_on_size_counts_all_files(tmp_path: Path) -> None:
    """What other processes have on disk leaves less for this one."""
    spool = directory(tmp_path, size_bytes_max=1_000_000)
    file, lock = spool.new_file()

    spool.check_room(900_000, file, others_bytes=0)
    with pytest.raises(SpoolError) as caught:
        spool.check_room(900_000, file, others_bytes=200_000)

    assert caught.value.code == "spool_full"
    assert spool.size_bytes() > 0
    assert spool.size_bytes(besides=file.path) == 0
    file.close()
    lock.release()


def test_the_bound_on_free_disk_holds_whatever_the_size(tmp_path: Path) -> None:
    """Others live on the disk too."""
    spool = directory(tmp_path, free_bytes_min=2**60)

    with pytest.raises(SpoolError) as caught:
        spool.check_room(1, None, 0)
    assert caught.value.code == "spool_full"


def test_only_one_drains_and_says_who_it_is(tmp_path: Path) -> None:
    """A second one is turned away and can learn the first one's pid."""
    spool = directory(tmp_path)
    assert spool.drainer_pid() is None

    lock = spool.lock_for_draining()

    assert lock is not None
    assert spool.lock_for_draining() is None
    assert spool.drainer_pid() == os.getpid()
    lock.release()
    assert spool.drainer_pid() is None


def test_the_directory_is_made_once_and_not_its_parents(tmp_path: Path) -> None:
    """A missing parent is a missing mount."""
    directory(tmp_path / "spool").make()
    directory(tmp_path / "spool").make()

    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    with pytest.raises(SpoolError):
        directory(tmp_path / "no" / "spool").make()


def test_a_directory_that_is_away_is_a_failure_everywhere(tmp_path: Path) -> None:
    """Every question about it ends in a SpoolError, or in nothing found."""
    spool = directory(tmp_path / "away")
    asked: list[Callable[[], object]] = [
        spool.new_file,
        spool.lock_for_draining,
        spool.size_bytes,
        lambda: spool.check_room(1, None, 0),
        lambda: spool.adopt(tmp_path / "away" / "a.db"),
    ]

    for ask in asked:
        with pytest.raises(SpoolError) as caught:
            ask()
        assert caught.value.code == "spool_failed"
    assert spool.paths() == []
    assert not is_locked(lock_of(tmp_path / "away" / "a.db"))
