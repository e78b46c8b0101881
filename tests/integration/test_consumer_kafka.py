"""What consumer/kafka/__init__.py says of commits, on real brokers: one test for each sentence."""

import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.delivery.ports import Answer, CommittedOffset, Partition
from consumer.errors import Fatal, Fenced, Transient
from tests.support.fixtures_group import ON_KAFKA, Group
from tests.support.log_members import Member, is_shared, until

pytestmark = pytest.mark.kafka
COOPERATIVE = ON_KAFKA[1:]  # those whose members keep partitions through a rebalance
TOO_LARGE = "x" * 5000


def owner_of_all(group: Group, max_poll_interval_ms: int = 300_000) -> Member:
    """Return a member that owns all partitions of the group's topic."""
    member = group.member(max_poll_interval_ms=max_poll_interval_ms)
    until(lambda: len(member.owned) == len(group.places), member.poll)
    return member


@pytest.mark.parametrize("group", ON_KAFKA, ids="-".join, indirect=True)
def test_what_is_refused_of_one_commit_is_told_of_all_of_it(group: Group) -> None:
    """The reason why each partition has its own commit: the first mark was kept, and its answer is an error."""
    told: list[tuple[int, str]] = []

    def hear(_: KafkaError | None, places: list[TopicPartition]) -> None:
        told.extend((item.partition, item.error.name() if item.error else "") for item in places)

    member = Consumer({**group.properties, "enable.auto.commit": False, "on_commit": hear})
    member.subscribe([group.topic])
    until(lambda: len(member.assignment()) == 4, lambda: member.poll(0.05))
    marks = [TopicPartition(group.topic, 0, 1, metadata="kept"), TopicPartition(group.topic, 1, 1, metadata=TOO_LARGE)]

    member.commit(offsets=marks, asynchronous=True)
    until(lambda: bool(told), lambda: member.poll(0.05))
    member.close()

    assert told == [(0, "OFFSET_METADATA_TOO_LARGE"), (1, "OFFSET_METADATA_TOO_LARGE")]
    assert group.marks() == {group.places[0]: CommittedOffset(1, "kept")}


@pytest.mark.parametrize("group", ON_KAFKA, ids="-".join, indirect=True)
def test_each_partition_has_an_answer_of_its_own(group: Group) -> None:
    """One that is refused leaves the others as they are."""
    member = owner_of_all(group)
    good, bad, *_ = group.places

    member.log.commit({good: CommittedOffset(1, "kept"), bad: CommittedOffset(1, TOO_LARGE)})
    until(lambda: len(member.answers) == 2, member.poll)

    answers = {answer.partition: answer for answer in member.answers}
    assert answers[good] == Answer(good, CommittedOffset(1, "kept"), None)
    assert isinstance(answers[bad].error, Fatal)
    assert "OFFSET_METADATA_TOO_LARGE" in str(answers[bad].error)
    assert group.marks() == {good: CommittedOffset(1, "kept")}


def test_a_mark_comes_back_to_the_next_owner(group: Group) -> None:
    """With the topic's id and the oldest offset; without its metadata where the broker keeps none."""
    first = owner_of_all(group)
    place, other, *_ = group.places
    assert first.owned[place].committed is None
    assert first.answer(place, CommittedOffset(7, "intent")).error is None
    first.log.close()

    second = owner_of_all(group)

    assert second.owned[place].committed == CommittedOffset(
        7, "intent" if group.broker.supports_commit_metadata else ""
    )
    assert second.owned[place].topic_id == group.broker.topic_id(group.topic)
    assert (second.owned[place].low, second.owned[other].committed) == (0, None)


def expelled(group: Group) -> tuple[Member, Member]:
    """Return a member that did not poll in time, and the successor that has all of its partitions."""
    zombie = owner_of_all(group, max_poll_interval_ms=2000)
    time.sleep(2.6)  # not polling is the fault that this makes
    return zombie, owner_of_all(group)


def test_an_expelled_member_commits_nothing_and_hears_before_it_joins_again(group: Group) -> None:
    """What it sends before its next poll is refused."""
    place = group.places[0]
    zombie, successor = expelled(group)
    assert successor.answer(place, CommittedOffset(9, "successor")).error is None

    zombie.log.commit({place: CommittedOffset(3, "zombie")})
    until(lambda: len(zombie.names) > 1, zombie.poll)
    until(is_shared(4, zombie, successor), zombie.poll, successor.poll)

    assert zombie.names[:3] == ["assigned", "lost", "assigned"]
    assert all(isinstance(answer.error, Fenced) for answer in zombie.answers)
    assert group.marks()[place].offset == 9


