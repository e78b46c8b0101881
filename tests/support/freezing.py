"""Freezes a process: SIGSTOP comes to a busy machine's threads a little after the call that sent it."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

_STAND_S: Final = 60.0  # measured: under 10 ms, more on a busy machine
_LOOK_S: Final = 0.005


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until every thread stands: connections stay open and nothing answers.

    Raises:
        TimeoutError: it goes on.
    """
    os.kill(pid, signal.SIGSTOP)
    await_frozen(pid)


def await_frozen(pid: int, timeout_s: float = _STAND_S) -> None:
    """Wait until every thread of a process stands: it was frozen, or has frozen itself.

    Raises:
        TimeoutError: it goes on, or has ended.
    """
    deadline_s = time.monotonic() + timeout_s
    while not _stands(pid):
        if time.monotonic() >= deadline_s:
            raise TimeoutError(f"the process {pid} did not freeze")
        time.sleep(_LOOK_S)


def _stands(pid: int) -> bool:
    """Ask the kernel, and leave its answer there for who waits for the process; macOS has no such question.

    Of a process that is not our child, such as a child's child, each thread's state says so.
    """
    if sys.platform == "darwin":
        return True
    if os.getpid() != _parent_of(pid):
        return _states(pid) == {"T"}
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is not None


def _states(pid: int) -> set[str]:
    try:
        return {_fields_of(stat)[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}
    except OSError:  # a thread has ended meanwhile
        return set()


def _parent_of(pid: int) -> int:
    return int(_fields_of(Path(f"/proc/{pid}/stat"))[1])


def _fields_of(stat: Path) -> list[str]:
    """Return the fields behind the program's name, which may hold spaces: state, parent and so on."""
    return stat.read_text().rpartition(")")[2].split()
