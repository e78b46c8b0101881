"""The broker provider: what every broker offers, and what a test may do to nodes of Apache Kafka."""

from pathlib import Path

import pytest

from deploy.embedded.kafka_distribution import NotAvailableError
from tests.support.kafka import ADDRESS_VARIABLE, Broker, provide
from tests.support.kafka_clients import consumer, deliver, read

pytestmark = pytest.mark.kafka


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


def test_an_address_from_the_environment_comes_first(
    embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """HEADRACE_TEST_KAFKA wins over everything else, and its broker is left running."""
    monkeypatch.setenv(ADDRESS_VARIABLE, embedded_broker.bootstrap_servers)
    with provide(say=lambda _: None) as broker:
        assert (broker.name, broker.supports_kip848) == ("external", False)
    assert topic in embedded_broker.leaders(embedded_broker.bootstrap_servers)


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
