"""Apache Kafka's nodes under a test's hands: killed, stopped, frozen, short of replicas, unable to start."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from tests.support.kafka import KafkaCluster
from tests.support.kafka_broker import NotAvailableError
from tests.support.kafka_clients import deliver, producer, read_all

pytestmark = pytest.mark.kafka

Topics = Callable[..., str]


@pytest.fixture(scope="module")
def shared_node() -> Iterator[KafkaCluster]:
    """One node of Apache Kafka for this module."""
    try:
        cluster = KafkaCluster(1)
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with cluster:
        yield cluster


@pytest.fixture
def one_node(shared_node: KafkaCluster) -> Iterator[KafkaCluster]:
    """The node of this module, running again after the test."""
    yield shared_node
    shared_node.heal()


def make_topic(cluster: KafkaCluster, name: str) -> str:
    """Make a topic of this name, with the time in it, so that a test can run twice."""
    unique = f"{name}-{time.time_ns()}"
    cluster.create_topic(unique)
    return unique


def test_acknowledged_records_survive_a_killed_node(one_node: KafkaCluster) -> None:
    """After SIGKILL and a start the node serves the same records on the same port."""
    (node,) = one_node.nodes
    topic, before, port = make_topic(one_node, "killed"), node.pid, node.port
    deliver(one_node.bootstrap_servers, topic, [b"a", b"b"])
    node.kill()
    assert node.pid is None
    node.start()
    assert (node.pid != before, node.port) == (True, port)
    assert deliver(one_node.bootstrap_servers, topic, [b"c"]) == [2]
    assert read_all(one_node, topic, 3) == [b"a", b"b", b"c"]


def test_an_orderly_stop_and_a_start_keep_the_records(one_node: KafkaCluster) -> None:
    """SIGTERM ends the node well within its time, and its data is there at the next start."""
    (node,) = one_node.nodes
    topic = make_topic(one_node, "stopped")
    deliver(one_node.bootstrap_servers, topic, [b"kept"])
    start_s = time.monotonic()
    node.stop()
    assert time.monotonic() - start_s < 15
    node.start()
    assert read_all(one_node, topic, 1) == [b"kept"]


def test_a_paused_node_answers_nothing_until_it_is_resumed(one_node: KafkaCluster) -> None:
    """A record sent to a frozen node is neither acknowledged nor failed, and arrives once the node goes on."""
    (node,) = one_node.nodes
    topic = make_topic(one_node, "paused")
    outcomes: list[KafkaError | None] = []

    def report(error: KafkaError | None, _: Message) -> None:
        outcomes.append(error)

    sender = producer(one_node.bootstrap_servers)
    sender.produce(topic, b"first", on_delivery=report)
    sender.flush(30)
    node.pause()
    sender.produce(topic, b"second", on_delivery=report)
    assert sender.flush(1.0) == 1
    assert node.is_alive()
    node.resume()
    assert sender.flush(30) == 0
    assert outcomes == [None, None]


def test_a_killed_leader_is_replaced_and_loses_nothing(kafka_cluster: KafkaCluster, topic: str) -> None:
    """Another node leads within seconds, has every acknowledged record and takes new ones."""
    deliver(kafka_cluster.bootstrap_servers, topic, [b"before"])
    dead = kafka_cluster.leader(topic, 0)
    dead.kill()
    assert kafka_cluster.leader(topic, 0, other_than=dead) is not dead
    assert deliver(kafka_cluster.bootstrap_servers, topic, [b"after"]) == [1]
    assert read_all(kafka_cluster, topic, 2) == [b"before", b"after"]


def test_a_frozen_leader_is_replaced(kafka_cluster: KafkaCluster, topic: str) -> None:
    """A paused leader loses its lead by missing heartbeats, and is no leader when it wakes."""
    frozen = kafka_cluster.leader(topic, 0)
    frozen.pause()
    successor = kafka_cluster.leader(topic, 0, other_than=frozen)
    kafka_cluster.heal()
    assert kafka_cluster.leader(topic, 0) is successor


def test_what_too_few_replicas_hold_is_not_acknowledged(kafka_cluster: KafkaCluster, new_topic: Topics) -> None:
    """With one of two replicas gone acks=all is refused, as the cluster asks for two; healed, it takes records."""
    topic = new_topic(replication_factor=2)
    leader = kafka_cluster.leader(topic, 0)
    replicas = kafka_cluster.admin().list_topics(timeout=10).topics[topic].partitions[0].replicas
    (follower,) = (kafka_cluster.node(number) for number in replicas if number != leader.node_id)
    follower.kill()
    # Until the dead one has left the replicas in sync, a record waits for it in vain; from then on it is refused.
    refusal, deadline_s = 0, time.monotonic() + 20
    while refusal != KafkaError.NOT_ENOUGH_REPLICAS and time.monotonic() < deadline_s:
        with pytest.raises(KafkaException) as failure:
            deliver(
                kafka_cluster.bootstrap_servers,
                topic,
                [b"refused"],
                enable_idempotence=False,
                retries=0,
                request_timeout_ms=1000,
            )
        refusal = failure.value.args[0].code()
    assert refusal == KafkaError.NOT_ENOUGH_REPLICAS
    kafka_cluster.heal()
    assert deliver(kafka_cluster.bootstrap_servers, topic, [b"taken"])


def test_a_topic_takes_its_own_factor_and_settings(kafka_cluster: KafkaCluster) -> None:
    """create_topic passes on the replication factor and the topic's settings: a record above its limit is refused."""
    name = f"small-{time.time_ns()}"
    kafka_cluster.create_topic(name, replication_factor=2, config={"max.message.bytes": "500"})
    (partition,) = kafka_cluster.admin().list_topics(timeout=10).topics[name].partitions.values()
    assert len(partition.replicas) == 2
    with pytest.raises(KafkaException) as refusal:
        deliver(kafka_cluster.bootstrap_servers, name, [b"x" * 2000])
    assert refusal.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_a_node_that_cannot_start_shows_its_log() -> None:
    """Where the port was taken meanwhile, the error carries what Kafka printed."""
    try:
        cluster = KafkaCluster(1)
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with socket.create_server(("127.0.0.1", cluster.nodes[0].port)), pytest.raises(RuntimeError) as failure:
        cluster.start()
    assert "node 1 of Apache Kafka ended" in str(failure.value)
    assert "Address already in use" in str(failure.value)


def test_nodes_die_with_the_process_that_started_them(shared_node: KafkaCluster, tmp_path: Path) -> None:
    """SIGKILL of the test process takes its nodes along."""
    del shared_node  # it is here for its skip
    program = (
        "from tests.support.kafka import KafkaCluster\n"
        "cluster = KafkaCluster(1)\ncluster.start()\nprint(cluster.nodes[0].port, flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)},  # what it cannot clean up any more goes with the test
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        parent.kill()
    deadline_s = time.monotonic() + 10
    while is_listening(port):
        assert time.monotonic() < deadline_s, "the node outlived its parent"
        time.sleep(0.05)


def is_listening(port: int) -> bool:
    """Tell whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
