"""The directory that the workers count in: what is left of others goes, what lives stays."""

import fcntl
from pathlib import Path

import pytest

from ingest.metric_files import MetricFiles, free_number


def test_what_a_killed_master_left_is_removed(tmp_path: Path) -> None:
    """Its lock went with its processes; the directory of one that lives stays, whichever comes first."""
    left = tmp_path / "headrace-metrics-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "counter_1.db").touch()
    one = MetricFiles(str(tmp_path))
    other = MetricFiles(str(tmp_path))

    assert set(tmp_path.iterdir()) == {one.path, other.path}
    one.remove()
    assert set(tmp_path.iterdir()) == {other.path}
    other.remove()


def test_a_directory_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    """Another master is just making it, or it is somebody else's."""
    strange = tmp_path / "headrace-metrics-strange"
    strange.mkdir()

    MetricFiles(str(tmp_path)).remove()

    assert strange.is_dir()


def test_it_is_found_locked_or_not_at_all(tmp_path: Path) -> None:
    """Nobody can take a lock that a living master holds."""
    files = MetricFiles(str(tmp_path))
    with (files.path / "lock").open("w") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    files.remove()


@pytest.mark.parametrize(("taken", "number"), [([], 1), ([1, 2], 3), ([2, 3], 1), ([1, 3], 2)])
def test_a_worker_gets_the_lowest_number_that_is_free(taken: list[int], number: int) -> None:
    """So what a dead one counted is gone on with."""
    assert free_number(taken) == number
