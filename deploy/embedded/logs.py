"""The logs of the parts, kept from filling the disk: each is cut when it has grown, and one older piece is kept."""

import os
import shutil
from pathlib import Path
from time import monotonic
from typing import Final

SIZE_BYTES_MAX: Final = 8 * 1024**2
_EVERY_S: Final = 1.0


class LogRotation:
    """Looks at all logs of a directory, once a second when asked; a log and its older piece have twice the size.

    A part keeps its file open, and writes at its end (O_APPEND), so the file is copied and cut, not renamed. Lines that
    are written between the two are lost: this is for one person's machine.
    """

    def __init__(self, directory: Path, size_bytes_max: int = SIZE_BYTES_MAX) -> None:
        self._directory = directory
        self._size_bytes_max = size_bytes_max
        self._next_s = 0.0

    def look(self) -> None:
        """Cut what has grown, if it is time to look."""
        if monotonic() < self._next_s:
            return
        self._next_s = monotonic() + _EVERY_S
        for path in self._directory.glob("*.log"):
            if path.stat().st_size > self._size_bytes_max:
                draft = path.with_suffix(".log.draft")
                shutil.copyfile(path, draft)
                os.truncate(path, 0)
                draft.replace(path.with_suffix(".log.1"))
