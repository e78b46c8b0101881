"""Rights that are taken away while a worker works: it says which, nothing ends, and all goes on when they are back."""

from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]  # its examples do so

from consumer.delivery.ports import Assigned, CommittedOffset, Partition, Position
from consumer.errors import Denied
from consumer.kafka import consumer as member_module
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.dead_letters import DeadLetterProducer, Outgoing
from deploy.embedded.kafka_distribution import NotAvailableError
from tests.support.fixtures_group import Group
from tests.support.kafka_rights import GuardedKafka
from tests.support.log_members import until
from tests.support.mock_cluster import Api, MockCluster

pytestmark = pytest.mark.kafka

LETTER = Outgoing(b"key", b"value", [])


class Listener:
    """Starts nothing."""

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, Position | None]:
        """Start nothing."""
        return {item.partition: None for item in partitions}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Do nothing."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def node() -> Iterator[GuardedKafka]:
    """The node of this module."""
    try:
        cluster = GuardedKafka()
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with cluster:
        yield cluster


@pytest.fixture
def guarded(node: GuardedKafka) -> Iterator[GuardedKafka]:
    """The node, where everybody may do everything before and after the test."""
    yield node
    node.give_back()


@pytest.fixture(params=["range", "kip848"])
def group(guarded: GuardedKafka, request: pytest.FixtureRequest) -> Iterator[Group]:
    """A group on that node; who is expelled meanwhile can't see the topic any more, so nobody is in a hurry here."""
    made = Group(guarded, request.param)
    if "session.timeout.ms" in made.properties:
        made.properties |= {"session.timeout.ms": 30_000}
    yield made
    guarded.give_back()
    made.close()


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockCluster]:
    """A mock cluster with a topic; it knows no topic ids, so what a member asks about its partitions is in vain."""
    monkeypatch.setattr("consumer.kafka.survey._CALL_S", 0.1)
    monkeypatch.setattr(member_module, "_CLOSE_S", 0.1)
    with MockCluster() as cluster:
        cluster.create_topic("events")
        yield cluster


def member_of(mock: MockCluster) -> KafkaLog:
    """Return a member of a group there."""
    brokers: dict[str, str | int] = {"bootstrap.servers": mock.bootstrap_servers, "log_level": 0}
    times = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}
    log = KafkaLog({**brokers, **times, "group.id": "group"}, ["events"], AdminConnection(brokers))
    log.listen(Listener())
    return log


def test_a_classic_member_that_its_group_refuses_goes_on_asking(mock: MockCluster) -> None:
    """Each refusal is told by the client; nothing is raised, and the member is in the group once it is taken."""
    mock.push_request_errors(Api.JOIN_GROUP, *[KafkaError.GROUP_AUTHORIZATION_FAILED] * 2)
    log = member_of(mock)
    until(lambda: bool(log.refusal), lambda: log.poll(0.05))
    assert "the account may not be in the group group; give it Read on that group" in log.refusal
    until(lambda: not log.refusal, lambda: log.poll(0.05))
    log.close()


