"""The librdkafka properties of the worker's clients: what it pins, and what may not stand in an operator's file."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.transport.librdkafka import SET_BY_US, reporting

PINNED: Final[Mapping[str, str | int | bool]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Where to start is decided at assignment; an offset out of range must not be skipped silently.
    "auto.offset.reset": "error",
}
"""Of the group's member."""
PRODUCER_PINNED: Final[Mapping[str, str | int | bool]] = {
    "acks": "all",
    "enable.idempotence": True,
    "message.timeout.ms": 30_000,
    "partitioner": "murmur2_random",  # the ingress's: a replayed event goes where its person's events are
}
"""Of the producers of dead letters and replays."""
_SETTINGS: Final[Mapping[str, str]] = {
    "bootstrap.servers": "BOOTSTRAP_SERVERS",
    "group.id": "GROUP_ID",
    "group.instance.id": "GROUP_INSTANCE_ID",
    "group.protocol": "GROUP_PROTOCOL",
    "partition.assignment.strategy": "ASSIGNOR",
    "session.timeout.ms": "SESSION_TIMEOUT_MS",
    "heartbeat.interval.ms": "HEARTBEAT_INTERVAL_MS",
    "max.poll.interval.ms": "MAX_POLL_INTERVAL_MS",
}
OWNED: Final[Mapping[str, str]] = {
    **dict.fromkeys((*PINNED, *PRODUCER_PINNED, "client.id", "transactional.id"), SET_BY_US),
    **{name: f"is the setting CONSUMER_{setting}" for name, setting in _SETTINGS.items()},
}
"""What the file may not hold, and why."""
REPORTING: Final[Mapping[str, Any]] = reporting("CONSUMER_KAFKA_CONFIG_FILE")
"""The arguments with which every client says in the log what happens to it."""
_FETCH_BYTES_MAX: Final = 64 * 1024
_READ_AHEAD: Final[Mapping[str, str | int]] = {
    # Inflated bytes of values, over all partitions: no fetch begins while so many wait.
    "queued.max.messages.kbytes": 16 * 1024,
    # Records, for their keys, headers and bookkeeping are not counted above.
    "queued.min.messages": 20_000,
    # Bytes as they lie in the log, and one batch in any case: what one fetch may inflate.
    "fetch.max.bytes": _FETCH_BYTES_MAX,
    "fetch.message.max.bytes": _FETCH_BYTES_MAX,
    # Partitions that are added, and topics that come back, are seen within this; librdkafka's 5 min are long.
    "topic.metadata.refresh.interval.ms": 30_000,
    # When enough waits, a partition is looked at again after this; librdkafka's 1 s would let it run dry.
    "fetch.queue.backoff.ms": 20,
}


def reading(properties: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return a consumer's properties: these, and how far it reads ahead where they don't say; see docs/OPERATIONS.md.

    A small fetch costs nothing where batches are large, for one batch always comes; a large fetch of batches that were
    compressed a thousandfold costs gigabytes.
    """
    # The producers' limit; for a consumer it is only the least that fetch.max.bytes may be.
    return {**_READ_AHEAD, **properties, "message.max.bytes": 1000}
