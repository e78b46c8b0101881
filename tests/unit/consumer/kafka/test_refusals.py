"""What is said of rights that are taken away, and when."""

import logging

import pytest
from confluent_kafka import KafkaError

from consumer.errors import Denied, Fatal, Transient
from consumer.kafka.refusals import Refusals, check, is_refusal, of_reading, of_topic
from tests.support.consumer_fakes import Clock

TOPIC_RIGHT = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
GROUP_RIGHT = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
OF_KIP_848 = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Group authorization failed: heartbeat", fatal=True)  # noqa: SLF001  (its public name)
IN_A_MESSAGE = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Group authorization failed: heartbeat")  # noqa: SLF001  (as above)
FENCED = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Static consumer fenced by other consumer", fatal=True)  # noqa: SLF001  (as above)
MISUNDERSTOOD = KafkaError(KafkaError.UNSUPPORTED_VERSION)
AWAY = KafkaError(KafkaError._TRANSPORT)  # noqa: SLF001  (as above)


def test_what_somebody_can_give_back_is_told_from_what_ends_a_worker() -> None:
    """A fatal error of librdkafka ends its client, and only that when a right is its reason."""
    refused = [
        error
        for error in (TOPIC_RIGHT, GROUP_RIGHT, OF_KIP_848, IN_A_MESSAGE, FENCED, MISUNDERSTOOD, AWAY)
        if is_refusal(error)
    ]

    assert refused == [TOPIC_RIGHT, GROUP_RIGHT, OF_KIP_848, IN_A_MESSAGE]
    for error in (FENCED, MISUNDERSTOOD):
        with pytest.raises(Fatal):
            check(error)
    check(AWAY)


def test_a_refusal_is_said_once_in_ten_minutes_until_it_is_lifted(caplog: pytest.LogCaptureFixture) -> None:
    """The group's goes when partitions come; a topic's when it is among them."""
    clock = Clock()
    refusals = Refusals("headrace", clock)
    for _ in range(100):
        refusals.note("", GROUP_RIGHT)
        refusals.note("events", TOPIC_RIGHT)
        clock.now_s += 10
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]

    assert len(said) == 4
    assert "the account may not be in the group headrace; give it Read on that group" in said[0]
    assert said[1] == f"a right is missing: {of_reading('events', TOPIC_RIGHT)}"
    refusals.assigned()
    refusals.lift({"events.dead"})
    assert refusals.sentence == of_reading("events", TOPIC_RIGHT)
    refusals.lift({"events"})
    assert refusals.sentence == ""
    refusals.note("", GROUP_RIGHT)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 5


def test_marks_that_may_not_be_read_are_told_by_what_is_refused() -> None:
    """The group's own, or the topics'; what is away is no refusal."""
    refusals = Refusals("headrace", Clock())
    refusals.note_all({"events"}, AWAY)
    assert refusals.sentence == ""
    refusals.note_all({"events"}, GROUP_RIGHT)
    assert "may not be in the group headrace" in refusals.sentence
    refusals.assigned()
    refusals.note_all({"events"}, TOPIC_RIGHT)
    assert refusals.sentence == of_reading("events", TOPIC_RIGHT)


def test_a_topic_that_cannot_be_asked_about_is_denied_or_away() -> None:
    """By what the broker says."""
    assert isinstance(of_topic("events", TOPIC_RIGHT), Denied)
    assert isinstance(of_topic("events", AWAY), Transient)


@pytest.mark.parametrize(
    "error",
    [TOPIC_RIGHT, KafkaError(KafkaError._FATAL, "Fatal error: Broker: Topic authorization failed: heartbeat")],  # noqa: SLF001  (as above)
)
def test_a_group_that_refuses_for_a_topic_is_not_told_as_a_right_on_the_group(error: KafkaError) -> None:
    """A heartbeat says so without the topic's name; commits that are answered show nothing of it."""
    refusals = Refusals("headrace", clock := Clock())
    refusals.note("", error)
    assert "give it Read and Describe on each of them" in refusals.sentence
    assert "that group" not in refusals.sentence
    clock.now_s += 10
    refusals.worked(("",), clock.now_s)
    refusals.described({"events": clock.now_s, "events.dead": clock.now_s - 60})
    assert refusals.sentence
    refusals.described({"events": clock.now_s, "events.dead": clock.now_s})
    assert refusals.sentence == ""


def test_what_was_asked_before_a_refusal_does_not_lift_it() -> None:
    """Its answer may come later."""
    refusals = Refusals("headrace", clock := Clock())
    refusals.note("events", TOPIC_RIGHT)
    refusals.described({"events": clock.now_s - 1, "events.dead": clock.now_s + 1})
    assert refusals.sentence
    refusals.described({"events": clock.now_s + 1})
    assert refusals.sentence == ""
