"""Rotates the logs of the parts, so that they don't fill the disk; one older piece of each is kept."""

import os
import shutil
from pathlib import Path
from time import monotonic
from typing import Final

SIZE_BYTES_MAX: Final = 8 * 1024**2
_EVERY_S: Final = 1.0


class LogRotation:
    """Rotates all logs of a directory, at most once a second; a log and its older piece have at most twice the size.

    A part keeps its file open and appends (O_APPEND), so the file is copied and truncated, not renamed. Lines written
    in between are lost, which is acceptable on one person's machine.
    """

    def __init__(self, directory: Path, size_bytes_max: int = SIZE_BYTES_MAX) -> None:
        self._directory = directory
        self._size_bytes_max = size_bytes_max
        self._next_s = 0.0

    def look(self) -> None:
        """Rotate logs that are too large, if it is time to check."""
        if monotonic() < self._next_s:
            return
        self._next_s = monotonic() + _EVERY_S
        for path in self._directory.glob("*.log"):
            if path.stat().st_size > self._size_bytes_max:
                draft = path.with_suffix(".log.draft")
                shutil.copyfile(path, draft)
                os.truncate(path, 0)
                draft.replace(path.with_suffix(".log.1"))
