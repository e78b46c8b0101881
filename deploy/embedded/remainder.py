"""Whether a group has worked off its topics: how the embedded pipeline knows that it may stop."""

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_POLL_S: Final = 0.2
_CALL_S: Final = 5.0


def await_nothing_left(bootstrap_servers: str, group: str, partitions_of: Mapping[str, int], timeout_s: float) -> bool:
    """Wait until the group's committed offsets are the topics' ends; False when that takes too long.

    The ends are learned by reading there, for the embedded broker's ListOffsets tells too small ones.
    """
    places = [TopicPartition(topic, number) for topic, count in partitions_of.items() for number in range(count)]
    deadline_s = time.monotonic() + timeout_s
    # Reads beside the group under its name: it never subscribes, so it is no member.
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        while time.monotonic() < deadline_s:
            if not _left(reader, places):
                return True
            time.sleep(_POLL_S)
    except KafkaException as error:
        print(f"the rest of the topic could not be counted: {error}", flush=True)
    finally:
        reader.close()
    return False


def _left(reader: Consumer, places: list[TopicPartition]) -> int:
    """Return how many partitions have records behind the group's committed offset."""
    committed = reader.committed(places, timeout=_CALL_S)
    reader.assign([TopicPartition(place.topic, place.partition, max(place.offset, 0)) for place in committed])
    at_end: set[tuple[str | None, int | None]] = set()
    behind: set[tuple[str | None, int | None]] = set()
    deadline_s = time.monotonic() + _CALL_S
    while len(at_end | behind) < len(places) and time.monotonic() < deadline_s:
        for message in reader.consume(1000, _POLL_S):
            error = message.error()
            place = (message.topic(), message.partition())
            if error is None:
                behind.add(place)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's local codes are named so)
                at_end.add(place)
    return len(places) - len(at_end - behind)
