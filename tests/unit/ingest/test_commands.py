"""The commands that look after the spool."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.commands import listing, salvage
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.file import SpoolFile, write_lock_of
from ingest.spool.search import search
from tests.support.fake_broker import event


def command(*words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m ingest spool` with words, and settings in the environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    return subprocess.run(
        [sys.executable, "-m", "ingest", "spool", *words],
        env=kept | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_list_tells_files_owners_and_who_drains(tmp_path: Path) -> None:
    """One line for each file; what was set aside is named too."""
    spool = SpoolDirectory(tmp_path, SpoolBounds(2**30, 0))
    living, lock = spool.new_file()
    living.append([event(1), event(2)], 1)
    dead, free = spool.new_file()
    dead.append([event(3), event(4), event(5)], 1)
    dead.park(3, "refused")
    dead.close()
    free.release()
    (tmp_path / "0-1.db.corrupt").touch()
    drainer = spool.lock_for_draining()
    assert drainer is not None

    lines = list(listing(tmp_path))

    assert lines[1] == f"drained by process {os.getpid()}"
    assert lines[3].split()[:4] == [living.path.name, "living", "2", "0"]
    assert lines[4].split()[:4] == [dead.path.name, "nobody", "2", "1"]
    assert lines[5].startswith("0-1.db.corrupt  set aside")
    living.close()
    lock.release()
    drainer.release()


def test_who_only_reads_makes_no_file(tmp_path: Path) -> None:
    """The owner of a file could not lock what another user has made."""
    spool = SpoolDirectory(tmp_path, SpoolBounds(2**30, 0))
    file, lock = spool.new_file()
    file.append([event(1)], 1)
    file.close()
    lock.release()
    write_lock_of(file.path).unlink()
    aside = Path(shutil.copy(file.path, tmp_path / "0-1.db.corrupt"))

    list(listing(tmp_path))
    assert search(tmp_path, lambda _: True).records == 1
    assert not list(tmp_path.glob("*.write-lock"))
    assert command("salvage", str(aside)).returncode == 0
    assert not write_lock_of(aside).exists()


@pytest.mark.parametrize("words", [(), ("list",)])
def test_the_list_of_nothing_says_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A directory that is not there is no error of the person who asks; without a command it is the list."""
    run = command(*words, INGEST_SPOOL_DIR=str(tmp_path / "away"))

    assert run.returncode == 0
    assert "(does not exist)" in run.stdout
    assert "drained by nobody" in run.stdout


def test_the_list_survives_an_unreadable_file(tmp_path: Path) -> None:
    """The others are listed all the same."""
    (tmp_path / "0-1.db").write_bytes(b"garbage of more than a header's length, over and over. " * 10)

    lines = list(listing(tmp_path))

    assert "unreadable" in lines[3]


def test_draining_without_settings_says_which_is_missing() -> None:
    """Exit code 2, as for the ingress itself."""
    run = command("drain")

    assert run.returncode == 2
    assert "INGEST_BOOTSTRAP_SERVERS" in run.stderr


def test_draining_what_another_drains_does_nothing(tmp_path: Path) -> None:
    """It says who does."""
    lock = SpoolDirectory(tmp_path, SpoolBounds(2**30, 0)).lock_for_draining()
    assert lock is not None

    run = command("drain", INGEST_SPOOL_DIR=str(tmp_path), INGEST_BOOTSTRAP_SERVERS="127.0.0.1:1")

    assert run.returncode == 1
    assert f"process {os.getpid()} is already draining" in run.stdout
    lock.release()


def test_draining_nothing_is_done_at_once(tmp_path: Path) -> None:
    """It needs no broker for that."""
    run = command("drain", INGEST_SPOOL_DIR=str(tmp_path), INGEST_BOOTSTRAP_SERVERS="127.0.0.1:1")

    assert (run.returncode, run.stdout) == (0, "sent 0 events, 0 left\n")


def test_salvage_gets_back_what_can_be_read(tmp_path: Path) -> None:
    """Events on broken pages are lost, those before and behind them are not."""
    spool = SpoolDirectory(tmp_path, SpoolBounds(2**30, 0))
    broken, lock = spool.new_file()
    broken.append([event(number, size=800) for number in range(2000)], 1)
    broken.close()
    lock.release()
    with broken.path.open("r+b") as raw:
        raw.seek(4096 * 100)
        raw.write(b"\xa5" * 4096 * 5)
    source = SpoolFile(broken.path)
    target, lock = spool.new_file()

    events = salvage(source, target)

    numbers = [int(spooled.record.value.rstrip(b".")) for spooled in target.first(10_000, 2**40)]
    assert events == len(numbers)
    assert 1950 < events < 2000
    assert (numbers[0], numbers[-1]) == (0, 1999)
    assert numbers == sorted(set(numbers))
    source.close()
    target.close()
    lock.release()


def test_salvage_of_a_file_without_a_header_says_so(tmp_path: Path) -> None:
    """There is nothing to be read, and nothing is put back."""
    broken = tmp_path / "0-1.db.corrupt"
    broken.write_bytes(b"garbage of more than a header's length, over and over. " * 10)

    run = command("salvage", str(broken))

    assert run.returncode == 1
    assert "not a database" in run.stderr
    assert broken.exists()
