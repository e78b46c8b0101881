"""What a worker's clients are told beside the operator's file."""

from consumer.kafka.properties import reading


def test_topics_are_looked_at_twice_a_minute_unless_the_file_says_otherwise() -> None:
    """Partitions that are added are read within a minute; librdkafka's own default is five."""
    name = "topic.metadata.refresh.interval.ms"

    assert reading({})[name] == 30_000
    assert reading({name: "1000"})[name] == "1000"
