"""The broker's edge, as far as it needs no broker: what an error means, and what becomes of each record."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.errors import Rejected
from ingest.ports import NoMetrics
from ingest.publishing.delivery import status_of
from ingest.publishing.kafka import KafkaBroker, TopicNames
from ingest.publishing.ports import DeliveryStatus, Record
from tests.support.fake_broker import Clock
from tests.support.log_members import until


def test_only_a_refusal_of_the_record_itself_is_one() -> None:
    """Whatever else librdkafka can report is sent again: timeouts, rights, epochs, replicas, purges, the unknown."""
    codes = {
        value for name in dir(KafkaError) if name.isupper() and isinstance(value := getattr(KafkaError, name), int)
    }

    refused = {code for code in codes if status_of(KafkaError(code)) is DeliveryStatus.REFUSED}

    assert len(codes) > 100
    assert refused == {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD}
    assert {status_of(KafkaError(code)) for code in codes - refused} == {DeliveryStatus.FAILED}


class Stored:
    """A report's message: where the record is, or nowhere that the broker has named."""

    def __init__(self, offset: int | None) -> None:
        """Know the offset."""
        self._offset = offset

    def offset(self) -> int | None:
        """Return it."""
        return self._offset


THERE = Stored(7)


class HeldProducer:
    """Takes records up to a number, and reports what the test says."""

    made: list["HeldProducer"]

    def __init__(self, _: Mapping[str, object]) -> None:
        """Take any number."""
        self.reports: list[Callable[[KafkaError | None, Stored], None]] = []
        self.taken: list[tuple[str, list[tuple[str, bytes]]]] = []
        self.room = 1000
        self.asked = 0
        self.trouble: int | None = None
        self.leader = 1
        self.made.append(self)

    def produce(
        self,
        topic: str,
        _value: bytes,
        _key: bytes,
        _partition: int = -1,
        report: Any = None,
        on_delivery: Any = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Take a record, while there is room."""
        if len(self.reports) >= self.room:
            raise BufferError("Local: Queue full")
        self.reports.append(report or on_delivery)
        self.taken.append((topic, [*headers]))

    def poll(self, wait_s: float) -> None:
        """Report nothing by itself."""
        time.sleep(min(wait_s, 0.01))

    def purge(self) -> None:
        """Drop nothing."""

    def flush(self, _: float) -> None:
        """Wait for nothing."""

    def list_topics(self, topic: str, **_: object) -> SimpleNamespace:
        """Find it, with or without a leader, unless there is a trouble."""
        self.asked += 1
        if self.trouble is not None:
            raise KafkaException(KafkaError(self.trouble))
        found = SimpleNamespace(error=None, partitions={0: SimpleNamespace(leader=self.leader)})
        return SimpleNamespace(topics={topic: found})


class Gauges(NoMetrics):
    """Reads gauges when it is asked."""

    def __init__(self) -> None:
        """Know none."""
        self._reads: dict[str, Callable[[], float]] = {}
        self.counted: list[str] = []

    def count(self, name: str, amount: float = 1, **_: str) -> None:
        """Note it."""
        self.counted += [name] * int(amount)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Keep it."""
        self._reads[name] = read

    def __getitem__(self, name: str) -> float:
        return self._reads[f"producer_queue_{name}"]()


@pytest.fixture
def gauges() -> Gauges:
    """What the edge shows."""
    return Gauges()


@pytest.fixture
def clock() -> Clock:
    """The edge's."""
    return Clock()


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch, gauges: Gauges, clock: Clock) -> Iterator[KafkaBroker]:
    """The edge before a producer that reports what the test says."""
    monkeypatch.setattr("ingest.publishing.kafka.Producer", HeldProducer)
    monkeypatch.setattr("ingest.publishing.kafka.monotonic", clock)
    monkeypatch.setattr("ingest.publishing.connectivity.monotonic", clock)
    monkeypatch.setattr(HeldProducer, "made", [], raising=False)
    broker = KafkaBroker({"message.max.bytes": 2000}, TopicNames("events", "dead"), 10_000, gauges)
    yield broker
    broker.close(0)


