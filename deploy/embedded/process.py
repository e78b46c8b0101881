"""Runs a child process that never outlives this one, and receives this process's stop signals."""

import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Its standard input is a pipe that only this process holds open: when this process ends, even by SIGKILL, the read
# returns and the child is killed. PR_SET_PDEATHSIG does not suit: it fires when the *thread* that forked ends, exists
# only on Linux, and needs a preexec_fn, which is unsafe with threads (librdkafka's, chDB's).
_WATCH: Final = 'read -r _; kill -KILL "$0" 2>/dev/null'
_KILL_TIMEOUT_S: Final = 10.0  # for a process stuck in the kernel; SIGKILL can't be refused otherwise


class Child:
    """One running program in a separate session, with both outputs in one file.

    Separate, because Ctrl-C reaches every process of the terminal's session at once, but the parent decides the order
    in which the parts stop. May be started and stopped from any thread, one at a time.
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
        """The program's process id; it may be reused once the program has ended."""
        return self._program.pid

    def exit_code(self) -> int | None:
        """Return the exit code (-n for signal n), or None while it runs."""
        return self._program.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the program has ended."""
        self._program.send_signal(number)

    def stop(self, first: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send ``first``, wait ``timeout_s``, then SIGKILL; return the exit code. A second call does nothing."""
        self.send(first)
        try:
            self._program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._program.kill()
        return self.wait(_KILL_TIMEOUT_S)

    def wait(self, timeout_s: float) -> int:
        """Wait until the program has ended and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it is still running after ``timeout_s``.
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
    """Tells whether SIGTERM or SIGINT has arrived since its creation; poll it.

    Not a threading.Event: its set(), called in a signal handler, waits for a lock that wait() may hold in the same
    thread.
    """

    def __init__(self) -> None:
        """Install handlers for both signals; call it in the main thread."""
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


def tail(path: Path | None, lines: int = 20) -> str:
    """Return the last lines of a log file, "" when there is none."""
    if path is None or not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
