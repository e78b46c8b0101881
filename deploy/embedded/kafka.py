"""Runs Apache Kafka for the embedded pipeline: one node, whose log is on the disk before an event is acknowledged.

Unlike the embedded broker it keeps a commit's metadata, so that every record becomes one row through crashes, and it
keeps its log when everything is killed. It needs Java, and Kafka's jars (see kafka_distribution.py).
"""

import secrets
import signal
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.embedded.kafka_distribution import NotAvailableError, home, java
from deploy.embedded.local_broker import HOST, CannotStartError, LocalBroker, find_free_port

_FORMAT_TIMEOUT_S: Final = 60.0
# The first tier of the compiler alone and the serial collector: it starts in half the time, in a third of the memory.
_JVM: Final = ("-Xms64m", "-Xmx640m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # One node has no copy of its log: an event is acknowledged when it is on the disk, not in the kernel's memory.
    "log.flush.interval.messages": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",  # the first worker need not wait for others
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "4194304",  # its default is a large part of this heap
    "num.io.threads": "4",
    "num.network.threads": "2",
}


class ApacheKafka(LocalBroker):
    """One node, which goes on with what it has kept."""

    name = "broker"
    start_s = 120.0
    end = (signal.SIGTERM, 20.0)

    def __init__(self, port: int, directory: Path, log_path: Path | None = None) -> None:
        """Set the port, the directory that it keeps, and the log file; starts nothing."""
        super().__init__(port, log_path)
        self._directory = directory

    def _command(self) -> list[str]:
        try:
            command = [java(), *_JVM, *_with(home())]
        except NotAvailableError as error:
            raise CannotStartError(f"Apache Kafka can't run on this machine: {error}") from None
        properties = self._configure()
        if not (self._directory / "data" / "meta.properties").is_file():
            self._format(command, properties)
        return [*command, "kafka.Kafka", str(properties)]

    def _configure(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / "server.properties"
        settings = server_properties(self.port, find_free_port(), self._directory / "data")
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
        return path

    def _format(self, command: list[str], properties: Path) -> None:
        """Write the first state of an empty directory."""
        cluster_id = urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(properties)]
        run = subprocess.run([*command, *tool], capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
        if run.returncode:
            raise CannotStartError(f"Apache Kafka could not use {self._directory}: {run.stderr[-300:]}")


def server_properties(port: int, controller_port: int, data: Path) -> dict[str, str]:
    """Return the node's server.properties."""
    return {
        **_SETTINGS,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "log.dirs": str(data),
    }


def _with(jars: Path) -> list[str]:
    return [f"-Dlog4j2.configurationFile={jars / 'log4j2.properties'}", "-cp", f"{jars}/*"]
