"""Logs that do not stay what they were: a partition's directory put back to an older copy, a leader that lacks records."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its examples import them so
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.support.kafka import KafkaCluster
from tests.support.kafka_node import KafkaNode

_ELECT_S: Final = 30.0
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
    cluster.admin().incremental_alter_configs([resource])[resource].result(10)


def await_leader(cluster: KafkaCluster, topic: str, number: int, among: list[KafkaNode]) -> KafkaNode:
    """Wait until one of these nodes leads a partition, by an unclean election if need be; return it.

    Raises:
        TimeoutError: none does.
    """
    deadline_s = time.monotonic() + _ELECT_S
    while time.monotonic() < deadline_s:
        leader = _leader(cluster, topic, number, among)
        if leader is not None:
            return leader
        _elect_uncleanly(cluster, topic, number)
        time.sleep(_ASK_S)
    raise TimeoutError(f"none of {[node.node_id for node in among]} leads {topic}/{number}")


def _leader(cluster: KafkaCluster, topic: str, number: int, among: list[KafkaNode]) -> KafkaNode | None:
    try:
        found = cluster.leaders(among[0].address, timeout_s=2).get(topic, {}).get(number, -1)
    except KafkaException:
        return None
    return next((node for node in among if node.node_id == found and node.is_alive()), None)


def _elect_uncleanly(cluster: KafkaCluster, topic: str, number: int) -> None:
    try:
        cluster.admin().elect_leaders(ElectionType.UNCLEAN, [TopicPartition(topic, number)]).result(5)
    except (KafkaException, TimeoutError):
        return  # it is asked again


def _log_of(node: KafkaNode, topic: str, number: int) -> Path:
    return node.directory / "data" / f"{topic}-{number}"
