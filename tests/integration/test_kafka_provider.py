"""The broker provider: what every broker offers, and what a test may do to nodes of Apache Kafka."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.support import kafka_distribution
from tests.support.kafka import ADDRESS_VARIABLE, Broker, ContainerKafka, KafkaCluster, provide
from tests.support.kafka_broker import NotAvailableError, speaks_kip848
from tests.support.kafka_clients import await_assignment, consumer, deliver, producer, read, read_all

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


def test_a_group_reads_what_was_acknowledged(any_broker: Broker, topic: str) -> None:
    """Twenty acknowledged records come back to a group, in order."""
    values = [b"%d" % number for number in range(20)]
    assert deliver(any_broker.bootstrap_servers, topic, values) == list(range(20))
    member = consumer(any_broker, f"group-{topic}")
    member.subscribe([topic])
    try:
        assert [record.value() for record in read(member, 20)] == values
    finally:
        member.close()


def test_a_new_topic_has_its_partitions_and_is_gone_after_deletion(any_broker: Broker, new_topic: Topics) -> None:
    """create_topic returns when all partitions lead, delete_topic when the name is no more."""
    name = new_topic(partitions=4)
    assert set(any_broker.leaders(any_broker.bootstrap_servers)[name]) == {0, 1, 2, 3}
    any_broker.delete_topic(name)
    assert name not in any_broker.leaders(any_broker.bootstrap_servers)


def test_a_topic_made_anew_has_another_id(any_broker: Broker, topic: str) -> None:
    """The id, unlike the name, tells a topic from its successor."""
    before = any_broker.topic_id(topic)
    assert any_broker.topic_id(topic) == before
    any_broker.delete_topic(topic)
    any_broker.create_topic(topic)
    assert any_broker.topic_id(topic) != before


def test_commit_metadata_comes_back_where_the_broker_says_so(any_broker: Broker, topic: str) -> None:
    """supports_commit_metadata tells the truth; the offset comes back everywhere."""
    member = consumer(any_broker, f"group-{topic}")
    try:
        member.commit(offsets=[TopicPartition(topic, 0, 7, metadata="range 7 9")], asynchronous=False)
        (committed,) = member.committed([TopicPartition(topic, 0)], timeout=10)
    finally:
        member.close()
    assert committed.offset == 7
    assert committed.metadata == ("range 7 9" if any_broker.supports_commit_metadata else None)


def test_kip848_is_told_by_the_broker_itself(any_broker: Broker) -> None:
    """supports_kip848 agrees with the APIs that the broker lists."""
    assert speaks_kip848(any_broker.bootstrap_servers) is any_broker.supports_kip848


def test_a_group_of_the_new_protocol_reads(any_broker: Broker, topic: str) -> None:
    """group.protocol=consumer works where supports_kip848 says so."""
    if not any_broker.supports_kip848:
        pytest.skip(f"{any_broker.name} has no groups of KIP-848")
    deliver(any_broker.bootstrap_servers, topic, [b"one"])
    member = consumer(any_broker, f"group-{topic}", group_protocol="consumer")
    member.subscribe([topic])
    try:
        assert await_assignment([member], 1) < 10
        assert [record.value() for record in read(member, 1)] == [b"one"]
    finally:
        member.close()


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


def test_nodes_die_with_the_process_that_started_them(shared_node: KafkaCluster) -> None:
    """SIGKILL of the test process takes its nodes along."""
    del shared_node  # it is here for its skip
    program = (
        "from tests.support.kafka import KafkaCluster\n"
        "cluster = KafkaCluster(1)\ncluster.start()\nprint(cluster.nodes[0].port, flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        parent.kill()
    deadline_s = time.monotonic() + 10
    while is_listening(port):
        assert time.monotonic() < deadline_s, "the node outlived its parent"
        time.sleep(0.05)


def test_two_runs_may_fetch_kafka_at_once(tmp_path: Path, shared_node: KafkaCluster) -> None:
    """Both get the same complete directory, and no draft is left."""
    del shared_node  # it is here for its skip
    with ThreadPoolExecutor(2) as threads:
        homes = list(threads.map(kafka_distribution.home, [tmp_path, tmp_path]))
    assert homes[0] == homes[1]
    assert [path.name for path in tmp_path.iterdir()] == [f"kafka-{kafka_distribution.VERSION}"]
    assert len(list(homes[0].glob("kafka*.jar"))) >= 10


def test_an_address_from_the_environment_comes_first(
    embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """HEADRACE_TEST_KAFKA wins over everything else, and its broker is left running."""
    monkeypatch.setenv(ADDRESS_VARIABLE, embedded_broker.bootstrap_servers)
    with provide(say=lambda _: None) as broker:
        assert (broker.name, broker.supports_kip848) == ("external", False)
    assert topic in embedded_broker.leaders(embedded_broker.bootstrap_servers)


def test_an_address_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong HEADRACE_TEST_KAFKA is not replaced by another broker."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv(ADDRESS_VARIABLE, f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ConnectionRefusedError):
            provide()


def test_without_java_the_embedded_broker_serves_and_the_reasons_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was skipped is said in one line; three nodes are not to be had then."""
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("tests.support.kafka._DOCKER_SOCKET", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    with provide(say=told.append) as broker:
        assert broker.name == "embedded"
    assert len(told) == 1
    for reason in ("HEADRACE_TEST_KAFKA is not set", "no container", "java is not on the PATH"):
        assert reason in told[0]
    with pytest.raises(NotAvailableError, match="java is not on the PATH"):
        provide(nodes=3)


def test_a_container_is_not_available_without_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the Docker engine's address leads nowhere, the reason says so."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("tests.support.kafka._DOCKER_SOCKET", tmp_path / "none")
    with pytest.raises(NotAvailableError, match="DOCKER_HOST is not set"):
        ContainerKafka().start()


def is_listening(port: int) -> bool:
    """Tell whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
