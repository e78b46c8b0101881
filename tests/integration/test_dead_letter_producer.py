"""A producer of dead letters that has failed permanently is replaced, and sends when the brokers are back."""

import pytest
from confluent_kafka import KafkaError

from consumer.errors import Transient
from consumer.kafka.dead_letters import DeadLetterProducer, Outgoing
from tests.support.mock_cluster import Api, MockCluster

LETTER = Outgoing(b"key", b"value", [])


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (Api.INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
        (Api.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER),
    ],
)
def test_a_producer_that_has_failed_for_good_is_replaced(api: Api, code: int) -> None:
    """One error ends an idempotent producer; the same publisher sends again, behind a try that is Transient."""
    with MockCluster() as mock:
        mock.create_topic("dead", partitions=1)
        mock.push_request_errors(api, code)
        publisher = DeadLetterProducer({"bootstrap.servers": mock.bootstrap_servers}, "dead")
        try:
            publisher.publish([LETTER])
        except Transient:
            pass
        else:
            assert api is Api.PRODUCE  # some versions of librdkafka recover from this by themselves
        places = publisher.publish([LETTER])
        publisher.close()

    assert [place.topic for place, _ in places] == ["dead"]
