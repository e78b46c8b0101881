"""Metadata lists topics and no broker, as a node does that knows itself fenced; then all is as before.

A client of librdkafka drops every broker then. Whether it looks for them again is a race in it; these clients are told
not to, so that it is lost each time.
"""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from consumer.kafka import connectivity, presence
from consumer.kafka.admin_connection import AdminConnection
from ingest.ports import NoMetrics
from ingest.publishing import connectivity as edge_connectivity
from ingest.publishing.kafka import KafkaBroker, TopicNames
from ingest.publishing.ports import DeliveryStatus, Record
from tests.support.fixtures_group import Group
from tests.support.kafka import KafkaCluster
from tests.support.log_members import Member, until
from tests.support.metadata_proxy import MetadataProxy

pytestmark = pytest.mark.kafka
_LOST = {"metadata.recovery.strategy": "none"}


@pytest.fixture(scope="module")
def proxy() -> MetadataProxy:
    """What hides the brokers."""
    return MetadataProxy()


@pytest.fixture(scope="module")
def cluster(proxy: MetadataProxy) -> Iterator[KafkaCluster]:
    """A node that is reached through the proxy."""
    made = KafkaCluster(1, settings={"advertised.listeners": f"PLAINTEXT://{proxy.address}"})
    with proxy.listening(made.nodes[0].port), made:
        made.create_topic("events")  # what lists neither brokers nor topics is no answer to librdkafka
        yield made


def hide(proxy: MetadataProxy, client: AdminClient | Consumer | Producer) -> None:
    """Hide all brokers until a client knows none."""
    proxy.hides = True
    try:
        until(lambda: knows_none(client))
    finally:
        proxy.hides = False


def knows_none(client: AdminClient | Consumer | Producer) -> bool:
    """Tell whether a client has nobody to ask."""
    try:
        client.list_topics(timeout=1)
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError._TRANSPORT)  # noqa: SLF001  (its public name)
    return False


def test_a_client_that_was_told_of_no_broker_asks_nobody_any_more(cluster: KafkaCluster, proxy: MetadataProxy) -> None:
    """And the next one finds what it asks for."""
    assert cluster.nodes[0].is_alive()
    properties: dict[str, str | int | float | bool] = {"bootstrap.servers": proxy.address, "log_level": 0, **_LOST}
    client = AdminClient(properties)
    assert set(client.list_topics(timeout=30).brokers) == {1}
    hide(proxy, client)

    time.sleep(1)
    assert knows_none(client)
    assert set(AdminClient(properties).list_topics(timeout=30).brokers) == {1}


@pytest.mark.parametrize("protocol", ["kip848", "range"])
def test_a_member_that_knows_no_broker_any_more_is_replaced(
    cluster: KafkaCluster, proxy: MetadataProxy, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """A KIP-848 member would own its partitions for ever, and read none of them."""
    monkeypatch.setattr(connectivity, "_EVERY_S", 0.3)
    monkeypatch.setattr(presence, "_EVERY_S", 0.5)
    group = Group(cluster, protocol)
    group.properties |= {**_LOST, "bootstrap.servers": proxy.address}
    member = Member(group.properties, group.topic, AdminConnection({"bootstrap.servers": proxy.address}))
    until(lambda: len(member.owned) == 4, member.poll)
    group.produce([b"before"])
    until(lambda: len(member.records) == 1, member.poll, member.log.membership)
    first = member.log._consumer  # noqa: SLF001  (no other way to see which client it has)
    hide(proxy, first)

    group.produce([b"after"])
    until(lambda: member.records[-1].value == b"after", member.poll, member.log.membership)

    assert member.log._consumer is not first  # noqa: SLF001  (as above)
    assert "lost" in member.names
    member.log.close()


def test_a_producer_that_knows_no_broker_any_more_is_replaced(
    cluster: KafkaCluster, proxy: MetadataProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all events would go to the disk, and nothing would drain it: whether a broker is there it asks itself."""
    monkeypatch.setattr(edge_connectivity, "_COMPARE_S", 2.0)
    assert cluster.nodes[0].is_alive()
    properties = {"bootstrap.servers": proxy.address, "linger.ms": 1, "message.timeout.ms": 1000, **_LOST}
    broker = KafkaBroker(properties, TopicNames("events", "dead"), 2**20, NoMetrics())
    try:
        assert broker.answers(30)
        hide(proxy, broker._producer)  # noqa: SLF001  (no other way to see which it has)
        assert not broker.answers(1)

        until(lambda: broker.answers(1))
        sending = broker.send([Record(b"key", b"value")])
        assert sending.wait_in_thread(30)
        assert sending.statuses() == [DeliveryStatus.DELIVERED]
    finally:
        broker.close(1)


def test_a_producer_is_kept_while_no_other_reaches_a_broker(
    cluster: KafkaCluster, proxy: MetadataProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one would be no better."""
    monkeypatch.setattr(edge_connectivity, "_COMPARE_S", 0.1)
    broker = KafkaBroker({"bootstrap.servers": proxy.address}, TopicNames("events", "dead"), 2**20, NoMetrics())
    first = broker._producer  # noqa: SLF001  (no other way to see which it has)
    cluster.nodes[0].pause()
    try:
        for _ in range(6):
            assert not broker.answers(0.2)
        time.sleep(0.3)
        assert broker._producer is first  # noqa: SLF001  (as above)
    finally:
        cluster.heal()
        broker.close(0)
