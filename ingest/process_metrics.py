"""Reports what a worker process uses: processor time, memory, open files. Linux only; elsewhere it reports nothing."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ingest.counters import Metrics

_EVERY_S: Final = 5.0  # scrapes are seldom closer together
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
        resident_pages = int((_SELF / "statm").read_text().split()[1])
        self._metrics.set("process_resident_memory_bytes", resident_pages * _PAGE_BYTES)
        self._metrics.set("process_open_fds", len(os.listdir(_SELF / "fd")))  # noqa: PTH208  (no path for each file)


@contextmanager
def reporting_process(metrics: Metrics) -> Iterator[None]:
    """Report now, and every few seconds on a thread until the block is left."""
    if not (_SELF / "statm").exists():
        yield
        return
    report, stop = ProcessReport(metrics), threading.Event()
    report.write()

    def walk() -> None:
        while not stop.wait(_EVERY_S):
            report.write()

    thread = threading.Thread(target=walk, name="process-report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LEAVE_S)
