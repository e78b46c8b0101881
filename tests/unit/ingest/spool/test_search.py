"""Looking for records in a spool that others use."""

from errno import EACCES
from pathlib import Path, PosixPath

import pytest

from ingest.publishing.ports import Record, SpoolError
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.file import SpoolFile
from ingest.spool.search import search


def _is_wanted(record: Record) -> bool:
    return b"wanted" in record.value


def test_waiting_and_parked_records_are_found_in_every_file(tmp_path: Path) -> None:
    """With the time at which they were accepted, and why the broker refuses them; the files stay as they are."""
    for name, at_ms in (("a", 1), ("b", 2)):
        file = SpoolFile(tmp_path / f"{name}.db")
        file.append([Record(b"", b"x"), Record(b"", f"wanted {name}".encode()), Record(b"", b"wanted too")], at_ms)
        file.park(3, "too large")
        file.close()

    found = search(tmp_path, _is_wanted)

    assert [(held.file, held.record.value, held.accepted_at_ms, held.parked) for held in found.held] == [
        ("a.db", b"wanted a", 1, ""),
        ("a.db", b"wanted too", 1, "too large"),
        ("b.db", b"wanted b", 2, ""),
        ("b.db", b"wanted too", 2, "too large"),
    ]
    assert (found.records, found.unread) == (6, [])
    assert search(tmp_path, _is_wanted) == found


def test_more_records_than_are_read_at_once_are_all_seen(tmp_path: Path) -> None:
    """A spool of an hour has millions."""
    file = SpoolFile(tmp_path / "a.db")
    file.append([Record(b"", f"wanted {number}".encode()) for number in range(2500)], 1)
    file.close()

    assert len(search(tmp_path, _is_wanted).held) == 2500


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    """What is searched for may be in it: it is not "not there"."""
    (tmp_path / "a.db").write_bytes(b"no database" * 1000)
    (tmp_path / "b.db.corrupt").write_bytes(b"set aside")

    found = search(tmp_path, _is_wanted)

    assert found.held == []
    assert len(found.unread) == 2
    assert any("salvage" in sentence for sentence in found.unread)


def test_a_spool_in_use_is_read_beside_its_owner(tmp_path: Path) -> None:
    """The owner goes on writing."""
    owner, lock = SpoolDirectory(tmp_path, SpoolBounds(2**30, 0)).new_file()
    owner.append([Record(b"", b"wanted")], 1)

    found = search(tmp_path, _is_wanted)
    owner.append([Record(b"", b"wanted")], 2)

    assert len(found.held) == 1
    assert len(search(tmp_path, _is_wanted).held) == 2
    owner.close()
    lock.release()


def test_no_directory_is_an_error_and_not_an_empty_spool(tmp_path: Path) -> None:
    """The spool may be another machine's."""
    with pytest.raises(SpoolError):
        search(tmp_path / "none", _is_wanted)


class Closed(PosixPath):
    """A directory behind one that may not be entered."""

    def is_dir(self) -> bool:
        """Fail as the system does for another user."""
        raise PermissionError(EACCES, "Permission denied", str(self))


def test_a_directory_that_may_not_be_looked_at_is_an_error_and_not_an_empty_spool(tmp_path: Path) -> None:
    """Another user's, or behind one."""
    with pytest.raises(SpoolError, match="Permission denied"):
        search(Closed(tmp_path), _is_wanted)
