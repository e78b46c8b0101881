"""A process that has imported what `python -m consumer` needs, and forks it: the imports take most of a second.

For tests that start workers and commands by the dozen; others start `python -m consumer` as a person would. Two such
processes take turns, because forks of one process share its hash seed: workers that follow each other differ in it, as
programs do.
"""

import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

_ROOT: Final = Path(__file__).resolve().parents[2]
_START_S: Final = 60.0
_PROCESSES: Final = 2
_PRELOADED: Final = "consumer.__main__"
FORKS: Final = sys.platform == "linux"
"""Whether that is possible here."""


class Forked:
    """One process, as `subprocess.Popen` has it."""

    def __init__(self, pid: int) -> None:
        """Know its process id."""
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        """Learn its exit code, negative for a signal; the process id may be another's from now on."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"the process {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and nobody has told us yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The other end of the process; threads share it."""

    def __init__(self) -> None:
        """Start it; it ends with this process, and its workers with it. A terminal's Ctrl-C does not reach it."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=_ROOT, pass_fds=[theirs.fileno()], process_group=0)
        theirs.close()
        self._connection = ours
        self._lock = threading.Lock()
        self._numbers = count()
        self._born: dict[int, Forked] = {}
        self._change = threading.Condition()
        self._living: dict[int, Forked] = {}
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    def start(
        self, module: str, arguments: Sequence[str], environ: Mapping[str, str], output: Path, said: Path
    ) -> Forked:
        """Start a module's `main` as a process that appends its output to one file and its standard error to another.

        Raises:
            OSError: the process that forks has ended, or is stuck.
        """
        with self._lock:
            number = next(self._numbers)
            order = Order(number, module, list(arguments), dict(environ), str(output), str(said))
            _say(self._connection, **order._asdict())
        with self._change:
            if not self._change.wait_for(lambda: number in self._born, _START_S):
                raise TimeoutError("nothing was forked")
            return self._born.pop(number)

    def _listen(self) -> None:
        with self._connection.makefile("r") as lines:
            for line in lines:
                told = json.loads(line)
                if "code" in told:
                    self._living.pop(told["pid"]).end(told["code"])
                    continue
                forked = self._living[told["pid"]] = Forked(told["pid"])
                with self._change:
                    self._born[told["number"]] = forked
                    self._change.notify_all()
        for forked in self._living.values():
            forked.end(-signal.SIGKILL)


_lock: Final = threading.Lock()
_shared: Final[list[Zygote]] = []


def fork(
    module: str, arguments: Sequence[str], environ: Mapping[str, str], output: Path, said: Path | None = None
) -> Forked:
    """Let the next of the two processes fork one; see `Zygote.start`. By default one file takes both."""
    with _lock:
        if len(_shared) < _PROCESSES:
            _shared.append(Zygote())
        _shared.reverse()
        zygote = _shared[0]
    return zygote.start(module, arguments, environ, output, said or output)


class Order(NamedTuple):
    """What a child is to become."""

    number: int
    module: str
    arguments: list[str]
    environ: dict[str, str]
    output: str
    said: str

    def become(self) -> None:
        """Be that program."""
        for number, path in ((1, self.output), (2, self.said)):
            opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.clear()
        os.environ.update(self.environ)
        sys.argv = [self.module, *self.arguments]
        importlib.import_module(self.module).main()


def serve(connection: socket.socket) -> Order | None:
    """Fork a child for each order, which returns it; None at the end of the connection."""
    watched = selectors.DefaultSelector()
    watched.register(connection, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in watched.select():
            if key.fileobj is not connection:
                _bury(watched, key, connection)
                continue
            data = connection.recv(1 << 20)
            if not data:
                _kill(watched)
                return None
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                order = Order(**json.loads(line))
                pid = os.fork()
                if not pid:
                    _drop(watched)
                    return order
                _say(connection, pid=pid, number=order.number)
                watched.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)


def _bury(watched: selectors.BaseSelector, key: selectors.SelectorKey, connection: socket.socket) -> None:
    watched.unregister(key.fileobj)
    os.close(key.fd)
    _, status = os.waitpid(key.data, 0)
    _say(connection, pid=key.data, code=os.waitstatus_to_exitcode(status))


def _kill(watched: selectors.BaseSelector) -> None:
    """End all children, whose owner has gone."""
    for key in watched.get_map().values():
        if key.data is not None:
            signal.pidfd_send_signal(key.fd, signal.SIGKILL)


def _drop(watched: selectors.BaseSelector) -> None:
    """Close what belongs to the parent alone."""
    for key in list(watched.get_map().values()):
        os.close(key.fd)
    watched.close()


def _say(connection: socket.socket, **told: Any) -> None:
    connection.sendall(json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    importlib.import_module(_PRELOADED)
    ordered = serve(socket.socket(fileno=int(sys.argv[1])))
    if ordered is not None:
        ordered.become()
