"""Writes a process's records to its spool file: one thread commits for all waiting requests, which share one fsync.

The thread owns the process's file. When a commit fails for another reason than lack of room, it releases the file and
starts a new one. The drainer adopts the old file and finds out whether it can be read.
"""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from ingest.ports import Metrics
from ingest.publishing.completion import Completion
from ingest.publishing.ports import SPOOL_FAULTS, Record, SpoolError
from ingest.spool.directory import SpoolDirectory
from ingest.spool.file import PASSING, SpoolFile
from ingest.spool.locks import Lock

log = logging.getLogger(__name__)

_GROUP_BYTES: Final = 8 * 1024 * 1024  # a transaction above SQLite's cache of 2 MiB spills to disk; this bounds it
_RECORD_OVERHEAD_BYTES: Final = 96  # columns, cell and page headers, rounded up
_RETRY_S: Final = 0.5  # how often a failed disk is tried again
_LOOK_AROUND_S: Final = 1.0  # how often the sizes of the other processes' files are read
_SPARE_BYTES: Final = 64 * 1024  # with less room than this the spool counts as full


class _Append:
    """One request's records, waiting for their commit."""

    __slots__ = ("done", "error", "records", "size_bytes")

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.size_bytes = sum(len(r.key) + len(r.value) + _RECORD_OVERHEAD_BYTES for r in records)
        self.error: SpoolError | None = None
        self.done = Completion()

    def settle(self, error: SpoolError | None = None) -> None:
        self.error = error
        self.done.set()


