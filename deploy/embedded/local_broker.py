"""A broker of the embedded pipeline in a child process: how it starts, answers and ends. Two kinds follow it."""

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.embedded.process import Child, tail

HOST: Final = "127.0.0.1"
_SAID_LINES: Final = 3


class CannotStartError(Exception):
    """A part did not start; the message is one sentence for the terminal."""


class LocalBroker(ABC):
    """A broker on 127.0.0.1 in a child process that dies with this one; a context manager, or use start and stop.

    Attributes:
        port: where clients find it.
    """

    name: ClassVar[str]
    """What sentences call it."""
    start_s: ClassVar[float]
    """How long it may take to answer."""
    end: ClassVar[tuple[signal.Signals, float]]
    """The signal that ends it, and how long it may take before it is killed."""

    def __init__(self, port: int, log_path: Path | None = None) -> None:
        """Set the port and the log file, which is appended to; starts nothing."""
        self.port = port
        self._log_path = log_path
        self._child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for ``bootstrap.servers``."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None before the start."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the broker and return when it answers a metadata request.

        Raises:
            CannotStartError: the port is taken, something is missing, or there is no answer in time.
        """
        check_port_is_free(self.port, self.name)
        self._child = Child(self._command(), self._log_path)
        try:
            self._await_metadata(self._child)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker, by force when it takes too long. A second call does nothing."""
        if self._child:
            self._child.stop(*self.end)
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command that runs it, with everything that it needs in place.

        Raises:
            CannotStartError: something is missing.
        """

    def _await_metadata(self, child: Child) -> None:
        admin = admin_of(self.bootstrap_servers)
        deadline_s = time.monotonic() + self.start_s
        while time.monotonic() < deadline_s:
            if child.exit_code() is not None:
                raise CannotStartError(
                    f"the {self.name} ended with exit code {child.exit_code()} before it answered on"
                    f" {self.bootstrap_servers}: {tail(self._log_path, _SAID_LINES) or 'it has no log'}"
                )
            try:
                if admin.list_topics(timeout=0.5).brokers:
                    return
            except KafkaException:
                continue
        raise CannotStartError(
            f"the {self.name} did not answer on {self.bootstrap_servers} within {self.start_s:.0f} s:"
            f" {tail(self._log_path, _SAID_LINES) or 'it has no log'}"
        )


def admin_of(bootstrap_servers: str) -> AdminClient:
    """Return a client for administration that logs no refused connection."""
    # log_level 0: refused connections are expected while the broker starts, and this polls until they end.
    quick = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "log_level": 0}
    return AdminClient({"bootstrap.servers": bootstrap_servers, **quick})


def check_port_is_free(port: int, name: str) -> None:
    """Bind the port once: another server there could answer the readiness check in place of the one called ``name``.

    Raises:
        CannotStartError: the port is taken.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the broker does: a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CannotStartError(
                f"the {name} cannot listen on port {port} of {HOST}: {error.strerror}; choose another port"
            ) from None


def find_free_port() -> int:
    """Return a port that is free now; another program may take it before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