@pytest.mark.parametrize("group", ON_KAFKA, ids="-".join, indirect=True)
def test_a_member_that_is_expelled_in_a_rebalance_commits_nothing_either(group: Group) -> None:
    """It is then asked to hand over what is no longer its own; its last marks are refused, also by an empty group."""
    place = group.places[0]
    zombie = owner_of_all(group, max_poll_interval_ms=2000)
    zombie.at_revoke = lambda _: zombie.log.commit({place: CommittedOffset(3, "zombie")})
    successor = owner_of_all(group)  # its joining begins the rebalance
    assert successor.answer(place, CommittedOffset(9, "successor")).error is None
    successor.log.close()

    until(lambda: zombie.names[-1] == "assigned" and len(zombie.names) > 2, zombie.poll)

    assert zombie.names[1] == "revoked"
    assert zombie.owned[place].committed == group.marks()[place]
    assert group.marks()[place].offset == 9


@pytest.mark.parametrize("group", ON_KAFKA[::2], ids="-".join, indirect=True)
def test_an_expelled_member_is_refused_by_name(group: Group) -> None:
    """The code that the worker gives a partition up for."""
    zombie = Consumer({**group.properties, "enable.auto.commit": False, "max.poll.interval.ms": 2000})
    zombie.subscribe([group.topic])
    until(lambda: len(zombie.assignment()) == 4, lambda: zombie.poll(0.05))
    time.sleep(2.6)  # as above
    owner_of_all(group)

    with pytest.raises(KafkaException, match="UNKNOWN_MEMBER_ID"):
        zombie.commit(offsets=[TopicPartition(group.topic, 0, 3)], asynchronous=False)
    zombie.close()


def static_member(group: Group, name: str) -> Member:
    """Return a member with a session long enough to restart in; with KIP-848 that is the broker's."""
    if group.protocol == "kip848":
        return group.member(group_instance_id=name)
    return group.member(group_instance_id=name, session_timeout_ms=60_000)


@pytest.mark.parametrize("group", ON_KAFKA[::2], ids="-".join, indirect=True)
def test_a_static_member_that_restarts_keeps_its_partitions(group: Group) -> None:
    """Within its session; the other one hears of nothing."""
    first = static_member(group, "first")
    until(lambda: len(first.owned) == 4, first.poll)
    second = static_member(group, "second")
    until(is_shared(4, first, second), first.poll, second.poll)
    before, owned = list(first.names), set(second.owned)

    second.log.close()
    again = static_member(group, "second")
    until(lambda: again.owned.keys() == owned, first.poll, again.poll)

    assert first.names == before


class Busy:
    """A member that commits every partition of its own again as soon as the last mark is answered."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.errors: Counter[str] = Counter()
        self._waiting: set[Partition] = set()
        self._offset = 0

    def poll(self) -> None:
        """Poll, take the answers, and commit what has none under way."""
        self.member.poll(0.001)
        for answer in self.member.answers:
            self._waiting.discard(answer.partition)
            assert answer.error is None or isinstance(answer.error, Transient), answer
            self.errors[str(answer.error).partition(":")[0]] += 1
        self.member.answers.clear()
        self._waiting &= self.member.owned.keys()
        self._offset += 1
        for place in self.member.owned.keys() - self._waiting:
            self._waiting.add(place)
            self.member.log.commit({place: CommittedOffset(self._offset, "busy")})


@pytest.mark.parametrize("group", COOPERATIVE, ids="-".join, indirect=True)
def test_a_member_in_good_standing_is_refused_while_partitions_move(group: Group) -> None:
    """It keeps its partitions, tries again and is heard; and not even its commits keep the others waiting."""
    topic = group.new_topic(24)
    first = group.member(topic)
    until(lambda: len(first.owned) == 24, first.poll)
    busy = Busy(first)
    code = "ILLEGAL_GENERATION" if group.protocol == "cooperative" else "STALE_MEMBER_EPOCH"
    for _ in range(10):
        second = group.member(topic)
        until(is_shared(24, first, second), busy.poll, second.poll)
        second.log.close()
        until(lambda: len(first.owned) == 24, busy.poll)
        if busy.errors[code]:
            break

    assert busy.errors[code]
    heard = busy.errors["None"]
    until(lambda: busy.errors["None"] >= heard + 24, busy.poll)
    assert "lost" not in first.names
