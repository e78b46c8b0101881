"""What the clients of workers and commands are told beside the operator's file."""

from collections.abc import Callable, Mapping

import pytest
from confluent_kafka import KafkaException

from consumer.delivery.ports import Partition
from consumer.kafka.admin import Cluster
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.dead_letters import DeadLetterProducer
from consumer.kafka.properties import reading
from consumer.kafka.scan import TopicReader
from consumer.operations.group import StoppedGroup

Properties = Mapping[str, str | int]
NOBODY: Properties = {"bootstrap.servers": "127.0.0.1:9", "log_level": 0}
PLACE = Partition("events", 0)


def test_topics_are_looked_at_twice_a_minute_unless_the_file_says_otherwise() -> None:
    """Partitions that are added are read within a minute; librdkafka's own default is five."""
    name = "topic.metadata.refresh.interval.ms"

    assert reading({})[name] == 30_000
    assert reading({name: "1000"})[name] == "1000"


def fetch(properties: Properties) -> None:
    """Read a record as `resume` does."""
    with StoppedGroup(properties, "group", AdminConnection(NOBODY)).reading(PLACE):
        pass


CLIENTS: Mapping[str, Callable[[Properties], object]] = {
    "worker": lambda properties: KafkaLog({**properties, "group.id": "group"}, ["events"], AdminConnection(NOBODY)),
    "dead letters and replays": lambda properties: DeadLetterProducer(properties, "events.dead"),
    "admin": AdminConnection,
    "audit": lambda properties: Cluster(properties, "group", AdminConnection(NOBODY)).gaps(PLACE, [0]),
    "find and tail": lambda properties: TopicReader(properties, "group"),
    "resume, reads": fetch,
    "resume, commits": lambda properties: StoppedGroup(properties, "group", AdminConnection(NOBODY)).commit({}),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_the_file_says_reaches_every_client(client: str) -> None:
    """Such as client.rack: librdkafka is told a name that it does not know, and says so."""
    with pytest.raises(KafkaException, match=r"client\.rake"):
        CLIENTS[client]({**NOBODY, "client.rake": "a"})
