"""A real store for the rate limit: Debian's redis-server on its own port, to be frozen, stopped and restarted."""

import shutil
import signal
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import pytest

from deploy.embedded.process import Child
from tests.support.freezing import freeze
from tests.support.ports import free_port

_PROGRAM: Final = "redis-server"
_START_S: Final = 60.0


class RedisServer:
    """One server in memory alone; a context manager. What it counted is gone when it stops."""

    def __init__(self, password: str = "", tls: Sequence[str] = ()) -> None:
        """Choose a port, of TLS alone with the server's options for it; skips the test where the program is missing."""
        if shutil.which(_PROGRAM) is None:
            pytest.skip(f"no {_PROGRAM} on the PATH")
        self.port = free_port()
        self._password = password
        self._tls = list(tls)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The address for INGEST_RATE_LIMIT_STORE_URL."""
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and return when it takes connections."""
        listen = ["--port", "0", "--tls-port", str(self.port), *self._tls] if self._tls else ["--port", str(self.port)]
        command = [_PROGRAM, *listen, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._child = Child([*command, *(["--requirepass", self._password] if self._password else [])])
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise TimeoutError(f"{_PROGRAM} does not answer")

    def stop(self) -> None:
        """Stop it; a frozen one too."""
        if self._child is not None:
            self._child.send(signal.SIGCONT)
            self._child.stop()
            self._child = None

    def pause(self) -> None:
        """Freeze it: connections are taken, and nothing answers."""
        assert self._child is not None
        freeze(self._child.pid)

    def resume(self) -> None:
        """Let it go on."""
        assert self._child is not None
        self._child.send(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
