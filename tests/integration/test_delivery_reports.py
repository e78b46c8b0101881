"""Who takes librdkafka's delivery reports: the event loop whose coroutines wait for them, else a thread."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from ingest.counters import NoMetrics
from ingest.publishing.kafka import KafkaBroker, TopicNames
from ingest.publishing.ports import Record
from tests.support.mock_cluster import MockCluster

WAIT_S: Final = 60.0


class Reports(NoMetrics):
    """Knows which thread took the last report of each delivery, in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self.threads: list[int] = []

    def move(self, name: str, amount: float, **_: str) -> None:
        """Note the thread in which records leave the queue."""
        if name == "producer_queue_records" and amount < 0:
            self.threads.append(threading.get_ident())


@pytest.fixture
def reports() -> Reports:
    """What the broker's edge counts."""
    return Reports()


@pytest.fixture
def broker(reports: Reports) -> Iterator[KafkaBroker]:
    """An edge before a broker that acknowledges everything."""
    with MockCluster() as mock:
        mock.create_topic("events", partitions=2)
        edge = KafkaBroker(
            {"bootstrap.servers": mock.bootstrap_servers, "linger.ms": 1}, TopicNames("events", "dead"), 2**20, reports
        )
        yield edge
        edge.close(1)


async def deliver(broker: KafkaBroker) -> None:
    """Send some records and wait for them in this loop."""
    assert await broker.send([Record(b"k", b"v")] * 3).wait(WAIT_S)


async def until_the_loop_takes_them(broker: KafkaBroker, reports: Reports) -> None:
    """Deliver until the thread, which was in the middle of a poll, leaves the reports to this loop."""
    deadline_s = time.monotonic() + WAIT_S
    while reports.threads[-5:] != [threading.get_ident()] * 5:
        assert time.monotonic() < deadline_s, "the thread takes the reports"
        await deliver(broker)


def test_the_loop_that_waits_takes_its_reports_itself(broker: KafkaBroker, reports: Reports) -> None:
    """No report has to wait for the interpreter then."""
    asyncio.run(until_the_loop_takes_them(broker, reports))


def test_one_loop_after_another_is_served(broker: KafkaBroker) -> None:
    """What the first left behind keeps no other from waiting: a test's, or another server's."""
    for _ in range(5):
        asyncio.run(deliver(broker))


def test_two_loops_at_once_are_served(broker: KafkaBroker) -> None:
    """Whichever polls, each hears of its records."""

    async def deliver_often() -> None:
        for _ in range(50):
            await deliver(broker)

    threads = [threading.Thread(target=asyncio.run, args=(deliver_often(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)


def test_the_thread_takes_over_from_a_loop_that_stands_still(broker: KafkaBroker, reports: Reports) -> None:
    """A thread that waits, the drainer's, hears of its records though the loop that polled is busy or over."""

    async def scene() -> None:
        await until_the_loop_takes_them(broker, reports)
        waiting = asyncio.create_task(deliver(broker))
        await asyncio.sleep(0)
        assert broker.send([Record(b"k", b"v")]).wait_in_thread(WAIT_S)  # blocks this loop
        await waiting

    asyncio.run(scene())
    assert broker.send([Record(b"k", b"v")]).wait_in_thread(WAIT_S)
