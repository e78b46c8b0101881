"""Runs the broker of the embedded pipeline: Tansu, a Kafka-compatible broker in one binary, in memory.

What its clients need to know (each is stated by a test in tests/integration/test_embedded_broker.py):

- A group takes half of ``session.timeout.ms`` to form, also after every change of members: 22.5 s at librdkafka's
  default of 45 s, 1 s with ``CONSUMER_SETTINGS``. Members notice a change at their next heartbeat.
- It keeps the offset of a commit, but not its metadata.
- A waiting Fetch looks for records once more, after half of ``fetch.wait.max.ms``; a record may be late by that much.
- ListOffsets returns too small an end: one past the *first* record of the last batch. The high watermark in Fetch is
  right.
- A position past the end gets no records and no error, whatever ``auto.offset.reset`` says.
- Producing to a missing topic creates it.
- It does not support the groups of KIP-848.
- It keeps nothing when it stops.
"""

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.embedded.process import Child, tail
from deploy.embedded.program import UnknownProgramError, find_program

HOST: Final = "127.0.0.1"

CONSUMER_SETTINGS: Final[Mapping[str, str | int]] = {
    "session.timeout.ms": 2000,  # the group forms in half of this
    "heartbeat.interval.ms": 500,  # how soon a member notices a change
    "fetch.wait.max.ms": 50,  # a record is late by up to half of this
}

_START_TIMEOUT_S: Final = 10.0  # measured: 0.1 s; more on a busy machine
_STOP_TIMEOUT_S: Final = 5.0
_TOPIC_TIMEOUT_S: Final = 10.0


class CannotStartError(Exception):
    """The broker did not start; the message is one sentence for the terminal."""


class EmbeddedBroker:
    """A broker on 127.0.0.1 in a child process that dies with this one; a context manager, or use start and stop."""

    def __init__(self, port: int, log_path: Path | None = None, program: Path | None = None) -> None:
        """Set the port, the log file, which is appended to, and another program than the known one; starts nothing."""
        self.port = port
        self._program = program
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
            CannotStartError: the port is taken, the extra is missing, or there is no answer within 10 s.
        """
        try:
            program = self._program or find_program()
        except UnknownProgramError as error:
            raise CannotStartError(str(error)) from None
        check_port_is_free(self.port, "embedded broker")
        self._child = Child(self._command(str(program)), self._log_path)
        try:
            self._await_metadata(self._child)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker, by force after 5 s; its records are lost. A second call does nothing."""
        if self._child:
            # Not SIGTERM, which waits 5 s for connections to close. There is nothing to save, and SIGINT works at once.
            self._child.stop(signal.SIGINT, _STOP_TIMEOUT_S)
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, program: str) -> list[str]:
        return [
            program,
            "broker",
            f"--listener-url=tcp://{HOST}:{self.port}",
            f"--advertised-listener-url=tcp://{HOST}:{self.port}",
            "--storage-engine=memory://headrace/",
            "--cluster-id=headrace-embedded",
        ]

    def _await_metadata(self, child: Child) -> None:
        admin = admin_of(self.bootstrap_servers)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if child.exit_code() is not None:
                raise CannotStartError(
                    f"the embedded broker ended with exit code {child.exit_code()} before it answered on"
                    f" {self.bootstrap_servers}: {tail(self._log_path) or 'it has no log'}"
                )
            try:
                admin.list_topics(timeout=0.5)
            except KafkaException:
                continue
            return
        raise CannotStartError(
            f"the embedded broker did not answer on {self.bootstrap_servers} within {_START_TIMEOUT_S:.0f} s"
        )


def create_topics(bootstrap_servers: str, partitions_of: Mapping[str, int]) -> None:
    """Create missing topics with these numbers of partitions; existing topics are left unchanged.

    Raises:
        KafkaException: the broker refused one of them.
        TimeoutError: no answer within 10 s.
    """
    if not partitions_of:
        return
    topics = [NewTopic(name, num_partitions=count, replication_factor=1) for name, count in partitions_of.items()]
    admin = admin_of(bootstrap_servers)  # kept in a variable: its futures die with it
    for answer in admin.create_topics(topics, operation_timeout=_TOPIC_TIMEOUT_S).values():
        try:
            answer.result(_TOPIC_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


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
