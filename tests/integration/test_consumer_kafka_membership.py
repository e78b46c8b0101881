"""What a member knows of its group, its topics and their ends, on real brokers."""

import uuid

import pytest

from consumer.delivery.ports import Membership, Partition
from consumer.kafka import ends, formation, presence
from tests.support.fixtures_group import ON_EMBEDDED, ON_KAFKA, Group
from tests.support.kafka_clients import producer
from tests.support.log_members import until

pytestmark = pytest.mark.kafka


def test_a_member_without_a_partition_knows_that_its_group_has_formed(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands by, and is as ready as the other one; before it has heard anything it is not."""
    monkeypatch.setattr(formation, "_QUIET_S", 1.0)
    topic = group.new_topic(1)
    members = [group.member(topic) for _ in range(2)]
    assert not any(member.log.membership().is_formed for member in members)

    polls = [member.poll for member in members]
    until(lambda: all(member.log.membership().is_formed for member in members), *polls)

    until(lambda: sum(bool(member.owned) for member in members) == 1, *polls)
    until(lambda: all(member.log.membership() == Membership() for member in members), *polls)


@pytest.mark.parametrize("group", [ON_KAFKA[0], *ON_EMBEDDED], ids="-".join, indirect=True)
def test_a_topic_that_is_not_there_is_told(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the group says of it; until it is there."""
    monkeypatch.setattr(presence, "_EVERY_S", 0.5)
    topic = f"later-{uuid.uuid4().hex[:8]}"
    member = group.member(topic)
    until(lambda: member.log.membership().gone == (topic,), member.poll)

    group.broker.create_topic(topic)

    until(lambda: member.log.membership().gone == () and bool(member.owned), member.poll)


@pytest.mark.parametrize("group", ON_KAFKA, ids="-".join, indirect=True)
def test_an_end_is_known_as_soon_as_a_partition_is_assigned(group: Group) -> None:
    """Before the first fetch: a partition whose end nobody knows can't be said to have nothing behind it."""
    group.produce([b"x"] * 7)
    member = group.member()
    member.starts = dict.fromkeys(group.places)  # nothing is ever fetched
    until(lambda: len(member.owned) == 4, member.poll)

    assert [member.log.end_of(place) for place in group.places] == [7, 0, 0, 0]


@pytest.mark.parametrize("group", ON_KAFKA[:1], ids="-".join, indirect=True)
def test_a_paused_partition_ends_where_a_transaction_keeps_back_the_rest(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched of it, so a broker is asked, and for what can be read alone."""
    monkeypatch.setattr(ends, "_EVERY_S", 0.5)
    place = Partition(group.topic, 0)
    member = group.member()
    until(lambda: len(member.owned) == 4, member.poll)
    member.log.pause(place)
    group.produce([b"x"] * 3)
    sender = producer(group.broker.bootstrap_servers, transactional_id=group.topic)
    sender.init_transactions(60)
    sender.begin_transaction()
    sender.produce(group.topic, b"open", partition=0)
    assert sender.flush(60) == 0

    until(lambda: (member.log.end_of(place) or 0) >= 3, member.poll)

    assert member.log.end_of(place) == 3
    sender.abort_transaction(60)
