"""Apache Kafka itself, on this machine, without containers: one node or three."""

import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from confluent_kafka import KafkaException

from deploy.embedded import kafka_distribution
from tests.support import kafka_classes
from tests.support.kafka_broker import Broker
from tests.support.kafka_clients import deliver
from tests.support.kafka_node import CHECKPOINT, HOST, KafkaNode, new_id

_FORMAT_TIMEOUT_S: Final = 180.0  # measured: 0.7 s
_LEADER_TIMEOUT_S: Final = 60.0
_HEAL_TIMEOUT_S: Final = 180.0

# Short where production is patient, so that a test waits for the fault and not for a default.
_QUICK: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "false",  # a topic that nobody made is a mistake
    "auto.leader.rebalance.enable": "false",  # leaders move when a test moves them
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # how long a killed or paused leader is missed
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "4194304",  # its default is half of this heap
    "metadata.max.idle.interval.ms": "0",  # no record twice a second that says nothing
    "num.io.threads": "4",
    "num.network.threads": "2",
}


class KafkaCluster(Broker):
    """A separate cluster: ports, data and logs are its alone, and are gone after ``stop``.

    ``settings`` are server properties of every node; they win over the quick ones here. ``min_insync`` defaults to a
    majority. The children die with the test process. Data survives ``kill`` and ``start`` of a node: it is written to
    files, though not forced to disk (Kafka's default), so it does not survive the machine.
    """

    name: ClassVar[str] = "apache-kafka"

    def __init__(
        self,
        nodes: int = 1,
        *,
        min_insync: int | None = None,
        settings: Mapping[str, str] | None = None,
        options: list[str] | None = None,
    ) -> None:
        """Choose ports and directories and fetch Kafka if need be; nothing is started yet.

        `options` are the JVM's beside those of every node; by default those for a quick start.

        Raises:
            NotAvailableError: no Java 17, or Kafka cannot be fetched.
        """
        java, jars = kafka_distribution.java(), kafka_distribution.home()
        options = kafka_classes.mapping(kafka_classes.archive(jars, _record)) if options is None else options
        self._directory = Path(tempfile.mkdtemp(prefix="headrace-kafka-"))
        self._checkpoint = jars.with_name(f"{jars.name}.checkpoint")  # the same for each node of this Kafka
        self._settings = {**_sizes(nodes, min_insync), **_QUICK, **(settings or {})}
        self.nodes = tuple(
            KafkaNode(n, self._directory / f"node-{n}", java, jars, options) for n in range(1, nodes + 1)
        )

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all nodes, running or not."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Format the data directories the first time, start all nodes, return when each knows all.

        Raises:
            RuntimeError: one did not come up; the message ends with its log.
        """
        try:
            if not self._is_formatted():
                self._format()
            for node in self.nodes:
                node.spawn()
            for node in self.nodes:
                node.await_ready(self._node_ids())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all nodes and delete their data: an orderly end would only take time."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def leader(self, topic: str, partition: int, *, other_than: KafkaNode | None = None) -> KafkaNode:
        """Return the node that leads a partition; ``other_than`` one, once the others have elected it.

        Raises:
            TimeoutError: there is none after 60 s.
        """
        deadline_s = time.monotonic() + _LEADER_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for witness in self.nodes:
                leader = None if witness is other_than else self._leader_by(witness, topic, partition)
                if leader and leader is not other_than:
                    return leader
            time.sleep(0.05)
        raise TimeoutError(f"no leader for {topic}/{partition}")

    def _leader_by(self, witness: KafkaNode, topic: str, partition: int) -> KafkaNode | None:
        if not witness.is_alive():
            return None
        try:
            leader_id = self.leaders(witness.address, timeout_s=1).get(topic, {}).get(partition, -1)
        except KafkaException:  # a paused one
            return None
        return self.node(leader_id) if leader_id > 0 else None

    def node(self, node_id: int) -> KafkaNode:
        """Return the node of that id; ids count from 1."""
        return self.nodes[node_id - 1]

    def heal(self) -> None:
        """Resume, restart and wait until every partition has all of its replicas in sync again.

        Raises:
            RuntimeError: a node did not come up.
            TimeoutError: replicas are still behind after 60 s.
        """
        for node in self.nodes:
            node.resume()
            node.spawn()
        for node in self.nodes:
            node.await_ready(self._node_ids())
        deadline_s = time.monotonic() + _HEAL_TIMEOUT_S
        while behind := self._under_replicated():
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"replicas are still behind: {behind}")
            time.sleep(0.1)

    def _under_replicated(self) -> list[str]:
        topics = self.admin().list_topics(timeout=60).topics
        return [
            f"{name}/{number}"
            for name, topic in topics.items()
            for number, partition in topic.partitions.items()
            if len(partition.isrs) < len(partition.replicas)
        ]

    def _addresses(self) -> list[str]:
        return [node.address for node in self.nodes if node.is_alive()]

    def _default_replication_factor(self) -> int:
        return len(self.nodes)

    def _node_ids(self) -> set[int]:
        return {node.node_id for node in self.nodes}

    def _is_formatted(self) -> bool:
        return (self.nodes[0].directory / "data").is_dir()

    def _format(self) -> None:
        cluster_id = new_id()
        voters = ",".join(f"{node.node_id}@{HOST}:{node.controller_port}" for node in self.nodes)
        for node in self.nodes:
            node.configure({"controller.quorum.voters": voters, **self._settings})
        if not self._checkpoint.exists():
            first, draft = self.nodes[0], self._checkpoint.with_name(f".{self._checkpoint.name}.{secrets.token_hex(4)}")
            run = first.format(cluster_id)
            shown, _ = run.communicate(timeout=_FORMAT_TIMEOUT_S)
            if run.returncode:
                raise RuntimeError(f"Apache Kafka's storage could not be formatted:\n{shown}")
            shutil.copy(first.directory / "data" / CHECKPOINT, draft)
            draft.replace(self._checkpoint)
        for node in self.nodes:
            if not (node.directory / "data").is_dir():
                node.lay_out(cluster_id, self._checkpoint)


def _record(options: list[str]) -> None:
    with KafkaCluster(1, options=options) as cluster:
        cluster.create_topic("some")
        deliver(cluster.bootstrap_servers, "some", [b"record"])
        cluster.nodes[0].stop()


def _sizes(nodes: int, min_insync: int | None) -> dict[str, str]:
    factor = str(nodes)
    insync = str(min_insync or nodes // 2 + 1)
    return {
        "default.replication.factor": factor,
        "min.insync.replicas": insync,
        "offsets.topic.num.partitions": factor,  # so that the coordinators of groups differ
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.min.isr": insync,
        "transaction.state.log.num.partitions": factor,
        "transaction.state.log.replication.factor": factor,
    }
