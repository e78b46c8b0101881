"""The files of a spool directory, read by the one process that drains it: oldest records of the oldest file first.

Files of living processes are shared with their owners. Files of dead processes are adopted, deleted when they are
empty, and set aside when they can't be read.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Final

from ingest.ports import Metrics
from ingest.publishing.ports import SpoolError
from ingest.spool.directory import SpoolDirectory
from ingest.spool.file import PASSING, Extent, Spooled, SpoolFile
from ingest.spool.locks import Lock

log = logging.getLogger(__name__)

_MEASURE_S: Final = 1.0
_GAUGES: Final = ("spool_events", "spool_bytes", "spool_oldest_seconds", "spool_parked_events", "spool_corrupt_files")


@dataclass(eq=False)
class Source:
    """An open file; `lock` is held once its owner is dead, `sent` are sent records that could not be deleted yet."""

    file: SpoolFile
    lock: Lock | None = None
    sent: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one file, in order; never empty."""

    source: Source
    records: Sequence[Spooled]


class Backlog:
    """One thread uses it at a time.

    Args:
        directory: the spool directory.
        mark_corrupt: called with a file that can't be read while its owner lives.
        metrics: records the directory's metrics while this process drains it.
    """

    def __init__(self, directory: SpoolDirectory, mark_corrupt: Callable[[Path], None], metrics: Metrics) -> None:
        self._directory = directory
        self._suspect = mark_corrupt
        self._metrics = metrics
        self._lock: Lock | None = None
        self._sources: dict[Path, Source] = {}
        self._told: set[Path] = set()
        self._measured_at_s = float("-inf")

    def acquire(self) -> bool:
        """Become the drainer; False while another process is.

        Raises:
            SpoolError: the directory is missing.
        """
        if self._lock is None:
            self._lock = self._directory.lock_for_draining()
        return self._lock is not None

    def release(self) -> None:
        """Close all files and let another process drain."""
        for path in list(self._sources):
            self._forget(path)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            for name in _GAUGES:
                self._metrics.set(name, 0)

    def next_batch(self, events_max: int, bytes_max: int) -> Batch | None:
        """Return the oldest records, or None when there are none; adopts and deletes files on the way."""
        self._measure()
        paths = self._directory.paths()
        for gone in self._sources.keys() - set(paths):
            self._forget(gone)
        for path in paths:
            try:
                source = self._source(path)
                if not self._is_clear(source):
                    continue
                records = source.file.first(events_max, bytes_max)
                if records:
                    return Batch(source, records)
                self._finish(path, source)
            except SpoolError as error:
                self._doubt(path, error)
        return None

    def delete(self, source: Source, seqs: Sequence[int]) -> None:
        """Delete acknowledged records; those that can't be deleted now are deleted later and not sent again.

        Raises:
            SpoolError: from the disk.
        """
        source.sent.extend(seqs)
        source.file.delete(source.sent)
        source.sent.clear()

    def _is_clear(self, source: Source) -> bool:
        """Delete sent records that are left; while the disk is full, no more of the file is sent."""
        try:
            if source.sent:
                self.delete(source, ())
        except SpoolError as error:
            if error.code not in PASSING:
                raise
            return False
        return True

    def unpark(self) -> None:
        """Put all parked records back into the queue.

        Raises:
            SpoolError: from the disk.
        """
        for path in self._directory.paths():
            self._source(path).file.unpark()

    def extents(self) -> list[Extent]:
        """Return the extent of each readable file."""
        return [source.file.extent() for source in self._sources.values()]

    def _source(self, path: Path) -> Source:
        source = self._sources.get(path)
        if source is None:
            source = self._sources[path] = Source(SpoolFile(path, must_exist=True))
        if source.lock is None:
            source.lock = self._directory.adopt(path)
        return source

    def _finish(self, path: Path, source: Source) -> None:
        """Delete an empty file if its owner is dead and it holds no parked records."""
        if source.lock is not None and not source.file.extent().parked:
            lock = self._forget(path)
            try:
                self._directory.remove(path)
            finally:
                _release(lock)

    def _doubt(self, path: Path, error: SpoolError) -> None:
        """Handle a file that can't be read: set a corrupt one aside once its owner is dead; others are tried again."""
        if not path.exists():  # its owner has stopped and deleted it
            _release(self._forget(path))
            return
        if path not in self._told:
            self._told.add(path)
            log.error("spool file can't be read", extra={"code": error.code, "reason": str(error)})
        lock = self._forget(path) or self._directory.adopt(path)
        try:
            if error.code == "spool_corrupt" and lock is None:
                self._suspect(path)
            elif error.code == "spool_corrupt":
                aside = self._directory.set_aside(path)
                log.critical(
                    "corrupt spool file set aside: its events wait for an operator", extra={"path": str(aside)}
                )
        finally:
            _release(lock)

    def _forget(self, path: Path) -> Lock | None:
        """Close a file and return its lock, if held."""
        source = self._sources.pop(path, None)
        if source is None:
            return None
        try:
            source.file.close()
        except SpoolError as error:
            log.warning("spool file not closed", extra={"reason": str(error)})
        return source.lock

    def _measure(self) -> None:
        """Record the directory's metrics from time to time."""
        now_s = monotonic()
        if now_s - self._measured_at_s < _MEASURE_S:
            return
        self._measured_at_s = now_s
        extents = self.extents()
        oldest = min((extent.oldest_at_ms for extent in extents if extent.oldest_at_ms is not None), default=None)
        figures = (
            sum(extent.events for extent in extents),
            sum(extent.size_bytes for extent in extents),
            0 if oldest is None else max(time() - oldest / 1000, 0),
            sum(extent.parked for extent in extents),
            len(self._directory.set_aside_paths()),
        )
        for name, figure in zip(_GAUGES, figures, strict=True):
            self._metrics.set(name, figure)


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()
