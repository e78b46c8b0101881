"""The switch for generated traffic: runs `python -m bench.traffic` against the collector, one at a time."""

import importlib.util
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from deploy.embedded.process import Child

_MODULE: Final = "bench.traffic"
_MINUTES: Final = 60  # nobody may look any more
_REQUESTS_PER_S: Final = 5  # the collector takes 1000 a minute from one address
_STOP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Mode:
    """What can be sent: its label on the page, and the options of the program."""

    label: str
    options: tuple[str, ...]
    lasts_s: float | None = None


def _live(rate: int) -> Mode:
    batch = max(1, rate // _REQUESTS_PER_S)
    options = (f"--rate={rate}", f"--minutes={_MINUTES}", f"--batch={batch}")
    return Mode(f"{rate} events a second", options, _MINUTES * 60.0)


# Requests of 100 events, because the past comes as fast as it can, and requests are what is limited first.
MODES: Final[Mapping[str, Mode]] = {
    "live-10": _live(10),
    "live-50": _live(50),
    "live-200": _live(200),
    "past": Mode("the last 14 days of 500 readers", ("--days=14", "--readers=500", "--batch=100")),
}
"""By the name that the page sends; it can ask for nothing else."""


class Program(Protocol):
    """The part of a child process that the switch uses."""

    def exit_code(self) -> int | None:
        """Return the exit code, or None while it runs."""

    def stop(self, first: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Stop it and return the exit code."""


class Traffic:
    """Starts and stops the program. Threads share it."""

    def __init__(self, ingest_url: str, log_path: Path, start: Callable[[list[str], Path], Program] = Child) -> None:
        """Begin with nothing running; `start` runs a command with a log."""
        self._url, self._log_path, self._start = ingest_url, log_path, start
        self._mode, self._until_s = "", 0.0
        self._program: Program | None = None
        self._lock = threading.Lock()

    def begin(self, mode: str) -> None:
        """Stop what runs, and start another mode.

        Raises:
            KeyError: there is no such mode.
        """
        options = MODES[mode].options
        with self._lock:
            self._stop()
            # A new seed each time: the same one sends the same readers and, within a millisecond, the same ids.
            command = [sys.executable, "-m", _MODULE, f"--url={self._url}", f"--seed={time.time_ns()}", *options]
            self._program = self._start(command, self._log_path)
            self._mode, self._until_s = mode, time.monotonic() + (MODES[mode].lasts_s or 0.0)

    def stop(self) -> None:
        """Stop what runs."""
        with self._lock:
            self._stop()

    def state(self) -> dict[str, Any]:
        """Return the running mode ("" for none), for how many seconds it will last, and whether the last one failed."""
        with self._lock:
            code = self._program.exit_code() if self._program else 0
            mode = self._mode if code is None else ""
            left_s = max(0.0, self._until_s - time.monotonic()) if mode and MODES[mode].lasts_s else None
            return {"mode": mode, "left_s": left_s, "has_failed": bool(code)}

    def _stop(self) -> None:
        if self._program:
            self._program.stop(signal.SIGTERM, _STOP_S)
            self._program = None


def is_available() -> bool:
    """Tell whether the program is installed: it is no part of the services' packages."""
    try:
        return importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        return False
