"""Each thing that `lag` can say of a partition: brought about, its advice followed word for word, and gone."""

import uuid
from urllib.parse import urlsplit

import pytest
from confluent_kafka import TopicPartition

from consumer.kafka.admin import Cluster
from consumer.operations.lag import lag_lines
from consumer.operations.preflight import find_topics
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import OPEN_FOR_LONG, consumer, producer
from tests.support.log_members import until
from tests.support.operator import WAIT_S, Operator
from tests.support.proxy import FaultProxy, Refuse


@pytest.fixture
def on_kafka(operator: Operator) -> Operator:
    """An operator of an Apache Kafka: the embedded broker has no transactions, and deletes no records."""
    if operator.broker.name == "embedded":
        pytest.skip("the embedded broker deletes no records and knows no transactions")
    return operator


def lag(operator: Operator, number: int = 0) -> tuple[int, str]:
    """Return the lag and the note of a partition."""
    (line,) = [line for line in lines(operator) if (line["topic"], line["partition"]) == (operator.topic, number)]
    return int(str(line["lag"])), str(line["note"])


def lines(operator: Operator) -> list[dict[str, object]]:
    """Return what `lag` prints, without starting a process each time."""
    servers, group = operator.broker.bootstrap_servers, operator.environ["CONSUMER_GROUP_ID"]
    cluster = Cluster({"bootstrap.servers": servers}, group)
    return lag_lines(cluster, find_topics(cluster, [operator.topic, operator.dead_topic]))


def work_off(operator: Operator) -> None:
    """Let the workers come to the end of all that can be read, and stop."""
    until(
        lambda: all(not line["lag"] and "nothing" not in str(line["note"]) for line in lines(operator)),
        timeout_s=WAIT_S,
    )
    operator.stop()


def test_a_topic_that_is_not_there_is_made(operator: Operator) -> None:
    """The command is complete: it names the brokers too."""
    operator.environ["CONSUMER_TOPIC"] = operator.topic = f"test-{uuid.uuid4().hex[:12]}"
    code, sentence = operator.fails("lag")
    assert (code, sentence.partition(": ")[0]) == (1, f"there is no topic {operator.topic}")

    operator.follow(sentence)

    assert operator.run("lag")[0] == 0


def test_nothing_committed_yet(operator: Operator) -> None:
    """A worker that runs commits, even where nothing is to be read."""
    operator.make_tables()
    operator.send(3)
    assert lag(operator) == (3, "nothing is committed yet: run `python -m consumer run`")

    operator.follow(lag(operator)[1])
    work_off(operator)

    assert operator.lines("lag") == (0, lines(operator))
    assert lag(operator) == (0, "")


def test_a_transactions_marker_is_no_lag(on_kafka: Operator) -> None:
    """A lag of 1 for ever was what people saw."""
    on_kafka.make_tables()
    sender = producer(on_kafka.broker.bootstrap_servers, transactional_id=uuid.uuid4().hex)
    sender.init_transactions(60)
    for number in range(3):
        sender.begin_transaction()
        sender.produce(on_kafka.topic, encoded(number), partition=0)
        sender.commit_transaction(60)
    on_kafka.work()
    work_off(on_kafka)

    assert lag(on_kafka) == (0, "")


def test_an_open_transaction_is_no_lag_and_is_said(on_kafka: Operator) -> None:
    """What can't be read yet is not behind; the tool's own words name the producer, and end it."""
    sender = producer(on_kafka.broker.bootstrap_servers, transactional_id=uuid.uuid4().hex, **OPEN_FOR_LONG)
    on_kafka.make_tables()
    sender.init_transactions(60)
    sender.begin_transaction()
    sender.produce(on_kafka.topic, encoded(0), partition=0)
    assert sender.flush(60) == 0
    on_kafka.send(4, first=1)
    on_kafka.work()
    work_off(on_kafka)
    behind, note = lag(on_kafka)
    assert (behind, note.startswith("an open transaction holds back 5 offsets from 0 on for ")) == (0, True)

    on_kafka.follow(note)

    assert lag(on_kafka) == (6, "")  # four events, and what the transaction left
    on_kafka.work()
    work_off(on_kafka)
    assert lag(on_kafka) == (0, "")


def test_a_topic_that_was_made_anew(on_kafka: Operator) -> None:
    """Its mark is of the one before; a worker knows, and reads the new one from its start."""
    admin = on_kafka.broker.admin()
    on_kafka.make_tables()
    on_kafka.send(5)
    on_kafka.work()
    work_off(on_kafka)
    member = consumer(on_kafka.broker, on_kafka.environ["CONSUMER_GROUP_ID"])
    (mark,) = member.committed([TopicPartition(on_kafka.topic, 0)], timeout=60)
    admin.delete_topics([on_kafka.topic])[on_kafka.topic].result(60)
    on_kafka.broker.create_topic(on_kafka.topic, partitions=2)
    member.commit(offsets=[mark], asynchronous=False)  # as one that was under way when the topic was deleted
    member.close()
    on_kafka.send(2)
    _, note = lag(on_kafka)
    assert note.startswith("committed before the topic was recreated")

    on_kafka.follow(note)
    work_off(on_kafka)

    assert lag(on_kafka) == (0, "")
    assert on_kafka.rows() == 7


def test_records_that_were_deleted_unread(on_kafka: Operator) -> None:
    """The partition is halted at what is gone; who runs the command goes on with what is there."""
    on_kafka.make_tables()
    on_kafka.send(5)
    on_kafka.work()
    work_off(on_kafka)
    on_kafka.send(10, first=5)
    admin = on_kafka.broker.admin()
    admin.delete_records([TopicPartition(on_kafka.topic, 0, 12)])[TopicPartition(on_kafka.topic, 0)].result(60)
    note = lag(on_kafka)[1]
    assert note.startswith("halted: records up to offset 12 were deleted before they were read")

    on_kafka.follow(note)
    on_kafka.work()
    work_off(on_kafka)

    assert lag(on_kafka) == (0, "")
    assert on_kafka.rows() == 8


def test_an_intent_that_a_dead_worker_left(operator: Operator) -> None:
    """A worker that starts inserts the range."""
    if not operator.broker.supports_commit_metadata:
        pytest.skip("without metadata there is no intent")
    operator.make_tables()
    with FaultProxy("127.0.0.1", urlsplit(operator.environ["CONSUMER_CLICKHOUSE_URL"]).port or 0) as proxy:
        doomed = operator.work(CLICKHOUSE_URL=proxy.url)
        operator.send(2)
        operator.await_rows(2)  # before its first batch a worker asks the tables what is in them
        until(lambda: lag(operator) == (0, ""), timeout_s=WAIT_S)  # and it has heard of them: no intent is left
        proxy.set(Refuse())
        operator.send(5, first=2)
        until(lambda: lag(operator)[1].startswith("intent [2, "), timeout_s=WAIT_S)
        doomed.kill()
        doomed.communicate()
        operator.workers.clear()

    operator.follow(lag(operator)[1])
    work_off(operator)

    assert lag(operator) == (0, "")
    assert operator.rows() == 7