def held(edge: KafkaBroker) -> HeldProducer:
    """Return the edge's producer."""
    producer = edge._producer  # noqa: SLF001  (it is this test's)
    assert isinstance(producer, HeldProducer)
    return producer


def test_only_what_the_producer_did_not_take_has_failed(edge: KafkaBroker) -> None:
    """What it took before it was full may arrive, so its report is waited for."""
    held(edge).room = 1

    delivery = edge.send([Record(b"k", b"v")] * 3)

    assert delivery.statuses() == [DeliveryStatus.UNKNOWN, DeliveryStatus.FAILED, DeliveryStatus.FAILED]
    assert not delivery.wait_in_thread(0)
    held(edge).reports[0](None, THERE)
    assert delivery.wait_in_thread(0)
    assert delivery.statuses()[0] is DeliveryStatus.DELIVERED


TRACE = ("traceparent", b"00-1")


@pytest.mark.parametrize(
    ("records", "taken"),
    [
        ([Record(b"k", b"v")] * 2, [("events", [])] * 2),
        ([Record(b"k", b"v", (TRACE,)), Record(b"k", b"v")], [("events", [TRACE]), ("events", [])]),
        ([Record(b"k", b"v"), Record(b"k", b"{", dead=True)], [("events", []), ("dead", [])]),
    ],
)
@pytest.mark.parametrize("room", [0, 1, 2])
def test_each_record_goes_to_its_topic_with_its_headers(
    edge: KafkaBroker, records: list[Record], taken: list[tuple[str, list[tuple[str, bytes]]]], room: int
) -> None:
    """As many as the producer takes; the others have failed."""
    held(edge).room = room

    delivery = edge.send(records)

    assert held(edge).taken == taken[:room]
    assert delivery.statuses().count(DeliveryStatus.FAILED) == len(records) - room


def test_the_first_report_of_a_record_counts(edge: KafkaBroker) -> None:
    """A producer that is replaced reports once more what it has reported; nothing ends before its time by that."""
    delivery = edge.send([Record(b"k", b"v")] * 2)
    first, second = held(edge).reports

    first(None, THERE)
    first(KafkaError(KafkaError._PURGE_QUEUE), THERE)  # noqa: SLF001  (the library's name)

    assert delivery.statuses() == [DeliveryStatus.DELIVERED, DeliveryStatus.UNKNOWN]
    assert not delivery.wait_in_thread(0)
    second(None, THERE)
    assert delivery.wait_in_thread(0)


def test_a_record_whose_offset_nobody_names_is_not_delivered(
    edge: KafkaBroker, gauges: Gauges, caplog: pytest.LogCaptureFixture
) -> None:
    """Offset 0 is one; without any, librdkafka only concludes that the record is there, and an operator hears of it."""
    delivery = edge.send([Record(b"k", b"v")] * 2)
    first, second = held(edge).reports

    first(None, Stored(0))
    second(None, Stored(None))

    assert delivery.wait_in_thread(0)
    assert delivery.statuses() == [DeliveryStatus.DELIVERED, DeliveryStatus.FAILED]
    assert gauges.counted == ["producer_missing_offsets_total"]
    assert "without its offset" in caplog.text


def test_gauges_show_what_awaits_its_report(edge: KafkaBroker, gauges: Gauges) -> None:
    """A request's records wait until the last of them is reported."""
    edge.send([Record(b"k", b"v" * 10)] * 2)

    assert gauges["records"] == 2
    assert gauges["bytes"] > 2 * 10
    for report in held(edge).reports:
        report(None, THERE)
    assert (gauges["records"], gauges["bytes"]) == (0, 0)


@pytest.mark.parametrize(("size", "is_taken"), [(1400, True), (1600, False)])
def test_a_record_that_is_too_large_is_refused_before_it_is_sent(
    edge: KafkaBroker, size: int, *, is_taken: bool
) -> None:
    """Also when another record has the longest key, so that both together say nothing of either."""
    records = [Record(b"k", b"v" * size), Record(b"k" * 90, b"v")]

    if is_taken:
        edge.check(records)
    else:
        with pytest.raises(Rejected, match="1600 bytes in Avro"):
            edge.check(records)


NO_CONNECTION = KafkaError._TRANSPORT  # noqa: SLF001  (its public name)


