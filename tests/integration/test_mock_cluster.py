"""The mock cluster, seen by ordinary clients: it does what its faults are called."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.support.kafka_clients import deliver
from tests.support.mock_cluster import Api, MockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """One broker with the topic "events" of two partitions."""
    with MockCluster() as started:
        started.create_topic("events", 2)
        yield started


def test_a_permanent_error_fails_the_record_at_once(cluster: MockCluster) -> None:
    """A pushed MSG_SIZE_TOO_LARGE is what the delivery report says, and the next record passes."""
    cluster.push_request_errors(Api.PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(KafkaException) as failure:
        deliver(cluster.bootstrap_servers, "events", [b"x"], enable_idempotence=False)
    assert failure.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert deliver(cluster.bootstrap_servers, "events", [b"y"]) == [0]
