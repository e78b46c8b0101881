"""Writes on a thread what the way of events does not: a process's time, memory and open files, and pending counts.

Process figures need Linux; elsewhere there are none.
"""

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ingest.ports import Metrics

log = logging.getLogger(__name__)

_FLUSH_S: Final = 1.0
_REPORT_EVERY: Final = 5  # flushes; scrapes are seldom closer together
_LEAVE_S: Final = 1.0
_SELF: Final = Path("/proc/self")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessReport:
    """Reports the process that it was created in; one thread calls `write`.

    The processor time is a counter that a successor continues, so each report adds what was used since the last.
    """

    def __init__(self, metrics: Metrics, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._metrics = metrics
        self._cpu_s = cpu_s
        self._counted_s = 0.0
        metrics.set("process_start_time_seconds", time.time())
        metrics.set("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def write(self) -> None:
        """Report what is used now."""
        cpu_s = self._cpu_s()
        self._metrics.count("process_cpu_seconds_total", cpu_s - self._counted_s)
        self._counted_s = cpu_s
        with suppress(OSError):  # no file can be opened: the figures stay what they were
            resident_pages = int((_SELF / "statm").read_text().split()[1])
            self._metrics.set("process_resident_memory_bytes", resident_pages * _PAGE_BYTES)
            self._metrics.set("process_open_fds", len(os.listdir(_SELF / "fd")))  # noqa: PTH208  (no path for each file)


@contextmanager
def reporting(metrics: Metrics, flushes: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Report the process every five seconds and flush every second until the block is left, and then once more.

    A flush that fails (no file can be opened) holds up no other one, and is tried again the next second.
    """
    report = ProcessReport(metrics) if (_SELF / "statm").exists() else None
    stop = threading.Event()

    def flush() -> None:
        for write_pending in flushes:
            try:
                write_pending()
            except Exception:
                log.exception("pending counts are not written: will try again")

    def write() -> None:
        flush()
        if report is not None:
            report.write()

    def walk() -> None:
        ticks = 0
        while not stop.wait(_FLUSH_S):
            ticks += 1
            write() if ticks % _REPORT_EVERY == 0 else flush()

    write()
    thread = threading.Thread(target=walk, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LEAVE_S)
        write()
