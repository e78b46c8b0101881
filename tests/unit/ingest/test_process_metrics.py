"""What a process uses is reported as it is."""

import errno
import resource
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ingest.process_metrics import ProcessReport, reporting
from tests.support.consumer_fakes import Tally


class Metered(Tally):
    """What is counted; the rest is what nothing asks for here."""

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Set a gauge now and then."""
        raise NotImplementedError

    def observer(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return what observes."""
        raise NotImplementedError

    def adder(self, name: str, **labels: str) -> Callable[[float], None]:
        """Return what adds."""
        raise NotImplementedError


@pytest.fixture
def used_s() -> Iterator[float]:
    """Processor times at the reports."""
    return iter([1.0, 1.5, 4.0])


def test_the_processor_time_adds_up_over_reports(used_s: Iterator[float]) -> None:
    """Each report adds what was used since the last, so that a successor can continue the counter."""
    added: list[float] = []

    class Cpu(Metered):
        def count(self, name: str, amount: float = 1, **labels: str) -> None:
            assert (name, labels) == ("process_cpu_seconds_total", {})
            added.append(amount)

    report = ProcessReport(Cpu(), lambda: next(used_s))
    for _ in range(3):
        report.write()

    assert added == [1.0, 0.5, 2.5]


def test_memory_and_open_files_are_those_of_this_process() -> None:
    """They are reported at once, and are plausible."""
    tally, flushed = Metered(), []
    before_s = time.time()
    with reporting(tally, [lambda: flushed.append(1)]):
        levels = dict(tally.levels)

    assert len(flushed) >= 2  # at the start, and at the end with what is left
    assert levels["process_resident_memory_bytes"] > 10_000_000
    assert 3 <= levels["process_open_fds"] <= levels["process_max_fds"]
    assert levels["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert before_s <= levels["process_start_time_seconds"] <= time.time()


def test_a_flush_that_fails_holds_up_no_other_one_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when clients hold all connections: gauges that stand still for ever would say that all is well."""
    monkeypatch.setattr("ingest.process_metrics._FLUSH_S", 0.01)
    tried, flushed = threading.Semaphore(0), threading.Semaphore(0)

    def fail() -> None:
        tried.release()
        raise OSError(errno.EMFILE, "Too many open files")

    with reporting(Metered(), [fail, flushed.release]):
        for _ in range(5):
            assert tried.acquire(timeout=60)
            assert flushed.acquire(timeout=60)

    assert "Too many open files" in caplog.text


def test_a_process_that_can_open_no_file_reports_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when clients hold all connections: this thread must not end by it, or nothing would be reported any more."""

    def refuse(_: object) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    tally = Metered()
    report = ProcessReport(tally)
    monkeypatch.setattr("ingest.process_metrics.os.listdir", refuse)

    report.write()

    assert "process_open_fds" not in tally.levels
    assert tally.counts
