"""A broker that was frozen for longer than its session, and new producers whose first records it gets then."""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from ingest.ports import NoMetrics
from ingest.publishing.kafka import KafkaBroker, TopicNames
from ingest.publishing.ports import DeliveryFuture, DeliveryStatus, Record
from tests.conftest import SOAK_ONLY
from tests.fault.conftest import new_topic_on
from tests.support.kafka import KafkaCluster
from tests.support.ledger import values

pytestmark = SOAK_ONLY

_PRODUCERS: Final = 25  # the broker answers "not the leader" for a moment only: one of them may hit it
_ROUNDS: Final = 30
_SEND_S: Final = 1.5


@pytest.mark.timeout(900)
def test_what_a_thawed_broker_refused_is_not_delivered(broker: KafkaCluster) -> None:
    """It lost its partitions while it stood still: it refuses records, and a moment later takes the next ones."""
    delivered: set[bytes] = set()
    events, sent = new_topic_on(broker, partitions=4), 0
    for _ in range(_ROUNDS):
        with _producers(broker.bootstrap_servers, events) as producers:
            broker.nodes[0].pause()
            time.sleep(random.uniform(3.0, 3.6))  # the tests' session is 3 s
            broker.nodes[0].resume()
            deliveries: list[tuple[bytes, DeliveryFuture]] = []
            until_s = time.monotonic() + _SEND_S
            while time.monotonic() < until_s:
                for producer in producers:
                    value = uuid.uuid4().bytes
                    deliveries.append((value, producer.send([Record(value, value)])))
                time.sleep(0.001)
            sent += len(deliveries)
            for value, delivery in deliveries:
                assert delivery.wait_in_thread(60)
                if delivery.statuses() == [DeliveryStatus.DELIVERED]:
                    delivered.add(value)

    lost = delivered - set(values(broker.bootstrap_servers, events))

    assert len(delivered) > sent / 2
    assert not lost, f"{len(lost)} of {len(delivered)} records were reported as delivered and are not there"


@contextmanager
def _producers(servers: str, topic: str) -> Iterator[list[KafkaBroker]]:
    """Yield producers that know the broker and have sent nothing."""
    properties = {"bootstrap.servers": servers, "message.timeout.ms": 4500, "linger.ms": 1}
    made = [KafkaBroker(properties, TopicNames(topic, "dead"), 2**24, NoMetrics()) for _ in range(_PRODUCERS)]
    try:
        assert all(producer.answers(30) for producer in made)
        yield made
    finally:
        for producer in made:
            producer.close(0)
