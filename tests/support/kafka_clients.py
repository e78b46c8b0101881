"""The few moves that tests of brokers make with ordinary clients, each with a deadline."""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.support.kafka_broker import Broker

TIMEOUT_S: Final = 60.0
OPEN_FOR_LONG: Final = {"transaction_timeout_ms": 600_000}
"""For a transaction that a test leaves open: brokers end it after a minute by default."""


def producer(bootstrap_servers: str, **settings: str | float | bool) -> Producer:
    """Return an idempotent producer with acks=all; a setting's dots are written as underscores."""
    return Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
            **_dotted(settings),
        }
    )


def consumer(broker: Broker, group: str, **settings: str | float | bool) -> Consumer:
    """Return a classic consumer from the earliest offset on that commits nothing by itself."""
    classic = {} if settings.get("group_protocol") == "consumer" else dict(broker.consumer_settings)
    return Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
            **classic,
            **_dotted(settings),
        }
    )


def deliver(
    bootstrap_servers: str,
    topic: str,
    values: Sequence[bytes],
    partition: int = 0,
    **settings: str | float | bool,
) -> list[int]:
    """Produce the values to one partition and return the offsets that the broker acknowledged, in order.

    Raises:
        KafkaException: one of them was refused or timed out.
    """
    offsets: list[int] = []
    faults: list[KafkaError] = []

    def report(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            faults.append(error)
            return
        offset = message.offset()
        if offset is not None:  # else librdkafka only concludes that the record is stored
            offsets.append(offset)

    sender = producer(bootstrap_servers, **settings)
    for value in values:
        sender.produce(topic, value=value, partition=partition, on_delivery=report)
    sender.flush(TIMEOUT_S)
    if faults or len(offsets) != len(values):
        raise KafkaException(faults[0] if faults else KafkaError(KafkaError._MSG_TIMED_OUT))  # noqa: SLF001 - its API
    return offsets


def await_assignment(members: Sequence[Consumer], partitions: int, timeout_s: float = TIMEOUT_S) -> float:
    """Poll until the members share all partitions, each has some, and none is shared by two; return the seconds taken.

    Raises:
        TimeoutError: they do not.
    """
    start_s = time.monotonic()
    while time.monotonic() < start_s + timeout_s:
        for member in members:
            member.poll(0.02)
        owned = [[(part.topic, part.partition) for part in member.assignment()] for member in members]
        if all(owned) and len({part for parts in owned for part in parts}) == sum(map(len, owned)) == partitions:
            return time.monotonic() - start_s
    raise TimeoutError(f"the group did not form within {timeout_s} s")


def read(member: Consumer, count: int, timeout_s: float = TIMEOUT_S) -> list[Message]:
    """Poll until ``count`` records have come.

    Raises:
        KafkaException: the client reports an error.
        TimeoutError: fewer came; the message says how many.
    """
    records: list[Message] = []
    deadline_s = time.monotonic() + timeout_s
    while len(records) < count:
        if time.monotonic() >= deadline_s:
            raise TimeoutError(f"{len(records)} of {count} records came within {timeout_s} s")
        record = member.poll(0.2)
        if record is None:
            continue
        error = record.error()
        if error is not None:
            raise KafkaException(error)
        records.append(record)
    return records


def read_all(broker: Broker, topic: str, count: int, partition: int = 0) -> list[bytes]:
    """Return the values of the first ``count`` records of a partition, read without a group.

    Raises:
        TimeoutError: fewer are there.
    """
    reader = consumer(broker, "unused")
    try:
        reader.assign([TopicPartition(topic, partition, 0)])
        return [record.value() or b"" for record in read(reader, count)]
    finally:
        reader.close()


def _dotted(settings: dict[str, str | float | bool]) -> dict[str, str | float | bool]:
    return {name.replace("_", "."): value for name, value in settings.items()}
