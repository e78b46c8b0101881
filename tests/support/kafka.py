"""A broker for tests, the most real one that this machine can run.

In this order: the address in HEADRACE_TEST_KAFKA; a container, where a Docker engine answers; Apache Kafka as a
child process, where Java and Maven are; the embedded broker. `provide` says what it skipped and why.
"""

import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final

from deploy.embedded.broker import CONSUMER_SETTINGS, EmbeddedBroker
from deploy.embedded.kafka_distribution import NotAvailableError
from deploy.embedded.local_broker import CannotStartError
from tests.support.freezing import freeze
from tests.support.kafka_broker import Broker, speaks_kip848
from tests.support.kafka_cluster import KafkaCluster
from tests.support.kafka_node import KafkaNode
from tests.support.ports import free_port

__all__ = ["Broker", "ContainerKafka", "EmbeddedKafka", "ExternalKafka", "KafkaCluster", "KafkaNode", "provide"]

ADDRESS_VARIABLE: Final = "HEADRACE_TEST_KAFKA"
_DOCKER_SOCKET: Final = Path("/var/run/docker.sock")
_IMAGE: Final = "confluentinc/cp-kafka:7.9.0"  # Apache Kafka 3.9 in the layout that testcontainers knows to start


class ExternalKafka(Broker):
    """Whatever answers at the address of HEADRACE_TEST_KAFKA; it is neither started nor stopped."""

    name: ClassVar[str] = "external"

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get(ADDRESS_VARIABLE, "")

    @property
    def bootstrap_servers(self) -> str:
        """The address; empty before the start."""
        return self._address

    def start(self) -> None:
        """Ask it what it can do.

        Raises:
            NotAvailableError: no address is given.
            OSError: one is given and nobody answers there: an error, not a reason to test something else.
        """
        if not self._address:
            raise NotAvailableError(f"{ADDRESS_VARIABLE} is not set")
        self.supports_kip848 = speaks_kip848(self._address)

    def stop(self) -> None:
        """Leave it as it is."""


class ContainerKafka(Broker):
    """Apache Kafka (KRaft) in a container of testcontainers."""

    name: ClassVar[str] = "container"

    def __init__(self) -> None:
        self._running = ExitStack()
        self._address = ""

    @property
    def bootstrap_servers(self) -> str:
        """The address; empty before the start."""
        return self._address

    def start(self) -> None:
        """Pull the image, the first time, and start it.

        Raises:
            NotAvailableError: no Docker engine answers, or the container does not start.
        """
        if self._address:
            return
        if "DOCKER_HOST" not in os.environ and not _DOCKER_SOCKET.is_socket():
            raise NotAvailableError(f"no container: DOCKER_HOST is not set and {_DOCKER_SOCKET} is not there")
        from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - costs 0.5 s, often for nothing

        try:
            container = self._running.enter_context(KafkaContainer(_IMAGE).with_kraft())
        except Exception as error:  # noqa: BLE001 - the Docker client has no one type for "no engine answers"
            raise NotAvailableError(f"no container: {type(error).__name__}: {error}") from None
        self._address = container.get_bootstrap_server()
        self.supports_kip848 = speaks_kip848(self._address)

    def stop(self) -> None:
        """Remove the container."""
        self._running.close()
        self._address = ""


class EmbeddedKafka(Broker):
    """The broker of the embedded pipeline, on its own port."""

    name: ClassVar[str] = "embedded"
    supports_commit_metadata = False
    supports_kip848 = False
    consumer_settings = CONSUMER_SETTINGS

    def __init__(self) -> None:
        self._running = ExitStack()
        self._broker = EmbeddedBroker(free_port())

    @property
    def bootstrap_servers(self) -> str:
        """The address, the same over restarts."""
        return self._broker.bootstrap_servers

    def start(self) -> None:
        """Start it on the same port, with nothing in it.

        Raises:
            NotAvailableError: the extra "embedded" is missing.
        """
        if self._broker.pid is None:
            self._running = ExitStack()
            logs = self._running.enter_context(tempfile.TemporaryDirectory(prefix="headrace-broker-"))
            self._broker = EmbeddedBroker(self._broker.port, Path(logs) / "broker.log")
            try:
                self._running.enter_context(self._broker)
            except CannotStartError as error:
                self._running.close()
                raise NotAvailableError(str(error)) from None

    def pause(self) -> None:
        """Freeze it; connections stay open and nothing is answered."""
        if self._broker.pid is not None:
            freeze(self._broker.pid)

    def resume(self) -> None:
        """Let it go on."""
        if self._broker.pid is not None:
            os.kill(self._broker.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it and forget its log."""
        self._running.close()


def provide(nodes: int = 1, say: Callable[[str], None] = print) -> Broker:
    """Start the first broker that works here and return it; ``say`` hears what was skipped.

    With ``nodes=3`` only Apache Kafka as child processes will do, whose nodes a test may kill.

    Raises:
        NotAvailableError: none works; the message lists why.
    """
    choices: list[Callable[[], Broker]] = [lambda: KafkaCluster(nodes)]
    if nodes == 1:
        choices = [ExternalKafka, ContainerKafka, *choices, EmbeddedKafka]
    skipped: list[str] = []
    for make in choices:
        try:
            broker = make()
            broker.start()
        except NotAvailableError as reason:
            skipped.append(str(reason))
            continue
        say(f"kafka: {broker.name} at {broker.bootstrap_servers}" + "".join(f"; skipped: {why}" for why in skipped))
        return broker
    raise NotAvailableError("; ".join(skipped))
