"""A consumer group of the test's own, by protocol and broker: what one can't do is no case of it."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer.delivery.ports import CommittedOffset, Partition
from tests.support.kafka_broker import Broker
from tests.support.kafka_clients import deliver
from tests.support.log_members import Member

PROTOCOLS: Final[Mapping[str, Mapping[str, str]]] = {
    "range": {"group.protocol": "classic", "partition.assignment.strategy": "range"},
    "cooperative": {"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky"},
    "kip848": {"group.protocol": "consumer"},
}
ON_KAFKA: Final = [("kafka", protocol) for protocol in PROTOCOLS]
CLASSIC_ON_KAFKA: Final = ON_KAFKA[:2]
ON_EMBEDDED: Final = [("embedded_broker", "range")]
ON_ANY_BROKER: Final = [*ON_KAFKA, *ON_EMBEDDED]
_EXPELLED_MS: Final = 1500
_PATIENT_MS: Final = 6000  # the least that a broker allows by default


class Group:
    """A group, and a topic for it.

    Attributes:
        broker: where both are.
        protocol: its name in PROTOCOLS.
        topic: the topic, with four partitions.
        properties: of every member.
    """

    def __init__(self, broker: Broker, protocol: str) -> None:
        self.broker, self.protocol = broker, protocol
        self.topic = self.new_topic(4)
        self.properties = member_properties(broker, self.topic, protocol)
        self._members = ExitStack()

    def new_topic(self, partitions: int) -> str:
        """Make a topic and return its name."""
        name = f"group-{uuid.uuid4().hex[:12]}"
        self.broker.create_topic(name, partitions=partitions)
        return name

    @property
    def places(self) -> list[Partition]:
        """All partitions."""
        return [Partition(self.topic, number) for number in range(4)]

    def member(self, topic: str = "", **settings: str | int) -> Member:
        """Let a member join; a setting's dots are written as underscores."""
        given = {name.replace("_", "."): value for name, value in settings.items()}
        member = Member({**self.properties, **given}, topic or self.topic)
        self._members.callback(member.log.close)
        return member

    def produce(self, values: Sequence[bytes], number: int = 0, **settings: str | float | bool) -> list[int]:
        """Append records to a partition and return their offsets."""
        return deliver(self.broker.bootstrap_servers, self.topic, values, number, **settings)

    def marks(self) -> dict[Partition, CommittedOffset]:
        """Return what the group remembers, asked beside it."""
        asker = Consumer({"bootstrap.servers": self.broker.bootstrap_servers, "group.id": self.topic, "log_level": 0})
        try:
            found = asker.committed([TopicPartition(self.topic, number) for number in range(4)], timeout=60)
        finally:
            asker.close()
        return {
            Partition(item.topic, item.partition): CommittedOffset(item.offset, item.metadata or "")
            for item in found
            if item.offset >= 0
        }

    def close(self) -> None:
        """Let all members leave."""
        self._members.close()


def member_properties(broker: Broker, group: str, protocol: str) -> dict[str, str | int]:
    """Return a member's properties, quick where its protocol leaves that to the client."""
    ours: dict[str, str | int] = {
        "bootstrap.servers": broker.bootstrap_servers,
        "group.id": group,
        "log_level": 0,
        "fetch.wait.max.ms": 50,
        "reconnect.backoff.max.ms": 200,
        "topic.metadata.refresh.interval.ms": 500,
        **PROTOCOLS[protocol],
    }
    if protocol != "kip848":
        session_ms = _EXPELLED_MS if broker.name == "apache-kafka" else _PATIENT_MS
        ours |= {"session.timeout.ms": session_ms, "heartbeat.interval.ms": 150, **broker.consumer_settings}
    return ours


@pytest.fixture(params=ON_ANY_BROKER, ids="-".join)
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    """A group and its topic, for each protocol on each broker that has it; parametrise it indirectly for fewer."""
    fixture, protocol = request.param
    broker: Broker = request.getfixturevalue(fixture)
    if protocol == "kip848" and not broker.supports_kip848:
        pytest.skip(f"{broker.name}, the most real broker here, has no KIP-848")
    made = Group(broker, protocol)
    yield made
    made.close()
