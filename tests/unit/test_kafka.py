"""The broker's edge, as far as it needs no broker: which properties a file may set, and what an error means."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from ingest.kafka import fate_of, read_properties
from ingest.ports import Fate


def test_a_file_of_properties_is_pairs(tmp_path: Path) -> None:
    """Blank lines and comments are skipped, spaces around name and value too; a value may hold equal signs."""
    path = tmp_path / "kafka.properties"
    path.write_text("# TLS\n\nsecurity.protocol = ssl\nssl.key.password=a=b\n")

    assert read_properties(str(path)) == {"security.protocol": "ssl", "ssl.key.password": "a=b"}
    assert read_properties("") == {}


@pytest.mark.parametrize(
    "line",
    [
        "acks=1",
        "acks =1",
        "request.required.acks=1",
        "enable.idempotence=false",
        "message.timeout.ms=60000",
        "delivery.timeout.ms=60000",
        "bootstrap.servers=elsewhere:9092",
        "metadata.broker.list=elsewhere:9092",
        "linger.ms=100",
        "queue.buffering.max.ms=100",
        "partitioner=random",
        "transactional.id=t",
    ],
)
def test_what_the_promises_rest_on_cannot_be_set_there(tmp_path: Path, line: str) -> None:
    """Under none of librdkafka's names for it."""
    path = tmp_path / "kafka.properties"
    path.write_text(f"client.rack=a\n{line}\n")

    with pytest.raises(ValueError, match="line 2: set by headrace"):
        read_properties(str(path))


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    """A typo stops the start, with file and line."""
    path = tmp_path / "kafka.properties"
    path.write_text("security.protocol ssl\n")

    with pytest.raises(ValueError, match=r"kafka.properties, line 1: not key=value"):
        read_properties(str(path))


def test_only_a_refusal_of_the_record_itself_is_one() -> None:
    """Whatever else librdkafka can report is sent again: timeouts, rights, epochs, replicas, purges, the unknown."""
    codes = {
        value for name in dir(KafkaError) if name.isupper() and isinstance(value := getattr(KafkaError, name), int)
    }

    refused = {code for code in codes if fate_of(KafkaError(code)) is Fate.REFUSED}

    assert len(codes) > 100
    assert refused == {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD}
    assert {fate_of(KafkaError(code)) for code in codes - refused} == {Fate.FAILED}
