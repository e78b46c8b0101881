"""The wire: frames, ids and containers."""

import io
import json
from typing import Any

import fastavro
import pytest

from schemas.codec import (
    Encoder,
    FrameError,
    container,
    container_header,
    decode,
    local_schema_id,
    near_varint,
    read_schema,
    schema_id_of,
    varint,
)

EVENT = {
    "eventId": "01a207da-7143-714f-a3ef-a6b5987670ea",
    "pingId": "01a207da-7143-714f-a3ef-a6b5987670ea",
    "eventType": "CLICK",
    "receivedAt": 1,
    "occurredAt": 2,
}


def test_a_frame_is_magic_id_and_body() -> None:
    """The five bytes are those of the Confluent wire format."""
    value = Encoder(read_schema("event"), 0x01020304).encode(EVENT)

    assert value[:5] == b"\x00\x01\x02\x03\x04"
    assert schema_id_of(value) == 0x01020304


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, "0 bytes"), (b"", "0 bytes"), (b"\x00\x01", "2 bytes"), (b'{"a":1}', "first byte is 123")],
)
def test_what_is_no_frame_is_said(value: bytes | None, says: str) -> None:
    """The message names what was found instead of a frame."""
    with pytest.raises(FrameError, match=says):
        schema_id_of(value)


def test_a_body_comes_back_with_the_defaults_of_its_schema() -> None:
    """What was left out takes the schema's default, and what was given stays."""
    schema = read_schema("event")

    record = decode(Encoder(schema, 7).encode(EVENT)[5:], schema)

    assert record["eventType"] == "CLICK"
    assert record["active"] == -1
    assert record["properties"] == "{}"
    assert record["headers"] == {}


@pytest.mark.parametrize(
    "change", [lambda body: body[:-1], lambda body: body + b"x", lambda body: body[:0], lambda body: b"\x01" + body]
)
def test_a_damaged_body_is_not_decoded(change: object) -> None:
    """Truncated, prolonged, empty and shifted bodies raise ValueError, never another error."""
    schema = read_schema("event")
    body = Encoder(schema, 7).encode(EVENT)[5:]

    with pytest.raises(ValueError, match=r"bytes after|not a record"):
        decode(change(body), schema)  # type: ignore[operator]  # a function of bytes


def test_a_schema_id_does_not_depend_on_layout_or_documentation() -> None:
    """The services agree on the id when only words or white space differ, and differ when a field does."""
    text = read_schema("event")
    schema = json.loads(text)
    reworded = json.dumps({**schema, "doc": "other words"}, indent=4)
    schema["fields"][0]["name"] = "another"

    assert local_schema_id(reworded) == local_schema_id(text)
    assert local_schema_id(json.dumps(schema)) != local_schema_id(text)


def test_local_ids_cannot_meet_a_registrys() -> None:
    """A registry counts up from 1; the files' ids have bit 30 set and fit the frame's signed 32 bits."""
    assert 2**30 <= local_schema_id(read_schema("event")) < 2**31


def test_event_id_is_pinned() -> None:
    """A changed event.avsc is a new schema: the old file must stand in schemas/previous, see its README."""
    assert local_schema_id(read_schema("event")) == 1138038566


@pytest.mark.parametrize("number", [0, -1, 1, -64, 63, 64, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
def test_varint_is_avros_long(number: int) -> None:
    """The zigzag form is what fastavro writes for a long."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)

    assert varint(number) == out.getvalue()


@pytest.mark.parametrize("number", [*range(300), 8191, 8192, 2**31, 1_767_323_045_678, 2**62, 2**63 - 1])
def test_the_quick_varint_is_the_same(number: int) -> None:
    """For all that it takes: lengths, offsets and times."""
    assert near_varint(number) == varint(number)


def test_a_container_is_read_by_an_ordinary_avro_reader() -> None:
    """Coordinates and bodies side by side are records of the concatenated fields."""
    schema = read_schema("event")
    body = Encoder(schema, 7).encode(EVENT)[5:]
    rows = [varint(3) + varint(offset) + varint(1_700_000_000_000) + body for offset in (5, 6)]

    records: list[Any] = list(fastavro.reader(io.BytesIO(container(container_header(schema), rows))))

    assert [(record["_partition"], record["_offset"], record["eventType"]) for record in records] == [
        (3, 5, "CLICK"),
        (3, 6, "CLICK"),
    ]
