"""The broker provider: what every broker offers, and what a test may do to nodes of Apache Kafka."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from tests.support import kafka_distribution
from tests.support.kafka import ADDRESS_VARIABLE, Broker, ContainerKafka, provide
from tests.support.kafka_broker import NotAvailableError, speaks_kip848
from tests.support.kafka_clients import await_assignment, consumer, deliver, read

pytestmark = pytest.mark.kafka

Topics = Callable[..., str]


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


def test_two_runs_may_fetch_kafka_at_once(tmp_path: Path) -> None:
    """Both get the same complete directory, and no draft is left."""
    with ThreadPoolExecutor(2) as threads:
        try:
            homes = list(threads.map(kafka_distribution.home, [tmp_path, tmp_path]))
        except NotAvailableError as reason:
            pytest.skip(str(reason))
    assert homes[0] == homes[1]
    assert [path.name for path in tmp_path.iterdir()] == [f"kafka-{kafka_distribution.VERSION}-with-tools"]
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
