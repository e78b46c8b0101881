"""The properties of the group's member: what the worker pins, and what an operator adds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException

PINNED: Final[Mapping[str, str | int | bool]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    # Where to start is decided at assignment; an offset out of range must not be skipped silently.
    "auto.offset.reset": "error",
}
_SETTINGS: Final[Mapping[str, str]] = {
    "bootstrap.servers": "BOOTSTRAP_SERVERS",
    "metadata.broker.list": "BOOTSTRAP_SERVERS",
    "group.id": "GROUP_ID",
    "group.instance.id": "GROUP_INSTANCE_ID",
    "group.protocol": "GROUP_PROTOCOL",
    "partition.assignment.strategy": "ASSIGNOR",
    "session.timeout.ms": "SESSION_TIMEOUT_MS",
    "heartbeat.interval.ms": "HEARTBEAT_INTERVAL_MS",
    "max.poll.interval.ms": "MAX_POLL_INTERVAL_MS",
}


def read_properties(path: str) -> dict[str, str]:
    """Read librdkafka properties from a file of `key=value` lines; `#` starts a comment. "" is no file.

    Raises:
        OSError: there is no such file.
        ValueError: a line is no pair, or sets what the worker pins or has a setting for.
    """
    if not path:
        return {}
    pairs: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not key + equals or key.startswith("#"):
            continue
        if fault := _fault(key, equals):
            raise ValueError(f"{path}, line {number}: {fault}")
        pairs[key] = value
    return pairs


def verify(properties: Mapping[str, str | int]) -> None:
    """Let librdkafka look at properties: their names, their values, and what contradicts what.

    Raises:
        ValueError: in its words.
    """
    try:
        Consumer({"group.id": "-", **properties, **PINNED, "log_level": 0}).close()
    except KafkaException as error:
        raise ValueError(error.args[0].str()) from error
    except TypeError as error:  # the driver's own properties are functions
        raise ValueError(str(error)) from error


def _fault(key: str, equals: str) -> str:
    """Return what is wrong with a line, without its text, which may be a secret."""
    if not key or not equals:
        return "not key=value"
    if key in PINNED:
        return f"{key} is set by headrace"
    return f"{key} is the setting CONSUMER_{_SETTINGS[key]}" if key in _SETTINGS else ""
