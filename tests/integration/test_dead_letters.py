"""The dead-letter topic on a real broker: acknowledged, or a reason that says what to do."""

import os
from collections.abc import Callable

import pytest

from consumer.clickhouse.client import Connection
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Poison
from consumer.errors import Reason
from consumer.kafka.dead_letters import KafkaDeadLetters
from tests.support.fixtures_consumer import record
from tests.support.kafka import Broker
from tests.support.kafka_clients import read_all

pytestmark = pytest.mark.kafka
LARGE = 1_048_300  # a record of this size just fits into a topic with the default limit, but its dead letter does not


def send(broker: Broker, topic: str, *values: bytes) -> None:
    """Send records as dead letters."""
    letters = KafkaDeadLetters({"bootstrap.servers": broker.bootstrap_servers}, topic)
    poison = [Poison(offset, Reason.FRAME, "no frame") for offset in range(len(values))]
    try:
        letters.send([record(offset, value) for offset, value in enumerate(values)], poison, Origin("incarnation"))
    finally:
        letters.close()


def test_a_letter_that_is_too_large_for_its_topic_is_cut(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """It holds nobody up, and no other letter is touched; what is left is its beginning."""
    topic, value = new_topic(), os.urandom(LARGE)
    send(kafka, topic, b"small", value)
    small, large = sorted(read_all(kafka, topic, 2), key=len)

    assert small == b"small"
    assert value.startswith(large)
    assert len(large) == LARGE // 2


def test_many_letters_that_fit_one_by_one_are_whole(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """A broker refuses all records of a request that is too large together."""
    topic = new_topic(config={"max.message.bytes": "20000"})
    values = [os.urandom(4000) for _ in range(30)]
    send(kafka, topic, *values)

    assert sorted(read_all(kafka, topic, 30)) == sorted(values)


def test_a_topic_with_a_larger_limit_takes_it(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """As docker-compose makes it."""
    topic, value = new_topic(config={"max.message.bytes": "2097152"}), os.urandom(LARGE)
    send(kafka, topic, value)
    assert read_all(kafka, topic, 1) == [value]


def test_letters_of_two_incarnations_of_a_topic_are_two(database: Connection) -> None:
    """Offsets begin at 0 again; a dead letter that was sent twice is still one."""
    for topic_id in ("one", "two", "two"):
        database.command(
            "INSERT INTO dead_letters (letter_id, origin_topic, origin_topic_id, origin_partition, origin_offset)"
            f" VALUES ('events/0/7', 'events', '{topic_id}', 0, 7)"
        )
    rows = database.query("SELECT origin_topic_id FROM dead_letters_unique ORDER BY origin_topic_id")
    assert [row["origin_topic_id"] for row in rows] == ["one", "two"]
