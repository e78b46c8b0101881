"""A program that runs beside this one and never outlives it, however this one ends; and how this one is told to end."""

import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Its standard input is a pipe that only this process holds open: when the process ends, by SIGKILL too, the read
# returns and the child dies. PR_SET_PDEATHSIG would not do: it fires when the *thread* that forked ends, exists on
# Linux alone, and needs a preexec_fn, which is unsafe beside threads (librdkafka's, chDB's).
_WATCH: Final = 'read -r _; kill -KILL "$0" 2>/dev/null'
_KILL_TIMEOUT_S: Final = 10.0  # SIGKILL cannot be refused; this bounds a process stuck in the kernel


class Child:
    """One running program, in a session of its own, with both of its outputs in one file.

    A session of its own, because Ctrl-C reaches every process of the terminal's session at once, and the order in
    which the parts stop belongs to the parent. Safe to start and stop from any thread, but from one at a time.
    """

    def __init__(
        self, command: Sequence[str], log_path: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start ``command`` in ``environ`` (this one by default); its output is appended to ``log_path``, or dropped.

        Raises:
            OSError: the program cannot be executed, or the log cannot be written.
        """
        with contextlib.ExitStack() as files:
            log = files.enter_context(log_path.open("ab")) if log_path else subprocess.DEVNULL
            self._program = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environ,
            )
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(self._program.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The program's process id; it may be another's once the program has ended."""
        return self._program.pid

    def exit_code(self) -> int | None:
        """Return the exit code (-n for signal n), or None while it runs."""
        return self._program.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended is left alone."""
        self._program.send_signal(number)

    def stop(self, first: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send ``first``, wait ``timeout_s``, then SIGKILL; return the exit code. Once more does nothing."""
        self.send(first)
        try:
            self._program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._program.kill()
        return self.wait(_KILL_TIMEOUT_S)

    def wait(self, timeout_s: float) -> int:
        """Wait until it has ended and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout_s``.
        """
        code = self._program.wait(timeout_s)
        self._end_watch()
        return code

    def _end_watch(self) -> None:
        self._watch.kill()
        self._watch.wait()
        if self._watch.stdin:
            self._watch.stdin.close()


class StopRequest:
    """Whether SIGTERM or SIGINT has come since this object was made; to be asked from time to time.

    Not a threading.Event: its set(), called by a handler in the main thread, waits for a lock that wait() may hold in
    that same thread.
    """

    def __init__(self) -> None:
        """Take over both signals; only the main thread may."""
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


def tail(path: Path | None, lines: int = 20) -> str:
    """Return the last lines of a log file, or nothing when there is none."""
    if path is None or not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
