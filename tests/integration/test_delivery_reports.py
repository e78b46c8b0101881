"""Who brings delivery reports: the event loop whose requests wait for them, or a thread when it is late or absent."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from ingest.ports import NoMetrics
from ingest.publishing.kafka import KafkaBroker, TopicNames
from ingest.publishing.ports import DeliveryStatus, Record
from tests.support.kafka_clients import read
from tests.support.mock_cluster import Api, MockCluster

_WAIT_S = 60.0
_RECORDS = [Record(b"%d" % number, b"x" * 100) for number in range(20)]


class Watched(KafkaBroker):
    """Notes which threads have brought the last report of something."""

    def __init__(self, servers: str, settings: Mapping[str, object] | None = None) -> None:
        """Begin."""
        self.brought_by: set[int] = set()
        properties = {"bootstrap.servers": servers, "message.timeout.ms": 50_000, "linger.ms": 1, **(settings or {})}
        super().__init__(properties, TopicNames("events", "dead"), 2**20, NoMetrics())

    def _release(self, delivery: object) -> None:
        self.brought_by.add(threading.get_ident())
        super()._release(delivery)  # type: ignore[arg-type]


@pytest.fixture
def broker() -> Iterator[Watched]:
    """A producer that reaches a broker."""
    with MockCluster() as cluster:
        cluster.create_topic("events", partitions=2)
        edge = Watched(cluster.bootstrap_servers)
        yield edge
        edge.close(0)


def test_a_loop_whose_requests_wait_brings_their_reports_itself(broker: Watched) -> None:
    """Else each report is a change of threads; the first may still come by the thread, which waits already."""

    async def scene() -> int:
        for _ in range(50):
            sent = broker.send(_RECORDS)
            assert await sent.wait(_WAIT_S)
            assert set(sent.statuses()) == {DeliveryStatus.DELIVERED}
            if broker.brought_by == {threading.get_ident()}:
                break
            broker.brought_by.clear()
        return threading.get_ident()

    assert asyncio.run(scene()) in broker.brought_by


def test_a_thread_brings_the_reports_of_a_loop_that_is_late(broker: Watched) -> None:
    """A loop that stands still in the middle of a wait brings nothing."""

    async def scene() -> None:
        waiting = broker.send(_RECORDS)
        request = asyncio.create_task(waiting.wait(_WAIT_S))
        assert await request
        late = broker.send(_RECORDS)
        request = asyncio.create_task(late.wait(_WAIT_S))
        await asyncio.sleep(0)
        assert late.wait_in_thread(_WAIT_S)  # in the loop's own thread
        assert await request

    asyncio.run(scene())


def test_a_thread_brings_the_reports_that_no_loop_waits_for(broker: Watched) -> None:
    """As for the drainer, also behind requests."""
    asyncio.run(_one(broker))
    assert broker.send(_RECORDS).wait_in_thread(_WAIT_S)


def test_a_record_that_the_broker_refused_is_not_delivered_because_a_later_one_is() -> None:
    """Two requests in flight, the first meets "not the leader": librdkafka reports both records as stored."""
    with MockCluster() as cluster:
        cluster.create_topic("events", partitions=1)
        edge = Watched(cluster.bootstrap_servers, {"batch.num.messages": 1})
        cluster.set_rtt(1, 300)
        cluster.push_request_errors(Api.PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION)
        delivery = edge.send([Record(b"k", b"first"), Record(b"k", b"second")])
        assert delivery.wait_in_thread(_WAIT_S)
        edge.close(0)
        cluster.set_rtt(1, 0)
        with closing(Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "readers"})) as reader:
            reader.assign([TopicPartition("events", 0, 0)])
            stored = [message.value() for message in read(reader, 1)]
            _, end = reader.get_watermark_offsets(TopicPartition("events", 0), timeout=_WAIT_S)

    assert delivery.statuses() == [DeliveryStatus.FAILED, DeliveryStatus.DELIVERED]
    assert (stored, end) == ([b"second"], 1)


async def _one(broker: Watched) -> None:
    assert await broker.send(_RECORDS).wait(_WAIT_S)
