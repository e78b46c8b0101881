"""One node of Apache Kafka: a Java process that tests start, freeze, kill and bring back."""

import secrets
import shutil
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.embedded.process import Child, tail
from tests.support.freezing import freeze
from tests.support.kafka_broker import await_metadata, quiet_admin
from tests.support.ports import free_port

HOST: Final = "127.0.0.1"
CHECKPOINT: Final = "bootstrap.checkpoint"
_READY_TIMEOUT_S: Final = 180.0  # measured: 1.6 s to 5 s; a frozen one on a busy machine over 60 s
_ANSWER_S: Final = 5.0  # of a client that has still to connect
_STOP_TIMEOUT_S: Final = 20.0  # a node hands its leaderships over first
# The first tier of the compiler alone and the serial collector: half the time to start, a third of the memory.
_JVM: Final = ["-Xms64m", "-Xmx640m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]


def new_id() -> str:
    """Return a new id of a cluster or a directory: 16 bytes in base64.

    The first one is 0: an id that began with "-" would be read as an option.
    """
    return urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")


class KafkaNode:
    """One broker that is a controller of its cluster too. Its ports and its data stay the same over restarts."""

    def __init__(self, node_id: int, directory: Path, java: str, jars: Path, options: Sequence[str] = ()) -> None:
        """Remember where it lives; ``directory`` is its own, `options` are the JVM's."""
        self.node_id = node_id
        self.port = free_port()
        self.controller_port = free_port()
        self.directory = directory
        self._java = java
        self._jars = jars
        self._options = options
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """Host and port, for clients that should talk to this node first."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._child.pid if self.is_alive() and self._child else None

    def is_alive(self) -> bool:
        """Tell whether the process exists; a paused one does."""
        return self._child is not None and self._child.exit_code() is None

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines that the node printed."""
        return tail(self.directory / "node.log", lines)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write server.properties: what only this node knows, then ``settings``, which win."""
        own = {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.directory / "data"),
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = (f"{name}={value}\n" for name, value in {**own, **settings}.items())
        self._properties.write_text("".join(lines))

    def format(self, cluster_id: str) -> subprocess.Popen[str]:
        """Start writing the first state of an empty data directory; the caller waits for the program's end.

        Without the node's options of the JVM: it would record this program's classes, too, which takes a minute on a
        busy machine.
        """
        told = ["format", "-t", cluster_id, "-c", str(self._properties)]
        command = self._command("kafka.tools.StorageTool", *told, options=())
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def lay_out(self, cluster_id: str, checkpoint: Path) -> None:
        """Write the first state as `format` does, from another node's bootstrap.checkpoint, without a JVM."""
        data = self.directory / "data"
        data.mkdir(parents=True)
        shutil.copy(checkpoint, data / CHECKPOINT)
        own = {"version": "1", "cluster.id": cluster_id, "node.id": str(self.node_id), "directory.id": new_id()}
        (data / "meta.properties").write_text("".join(f"{name}={value}\n" for name, value in own.items()))

    def spawn(self) -> None:
        """Start the process and return at once; one that runs is left alone."""
        if not self.is_alive():
            command = self._command("kafka.Kafka", str(self._properties), options=self._options)
            self._child = Child(command, self.directory / "node.log")

    def start(self) -> None:
        """Start it, again with the same data and ports too, and return when it serves.

        Raises:
            RuntimeError: it ended or did not serve in time; the message ends with its log.
        """
        self.spawn()
        self.await_ready({self.node_id})

    def await_ready(self, nodes: set[int]) -> None:
        """Return when this node answers and knows all of ``nodes`` as serving brokers.

        Raises:
            RuntimeError: as for ``start``.
        """
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while not await_metadata(quiet_admin(self.address), nodes, timeout_s=_ANSWER_S):
            if not self.is_alive() or time.monotonic() >= deadline_s:
                state = "does not serve" if self.is_alive() else "ended"
                raise RuntimeError(f"node {self.node_id} of Apache Kafka {state}:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut it down in order (SIGTERM), by force after 20 s; a paused one is resumed first."""
        if self._child:
            self.resume()
            self._child.stop(signal.SIGTERM, _STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; a paused one dies too."""
        if self._child:
            self._child.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: its connections stay open and nothing answers."""
        if self._child:
            freeze(self._child.pid)

    def resume(self) -> None:
        """SIGCONT: it goes on where it stood; one that was not paused is not disturbed."""
        if self._child:
            self._child.send(signal.SIGCONT)

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _command(self, main: str, *arguments: str, options: Sequence[str]) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={self._jars / 'log4j2.properties'}"
        return [self._java, *_JVM, *options, log4j, "-cp", f"{self._jars}/*", main, *arguments]