def test_a_client_that_a_refusal_has_ended_is_replaced(mock: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it owned is lost at once; the new one is in the group a while later."""
    monkeypatch.setattr(member_module, "_RENEW_S", 0.5)
    log = member_of(mock)
    until(lambda: bool(log._owned), lambda: log.poll(0.05))  # noqa: SLF001  (the listener hears nothing here)
    ended = log._consumer  # noqa: SLF001  (as above)
    log._refused("", KafkaError(KafkaError._FATAL, "Group authorization failed"))  # noqa: SLF001  (as a broker of KIP-848's)
    assert not log._owned  # noqa: SLF001  (as above)
    log.rejoin()

    until(lambda: bool(log._owned), lambda: log.poll(0.05))  # noqa: SLF001  (as above)
    assert log._consumer is not ended  # noqa: SLF001  (as above)
    assert log.refusal == ""
    log.close()


def test_a_partition_that_librdkafka_gives_up_is_told(mock: MockCluster) -> None:
    """Where a topic is refused before its partitions were fetched, no message tells of them, but an error does."""
    log = member_of(mock)
    until(lambda: bool(log._owned), lambda: log.poll(0.05))  # noqa: SLF001  (the listener hears nothing here)
    place = min(log._owned)  # noqa: SLF001  (as above)
    gone = "desired partition is no longer available (Broker: Topic authorization failed)"
    for name in (f"{place.topic} [{place.number}]", f"{place.topic} [999]"):
        log._take_report(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, f"{name}: {gone}"))  # noqa: SLF001  (no mock refuses so)
    log._take_report(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"{place.topic} [{place.number}]: {gone}"))  # noqa: SLF001
    log._take_report(KafkaError(KafkaError._TRANSPORT, "node:9092/1: Connect failed"))  # noqa: SLF001

    told = log.poll(0.0).denied
    assert list(told) == [place]
    assert told[place].startswith("TOPIC_AUTHORIZATION_FAILED: the account may not read")
    assert log.poll(0.0).denied == {}
    log.close()


def test_a_topic_that_may_not_be_read_is_told_by_partition_and_goes_on(guarded: GuardedKafka, group: Group) -> None:
    """Each partition says so once; when the right is back and nothing has come, a seek makes it tell its end.

    A question for the whole topic may be refused before each partition has been fetched: then it is tried again.
    """
    member = group.member()
    for _ in range(5):
        until(lambda: set(member.ends) == set(group.places), member.poll)
        guarded.deny(ResourceType.TOPIC, group.topic, AclOperation.READ)
        until(lambda: set(member.denied) == set(group.places) or bool(member.log.refusal), member.poll)
        if not member.log.refusal:
            break
        guarded.give_back()
        member.ends.clear()
        member.denied.clear()
        member.log.rejoin()
    assert member.denied[group.places[0]] == (
        f"TOPIC_AUTHORIZATION_FAILED: the account may not read the topic {group.topic}; give it Read and Describe on"
        " that topic"
    )
    assert member.log.refusal == ""
    member.ends.clear()

    guarded.give_back()
    until(lambda: member.log.seek(group.places[0], Position(0)), member.poll)
    until(lambda: group.places[0] in member.ends, member.poll)


def test_a_topic_that_may_not_be_seen_is_named(guarded: GuardedKafka, group: Group) -> None:
    """Its id is asked for before each batch."""
    member = group.member()
    until(lambda: len(member.owned) == 4, member.poll)
    guarded.deny(ResourceType.TOPIC, group.topic, AclOperation.DESCRIBE)

    with pytest.raises(Denied, match=f"may not read the topic {group.topic}"):
        member.log.id_of(group.topic)


def test_a_group_that_refuses_its_member_is_told_and_joined_again(
    guarded: GuardedKafka, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A classic member asks on by itself; of KIP-848 it is recreated, for this error ends a client."""
    monkeypatch.setattr(member_module, "_RENEW_S", 1.0)
    member = group.member()
    until(lambda: len(member.owned) == 4, member.poll)
    guarded.deny(ResourceType.GROUP, str(group.properties["group.id"]), AclOperation.READ)
    until(lambda: bool(member.log.refusal) and not member.owned, member.poll, timeout_s=60)
    assert "authorization failed" in member.log.refusal
    assert f"the account may not be in the group {group.properties['group.id']}" in member.log.refusal

    guarded.give_back()
    until(lambda: len(member.owned) == 4, member.poll, timeout_s=60)
    assert member.log.refusal == ""
    assert member.answer(group.places[0], CommittedOffset(0, "again")).error is None


def test_a_topic_that_may_not_be_written_is_named(guarded: GuardedKafka) -> None:
    """Nobody is away: a right is missing. The same publisher goes on once it is given back."""
    guarded.create_topic(topic := "dead", partitions=1)
    guarded.deny(ResourceType.TOPIC, topic, AclOperation.WRITE)
    publisher = DeadLetterProducer({"bootstrap.servers": guarded.bootstrap_servers}, topic)
    for _ in range(2):
        with pytest.raises(Denied, match=f"the account may not write to the topic {topic}; give it Write"):
            publisher.publish([LETTER])

    guarded.give_back()
    assert len(publisher.publish([LETTER])) == 1
    publisher.close()
