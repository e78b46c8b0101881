"""The publisher: with the broker while it answers, else on disk, and refused only when neither takes it."""

import asyncio
from collections.abc import Sequence

import pytest

from ingest.counters import EventCounters
from ingest.errors import Overloaded, Rejected, Unavailable
from ingest.publishing.circuit_breaker import Breaker, State
from ingest.publishing.ports import DeliveryStatus, Durability, Record, SpoolError
from ingest.publishing.publisher import DurablePublisher, Timeouts
from tests.support.fake_broker import Clock, FakeBroker, event


class FakeSpool:
    """A spool in memory; `fault` is what it raises."""

    def __init__(self) -> None:
        """Be empty."""
        self.records: list[Record] = []
        self.fault: SpoolError | None = None

    async def append(self, records: Sequence[Record]) -> None:
        """Keep all, or raise."""
        if self.fault is not None:
            raise self.fault
        self.records += records

    def is_usable(self) -> bool:
        """Tell."""
        return self.fault is None


class Scene:
    """A publisher between a broker and a spool, with a clock."""

    def __init__(self) -> None:
        """Put them together."""
        self.clock = Clock()
        self.broker = FakeBroker(self.clock)
        self.spool = FakeSpool()
        self.breaker = Breaker()
        self.ledger = EventCounters()
        self.publisher = DurablePublisher(
            self.broker, self.spool, self.breaker, Timeouts(deadline_s=5, slow_s=1), self.ledger, self.clock
        )

    def publish(self, *numbers: int) -> tuple[Durability, float]:
        """Publish events; return where they are, and how long that took."""
        began_s = self.clock()
        durability = asyncio.run(self.publisher.publish([event(number) for number in numbers]))
        return durability, self.clock() - began_s

    def counts(self) -> dict[str, int]:
        """Return what the counters say of the publisher."""
        figures = self.ledger.figures()
        return {name: int(figures[name]) for name in ("delivered", "spooled", "orphaned")}


@pytest.fixture
def scene() -> Scene:
    """A broker that is well, an empty spool."""
    return Scene()


def numbers(records: Sequence[Record]) -> list[int]:
    """Return the events' numbers."""
    return [int(record.value) for record in records]


def test_what_the_broker_acknowledges_is_with_the_broker(scene: Scene) -> None:
    """The spool is not touched."""
    assert scene.publish(1, 2)[0] is Durability.BROKER

    assert numbers(scene.broker.log) == [1, 2]
    assert scene.spool.records == []
    assert scene.counts() == {"delivered": 2, "spooled": 0, "orphaned": 0}


def test_what_the_broker_fails_goes_to_the_disk(scene: Scene) -> None:
    """Only that, in its order, and the answer says disk."""
    scene.broker.judge = lambda record: (
        DeliveryStatus.FAILED if record.value in {b"2", b"4"} else DeliveryStatus.DELIVERED
    )

    assert scene.publish(1, 2, 3, 4)[0] is Durability.DISK

    assert numbers(scene.spool.records) == [2, 4]
    assert scene.counts() == {"delivered": 2, "spooled": 2, "orphaned": 0}


def test_headers_survive_the_way_to_the_disk(scene: Scene) -> None:
    """A failed report has none; the publisher spools its own records."""
    scene.broker.judge = lambda _: DeliveryStatus.FAILED

    scene.publish(1)

    assert scene.spool.records == [event(1)]


def test_silence_ends_at_the_deadline_on_disk(scene: Scene) -> None:
    """The first request of an outage waits until the breaker opens, and not longer than the deadline."""
    scene.broker.after_s = 60

    durability, took_s = scene.publish(1)

    assert durability is Durability.DISK
    assert took_s <= 5
    assert numbers(scene.spool.records) == [1]


def test_an_outage_costs_one_slow_answer(scene: Scene) -> None:
    """One lone client waits once; everything after that goes to disk at once."""
    scene.broker.after_s = 60

    took = [scene.publish(number)[1] for number in range(20)]

    assert took[0] == pytest.approx(3)
    assert took[1:] == [0] * 19
    assert scene.breaker.state is State.OPEN
    assert numbers(scene.spool.records) == list(range(20))


def test_opening_frees_those_who_still_wait(scene: Scene) -> None:
    """The broker is told to give up, once, so that no other request waits for its own deadline."""
    scene.broker.after_s = 60

    for number in range(5):
        scene.publish(number)

    assert scene.broker.purges == 1


def test_while_open_nobody_probes_a_broker_that_does_not_answer(scene: Scene) -> None:
    """The watch asks for metadata; while that fails, no request is slow, however long the outage."""
    scene.broker.after_s = 60
    scene.publish(0)
    scene.broker.is_there = False
    took = []

    for number in range(100):
        scene.publisher.poll_health(1)
        took.append(scene.publish(number)[1])

    assert took == [0] * 100


