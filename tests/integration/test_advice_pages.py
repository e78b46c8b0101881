"""What /readyz says of a worker's surroundings: each brought about, the advice followed word for word, and ready."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # its examples import it so

from tests.conftest import SOAK_ONLY
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import OPEN_FOR_LONG, consumer, producer
from tests.support.log_members import until
from tests.support.operator import Operator

pytestmark = pytest.mark.kafka


@pytest.fixture
def at_work(operator: Operator, tmp_path: Path) -> Iterator[Operator]:
    """An operator with tables, whose workers look at their topics each second, and hold little for unusual."""
    if operator.broker.name == "embedded":
        pytest.skip("the embedded broker has no transactions, no partitions to add, and groups of one assignor")
    properties = tmp_path / "kafka.properties"
    properties.write_text("topic.metadata.refresh.interval.ms=1000\n", "utf-8")
    operator.environ |= {
        "CONSUMER_KAFKA_CONFIG_FILE": str(properties),
        "CONSUMER_INSERT_TIMEOUT_S": "2",
        "CONSUMER_STALL_S": "3",
    }
    operator.make_tables()
    yield operator
    operator.stop()


def test_a_topic_that_was_deleted(at_work: Operator) -> None:
    """Nothing is behind where nothing is: that is not said to be well. A worker goes on in the new one by itself."""
    at_work.work()
    at_work.await_status("ready")
    assert "headrace_consumer_is_compiled 1.0" in at_work.page("/metrics")[1]  # as here at the installation
    admin = at_work.broker.admin()
    admin.delete_topics([at_work.topic])[at_work.topic].result(60)

    said = at_work.await_status("no_topic")
    assert at_work.status("/healthz") == "no_topic"
    at_work.follow(said)

    at_work.await_status("ready")
    at_work.send(3, partition=3)
    at_work.await_rows(3)


def test_a_group_that_does_not_form(at_work: Operator) -> None:
    """Another member has another assignor; a worker that is kept out of the group is not idle."""
    other = consumer(
        at_work.broker, at_work.environ["CONSUMER_GROUP_ID"], partition_assignment_strategy="cooperative-sticky"
    )
    other.subscribe([at_work.topic])
    until(lambda: bool(other.assignment()), lambda: other.poll(0.1))
    at_work.work()
    page = at_work.await_page("/readyz", lambda _, body: "members whose" in body)
    assert '"joining"' in page

    other.close()
    at_work.stop()
    at_work.work()

    at_work.await_status("ready")


@SOAK_ONLY
def test_a_hanging_transaction(at_work: Operator) -> None:
    """Nobody reads past it, and no lag shows it; Kafka's tool names its producer, and ends it."""
    sender = producer(at_work.broker.bootstrap_servers, transactional_id=at_work.topic, **OPEN_FOR_LONG)
    sender.init_transactions(60)
    sender.begin_transaction()
    sender.produce(at_work.topic, encoded(0), partition=1)
    assert sender.flush(60) == 0
    at_work.send(4, partition=1, first=1)
    at_work.work()

    said = at_work.await_status("kept_back")
    assert said.startswith(f"{at_work.topic}/1: an open transaction holds back 5 offsets from 0 on for ")
    assert f'lag_records{{partition="1",topic="{at_work.topic}"}} 0.0' in at_work.page("/metrics")[1]
    at_work.follow(said)

    at_work.await_status("ready")
    at_work.await_rows(4)


def test_partitions_that_are_added_are_read(at_work: Operator) -> None:
    """By the worker that runs; without the file's word it looks every 30 s."""
    at_work.work()
    at_work.await_status("ready")
    admin = at_work.broker.admin()
    admin.create_partitions([NewPartitions(at_work.topic, 3)])[at_work.topic].result(60)
    at_work.send(2, partition=2)

    at_work.await_rows(2)
