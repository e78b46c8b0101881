"""The librdkafka properties of the worker's clients: what it pins, and what may not stand in an operator's file."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.librdkafka import SET_BY_US, reporting

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
