"""A body's shape is judged apart from its values."""

import json

import pytest

from consumer.errors import Reason
from consumer.ports import Record
from consumer.shape import bare, misshapen
from schemas.codec import Encoder
from tests.support.fixtures_consumer import EVENT, encoded, encoded_loosely, record

SHAPE = bare(EVENT)
NOT_UTF8 = encoded(1, url="abcd", headers={"efgh": "1"}).replace(b"abcd", b"\xff\xfe\xfd\xfc")


@pytest.mark.parametrize(
    "value",
    [
        encoded(1),
        encoded_loosely(1, eventId="no id"),
        encoded(1, receivedAt=9_999_999_999_999_999),
        encoded(1, properties="no JSON"),
        NOT_UTF8,
        NOT_UTF8.replace(b"efgh", b"\xff\xfe\xfd\xfc"),
    ],
)
def test_a_bad_value_has_a_good_shape(value: bytes) -> None:
    """Whether a column takes it is for the table to say."""
    assert misshapen(record(7, value), SHAPE) is None


@pytest.mark.parametrize("value", [encoded(1)[:-3], encoded(1)[:5], encoded(1) + b"\0", encoded(1)[:5] + b"\x01" * 9])
def test_a_body_that_is_not_one_record_is_misshapen(value: bytes) -> None:
    """Too short, empty, too long, or a length below 0."""
    found = misshapen(record(7, value), SHAPE)
    assert found is not None
    assert (found.offset, found.reason) == (7, Reason.BAD_AVRO)


def test_every_kind_of_type_keeps_its_encoding() -> None:
    """What the schema's own encoder wrote is read to the last byte."""
    schema = {
        "type": "record",
        "name": "All",
        "namespace": "headrace",
        "fields": [
            {"name": "several", "type": ["null", {"type": "string", "logicalType": "uuid"}], "default": None},
            {"name": "many", "type": {"type": "array", "items": "string"}},
            {"name": "named", "type": {"type": "map", "values": "string"}},
            {"name": "one", "type": {"type": "enum", "name": "One", "symbols": ["A", "B"]}},
            {"name": "raw", "type": {"type": "fixed", "name": "Raw", "size": 3}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        ],
    }
    text = json.dumps(schema)
    values = {"several": None, "many": ["x", "y"], "named": {"k": "v"}, "one": "B", "raw": b"abc", "day": 3}
    whole = record(7, Encoder(text, 1).encode(values))
    shorter = Record(whole.partition, 7, whole.timestamp_ms, whole.key, whole.value[:-1])
    assert misshapen(whole, bare(text)) is None
    assert misshapen(shorter, bare(text)) is not None
