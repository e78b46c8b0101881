"""A command of `python -m consumer`, as a separate process."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.zygote import FORKS, Forked, fork

_ROOT: Final = Path(__file__).resolve().parents[2]


class Command:
    """One command, forked where that is possible. It prints into two files, so nobody has to read while it runs."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it."""
        directory = Path(tempfile.mkdtemp(prefix="headrace-command-"))
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._output, self._said = directory / "output", directory / "said"
        self._output.touch()
        self._said.touch()
        self.process: Forked | subprocess.Popen[bytes]
        if FORKS:
            self.process = fork("consumer.__main__", arguments, environ, self._output, self._said)
        else:
            command = [sys.executable, "-m", "consumer", *arguments]
            with self._output.open("ab") as output, self._said.open("ab") as said:
                self.process = subprocess.Popen(command, cwd=_ROOT, env=environ, stdout=output, stderr=said)

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return its output and what it said besides.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        self.process.wait(timeout)
        return self._output.read_text("utf-8"), self._said.read_text("utf-8")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.process.kill()


def environ_of(prefix: str, **settings: object) -> dict[str, str]:
    """Return this process's environment with settings of a service in place of those that it has."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(prefix)}
    return kept | {f"{prefix}{name.upper()}": str(value) for name, value in settings.items()}
