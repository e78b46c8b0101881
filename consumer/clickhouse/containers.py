"""Containers of events: Avro files in which each record's body stands behind its coordinates. Nothing is decoded.

Compiled code (container_writer.pyx) writes them, where it could be compiled. Both ways make the same bytes: a test
compares them.
"""

from collections.abc import Sequence
from typing import Final

from consumer.delivery.ports import Record
from schemas.codec import FRAME_BYTES, SYNC, container, near_varint, varint

try:
    from consumer.clickhouse import container_writer
except ImportError:  # there was no compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True

NO_TIMESTAMP: Final = 0


def timestamp_ms(record: Record) -> int:
    """Return a record's Kafka timestamp; 0 when it has none."""
    return max(NO_TIMESTAMP, record.timestamp_ms)


def coordinates(record: Record) -> bytes:
    """Return the bytes before a record's body in a container: partition, offset, Kafka timestamp."""
    return varint(record.partition.number) + varint(record.offset) + varint(timestamp_ms(record))


def frames(records: Sequence[Record]) -> set[bytes]:
    """Return the first bytes of all values: almost always one frame, so that no value needs to be read singly."""
    return container_writer.frames(records, FRAME_BYTES) if IS_COMPILED else frames_in_python(records)


def frames_in_python(records: Sequence[Record]) -> set[bytes]:
    """Return what `frames` does."""
    return {record.value[:FRAME_BYTES] for record in records}


def events_container(header: bytes, records: Sequence[Record]) -> bytes:
    """Return the container of framed records, at least one, of one partition and schema."""
    if IS_COMPILED:
        return container_writer.container(header, records[0].partition.number, records, FRAME_BYTES, SYNC)
    return container_in_python(header, records)


def container_in_python(header: bytes, records: Sequence[Record]) -> bytes:
    """Return what `events_container` does."""
    number = varint(records[0].partition.number)
    rows = (
        number + near_varint(record.offset) + near_varint(timestamp_ms(record)) + record.value[FRAME_BYTES:]
        for record in records
    )
    return container(header, rows)
