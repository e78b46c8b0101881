"""What lies in a spool directory, seen by the one process that drains it: the oldest records of the oldest file.

Files of living processes are opened beside their owners. Those of dead ones are adopted, deleted when they are empty,
and set aside when they can't be read.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Final

from ingest.counters import Metrics
from ingest.publishing.ports import SpoolError
from ingest.spool.directory import Lock, SpoolDirectory
from ingest.spool.file import PASSING, Extent, Spooled, SpoolFile

log = logging.getLogger(__name__)

_MEASURE_S: Final = 1.0
_GAUGES: Final = ("spool_events", "spool_bytes", "spool_oldest_seconds", "spool_parked_events", "spool_corrupt_files")


@dataclass(eq=False)
class Source:
    """An open file; `lock` is held once it is an orphan, `sent` is what could not be deleted yet."""

    file: SpoolFile
    lock: Lock | None = None
    sent: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one file in their order; never empty."""

    source: Source
    records: Sequence[Spooled]


class Backlog:
    """One thread uses it at a time.

    Args:
        directory: where.
        suspect: hears of a file that can't be read while its owner lives.
        meter: takes the figures of the whole directory while this process drains it.
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
        """Become the one that drains; False while another process is.

        Raises:
            SpoolError: the directory is away.
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
        """Return the oldest records, or None when there are none; looks after the files on the way."""
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
        """Delete what the broker has; what the disk does not let go of now is not sent again, but deleted later.

        Raises:
            SpoolError: as the disk says.
        """
        source.sent.extend(seqs)
        source.file.delete(source.sent)
        source.sent.clear()

    def _is_clear(self, source: Source) -> bool:
        """Delete what is left to delete; while the disk is full nothing more of the file is sent."""
        try:
            if source.sent:
                self.delete(source, ())
        except SpoolError as error:
            if error.code not in PASSING:
                raise
            return False
        return True

    def unpark(self) -> None:
        """Put all parked records back among those to be sent.

        Raises:
            SpoolError: as the disk says.
        """
        for path in self._directory.paths():
            self._source(path).file.unpark()

    def extents(self) -> list[Extent]:
        """Return what each file holds that can be read."""
        return [source.file.extent() for source in self._sources.values()]

    def _source(self, path: Path) -> Source:
        source = self._sources.get(path)
        if source is None:
            source = self._sources[path] = Source(SpoolFile(path, must_exist=True))
        if source.lock is None:
            source.lock = self._directory.adopt(path)
        return source

    def _finish(self, path: Path, source: Source) -> None:
        """Delete an empty file, if its owner is dead and nothing is parked in it."""
        if source.lock is not None and not source.file.extent().parked:
            lock = self._forget(path)
            try:
                self._directory.remove(path)
            finally:
                _release(lock)

    def _doubt(self, path: Path, error: SpoolError) -> None:
        """Deal with a file that can't be read: a corrupt one is set aside once nobody owns it, others may get well."""
        if not path.exists():  # its owner has ended in order
            _release(self._forget(path))
            return
        if path not in self._told:
            self._told.add(path)
            log.error("spool file can't be read", extra={"slug": error.code, "reason": str(error)})
        lock = self._forget(path) or self._directory.adopt(path)
        try:
            if error.code == "spool_corrupt" and lock is None:
                self._suspect(path)
            elif error.code == "spool_corrupt":
                aside = self._directory.set_aside(path)
                log.critical("corrupt spool file set aside: its events wait for a person", extra={"path": str(aside)})
        finally:
            _release(lock)

    def _forget(self, path: Path) -> Lock | None:
        """Close a file and return the lock on it, if it was held."""
        source = self._sources.pop(path, None)
        if source is None:
            return None
        try:
            source.file.close()
        except SpoolError as error:
            log.warning("spool file not closed", extra={"reason": str(error)})
        return source.lock

    def _measure(self) -> None:
        """Tell the figures of the directory, now and then."""
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
