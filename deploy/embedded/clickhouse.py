"""ClickHouse's own server, from a wheel: `python -m deploy.embedded.clickhouse`.

chdb-core is ClickHouse as a library, including the server's HTTP and native interfaces. One statement opens them, a
second one waits on a pipe until the server must stop. clickhouse_server/ configures its addresses and accounts;
docs/decisions/embedded-clickhouse.md says why.

`chdb` itself is never imported here: its package opens and closes an engine, and a process has only one.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from deploy.embedded.process import StopRequest
from deploy.embedded.sandbox import confine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST: Final = "127.0.0.1"
_CONFIG: Final = Path(__file__).resolve().parent / "clickhouse_server"
_LIBRARY: Final = "_chdb.abi3.so"
# file() reads the pipe until this process closes it or ends.
_SERVE: Final = "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT file('/proc/self/fd/{}') FORMAT Null"
_SYSTEM_FILES: Final = (Path("/proc"), Path("/sys"))  # where ClickHouse reads its own and the machine's metrics
_UNCONFINED: Final = (
    "clickhouse: this kernel has no Landlock (Linux 5.19 has it), so anybody who can connect to"
    f" {HOST} can read the files that you can read"
)
_START_S: Final = 60.0
_TICK_S: Final = 0.02
_WATCH_S: Final = 0.1  # a stop is noticed that late; measured: at 0.02 an idle server took 0.3 % of a core for this


class CannotStartError(Exception):
    """The server can't start, or ended by itself; the message is one sentence."""


class Engine(Protocol):
    """The part of chdb-core's library that this module uses."""

    def query(self, queryStr: str, output_format: str, *, path: str) -> object:  # noqa: N803  (the library's name)
        """Run statements over the data in `path`; return when the last one has ended. Errors go to stderr."""


class Directory:
    """A data directory: `engine` holds the tables, `log` the server's log, `password` the account headrace's password.

    The server reads and writes the first two only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.engine = self.path / "engine"
        self.log = self.path / "log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the directory and lock it; the lock ends with the process."""
        try:
            for directory in (self.engine, self.log):
                directory.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise CannotStartError(f"cannot use the data directory {self.path}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CannotStartError(f"the data directory {self.path} is in use by {_holder(lock)}") from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def password(self) -> str:
        """Return the password, created at the first start; only the file's owner may read it."""
        file = os.open(self.path / "password", os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(file, "r+") as password:
            os.fchmod(file, 0o600)
            if not (text := password.read().strip()):
                text = secrets.token_hex(32)
                password.write(text)
        return text


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    options = _options(argv)
    _forget_environment()
    directory = Directory(options.data_dir)
    try:
        with directory.locked():
            for port in (options.port, options.native_port):
                _check_free(port)
            _configure(options.port, options.native_port, directory)
            stop = StopRequest()
            server = Server(load(), directory, (options.port, options.native_port))
            print(f"ready http://{HOST}:{options.port}", flush=True)
            while not stop.asked and options.parent_pid in (None, os.getppid()):
                server.check()
                time.sleep(_WATCH_S)
            server.stop()
    except CannotStartError as error:
        print(f"clickhouse: {error}", file=sys.stderr)
        return 1
    return 0


class Server:
    """The server, on a thread of this process; it listens once the object is created.

    Raises:
        CannotStartError: it does not listen.
    """

    def __init__(self, engine: Engine, directory: Directory, ports: Sequence[int]) -> None:
        """Start the server."""
        self._engine, self._directory = engine, directory
        self._pipe, self._open = os.pipe()
        self._thread = threading.Thread(target=self._run, name="clickhouse")
        self._thread.start()
        deadline_s = time.monotonic() + _START_S
        while not all(_answers(port) for port in ports):
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                raise CannotStartError(f"{_version()} did not open its ports; {directory.log} may say why")
            time.sleep(_TICK_S)

    def _run(self) -> None:
        if not confine((*_SYSTEM_FILES, _CONFIG), (self._directory.engine, self._directory.log)):
            print(_UNCONFINED, file=sys.stderr)
        self._engine.query(_SERVE.format(self._pipe), "TSV", path=str(self._directory.engine))

    def check(self) -> None:
        """Raise CannotStartError when it has ended by itself."""
        if not self._thread.is_alive():
            raise CannotStartError(f"the server ended by itself; {self._directory.log} may say why")

    def stop(self) -> None:
        """Accept no more requests, and let running ones finish within ClickHouse's five seconds."""
        os.close(self._open)
        self._thread.join()


def load() -> Engine:
    """Load chdb-core's library without its package.

    Raises:
        CannotStartError: it is missing, or does not load.
    """
    paths = (Path(directory) / "chdb" / _LIBRARY for directory in sys.path)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise CannotStartError("chdb-core is missing: pip install 'headrace[embedded]'")
    spec = importlib.util.spec_from_file_location("_chdb", path)
    try:
        if spec is None or spec.loader is None:
            raise CannotStartError(f"{_version()} cannot be loaded from {path}")
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise CannotStartError(f"{_version()} cannot be loaded: {error}") from error
    engine: Engine = module
    return engine


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded.clickhouse", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8123, help="HTTP interface (%(default)s)")
    parser.add_argument("--native-port", type=int, default=9000, help="native interface (%(default)s)")
    parser.add_argument("--data-dir", type=Path, required=True, help="directory of the tables; created if missing")
    parser.add_argument("--parent-pid", type=int, help="stop when the parent process is another one")
    return parser.parse_args(argv)


def _forget_environment() -> None:
    """Restart this program without the caller's environment: SQL's file() can read /proc/self/environ."""
    kept = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    if os.environ.keys() - kept.keys():
        os.execve(sys.executable, sys.orig_argv, kept)  # noqa: S606  (no shell is wanted)


def _configure(port: int, native_port: int, directory: Directory) -> None:
    """Set the environment variables that clickhouse_server/*.xml use, and the files' location."""
    here = rf"(127\.0\.0\.1|localhost):{port}"
    os.environ |= {
        "CLICKHOUSE_HTTP_PORT": str(port),
        "CLICKHOUSE_NATIVE_PORT": str(native_port),
        "CLICKHOUSE_HOSTS": f"regex:{here}",
        "CLICKHOUSE_ORIGINS": f"regex:(http://{here})?",
        "CLICKHOUSE_LOG": str(directory.log / "server.log"),
        "CLICKHOUSE_PASSWORD_SHA256": hashlib.sha256(directory.password().encode()).hexdigest(),
    }
    os.chdir(_CONFIG)


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    return f"process {lock.read() or '(starting)'}"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CannotStartError(f"cannot listen on {HOST}:{port}: {error.strerror}") from error


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def _version() -> str:
    return f"chdb-core {importlib.metadata.version('chdb-core')}"


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the library's threads may outlive the interpreter's end
