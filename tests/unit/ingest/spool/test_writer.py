"""A process's way into the spool: all or nothing per request, shared commits, and what happens when the disk fails."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest.ports import NoMetrics
from ingest.publishing.ports import Record, SpoolError
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.file import SpoolFile, write_lock_of
from ingest.spool.locks import try_lock
from ingest.spool.writer import SpoolWriter
from tests.support.fake_broker import event

Start = Callable[..., SpoolWriter]


class CountingMeter(NoMetrics):
    """Counts observations, which are one per commit."""

    def __init__(self) -> None:
        """Begin at none."""
        self.commits = 0
        self.failures: list[str] = []
        self.shown: list[str] = []

    def observe(self, name: str, value: float, **labels: str) -> None:  # noqa: ARG002  (the port's signature)
        """Count a commit."""
        self.commits += name == "spool_commit_seconds"

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Remember a failure, or which reasons were shown before there was one."""
        if name == "spool_failures_total":
            (self.failures if amount else self.shown).append(labels["reason"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool lives."""
    return tmp_path / "spool"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """A function that starts a spooler; all are closed at the end."""
    with ExitStack() as started:

        def start_it(
            size_bytes_max: int = 2**30, deadline_s: float = 10, metrics: NoMetrics | None = None
        ) -> SpoolWriter:
            directory = SpoolDirectory(path, SpoolBounds(size_bytes_max, 0))
            if path.parent.is_dir():
                directory.make()
            spooler = SpoolWriter(directory, deadline_s, metrics or NoMetrics())
            started.callback(spooler.close)
            return spooler

        yield start_it


def append(spooler: SpoolWriter, records: Sequence[Record]) -> None:
    """Append as a request does, in a separate loop."""
    asyncio.run(spooler.append(records))


def kept(path: Path) -> list[bytes]:
    """Return the values of all files, oldest file first."""
    found = []
    for name in sorted(path.glob("*.db")):
        file = SpoolFile(name)
        found += [spooled.record.value for spooled in file.first(100_000, 2**40)]
        file.close()
    return found


def await_usable(spooler: SpoolWriter) -> None:
    """Wait until the spooler says so; fails after 10 s."""
    deadline_s = time.monotonic() + 60
    while not spooler.is_usable():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_append_returns_when_the_records_are_in_the_file(start: Start, path: Path) -> None:
    """Another reader sees them at once."""
    spooler = start()

    append(spooler, [event(1), event(2)])
    append(spooler, [event(3)])

    assert kept(path) == [b"1", b"2", b"3"]
    assert spooler.is_usable()


def test_concurrent_requests_share_commits(start: Start, path: Path) -> None:
    """Many requests take fewer fsyncs than there are requests, and each request's records stay together."""
    metrics = CountingMeter()
    spooler = start(metrics=metrics)
    gate = threading.Barrier(32)

    def request(number: int) -> None:
        gate.wait()
        for turn in range(5):
            append(spooler, [event(number * 1000 + turn * 10 + part, key=str(number)) for part in range(3)])

    threads = [threading.Thread(target=request, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    values = [int(value) for value in kept(path)]
    assert sorted(values) == [n * 1000 + turn * 10 + part for n in range(32) for turn in range(5) for part in range(3)]
    assert all(values[at : at + 3] == [values[at], values[at] + 1, values[at] + 2] for at in range(0, len(values), 3))
    assert metrics.commits < 160


def test_a_request_that_does_not_fit_leaves_nothing_and_smaller_ones_still_fit(start: Start, path: Path) -> None:
    """All or nothing per request; the bound is one on bytes."""
    spooler = start(size_bytes_max=400_000)

    with pytest.raises(SpoolError) as caught:
        append(spooler, [event(number, size=10_000) for number in range(100)])
    append(spooler, [event(7)])

    assert caught.value.code == "spool_full"
    assert kept(path) == [b"7"]


def test_room_that_was_freed_is_used_again(start: Start, path: Path) -> None:
    """After the drainer has deleted, what was full takes events again."""
    spooler = start(size_bytes_max=500_000)
    for number in range(40):
        append(spooler, [event(number, size=10_000)])
    with pytest.raises(SpoolError):
        append(spooler, [event(number, size=10_000) for number in range(20)])
    assert not spooler.is_usable()
    drainer = SpoolFile(next(path.glob("*.db")))

    drainer.delete([spooled.seq for spooled in drainer.first(1000, 2**40)])
    drainer.close()

    append(spooler, [event(1)])
    assert spooler.is_usable()


def test_a_directory_that_goes_away_takes_nothing_until_it_is_back(start: Start, path: Path) -> None:
    """Nothing is written to a deleted file; a new file is made once there is a directory again."""
    spooler = start()
    append(spooler, [event(1)])
    shutil.rmtree(path)

    with pytest.raises(SpoolError) as caught:
        append(spooler, [event(2)])
    assert caught.value.code == "spool_failed"
    assert not spooler.is_usable()
    assert not path.exists()
    path.mkdir()
    await_usable(spooler)
    append(spooler, [event(3)])

    assert kept(path) == [b"3"]


def test_without_a_directory_the_process_starts_all_the_same(start: Start, path: Path) -> None:
    """The broker may be well; the spool is tried again later."""
    path.parent.rmdir()

    spooler = start()

    assert not spooler.is_usable()
    path.mkdir(parents=True)
    await_usable(spooler)
    append(spooler, [event(1)])
    assert kept(path) == [b"1"]


def test_a_file_under_suspicion_is_left_for_a_new_one(start: Start, path: Path) -> None:
    """The drainer could not read it: what comes next must not lie behind what can't be read."""
    spooler = start()
    append(spooler, [event(1)])
    first = next(path.glob("*.db"))

    spooler.mark_corrupt(first)
    append(spooler, [event(2)])

    assert len(list(path.glob("*.db"))) == 2
    assert kept(path) == [b"1", b"2"]
    lock = SpoolDirectory(path, SpoolBounds(1, 0)).adopt(first)
    assert lock is not None
    lock.release()


def test_closing_commits_what_waits_and_leaves_only_files_with_records(start: Start, path: Path) -> None:
    """An empty file goes with its process, a full one stays for the next drainer."""
    empty, full = start(), start()
    append(full, [event(1)])

    empty.close()
    full.close()

    assert kept(path) == [b"1"]
    assert len(list(path.glob("*.db"))) == 1
    with pytest.raises(SpoolError):
        append(full, [event(2)])


def test_a_disk_that_hangs_is_given_up_at_the_deadline(start: Start, path: Path) -> None:
    """Nobody waits without a bound; what the writer had not begun is not written later."""
    spooler = start(deadline_s=0.2)
    blocker = SpoolFile(next(path.glob("*.db")))
    faults: list[str] = []

    def request(number: int) -> None:
        try:
            append(spooler, [event(number)])
        except SpoolError as error:
            faults.append(error.code)

    with blocker._transaction():  # noqa: SLF001  (holds SQLite's write lock, as a hanging disk would)
        first, second = (threading.Thread(target=request, args=(number,)) for number in (1, 2))
        first.start()
        first.join()
        second.start()
        second.join()
    assert faults == ["spool_slow", "spool_slow"]
    blocker.close()
    append(spooler, [event(3)])

    assert b"2" not in kept(path)
    assert b"3" in kept(path)


def test_a_spool_is_not_usable_while_another_process_holds_the_lock(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it called so before it is: beside a frozen process it would look well for a moment after each failure."""
    monkeypatch.setattr("ingest.spool.file._BUSY_S", 0.05)
    spooler = start()
    lock = try_lock(write_lock_of(next(path.glob("*.db"))))
    assert lock is not None
    with pytest.raises(SpoolError, match="by others"):
        append(spooler, [event(1)])

    seen = []
    for _ in range(10):  # each asks the writer to try again
        seen.append(spooler.is_usable())
        time.sleep(0.02)

    assert not any(seen)
    lock.release()
    await_usable(spooler)
    append(spooler, [event(2)])
    assert kept(path) == [b"2"]


def test_a_defect_does_not_end_the_writer(start: Start, path: Path) -> None:
    """A record that can't be written fails its request; the next one is taken."""
    spooler = start()

    with pytest.raises(SpoolError):
        append(
            spooler,
            [
                Record(b"k", "text"),  # type: ignore[arg-type]  # the defect
            ],
        )
    append(spooler, [event(1)])

    assert b"1" in kept(path)


def test_each_reason_is_shown_before_it_happens(start: Start) -> None:
    """A counter that begins with its first failure has no rate then, and no alarm sees it."""
    metrics = CountingMeter()

    start(metrics=metrics)

    assert set(metrics.shown) == {"spool_full", "spool_failed", "spool_slow", "spool_corrupt"}
    assert metrics.failures == []
