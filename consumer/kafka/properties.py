"""The librdkafka properties of the worker's clients: those it pins, and those that an operator's file may not set."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.transport.librdkafka import SET_BY_US, reporting

PINNED: Final[Mapping[str, str | int | bool]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # The worker decides at assignment where to start; an offset out of range must not be skipped silently.
    "auto.offset.reset": "error",
}
"""Pinned for the group's member."""
PRODUCER_PINNED: Final[Mapping[str, str | int | bool]] = {
    "acks": "all",
    "enable.idempotence": True,
    "message.timeout.ms": 30_000,
    "partitioner": "murmur2_random",  # the ingress's: a replayed event goes to its person's partition
}
"""Pinned for the producers of dead letters and replays."""
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
"""Properties that the file may not set, and why."""
REPORTING: Final[Mapping[str, Any]] = reporting("CONSUMER_KAFKA_CONFIG_FILE")
"""The arguments with which every client logs its messages."""
_FETCH_BYTES_MAX: Final = 64 * 1024
_READ_AHEAD: Final[Mapping[str, str | int]] = {
    # Inflated bytes of values over all partitions; above it no fetch starts.
    "queued.max.messages.kbytes": 16 * 1024,
    # Records, because keys, headers and bookkeeping are not counted above.
    "queued.min.messages": 20_000,
    # Bytes as stored in the log, but at least one batch; this bounds what one fetch may inflate to.
    "fetch.max.bytes": _FETCH_BYTES_MAX,
    "fetch.message.max.bytes": _FETCH_BYTES_MAX,
    # Partitions that are added, and topics that come back, are seen within this; librdkafka's 5 min are long.
    "topic.metadata.refresh.interval.ms": 30_000,
    # After a full queue, a partition is fetched again after this; librdkafka's 1 s would let it run dry.
    "fetch.queue.backoff.ms": 20,
}


def reading(properties: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return a consumer's properties: these, with our defaults for reading ahead; see docs/OPERATIONS.md.

    A small fetch costs nothing where batches are large, because a fetch returns at least one batch; a large fetch of
    batches that were compressed a thousandfold costs gigabytes.
    """
    # A limit of producers; for a consumer it is only the minimum of fetch.max.bytes.
    return {**_READ_AHEAD, **properties, "message.max.bytes": 1000}
