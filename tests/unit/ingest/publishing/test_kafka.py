"""The broker's edge, as far as it needs no broker: what an error means."""

from confluent_kafka import KafkaError

from ingest.publishing.kafka import status_of
from ingest.publishing.ports import DeliveryStatus


def test_only_a_refusal_of_the_record_itself_is_one() -> None:
    """Whatever else librdkafka can report is sent again: timeouts, rights, epochs, replicas, purges, the unknown."""
    codes = {
        value for name in dir(KafkaError) if name.isupper() and isinstance(value := getattr(KafkaError, name), int)
    }

    refused = {code for code in codes if status_of(KafkaError(code)) is DeliveryStatus.REFUSED}

    assert len(codes) > 100
    assert refused == {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD}
    assert {status_of(KafkaError(code)) for code in codes - refused} == {DeliveryStatus.FAILED}
