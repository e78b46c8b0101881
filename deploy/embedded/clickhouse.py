"""ClickHouse on this machine without a server: `python -m deploy.embedded.clickhouse`.

For trying headrace and for its tests. A process of its own around the engine that chDB is, with
ClickHouse's HTTP interface (clickhouse_http says what of it). HTTP is cheroot's: threads, keep-alive,
chunked bodies, and a stop that lets requests finish, in one process, which the engine needs.

One process has a data directory at a time. A lock on DIR/lock holds that, and goes with the process.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from cheroot.wsgi import Server

    from deploy.embedded.clickhouse_engine import Engine

# Each connection with a request under way has a thread; all beyond wait.
_THREADS: Final = 64
_BACKLOG: Final = 256
_IDLE_S: Final = 30  # ClickHouse's http_receive_timeout and keep_alive_timeout
_A_DAY_S: Final = 86_400
_SERVER_NAME: Final = "headrace-embedded"


class CannotStartError(Exception):
    """Why the server cannot start, as one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is running; return the exit code."""
    options = _options(argv)
    data_dir = options.data_dir.resolve()
    stop = threading.Event()
    try:
        with _locked(data_dir), _serving(options.host, options.port, data_dir) as port:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())  # after the engine's start, which sets its own
            print(f"ready http://{options.host}:{port}", flush=True)
            while not stop.wait(1):
                if options.parent_pid and os.getppid() != options.parent_pid:
                    break
    except CannotStartError as error:
        print(f"clickhouse: {error}", file=sys.stderr)
        return 1
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded.clickhouse", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8123, help="0 takes a free one (%(default)s)")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the tables live; made if missing")
    parser.add_argument("--parent-pid", type=int, help="stop when this process is no longer the parent")
    return parser.parse_args(argv)


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a+")
    except OSError as error:
        raise CannotStartError(f"cannot use the data directory {data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStartError(f"the data directory {data_dir} is in use by {_holder(lock)}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    return f"process {lock.read() or '(starting)'}"


@contextlib.contextmanager
def _serving(host: str, port: int, data_dir: Path) -> Iterator[int]:
    """Yield the port while requests are served; on leaving, running ones finish and the engine closes."""
    try:
        from cheroot.wsgi import Server  # noqa: PLC0415 - a missing extra is to be one sentence

        from deploy.embedded.clickhouse_engine import Engine  # noqa: PLC0415 - as above
        from deploy.embedded.clickhouse_http import Application  # noqa: PLC0415 - as above
    except ImportError as error:
        raise CannotStartError(
            f"{str(error.name).partition('.')[0]} is missing: pip install 'headrace[embedded]'"
        ) from error
    server = Server((host, port), _not_yet, _THREADS, _SERVER_NAME, request_queue_size=_BACKLOG, timeout=_IDLE_S)
    server.shutdown_timeout = _A_DAY_S  # a statement under way is finished, however long it takes
    server.keep_alive_conn_limit = _BACKLOG  # cheroot closes connections beyond 10 of its own accord
    _listen(server)
    with contextlib.closing(_opened(Engine, data_dir / "engine")) as engine:
        server.wsgi_app = Application(engine, _emptied(data_dir / "bodies"), _SERVER_NAME)
        loop = threading.Thread(target=server.serve, name="http")
        loop.start()
        try:
            yield server.bind_addr[1]
        finally:
            server.stop()
            loop.join()


def _listen(server: Server) -> None:
    """Take the port before the engine starts: clients that come meanwhile wait in the backlog."""
    host, port = server.bind_addr
    try:
        server.prepare()
    except OSError as error:
        # cheroot keeps of the cause only its text
        if os.strerror(errno.EADDRINUSE) in str(error):
            raise CannotStartError(f"port {port} of {host} is taken") from error
        raise CannotStartError(f"cannot listen on {host}:{port}: {error}") from error
    # cheroot leaves this out for port 0; without it the port could not be had again for a minute.
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind_addr = server.socket.getsockname()[:2]


def _opened(engine: type[Engine], directory: Path) -> Engine:
    try:
        return engine(directory)
    except RuntimeError as error:
        raise CannotStartError(f"the engine cannot open {directory}: {error}") from error


def _emptied(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def _not_yet(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Stand in for the application until there is an engine; no request gets here before."""
    start_response("503 Service Unavailable", [("Content-Length", "0")])
    return []


if __name__ == "__main__":
    sys.exit(main())
