"""Whether a body is a record of its schema: a walk agrees with a reader that decodes, and says where it breaks off."""

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import FRAME_BYTES, varint
from schemas.walk import Walker
from tests.support.fixtures_consumer import EVENT, encoded

RICH: Any = {
    "type": "record",
    "name": "Rich",
    "fields": [
        {"name": "flag", "type": "boolean"},
        {"name": "small", "type": "int"},
        {"name": "large", "type": "long"},
        {"name": "single", "type": "float"},
        {"name": "double", "type": "double"},
        {"name": "raw", "type": "bytes"},
        {"name": "text", "type": {"type": "string", "avro.java.string": "String"}},
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "day", "type": {"type": "enum", "name": "Day", "namespace": "week", "symbols": ["MON", "TUE"]}},
        {"name": "other", "type": ["null", "week.Day"]},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [{"name": "n", "type": "int"}]}},
        {"name": "map", "type": {"type": "map", "values": {"type": "array", "items": "Inner"}}},
    ],
}
INNER = st.fixed_dictionaries({"n": st.integers(-(2**31), 2**31 - 1)})
RECORDS = st.fixed_dictionaries(
    {
        "flag": st.booleans(),
        "small": st.integers(-(2**31), 2**31 - 1),
        "large": st.integers(-(2**63), 2**63 - 1),
        "single": st.floats(width=32),
        "double": st.floats(),
        "raw": st.binary(),
        "text": st.text(),
        "maybe": st.none() | st.text(),
        "day": st.sampled_from(["MON", "TUE"]),
        "other": st.none() | st.just("MON"),
        "hash": st.binary(min_size=4, max_size=4),
        "tags": st.lists(st.text(), max_size=4),
        "inner": INNER,
        "map": st.dictionaries(st.text(), st.lists(INNER, max_size=3), max_size=3),
    }
)
PARSED = fastavro.parse_schema(RICH)
WALKER = Walker(json.dumps(RICH))


def written(record: object) -> bytes:
    """Return a record's body."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, PARSED, record)
    return out.getvalue()


@given(RECORDS, st.data())
def test_a_record_is_one_and_no_beginning_of_it_is(record: object, data: st.DataObject) -> None:
    """Whatever types it has; what stands behind it is not looked at."""
    body = written(record)

    assert WALKER.fault_of(body, 0) == ""
    assert WALKER.fault_of(b"front" + body + b"behind", 5) == ""
    assert WALKER.fault_of(body[: data.draw(st.integers(0, len(body) - 1))], 0) != ""


@given(st.binary(max_size=300))
def test_junk_comes_to_an_end(junk: bytes) -> None:
    """Any bytes are walked in time and memory, and never an exception."""
    assert isinstance(WALKER.fault_of(junk, 0), str)
    assert isinstance(Walker(EVENT).fault_of(junk, 0), str)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"\x01", "small: the record ends before it"),
        (b"\x07", "flag: a boolean is neither 0 nor 1"),
        (b"\x00" + varint(2**31), "small: 2147483648 is beyond 32 bits"),
        (b"\x00\x00" + b"\xff" * 11, "large: a number has more than 64 bits"),
        (b"\x00\x00\x00" + b"0" * 12 + b"\x01", "raw: a length is negative"),
        (b"\x00\x00\x00" + b"0" * 12 + b"\x10a", "raw: the record ends in it"),
        (b"\x00\x00\x00" + b"0" * 12 + b"\x00\x00\x06", "maybe: the union has no branch 3"),
        (b"\x00\x00\x00" + b"0" * 12 + b"\x00\x00\x00\x0a", "day: the enum has no symbol 5"),
    ],
)
def test_the_field_is_named_and_the_fault(body: bytes, fault: str) -> None:
    """A dead letter says where to look."""
    assert WALKER.fault_of(body, 0) == fault


def test_an_event_is_walked_from_behind_its_frame() -> None:
    """And an event that lost its end says in which field."""
    value, walker = encoded(7, url="https://example.org/"), Walker(EVENT)

    assert walker.fault_of(value, FRAME_BYTES) == ""
    assert walker.fault_of(value[:-3], FRAME_BYTES) == "properties: the record ends in it"
    assert walker.fault_of(value[:FRAME_BYTES], FRAME_BYTES) == "eventId: the record ends before it"


def test_items_of_no_size_do_not_take_for_ever() -> None:
    """An array may say that it has 2**62 of them."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}

    assert Walker(json.dumps(schema)).fault_of(varint(2**62) + b"\x00", 0) == ""


def test_a_record_within_itself_is_walked_as_deep_as_it_goes() -> None:
    """A list of 100,000 links is refused, not followed into the ground."""
    schema = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}
    walker = Walker(json.dumps(schema))

    assert walker.fault_of(b"\x02" * 50 + b"\x00", 0) == ""
    assert walker.fault_of(b"\x02" * 100_000 + b"\x00", 0) == "next: nested too deep"


@pytest.mark.parametrize(
    "schema", ['"string"', "[]", "7", '{"type":"record","name":"R"}', "{", "[" * 200_000], ids=range(6)
)
def test_what_is_no_schema_of_a_record_is_refused(schema: str) -> None:
    """Anybody may register anything."""
    with pytest.raises(ValueError, match=r".+"):
        Walker(schema)


@pytest.mark.parametrize("kind", ['"u"', '{"type":"fixed","name":"F","size":-4}', '{"type":"map"}', "{}", "null", "7"])
def test_a_field_of_no_type_is_refused(kind: str) -> None:
    """Neither a type that nobody named nor one without its parts."""
    with pytest.raises(ValueError, match="fault"):
        Walker(f'{{"type":"record","name":"R","fields":[{{"name":"a","type":{kind}}}]}}')


def test_the_parts_of_a_record_are_its_bytes_one_field_after_the_other() -> None:
    """All of them make the body; some of them are those, in the schema's order."""
    value, walker = encoded(7, url="here", clientId="web"), Walker(EVENT)
    names = [each["name"] for each in json.loads(EVENT)["fields"]]

    assert b"".join(walker.parts_of(value, FRAME_BYTES, names)) == value[FRAME_BYTES:]
    assert walker.parts_of(value, FRAME_BYTES, {"url", "clientId", "of another schema"}) == (b"\x06web", b"\x08here")
