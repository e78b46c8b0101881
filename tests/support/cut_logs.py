"""Logs that do not stay what they were: put back to an older copy, or led by a replica that lacks records."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its examples import them so
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.support.kafka import KafkaCluster
from tests.support.kafka_broker import quiet_admin
from tests.support.kafka_node import KafkaNode

_ELECT_S: Final = 60.0
_ASK_S: Final = 0.3


@contextmanager
def stopped(node: KafkaNode) -> Iterator[None]:
    """Stop a node, and start it again behind the block."""
    node.stop()
    try:
        yield
    finally:
        node.start()


def copy_log(node: KafkaNode, topic: str, number: int, copy: Path) -> None:
    """Copy a partition's directory, with the node stopped meanwhile."""
    with stopped(node):
        shutil.copytree(_log_of(node, topic, number), copy)


def put_back(node: KafkaNode, topic: str, number: int, copy: Path) -> None:
    """Let a partition's directory be what it was when it was copied."""
    with stopped(node):
        shutil.rmtree(_log_of(node, topic, number))
        shutil.copytree(copy, _log_of(node, topic, number))


def allow_unclean_elections(cluster: KafkaCluster, topic: str) -> None:
    """Let a replica lead that lacks records, and let a leader take records alone."""
    settings = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = cluster.admin()
    admin.incremental_alter_configs([resource])[resource].result(60)


def replicas_of(cluster: KafkaCluster, topic: str) -> tuple[KafkaNode, KafkaNode]:
    """Return the leader and the other replica of a topic with one partition on two nodes."""
    partition = cluster.admin().list_topics(topic, timeout=60).topics[topic].partitions[0]
    leader = cluster.leader(topic, 0)
    (other,) = (cluster.node(number) for number in partition.replicas if number != leader.node_id)
    return leader, other


def await_leader(topic: str, among: Sequence[KafkaNode]) -> None:
    """Wait until one of these nodes leads the topic's partition, by an unclean election if need be.

    Raises:
        TimeoutError: none does.
    """
    deadline_s = time.monotonic() + _ELECT_S
    while not _leads(topic, among):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"none of {[node.node_id for node in among]} leads {topic}")
        time.sleep(_ASK_S)


def _leads(topic: str, among: Sequence[KafkaNode]) -> bool:
    try:
        leaders = quiet_admin(among[0].address).list_topics(topic, timeout=2).topics[topic].partitions
    except KafkaException:
        return False
    return bool(leaders) and leaders[0].leader in {node.node_id for node in among}


def _log_of(node: KafkaNode, topic: str, number: int) -> Path:
    return node.directory / "data" / f"{topic}-{number}"
