"""What consumer/kafka/__init__.py says of a broker that is away: nothing but its start waits for it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.delivery.ports import Assigned, CommittedOffset, Partition
from consumer.errors import Transient
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.survey import Survey
from tests.support.fixtures_group import Group
from tests.support.kafka import KafkaCluster
from tests.support.log_members import Member, until
from tests.support.ports import free_port

pytestmark = pytest.mark.kafka


@pytest.fixture(params=["range", "kip848"])
def frail(one_node: KafkaCluster, request: pytest.FixtureRequest) -> Iterator[Group]:
    """A group on that node, which is back after the test."""
    made = Group(one_node, request.param)
    yield made
    one_node.heal()
    made.close()


def freeze(group: Group) -> None:
    """Freeze the group's broker."""
    assert isinstance(group.broker, KafkaCluster)
    group.broker.nodes[0].pause()


def thaw(group: Group) -> None:
    """Let it go on."""
    assert isinstance(group.broker, KafkaCluster)
    group.broker.nodes[0].resume()


def in_the_background(call: Callable[[], object]) -> threading.Thread:
    """Run a call that may raise what librdkafka raises."""

    def run() -> None:
        try:
            call()
        except KafkaException:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def ordinary(group: Group) -> Consumer:
    """Return an ordinary consumer that owns all partitions."""
    member = Consumer({**group.properties, "max.poll.interval.ms": 2000, "enable.auto.commit": False})
    member.subscribe([group.topic])
    until(lambda: len(member.assignment()) == 4, lambda: member.poll(0.05))
    return member


@pytest.mark.parametrize("frail", ["range"], indirect=True)
def test_a_synchronous_commit_waits_for_the_broker(frail: Group) -> None:
    """Beyond max.poll.interval.ms: who waits so long is expelled."""
    member = ordinary(frail)
    freeze(frail)
    place = TopicPartition(frail.topic, 0, 1)

    waiting = in_the_background(lambda: member.commit(offsets=[place], asynchronous=False))
    waiting.join(3)
    assert waiting.is_alive()

    thaw(frail)
    waiting.join(60)
    assert not waiting.is_alive()
    member.close()


@pytest.mark.parametrize("frail", ["kip848"], indirect=True)
def test_closing_waits_for_what_was_committed(frail: Group) -> None:
    """As long as the broker is away; without a commit this member would give up after a second."""
    member = ordinary(frail)
    freeze(frail)
    member.commit(offsets=[TopicPartition(frail.topic, 0, 1)], asynchronous=True)

    waiting = in_the_background(member.close)
    waiting.join(3)
    assert waiting.is_alive()

    thaw(frail)
    waiting.join(60)
    assert not waiting.is_alive()


def test_commits_and_polls_wait_for_no_broker(frail: Group) -> None:
    """The answer comes when the broker is back; what was sent meanwhile for another partition comes after it."""
    first, second, *_ = frail.places
    member = frail.member()
    until(lambda: len(member.owned) == 4, member.poll)
    freeze(frail)

    began_s = time.monotonic()
    member.log.commit({first: CommittedOffset(1, "first")})
    member.log.commit({second: CommittedOffset(2, "second")})
    for _ in range(5):
        member.poll()
    assert time.monotonic() - began_s < 20
    assert member.answers == []

    thaw(frail)
    until(lambda: len(member.answers) == 2, member.poll)
    assert [(answer.partition, answer.error) for answer in member.answers] == [(first, None), (second, None)]
    assert frail.marks() == {first: CommittedOffset(1, "first"), second: CommittedOffset(2, "second")}


@pytest.mark.parametrize("frail", ["range"], indirect=True)
def test_a_close_gives_up_on_a_broker_that_is_away(frail: Group, caplog: pytest.LogCaptureFixture) -> None:
    """After some seconds, with a line in the log; the listener has heard first, and its last mark was sent."""
    member = Member(frail.properties, frail.topic)
    until(lambda: len(member.owned) == 4, member.poll)
    member.at_revoke = lambda _: member.log.commit({frail.places[0]: CommittedOffset(1, "last")})
    freeze(frail)

    began_s = time.monotonic()
    member.log.close()

    assert time.monotonic() - began_s < 45
    assert member.names == ["assigned", "revoked"]
    assert "left the group without committing: no broker answers" in caplog.text


class Deaf(Survey):
    """Knows nothing the first time, as when no broker answers."""

    def __init__(self, survey: Survey) -> None:
        super().__init__(survey.admin, survey.consumer)
        self.asked = 0

    def of(self, places: Sequence[Partition]) -> list[Assigned]:
        """Fail once."""
        self.asked += 1
        if self.asked == 1:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its name in the API
        return super().of(places)


@pytest.mark.parametrize("frail", ["range"], indirect=True)
def test_partitions_whose_marks_can_not_be_read_are_opened_later(frail: Group) -> None:
    """Not read from anywhere else meanwhile; then from where the listener says."""
    place = frail.places[0]
    frail.produce([b"x"] * 10)
    member = frail.member()
    member.log._starts._survey = survey = Deaf(member.log._survey)  # noqa: SLF001 - a broker can't be made deaf to one question

    until(lambda: survey.asked == 2, member.poll)
    assert member.names == ["assigned"]
    until(lambda: len(member.offsets(place)) == 10, member.poll)

    assert member.offsets(place) == list(range(10))


def test_a_client_that_knows_no_broker_any_more_is_replaced(frail: Group) -> None:
    """As after a restart of all brokers; the broker answers other clients, and the group gives all to the new one."""
    astray = {**frail.properties, "bootstrap.servers": f"127.0.0.1:{free_port()}"}
    member = Member(astray, frail.topic, AdminConnection(frail.properties))
    member.log._properties = {**member.log._properties, **frail.properties}  # noqa: SLF001  (a new client finds its way)

    def turn() -> None:
        member.log.membership()
        member.poll()

    until(lambda: len(member.owned) == 4, turn)
    member.log.close()


def test_a_cluster_that_nobody_answers_for_is_waited_for() -> None:
    """The id that starts the tokens, and the topic's: asked again later."""
    away: dict[str, str | int] = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "group.id": "group", "log_level": 0}
    log = KafkaLog(away, ["events"], AdminConnection(away))

    with pytest.raises(Transient, match="topic events: "):
        log.id_of("events")
    log.close()
