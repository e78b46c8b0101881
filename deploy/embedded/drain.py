"""Reads a group's progress, so that the embedded pipeline knows when it is ready and when it may stop."""

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_POLL_S: Final = 0.2
_TICK_S: Final = 0.05
_CALL_S: Final = 5.0


def await_members(bootstrap_servers: str, group: str, partitions_of: Mapping[str, int], timeout_s: float) -> bool:
    """Wait until the group has a commit in every partition: a worker makes one at its assignment. False on timeout."""
    places = _places(partitions_of)
    deadline_s = time.monotonic() + timeout_s
    reader = _reader(bootstrap_servers, group)
    try:
        while time.monotonic() < deadline_s:
            if all(place.offset >= 0 for place in reader.committed(places, timeout=_CALL_S)):
                return True
            time.sleep(_TICK_S)
    finally:
        reader.close()
    return False


def await_nothing_left(bootstrap_servers: str, group: str, partitions_of: Mapping[str, int], timeout_s: float) -> bool:
    """Wait until the group's committed offsets are the topics' ends; False on timeout.

    The ends are found by reading there, because the embedded broker's ListOffsets returns too small ones.
    """
    places = _places(partitions_of)
    deadline_s = time.monotonic() + timeout_s
    reader = _reader(bootstrap_servers, group)
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


def _places(partitions_of: Mapping[str, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, count in partitions_of.items() for number in range(count)]


def _reader(bootstrap_servers: str, group: str) -> Consumer:
    """Return a client with the group's id that never subscribes, so it is no member."""
    quiet = {"enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    return Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group, **quiet})


def _left(reader: Consumer, places: list[TopicPartition]) -> int:
    """Return how many partitions have records after the group's committed offset."""
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
