"""When a member counts as one that has its partitions, and what is said until then."""

import pytest
from confluent_kafka import KafkaError

from consumer.kafka.formation import Formation
from tests.support.consumer_fakes import Clock

NOT_ALIKE = KafkaError(KafkaError.INCONSISTENT_GROUP_PROTOCOL)
PROTOCOLS = {
    "range": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "kip848": {"group.protocol": "consumer"},
}


def member(protocol: str, clock: Clock | None = None) -> Formation:
    """Return a member that has asked to join."""
    made = Formation({"group.id": "workers", **PROTOCOLS[protocol]}, clock or Clock())
    made.joining()
    return made


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_is_formed_from_its_assignment_until_it_is_lost(protocol: str) -> None:
    """An empty assignment counts too: it is the group's answer."""
    made = member(protocol)

    assert not made.is_formed
    made.assigned()
    assert made.is_formed
    made.lost()
    assert not made.is_formed


@pytest.mark.parametrize(("protocol", "stays"), [("range", False), ("cooperative", True), ("kip848", True)])
def test_a_revocation_leaves_what_it_does_not_name(protocol: str, stays: bool) -> None:  # noqa: FBT001  (pytest names it)
    """Only the eager protocol takes everything back."""
    made = member(protocol)
    made.assigned()

    made.revoked()

    assert made.is_formed is stays


@pytest.mark.parametrize(("protocol", "is_formed"), [("range", False), ("cooperative", False), ("kip848", True)])
def test_silence_means_no_partitions_to_a_kip848_member_alone(protocol: str, is_formed: bool) -> None:  # noqa: FBT001  (as above)
    """Its group tells it nothing; ten seconds without an error are an answer. An error starts the ten seconds again."""
    clock = Clock()
    made = member(protocol, clock)

    clock.now_s += 9
    made.failed(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001  (its public name)
    clock.now_s += 9
    assert not made.is_formed
    clock.now_s += 2
    assert made.is_formed is is_formed


def test_members_of_another_assignor_are_the_trouble_until_the_group_takes_this_one() -> None:
    """The sentence names the group and what to do."""
    made = member("range")

    made.failed(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001  (as above)
    assert made.trouble == ""
    made.failed(NOT_ALIKE)
    assert "the group workers has members whose" in made.trouble
    made.assigned()
    assert made.trouble == ""