def test_one_request_probes_a_broker_that_answers_again(scene: Scene) -> None:
    """After the cooldown, and it closes the breaker for all."""
    scene.broker.after_s = 60
    scene.publish(0)
    scene.broker.after_s = 0.005
    scene.publisher.poll_health(1)
    assert scene.publish(1)[0] is Durability.DISK
    scene.clock.now_s += 2

    assert scene.publish(2)[0] is Durability.BROKER
    assert scene.breaker.state is State.CLOSED
    assert scene.publish(3)[0] is Durability.BROKER


def test_a_broker_that_answers_but_does_not_acknowledge_is_probed_singly(scene: Scene) -> None:
    """Too few replicas: metadata is there, acknowledgements are not. Few requests in a minute are slow.

    Each new producer is tried once; all else waits for its cooldown.
    """
    scene.broker.judge = lambda _: DeliveryStatus.FAILED
    scene.broker.after_s = 0.9
    slow = 0

    for number in range(600):
        scene.publisher.poll_health(1)
        scene.clock.now_s += 0.1
        slow += scene.publish(number)[1] > 0

    assert slow <= 10 + scene.broker.renewals
    assert scene.broker.renewals <= 3
    assert len(scene.spool.records) == 600


def test_a_producer_that_alone_fails_is_replaced(scene: Scene) -> None:
    """The broker answers, and each probe fails: a new producer is made, and within seconds it is used."""
    scene.broker.judge = lambda _: DeliveryStatus.DELIVERED if scene.broker.renewals else DeliveryStatus.FAILED
    took_s = 0
    while scene.publish(took_s)[0] is Durability.DISK:
        scene.publisher.poll_health(1)
        scene.clock.now_s += 1
        took_s += 1
        assert took_s < 20

    assert scene.broker.renewals == 1
    assert scene.breaker.state is State.CLOSED


def test_while_the_broker_does_not_answer_no_producer_is_to_blame(scene: Scene) -> None:
    """One failure before an outage, many during it, and one behind it replace nothing."""
    scene.breaker.open(scene.clock())
    for is_there, failures in ((True, 1), (False, 60), (True, 1)):
        scene.broker.is_there = is_there
        scene.publisher.poll_health(1)
        for _ in range(failures):
            scene.publisher.record_outcome(is_well=False)
        scene.publisher.poll_health(1)
        scene.clock.now_s += 60

    assert scene.broker.renewals == 0


def test_a_broker_that_takes_nothing_from_anybody_sees_few_producers(scene: Scene) -> None:
    """Too few replicas for half an hour: a new one less often each time; in the next trouble soon again."""

    def fail_for(most_s: int, renewals: int) -> int:
        for second in range(most_s):
            if scene.broker.renewals == renewals:
                return second
            scene.publish(second)
            scene.publisher.poll_health(1)
            scene.clock.now_s += 1
        return most_s

    scene.broker.judge = lambda _: DeliveryStatus.FAILED
    eight_took_s = fail_for(3600, 8)
    scene.publisher.record_outcome(is_well=True)
    ninth_took_s = fail_for(3600, 9)

    assert 900 < eight_took_s < 1800
    assert ninth_took_s < 20


def test_slow_acknowledgements_open_the_breaker_too(scene: Scene) -> None:
    """They arrive, and each is answered as it is; but requests don't go on waiting two seconds each."""
    scene.broker.after_s = 2

    durabilities = [scene.publish(number)[0] for number in range(10)]

    assert Durability.DISK in durabilities[1:3]
    assert set(durabilities[3:]) == {Durability.DISK}


def test_half_a_second_is_not_slow(scene: Scene) -> None:
    """A far broker is a broker."""
    scene.broker.after_s = 0.5

    assert {scene.publish(number)[0] for number in range(50)} == {Durability.BROKER}


def test_without_a_broker_at_the_start_the_first_request_goes_to_disk(scene: Scene) -> None:
    """Nobody finds out by waiting."""
    scene.broker.is_there = False

    scene.publisher.check_at_startup(2)

    assert scene.publish(1) == (Durability.DISK, 0)


@pytest.mark.parametrize("slug", ["spool_full", "spool_failed", "spool_slow"])
def test_without_broker_and_disk_nothing_is_accepted(scene: Scene, slug: str) -> None:
    """503 with a time to come back; the counters count nothing."""
    scene.broker.judge = lambda _: DeliveryStatus.FAILED
    scene.spool.fault = SpoolError(slug, "words")

    with pytest.raises(Unavailable) as caught:
        scene.publish(1, 2)

    assert (caught.value.code, caught.value.retry_after_s) == (slug, 5)
    assert scene.counts() == {"delivered": 0, "spooled": 0, "orphaned": 0}