def asked(edge: KafkaBroker, clock: Clock, pauses_s: Sequence[float]) -> int:
    """Ask after each of these pauses whether the broker answers; return how often a renewal was asked for."""
    renewals = 0
    for pause_s in pauses_s:
        clock.now_s += pause_s
        assert not edge.answers(1)
        renewals += edge._is_renewal_asked  # noqa: SLF001  (the poller, whose thread a clock does not hold, may be late)
        edge._is_renewal_asked = False  # noqa: SLF001  (as above)
    return renewals


@pytest.fixture
def alone(edge: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> HeldProducer:
    """The edge's producer, without a connection; renewals are only asked for."""
    monkeypatch.setattr(edge, "_renew", lambda: time.sleep(0.01))
    held(edge).trouble = NO_CONNECTION
    return held(edge)


def test_a_producer_that_alone_has_no_connection_is_replaced(
    edge: KafkaBroker, clock: Clock, alone: HeldProducer
) -> None:
    """After two looks of a newcomer, ten seconds from each other; the next time later, for it may not help."""
    assert asked(edge, clock, [1] * 19) == 0
    assert len(HeldProducer.made) == 2
    assert asked(edge, clock, [1]) == 1
    assert asked(edge, clock, [1] * 39) == 0
    assert asked(edge, clock, [1]) == 1
    assert alone.asked == 60


def test_a_producer_is_kept_while_a_new_one_has_no_connection_either(
    edge: KafkaBroker, clock: Clock, alone: HeldProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is away. A newcomer is asked twice, and then another one is made."""
    monkeypatch.setattr(HeldProducer, "list_topics", no_connection)

    assert asked(edge, clock, [10] * 8) == 0
    assert len(HeldProducer.made) == 1 + 4
    assert held(edge) is alone


def no_connection(*_: object, **__: object) -> None:
    """Fail as a client without a broker."""
    raise KafkaException(KafkaError(NO_CONNECTION))


def test_a_producer_whose_broker_is_late_is_kept(edge: KafkaBroker, clock: Clock, alone: HeldProducer) -> None:
    """It has a connection, and a new one would soon be no better."""
    alone.trouble = KafkaError._TIMED_OUT  # noqa: SLF001  (its public name)

    assert asked(edge, clock, [10] * 8) == 0
    assert HeldProducer.made == [alone]


def test_a_topic_without_a_leader_is_no_answer(edge: KafkaBroker, clock: Clock, alone: HeldProducer) -> None:
    """Nobody can store events there, and a new producer would be no better."""
    alone.trouble, alone.leader = None, -1

    assert asked(edge, clock, [10] * 4) == 0
    assert HeldProducer.made == [alone]


def test_one_look_of_each_outage_replaces_no_producer(edge: KafkaBroker, clock: Clock, alone: HeldProducer) -> None:
    """The broker came back between the two questions, whenever that was last."""
    assert asked(edge, clock, [10, 3600, 3600, 3600]) == 0
    alone.trouble = None
    assert edge.answers(1)
    alone.trouble = NO_CONNECTION
    assert asked(edge, clock, [10]) == 0


def test_a_machine_on_which_no_producer_can_be_made_keeps_the_old_one(
    edge: KafkaBroker, clock: Clock, alone: HeldProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without descriptors, or with a certificate that can't be read any more. Who asks goes on."""
    monkeypatch.setattr("ingest.publishing.kafka.Producer", no_connection)

    assert asked(edge, clock, [10] * 3) == 0
    assert held(edge) is alone


def test_a_renewal_that_fails_is_tried_again(
    edge: KafkaBroker, clock: Clock, gauges: Gauges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread goes on, and so do the reports of the old producer."""
    old = held(edge)
    monkeypatch.setattr("ingest.publishing.kafka.Producer", no_connection)
    edge.renew()
    until(lambda: edge._renewed_at_s == clock.now_s)  # noqa: SLF001  (the only sign of a try)
    assert held(edge) is old
    monkeypatch.setattr("ingest.publishing.kafka.Producer", HeldProducer)
    clock.now_s += 2

    until(lambda: held(edge) is not old)
    assert gauges.counted == ["producer_renewals_total"]
