"""A producer is replaced: what was on its way is told to have failed, at once, and nothing is overlooked."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingest.ports import NoMetrics
from ingest.publishing.kafka import KafkaBroker, TopicNames
from ingest.publishing.ports import DeliveryStatus, Record
from tests.support.ingress import ingress
from tests.support.kafka import EmbeddedKafka
from tests.support.ledger import settle, topic_census
from tests.support.load import load
from tests.support.mock_cluster import MockCluster

_ROOM_BYTES = 8 * 1024 * 1024
_WAIT_S = 60.0
_FROZEN_S = 6.0


class Room(NoMetrics):
    """Knows how many bytes await their acknowledgement."""

    def __init__(self) -> None:
        """Begin with none."""
        self.renewals = 0
        self._reads: dict[str, Callable[[], float]] = {}

    @property
    def bytes(self) -> float:
        """What waits now."""
        return self._reads["producer_queue_bytes"]()

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Keep it."""
        self._reads[name] = read

    def count(self, name: str, amount: float = 1, **_: str) -> None:
        """Count renewals."""
        self.renewals += int(amount) if name == "producer_renewals_total" else 0


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    """A broker that answers as the test says."""
    with MockCluster() as cluster:
        cluster.create_topic("events", partitions=2)
        yield cluster


@pytest.fixture
def room() -> Room:
    """What the broker's edge counts."""
    return Room()


@pytest.fixture
def broker(mock: MockCluster, room: Room) -> Iterator[KafkaBroker]:
    """The edge before it."""
    properties = {"bootstrap.servers": mock.bootstrap_servers, "message.timeout.ms": 300_000, "linger.ms": 1}
    edge = KafkaBroker(properties, TopicNames("events", "dead"), _ROOM_BYTES, room)
    yield edge
    edge.close(0)


def records(count: int) -> list[Record]:
    """Return some records."""
    return [Record(f"k{number}".encode(), b"x" * 100) for number in range(count)]


def test_what_is_on_its_way_fails_at_once_and_the_new_producer_delivers(
    mock: MockCluster, broker: KafkaBroker, room: Room
) -> None:
    """Before the broker would have acknowledged it; the senders spool it."""
    assert broker.send(records(3)).wait_in_thread(_WAIT_S)
    mock.set_rtt(1, 10_000)
    stuck = [broker.send(records(5)) for _ in range(10)]
    broker.renew()
    ended = [sending.wait_in_thread(_WAIT_S) for sending in stuck]
    mock.set_rtt(1, 0)
    after = broker.send(records(5))

    assert after.wait_in_thread(_WAIT_S)
    assert set(after.statuses()) == {DeliveryStatus.DELIVERED}
    assert all(ended)
    assert {fate for sending in stuck for fate in sending.statuses()} == {DeliveryStatus.FAILED}
    assert (room.renewals, room.bytes) == (1, 0)


def test_nobody_who_sends_meanwhile_is_overlooked(broker: KafkaBroker, room: Room) -> None:
    """Whenever the producer is replaced, each sender hears of each record, and all room comes back."""
    is_over = threading.Event()
    unheard: list[DeliveryStatus] = []

    def send() -> None:
        while not is_over.is_set():
            sending = broker.send(records(3))
            if not sending.wait_in_thread(_WAIT_S):
                unheard.extend(sending.statuses())

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + _WAIT_S
    while room.renewals < 4:
        broker.renew()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    is_over.set()
    for thread in threads:
        thread.join()

    assert unheard == []
    assert room.bytes == 0
    assert set(broker.send(records(3)).statuses()) <= {DeliveryStatus.UNKNOWN, DeliveryStatus.DELIVERED}


class Interrupted(KafkaBroker):
    """Replaces its producer in the middle of a send, once: before it takes room, or behind that."""

    before = ""

    def _interrupt(self, step: str, room: Room) -> None:
        if self.before == step:
            self.before = ""
            self.renew()
            deadline_s = time.monotonic() + _WAIT_S
            while not room.renewals or self.is_renewing:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)

    is_renewing = False

    def _renew(self) -> None:
        self.is_renewing = True
        super()._renew()
        self.is_renewing = False

    def _reserve(self, sending: Any, records: Sequence[Record]) -> bool:
        self._interrupt("room", self._room)
        return super()._reserve(sending, records)

    def _produce(self, records: Sequence[Record], delivery: Any) -> None:
        self._interrupt("produce", self._room)
        super()._produce(records, delivery)

    @property
    def _room(self) -> Room:
        assert isinstance(self._metrics, Room)
        return self._metrics


@pytest.mark.parametrize(("before", "fate"), [("room", DeliveryStatus.DELIVERED), ("produce", DeliveryStatus.FAILED)])
def test_a_send_that_is_overtaken_ends(mock: MockCluster, room: Room, before: str, fate: DeliveryStatus) -> None:
    """Before it has taken room it uses the new producer; behind that it hears at once that its records failed."""
    properties = {"bootstrap.servers": mock.bootstrap_servers, "message.timeout.ms": 60_000, "linger.ms": 1}
    edge = Interrupted(properties, TopicNames("events", "dead"), _ROOM_BYTES, room)
    try:
        edge.before = before
        sending = edge.send(records(1))

        assert sending.wait_in_thread(_WAIT_S / 2)
        assert (sending.statuses(), room.bytes) == ([fate], 0)
        assert edge.send(records(1)).wait_in_thread(_WAIT_S)
    finally:
        edge.close(0)


def test_a_producer_that_a_frozen_broker_has_fenced_is_replaced(tmp_path: Path) -> None:
    """The embedded broker stands still for a few seconds: events go to disk, and then to the broker again, each once.

    It goes on refusing the producer that it knew, and takes what a new one sends.
    """
    with EmbeddedKafka() as broker:
        broker.create_topic("events", partitions=2)
        with (
            ingress(tmp_path, broker.bootstrap_servers, topic="events", dead_letter_topic="events") as collector,
            load(collector.port, tmp_path, clients=4, rate=40) as clients,
        ):
            clients.await_count(40)
            broker.pause()
            time.sleep(_FROZEN_S)
            broker.resume()
            collector.await_drained(60)
            deadline_s = time.monotonic() + 60
            while {request.durability for request in clients.so_far[-20:]} != {"broker"}:
                assert time.monotonic() < deadline_s, "never with the broker again"
                time.sleep(0.2)
            requests = clients.stop()
            renewals = collector.figures()["producer_renewals_total"]
            account = settle(requests, topic_census(broker.bootstrap_servers, "events"))
    account.check()
    assert {request.status for request in requests} == {201}
    assert account.on_disk > 0
    assert renewals >= 1
