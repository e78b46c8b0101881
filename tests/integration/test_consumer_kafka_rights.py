"""Rights that are taken away while a worker works: it says which, nothing ends, and all goes on when they are back."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]  # its examples do so

from consumer.delivery.ports import CommittedOffset, Position
from consumer.errors import Denied, Halt, HaltCode
from consumer.kafka import consumer as member_module
from consumer.kafka.dead_letters import DeadLetterProducer, Outgoing
from tests.support.fixtures_group import Group
from tests.support.kafka_broker import NotAvailableError
from tests.support.kafka_rights import GuardedKafka
from tests.support.log_members import until

pytestmark = pytest.mark.kafka

LETTER = Outgoing(b"key", b"value", [])


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
    """A group on that node."""
    made = Group(guarded, request.param)
    yield made
    guarded.give_back()
    made.close()


def test_a_topic_that_may_not_be_read_is_told_by_partition_and_goes_on(guarded: GuardedKafka, group: Group) -> None:
    """Each partition says so once; when the right is back and nothing has come, a seek makes it tell its end."""
    member = group.member()
    until(lambda: set(member.ends) == set(group.places), member.poll)
    guarded.deny(ResourceType.TOPIC, group.topic, AclOperation.READ)
    until(lambda: set(member.denied) == set(group.places), member.poll)
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
    until(lambda: bool(member.log.refusal) and not member.owned, member.poll, timeout_s=40)
    assert "authorization failed" in member.log.refusal
    assert f"the account may not be in the group {group.properties['group.id']}" in member.log.refusal

    guarded.give_back()
    until(lambda: len(member.owned) == 4, member.poll, timeout_s=40)
    assert member.log.refusal == ""
    assert member.answer(group.places[0], CommittedOffset(0, "again")).error is None


@pytest.mark.parametrize("is_all", [False, True])
def test_a_topic_that_may_not_be_written_is_named(guarded: GuardedKafka, is_all: bool) -> None:  # noqa: FBT001  (a case)
    """Nobody is away: a right is missing, on the topic, or on all of them. It goes on with the same publisher."""
    guarded.create_topic(topic := f"dead-{is_all}", partitions=1)
    guarded.deny(ResourceType.TOPIC, topic, AclOperation.WRITE)
    if is_all:
        guarded.deny(ResourceType.TOPIC, "*", AclOperation.WRITE)
        guarded.deny(ResourceType.BROKER, "kafka-cluster", AclOperation.IDEMPOTENT_WRITE)
    publisher = DeadLetterProducer({"bootstrap.servers": guarded.bootstrap_servers}, topic)
    for _ in range(2):
        with pytest.raises(Halt, match=f"the account may not write to the topic {topic}; give it Write") as denied:
            publisher.publish([LETTER])
        assert denied.value.code is HaltCode.DENIED

    guarded.give_back()
    assert len(publisher.publish([LETTER])) == 1
    publisher.close()
