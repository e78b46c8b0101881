"""A producer of dead letters that would keep failing is replaced, and sends when brokers and permissions are back."""

import pytest
from confluent_kafka import KafkaError

from consumer.errors import Denied, Transient
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
    """One error ends an idempotent producer; the same publisher sends again, behind a try that fails."""
    with MockCluster() as mock:
        mock.create_topic("dead", partitions=1)
        mock.push_request_errors(api, code)
        publisher = DeadLetterProducer({"bootstrap.servers": mock.bootstrap_servers}, "dead")
        try:
            publisher.publish([LETTER])
        except (Transient, Denied):
            pass
        else:
            assert api is Api.PRODUCE  # some versions of librdkafka recover from this by themselves
        places = publisher.publish([LETTER])
        publisher.close()

    assert [place.topic for place, _ in places] == ["dead"]


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (Api.PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        (Api.PRODUCE, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
        (Api.INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
    ],
)
def test_a_right_that_is_missing_is_named_and_not_called_a_broker_away(api: Api, code: int) -> None:
    """On the topic, or of an account that may write nowhere; the same publisher goes on once it is given."""
    with MockCluster() as mock:
        mock.create_topic("dead", partitions=1)
        mock.push_request_errors(api, *[code] * 100)
        publisher = DeadLetterProducer({"bootstrap.servers": mock.bootstrap_servers}, "dead")
        for _ in range(2):
            with pytest.raises(Denied, match="the account may not write to the topic dead; give it Write"):
                publisher.publish([LETTER])
        mock.clear_errors(api)

        assert len(publisher.publish([LETTER])) == 1
        publisher.close()


def test_a_letter_whose_offset_nobody_names_is_sent_again() -> None:
    """Of two requests in flight the broker refuses the first: librdkafka reports it as stored."""
    with MockCluster() as mock:
        mock.create_topic("dead", partitions=1)
        settings: dict[str, str | int] = {"bootstrap.servers": mock.bootstrap_servers, "batch.num.messages": 1}
        publisher = DeadLetterProducer(settings, "dead")
        mock.set_rtt(1, 300)
        mock.push_request_errors(Api.PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION)
        with pytest.raises(Transient, match="1 in flight, or reported without an offset"):
            publisher.publish([LETTER] * 2)
        mock.set_rtt(1, 0)

        assert [offset for _, offset in publisher.publish([LETTER] * 2)] == [1, 2]
        publisher.close()