def test_what_had_arrived_of_a_refused_request_is_told_apart(scene: Scene) -> None:
    """It is in the log and belongs to no answer: the counters name it beside their sums."""
    scene.broker.judge = lambda record: DeliveryStatus.FAILED if record.value == b"2" else DeliveryStatus.DELIVERED
    scene.spool.fault = SpoolError("spool_full", "words")

    with pytest.raises(Unavailable):
        scene.publish(1, 2, 3)

    assert scene.counts() == {"delivered": 0, "spooled": 0, "orphaned": 2}


def test_a_full_disk_does_not_matter_while_the_broker_answers(scene: Scene) -> None:
    """Nor the other way round."""
    scene.spool.fault = SpoolError("spool_full", "words")

    assert scene.publish(1)[0] is Durability.BROKER


def test_a_record_too_large_for_the_log_is_the_clients_to_repair(scene: Scene) -> None:
    """Nothing of its request is published."""
    with pytest.raises(Rejected) as caught:
        asyncio.run(scene.publisher.publish([event(1), event(2, size=2000)]))

    assert caught.value.status == 413
    assert scene.broker.log == []
    assert scene.spool.records == []


def test_a_record_that_the_broker_refuses_does_not_speak_against_it(scene: Scene) -> None:
    """It is kept on disk, where the drainer tries it alone; the breaker stays closed."""
    scene.broker.judge = lambda _: DeliveryStatus.REFUSED

    durabilities = {scene.publish(number)[0] for number in range(20)}

    assert durabilities == {Durability.DISK}
    assert scene.breaker.state is State.CLOSED


def test_a_full_queue_is_load_and_no_fault_of_the_broker(scene: Scene) -> None:
    """503 to come again soon: nothing is spooled, and however often it happens the breaker stays closed."""
    scene.broker.judge = lambda _: DeliveryStatus.NO_ROOM

    for _ in range(20):
        with pytest.raises(Overloaded) as caught:
            scene.publish(1, 2)

    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (503, "queue_full", 1)
    assert scene.breaker.state is State.CLOSED
    assert scene.spool.records == []
    scene.broker.judge = lambda _: DeliveryStatus.DELIVERED
    assert scene.publish(3)[0] is Durability.BROKER


def test_a_full_queue_before_a_broker_that_is_away_goes_to_disk(scene: Scene) -> None:
    """A probe that finds no room is kept as all else is meanwhile."""
    scene.breaker.open(scene.clock())
    scene.publisher.poll_health(1)
    scene.clock.now_s += 2
    scene.broker.judge = lambda _: DeliveryStatus.NO_ROOM

    assert scene.publish(1)[0] is Durability.DISK


def test_dead_letters_are_durable_too_but_no_events_of_the_books(scene: Scene) -> None:
    """They travel with their request and are not counted."""
    asyncio.run(scene.publisher.publish([event(1), Record(b"k", b"{", dead=True)]))
    scene.broker.judge = lambda _: DeliveryStatus.FAILED
    asyncio.run(scene.publisher.publish([event(2), Record(b"k", b"{", dead=True)]))

    assert len(scene.spool.records) == 2
    assert scene.counts() == {"delivered": 1, "spooled": 1, "orphaned": 0}


@pytest.mark.parametrize(
    ("is_closed", "is_usable", "answers", "ready"),
    [
        (True, True, True, True),
        (True, False, False, True),
        (False, True, False, True),
        (False, False, True, True),
        (False, False, False, False),
    ],
)
def test_it_is_ready_while_broker_or_disk_take_events(
    scene: Scene, *, is_closed: bool, is_usable: bool, answers: bool, ready: bool
) -> None:
    """And it says so at once, without asking anybody."""
    if not is_closed:
        scene.breaker.open(scene.clock())
    scene.spool.fault = None if is_usable else SpoolError("spool_full", "words")
    scene.broker.is_there = answers
    scene.publisher.poll_health(1)
    now_s = scene.clock()

    assert scene.publisher.is_ready() is ready
    assert scene.clock() == now_s


def test_draining_is_not_ready_and_takes_events_all_the_same(scene: Scene) -> None:
    """A balancer needs time to notice."""
    scene.publisher.drain()

    assert not scene.publisher.is_ready()
    assert scene.publish(1)[0] is Durability.BROKER


def test_idle_is_when_no_request_is_being_published(scene: Scene) -> None:
    """The end of the process waits for that before it closes the spool."""
    seen: list[bool] = []
    append = scene.spool.append

    async def look_first(records: Sequence[Record]) -> None:
        seen.append(scene.publisher.wait_idle(0))
        await append(records)

    scene.spool.append = look_first  # type: ignore[method-assign]  # it looks while a request is on its way
    scene.broker.judge = lambda _: DeliveryStatus.FAILED

    scene.publish(1)

    assert seen == [False]
    assert scene.publisher.wait_idle(0)
