"""The fault proxy before brokers: each fault is the one that was asked for."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from deploy.embedded.broker import EmbeddedBroker, create_topics
from tests.support.kafka import KafkaCluster
from tests.support.kafka_broker import NotAvailableError
from tests.support.kafka_clients import deliver, producer, read_all
from tests.support.ports import free_port
from tests.support.proxy import BlackHole, CutBody, DelayAnswer, DropAnswer, FaultProxy, Mode, Pass, Refuse, Reset

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def proxied_broker() -> Iterator[tuple[FaultProxy, EmbeddedBroker]]:
    """An embedded broker that sends its clients to a proxy; it has a topic "events"."""
    broker_port = free_port()
    with (
        FaultProxy("127.0.0.1", broker_port, http=False) as proxy,
        EmbeddedBroker(broker_port, advertised_port=proxy.port) as broker,
    ):
        create_topics(broker.bootstrap_servers, {"events": 1})
        yield proxy, broker


@pytest.mark.parametrize("fault", [BlackHole(), Refuse(), Reset()], ids=lambda fault: type(fault).__name__)
def test_a_broker_behind_a_fault_takes_nothing_until_it_is_over(
    proxied_broker: tuple[FaultProxy, EmbeddedBroker], fault: Mode
) -> None:
    """A producer that was connected keeps its record through the fault and delivers it afterwards."""
    proxy, _ = proxied_broker
    proxy.set(Pass())
    outcomes: list[KafkaError | None] = []

    def report(error: KafkaError | None, _: Message) -> None:
        outcomes.append(error)

    sender = producer(proxy.address, socket_timeout_ms=1000)
    sender.produce("events", b"connects", on_delivery=report)
    assert sender.flush(20) == 0
    proxy.set(fault)
    sender.produce("events", b"waits", on_delivery=report)
    assert sender.flush(1.5) == 1
    proxy.set(Pass())
    assert sender.flush(20) == 0
    assert outcomes == [None, None]


def test_a_broker_behind_a_delay_answers_late(proxied_broker: tuple[FaultProxy, EmbeddedBroker]) -> None:
    """The acknowledgement of a connected producer takes as long as the delay."""
    proxy, _ = proxied_broker
    proxy.set(Pass())
    sender = producer(proxy.address)
    sender.produce("events", b"connects")
    assert sender.flush(20) == 0
    proxy.set(DelayAnswer(0.5))
    start_s = time.monotonic()
    sender.produce("events", b"late")
    assert sender.flush(20) == 0
    assert 0.5 <= time.monotonic() - start_s < 5
    proxy.set(Pass())


def test_a_broker_whose_bytes_are_cut_appends_nothing(proxied_broker: tuple[FaultProxy, EmbeddedBroker]) -> None:
    """A produce request that ends in its middle is not applied; the producer's next try is."""
    proxy, broker = proxied_broker
    create_topics(broker.bootstrap_servers, {"cut": 1})
    proxy.set(Pass())
    sender = producer(proxy.address)
    sender.produce("cut", b"connects")
    assert sender.flush(20) == 0
    proxy.set(CutBody(20_000))
    sender.produce("cut", b"x" * 100_000)
    proxy.await_count(CutBody, 1)
    proxy.set(Pass())
    assert sender.flush(20) == 0
    assert deliver(proxy.address, "cut", [b"third"]) == [2]


def test_an_acknowledgement_that_is_dropped_does_not_double_the_record() -> None:
    """Apache Kafka applied the request; the idempotent producer's retry is recognised."""
    try:
        cluster = KafkaCluster(1)
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    (node,) = cluster.nodes
    with FaultProxy("127.0.0.1", node.port, http=False) as proxy:
        node.advertised_port = proxy.port
        with cluster:
            cluster.create_topic("events")
            sender = producer(proxy.address)
            sender.produce("events", b"first", partition=0)
            assert sender.flush(20) == 0
            proxy.set(DropAnswer())
            sender.produce("events", b"second", partition=0)
            proxy.await_count(DropAnswer, 1)
            proxy.set(Pass())
            assert sender.flush(20) == 0
            assert deliver(proxy.address, "events", [b"third"]) == [2]
            assert read_all(cluster, "events", 3) == [b"first", b"second", b"third"]


def test_an_unreachable_broker_fails_records_within_their_time(
    proxied_broker: tuple[FaultProxy, EmbeddedBroker],
) -> None:
    """Behind a black hole a new producer gives up after message.timeout.ms."""
    proxy, _ = proxied_broker
    proxy.set(BlackHole())
    start_s = time.monotonic()
    with pytest.raises(KafkaException):
        deliver(proxy.address, "events", [b"x"], message_timeout_ms=1000)
    assert time.monotonic() - start_s < 10
    proxy.set(Pass())
