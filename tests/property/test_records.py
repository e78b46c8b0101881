"""What compiled code makes of messages and of records is what Python makes of them."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from consumer.clickhouse import containers
from consumer.clickhouse.containers import container_in_python, events_container, frames, frames_in_python
from consumer.delivery.ports import Partition, Record
from consumer.kafka import messages
from consumer.kafka.messages import read_in_python, read_records
from schemas.codec import FRAME_BYTES

longs = st.sampled_from([0, 1, 63, 64, 8191, 8192, 2**31, 2**62, 2**63 - 1]) | st.integers(0, 2**63 - 1)
times = longs | st.sampled_from([-1, -(2**63)]) | st.integers(-(2**63), -1)
bodies = st.builds(
    lambda size, byte: bytes((byte,)) * size, st.sampled_from([0, 1, 62, 63, 8189, 70_000]), st.integers(0, 255)
)
framed = st.builds(lambda frame, body: bytes(frame) + body, st.lists(st.integers(0, 1), min_size=5, max_size=5), bodies)
values = framed | st.binary(max_size=FRAME_BYTES + 1)


def records_of(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Record]]:
    """Return records of one partition with such values."""
    fields = st.tuples(longs, times, st.binary(max_size=3), values)
    return st.builds(
        lambda number, all_fields: [Record(Partition("events", number), *some) for some in all_fields],
        st.sampled_from([0, 1, 63, 64, 2**31 - 1]),
        st.lists(fields, min_size=1, max_size=6),
    )


def test_code_is_compiled_here() -> None:
    """Else the tests below compare Python with itself."""
    assert containers.IS_COMPILED
    assert messages.IS_COMPILED


@given(records_of(framed), st.binary(max_size=100))
def test_containers_have_the_same_bytes(records: list[Record], header: bytes) -> None:
    """Sizes of one to ten bytes, times that there are and that there are not, bodies of none and of many bytes."""
    assert events_container(header, records) == container_in_python(header, records)
    assert events_container(header, tuple(records)) == container_in_python(header, records)


@given(records_of(values))
def test_frames_are_the_same(records: list[Record]) -> None:
    """Also of values that are too short for one."""
    assert frames(records) == frames_in_python(records)


def test_a_short_value_is_no_frame_to_compare_with() -> None:
    """Whatever follows it in memory."""
    short, whole = (changed(value=bytes(size)) for size in (2, FRAME_BYTES))
    for records in ([short, whole], [whole, short, whole], [short, whole, short]):
        assert frames(records) == {bytes(2), bytes(FRAME_BYTES)}


def test_there_are_no_frames_of_no_records() -> None:
    """A batch may be nothing but poison."""
    assert frames([]) == frames_in_python([]) == set()


def changed(**fields: Any) -> Record:
    """Return a good record with such fields, of any type."""
    usual: dict[str, Any] = {
        "partition": Partition("events", 0),
        "offset": 0,
        "timestamp_ms": 0,
        "key": b"",
        "value": bytes(FRAME_BYTES),
    }
    return Record(**(usual | fields))


good = changed()


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (changed(value=b"\0" * (FRAME_BYTES - 1)), ValueError),
        (changed(value=bytearray(10)), TypeError),
        (changed(value=None), TypeError),
        (changed(offset="1"), TypeError),
        (changed(offset=2**63), OverflowError),
        (tuple(good)[:4], TypeError),
        (list(good), TypeError),
    ],
)
def test_compiled_code_reads_no_memory_that_is_not_a_records(record: Any, error: type[Exception]) -> None:
    """Whatever is no record, or has no frame, is an error, after good ones too."""
    with pytest.raises(error):
        events_container(b"", [good, good, record])


fields = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(["events", "dead", None]),
        "partition": st.integers(0, 3),
        "offset": st.integers(0, 2**62),
        "timestamp": st.tuples(st.sampled_from([0, 1, 2]), times),
        "key": st.none() | st.binary(max_size=3),
        "value": st.none() | st.binary(max_size=300),
        "headers": st.none() | st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=3),
        "leader_epoch": st.integers(-1, 3),
        "error": st.none() | st.just(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)),
    }
)


def all_of(read: Callable[[list[Message], int, list[Record]], int], all_fields: list[dict[str, Any]]) -> Any:
    """Return the records, and the places of errors, as a poll reads them."""
    portion, records, errors = [Message(**some) for some in all_fields], [good], []
    at = read(portion, 0, records)
    while at < len(portion):
        errors.append((at, len(records)))
        at = read(portion, at + 1, records)
    assert at == len(portion)
    return records, errors


@given(st.lists(fields, max_size=8))
def test_records_of_messages_are_the_same(all_fields: list[dict[str, Any]]) -> None:
    """With and without each of their parts, errors among them."""
    records, errors = all_of(read_records, all_fields)

    assert (records, errors) == all_of(read_in_python, all_fields)
    assert all(type(record) is Record for record in records)
    assert len(records) + len(errors) == len(all_fields) + 1
