"""Directories for tests' files in memory.

Brokers and tables make and delete thousands of files. A file system looks long for a free inode where many were just
deleted: that was a sixth of what `make test` took.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")  # noqa: S108  (only its own directories in it)
_OURS: Final = "headrace-tests-"
_ROOM: Final = 4 << 30  # bytes; all of `make test` holds 0.45 GB at once


def has_room(memory: Path = MEMORY) -> bool:
    """Tell whether there is such memory, with room, in which programs may be run too."""
    if not memory.is_dir() or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return False
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
    available = int(facts.get("MemAvailable", "0 kB").split()[0]) << 10
    return min(available, shutil.disk_usage(memory).free) >= _ROOM


def new_directory(memory: Path = MEMORY) -> Path:
    """Make a directory of this process, and remove those of processes that have ended."""
    for left in memory.glob(f"{_OURS}*-*"):
        if not Path("/proc", left.name.split("-")[-2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_OURS}{os.getpid()}-", dir=memory))