class SpoolWriter:
    """The `Spool` of a process. Coroutines share it; `close` is the last call.

    A missing or full directory does not stop the start: it is logged and tried again.
    """

    def __init__(self, directory: SpoolDirectory, deadline_s: float, metrics: Metrics) -> None:
        self._directory = directory
        self._deadline_s = deadline_s
        self._metrics = metrics
        self._waiting: list[_Append] = []
        self._change = threading.Condition()
        self._is_closing = False
        self._file: SpoolFile | None = None
        self._lock: Lock | None = None
        self._fault: SpoolError | None = None
        self._suspect: Path | None = None
        self._tried_at_s = self._looked_at_s = float("-inf")
        self._others_bytes = 0
        for fault in SPOOL_FAULTS:  # a rate needs a series that exists before the first failure
            metrics.count("spool_failures_total", 0, reason=fault)
        self._commit([])
        self._writer = threading.Thread(target=self._write, name="spool-writer", daemon=True)
        self._writer.start()

    async def append(self, records: Sequence[Record]) -> None:
        """Wait for the commit of these records, at most until the deadline."""
        waiting = _Append(records)
        with self._change:
            if self._is_closing:
                raise SpoolError("spool_failed", "the spool is closed")
            self._waiting.append(waiting)
            self._change.notify()
        if not await waiting.done.wait(self._deadline_s):
            self._withdraw(waiting)
        if waiting.error is not None:
            raise waiting.error

    def _withdraw(self, waiting: _Append) -> None:
        """Give up waiting: records that the writer has not taken are not written; for others the outcome is unknown."""
        with self._change:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        if not waiting.done.is_set:
            waiting.settle(SpoolError("spool_slow", f"the disk did not commit the events within {self._deadline_s} s"))

    def is_usable(self) -> bool:
        """Tell whether the last commit succeeded and there is room for one more request."""
        if self._fault is not None:
            with self._change:
                self._change.notify()  # the writer tries again
        return self._fault is None

    def mark_corrupt(self, path: Path) -> None:
        """Note that the drainer can't read a file; if it is ours, the writer starts a new one before its next write."""
        self._suspect = path

    def close(self) -> None:
        """Commit waiting records, then release the file; an empty file is deleted."""
        with self._change:
            self._is_closing = True
            self._change.notify()
        self._writer.join(self._deadline_s + 1)

    def _write(self) -> None:
        is_over = False
        while not is_over:
            with self._change:
                if not (self._waiting or self._is_closing):
                    self._change.wait()
                group = self._take()
                is_over = self._is_closing and not self._waiting
            try:
                self._commit(group)
            except Exception as error:  # the thread must survive, or every request waits in vain
                log.exception("defect in the spool")
                _settle(group, SpoolError("spool_failed", type(error).__name__))
        self._close_file()

    def _take(self) -> list[_Append]:
        group: list[_Append] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].size_bytes <= _GROUP_BYTES):
            group.append(self._waiting.pop(0))
            size += group[-1].size_bytes
        return group

    def _commit(self, group: list[_Append]) -> None:
        """Write the requests that fit and settle all; an empty group only checks whether the spool is usable again."""
        since_s = monotonic()
        try:
            file = self._open_file()
            fitting = self._fitting(file, group)
            if fitting:
                file.append([record for waiting in fitting for record in waiting.records], time.time_ns() // 1_000_000)
                self._metrics.observe("spool_commit_seconds", monotonic() - since_s)
            elif not group:
                file.check_lock()
        except SpoolError as error:
            self._fail(group, error)
            return
        if fitting or not group:
            self._set_fault(None)
        for waiting in fitting:
            waiting.settle()

    def _fitting(self, file: SpoolFile, group: list[_Append]) -> list[_Append]:
        """Return the requests that fit, in order; settle the others."""
        fitting: list[_Append] = []
        size = 0 if group else _SPARE_BYTES
        others = self._size_of_others(file)
        for waiting in group:
            try:
                self._directory.check_room(size + waiting.size_bytes, file, others)
            except SpoolError as error:
                if error.code not in PASSING:
                    raise
                self._set_fault(error)
                waiting.settle(error)
            else:
                fitting.append(waiting)
                size += waiting.size_bytes
        if not group:
            self._directory.check_room(size, file, others)
        return fitting

    def _fail(self, group: list[_Append], error: SpoolError) -> None:
        self._set_fault(error)
        if error.code not in PASSING:
            self._release_file()
        _settle(group, error)

    def _set_fault(self, fault: SpoolError | None) -> None:
        if fault is not None:
            self._metrics.count("spool_failures_total", 1, reason=fault.code)
        if (fault and fault.code) != (self._fault and self._fault.code):
            if fault is None:
                log.warning("spool usable again")
            else:
                log.error("spool accepts nothing", extra={"code": fault.code, "reason": str(fault)})
        self._fault = fault

    def _open_file(self) -> SpoolFile:
        """Return the process's file, creating it if needed; tries a failed disk at most every _RETRY_S.

        Raises:
            SpoolError: the present fault.
        """
        if self._file is not None and (self._file.path == self._suspect or not self._file.is_in_place()):
            self._release_file()
        if self._file is None:
            now_s = monotonic()
            if self._fault is not None and now_s - self._tried_at_s < _RETRY_S:
                raise self._fault
            self._tried_at_s = now_s
            self._file, self._lock = self._directory.new_file()
        return self._file

    def _release_file(self) -> None:
        """Release the file; the drainer adopts it."""
        file, lock, self._file, self._lock = self._file, self._lock, None, None
        if file is not None:
            with suppress(SpoolError):  # it is released because it failed
                file.close()
        if lock is not None:
            lock.release()

    def _close_file(self) -> None:
        """Delete an empty file; leave any other to the drainer of the next process."""
        if self._file is not None and self._lock is not None:
            try:
                extent = self._file.extent()
                self._file.close()
                if not (extent.events or extent.parked):
                    self._directory.remove(self._file.path)
            except SpoolError as error:
                log.exception("spool file not closed", extra={"reason": str(error)})
            self._lock.release()
            self._file = self._lock = None

    def _size_of_others(self, file: SpoolFile) -> int:
        now_s = monotonic()
        if now_s - self._looked_at_s > _LOOK_AROUND_S:
            self._looked_at_s = now_s
            self._others_bytes = self._directory.size_bytes(besides=file.path)
        return self._others_bytes


def _settle(group: Iterable[_Append], error: SpoolError) -> None:
    """Fail the appends of a group that are not settled yet."""
    for waiting in group:
        if not waiting.done.is_set:
            waiting.settle(error)
