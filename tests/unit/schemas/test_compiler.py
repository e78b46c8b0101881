"""The compiled encoder: whatever the record, fastavro's bytes or fastavro's error. fastavro is the oracle here."""

import io
import json
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from string import ascii_letters
from textwrap import indent
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.compiler
from schemas.codec import FRAME_BYTES, Encoder, read_schema
from schemas.compiler import UNUSUAL, compile_schema, number_text
from schemas.event import REQUEST_FIELDS, Event

EVENT: Final = read_schema("event")
OF_THE_PROJECT: Final = (
    EVENT,
    read_schema("dead_letter"),
    *(path.read_text() for path in sorted(Path(schemas.__path__[0], "previous").glob("*.avsc"))),
)


def schema(*types: Any, **defaults: Any) -> str:
    """Return a record of fields `a`, `b` … of these types."""
    fields: list[dict[str, Any]] = [
        {"name": name, "type": avro} for name, avro in zip(ascii_letters, types, strict=False)
    ]
    fields = [field | ({"default": defaults[field["name"]]} if field["name"] in defaults else {}) for field in fields]
    return json.dumps({"type": "record", "name": "Any", "fields": fields})


COLOUR: Final = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}
MD5: Final = {"type": "fixed", "name": "Md5", "size": 3}
INNER: Final = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "long"}]}
STRINGS: Final = {"type": "map", "values": "string"}
UUID_TEXT: Final = {"type": "string", "logicalType": "uuid"}
MOMENT: Final = {"type": "long", "logicalType": "timestamp-millis"}
DECIMAL: Final = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}

texts = st.text() | st.text(st.characters(codec="ascii"), min_size=60, max_size=140) | st.text("aé😀", max_size=70)
ints = st.integers(-(2**31), 2**31 - 1)
longs = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**k + d for k in range(0, 63, 7) for d in (-1, 0, 1)])
OF_TYPES: Final[list[tuple[Any, st.SearchStrategy[Any]]]] = [
    ("string", texts),
    (UUID_TEXT, st.uuids().map(str) | st.uuids() | texts),
    ("int", ints),
    ("long", longs),
    (MOMENT, longs | st.datetimes(timezones=st.just(UTC))),
    ({"type": "long", "logicalType": "timestamp-micros"}, longs | st.datetimes(timezones=st.just(UTC))),
    ({"type": "int", "logicalType": "date"}, ints | st.dates()),
    ("bytes", st.binary()),
    (DECIMAL, st.decimals(-99, 99, places=2)),
    ("boolean", st.booleans()),
    ("float", st.floats(width=32)),
    ("double", st.floats()),
    ("null", st.none()),
    (COLOUR, st.sampled_from(["RED", "BLUE"])),
    (MD5, st.binary(min_size=3, max_size=3)),
    (INNER, st.builds(lambda x: {"x": x}, longs)),
    (STRINGS, st.dictionaries(texts, texts, max_size=4)),
    ({"type": "map", "values": "long"}, st.dictionaries(texts, longs, max_size=4)),
    ({"type": "map", "values": ["null", "string"]}, st.dictionaries(texts, st.none() | texts, max_size=4)),
    ({"type": "array", "items": "string"}, st.lists(texts, max_size=4)),
    ({"type": "array", "items": STRINGS}, st.lists(st.dictionaries(texts, texts, max_size=2), max_size=3)),
    (["null", "string"], st.none() | texts),
    (["null", "long", "string"], st.none() | longs | texts),
    (["string", "bytes"], texts | st.binary()),
    (["null", MOMENT], st.none() | longs | st.datetimes(timezones=st.just(UTC))),
]
strange = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters(categories=("Cs", "Ll")), min_size=1)
    | st.sampled_from(
        [UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), Decimal(1), [], {}, [("a", "b")], {"a": 1}, {1: "a"}]
    )
    | st.sampled_from(
        [MappingProxyType({"a": "b"}), bytearray(b"x"), memoryview(b"x"), ("a", "b"), 2**63, 2**64, "x" * 8192]
    )
)


def by_fastavro(text: str, record: Any) -> bytes | type[Exception]:
    """Return a record's Avro body, or the class of the error."""
    out = io.BytesIO()
    try:
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(text)), record)
    except Exception as error:  # noqa: BLE001  (whatever it is, ours must be the same)
        return type(error)
    return out.getvalue()


def by_us(text: str, record: Any, shared: tuple[str, ...] = ()) -> bytes | type[Exception]:
    """Return the same of the project's encoder."""
    try:
        return Encoder(text, 1).sharing(shared).encode(record)[FRAME_BYTES:]
    except Exception as error:  # noqa: BLE001  (as above)
        return type(error)


def is_compiled(text: str, record: Mapping[str, Any], shared: tuple[str, ...] = ()) -> bool:
    """Tell whether the generated functions take a record, without help."""
    compiled = compile_schema(fastavro.parse_schema(json.loads(text)), shared)
    assert compiled is not None
    try:
        compiled.write(record, "", *compiled.share(record))
    except UNUSUAL:
        return False
    return True


def values_of(avro: Any) -> st.SearchStrategy[Any]:
    """Return what fits a type of the project's schemas."""
    return next(strategy for kind, strategy in OF_TYPES if kind == avro)


@st.composite
def records_of(draw: st.DrawFn, text: str) -> dict[str, Any]:
    """Draw a record of a schema."""
    return {field["name"]: draw(values_of(field["type"])) for field in json.loads(text)["fields"]}


@pytest.mark.parametrize("text", OF_THE_PROJECT)
@given(st.data())
def test_a_record_of_our_schemas_has_fastavros_bytes(text: str, data: st.DataObject) -> None:
    """Text of all planes, every size of integer, maps and bytes; whatever fields are shared."""
    record = data.draw(records_of(text))
    shared = data.draw(st.lists(st.sampled_from(list(record)), unique=True).map(tuple))

    assert by_us(text, record) == by_us(text, record, shared) == by_fastavro(text, record)


def test_what_is_remembered_of_a_shared_number_fits_its_equals() -> None:
    """True, 1.0 and 1 are equal, so one may be found for another; fastavro writes all of them alike."""
    fields = [{"name": "at", "type": "long"}, {"name": "name", "type": "string"}]
    text = json.dumps({"type": "record", "name": "r", "fields": fields})
    for value in (True, 1.0, 1, 300, 300.0, "1", None):
        record = {"at": value, "name": "n"}
        assert by_us(text, record, ("at",)) == by_fastavro(text, record), value


def test_a_shared_field_of_any_type_may_be_called_a_number() -> None:
    """The generated text has functions of that name."""
    fields = [{"name": "page_number", "type": "double"}, {"name": "number", "type": "long"}]
    text = json.dumps({"type": "record", "name": "r", "fields": fields})
    record = {"page_number": 1.5, "number": 300}

    assert is_compiled(text, record, ("page_number", "number"))
    assert by_us(text, record, ("page_number", "number")) == by_fastavro(text, record)


@given(st.data())
def test_a_record_of_any_types_has_fastavros_bytes(data: st.DataObject) -> None:
    """Types that our own schemas don't have stand between those that they have, shared or not."""
    text = schema(*(avro for avro, _ in OF_TYPES))
    record = {name: data.draw(strategy) for name, (_, strategy) in zip(ascii_letters, OF_TYPES, strict=False)}
    shared = data.draw(st.sets(st.sampled_from(list(record)), max_size=9).map(tuple))

    assert by_us(text, record, shared) == by_fastavro(text, record)


@pytest.mark.parametrize(("avro", "strategy"), OF_TYPES)
@given(st.data())
def test_a_field_of_any_type_has_fastavros_bytes(
    avro: Any, strategy: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    """Each type by itself, so that one is not written for another."""
    text, record = schema(avro), {"a": data.draw(strategy)}

    assert by_us(text, record) == by_fastavro(text, record)


@given(st.sampled_from(OF_TYPES), strange, st.sampled_from([(), ("b",)]))
def test_a_strange_value_is_what_fastavro_makes_of_it(
    field: tuple[Any, st.SearchStrategy[Any]], value: Any, shared: tuple[str, ...]
) -> None:
    """Another type, too large, half a character: the same bytes, or the same class of error."""
    text = schema("string", field[0], "string")
    record = {"a": "before", "b": value, "c": "behind"}

    assert by_us(text, record, shared) == by_fastavro(text, record)


@pytest.mark.parametrize(
    ("avro", "value"),
    [
        ("string", StrEnum("Word", {"TEXT": "value"}).TEXT),  # type: ignore[attr-defined]  # made here
        ("string", b"bytes"),
        ("string", "\ud800"),
        ("string", "x" * 10_000_000),
        ("string", "é" * 8191),
        ("long", True),
        ("long", 1.0),
        ("long", 1.5),
        ("long", 2**63),
        ("long", -(2**63)),
        ("long", -(2**63) - 1),
        ("int", 2**31),
        ("bytes", "text"),
        ("bytes", bytearray(b"x")),
        ("bytes", b"x" * 100_000),
        (STRINGS, None),
        (STRINGS, []),
        (STRINGS, ""),
        (STRINGS, {"a": 1}),
        (STRINGS, {b"a": "b"}),
        (STRINGS, {"é": "\U0001f600"}),
        (STRINGS, {"a": "x" * 8192}),
        (STRINGS, {str(n): "" for n in range(9000)}),
        (["string", UUID_TEXT], "x"),
        (["string", UUID_TEXT], UUID(int=5)),
        (["string", COLOUR], "RED"),
        (["string", "string"], "x"),
        (["int", "long"], 2**40),
        (["long", "double"], 1.0),
        (["double", "long"], 1),
        (["boolean", "long"], True),
        ("double", float("nan")),
        ("double", float("inf")),
    ],
)
def test_edges_are_fastavros(avro: Any, value: Any) -> None:
    """Rows that a search may miss."""
    text = schema(avro, "string")
    record = {"a": value, "b": "behind"}

    assert by_us(text, record) == by_fastavro(text, record)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"a": "x"},
        {"b": "y"},
        {"a": None, "b": "y"},
        {"a": "x", "z": 1},
        None,
        [1],
        "x",
        UserDict(a="x", b="y"),
        OrderedDict(a="x"),
        defaultdict(str, a="x"),
        defaultdict(str, b="y"),
    ],
)
@pytest.mark.parametrize("shared", [(), ("a",), ("a", "b")])
def test_a_record_that_is_incomplete_or_none_is_fastavros(record: Any, shared: tuple[str, ...]) -> None:
    """A missing field takes its default, one without a default is an error, one too many is left out."""
    text = schema("string", "string", b="default")

    assert by_us(text, record, shared) == by_fastavro(text, record)


def test_a_type_may_be_named_by_a_later_field() -> None:
    """An enum is declared once and used twice, and a record may hold another one of its kind."""
    text = schema(COLOUR, "string", "Colour", ["null", "Any"], {"type": "array", "items": "Colour"})
    inner: dict[str, Any] = {"a": "RED", "b": "é", "c": "BLUE", "d": None, "e": []}
    record = inner | {"d": inner, "e": ["RED", "BLUE"]}

    assert by_us(text, record) == by_fastavro(text, record)
    assert is_compiled(text, record)


def test_a_whole_event_is_written_by_the_generated_function() -> None:
    """Nothing that the collector makes needs fastavro: not text beyond ASCII, not headers, not a time before 1970."""
    blank: dict[str, Any] = dict.fromkeys(Event.__annotations__, "é😀")
    event = blank | {"active": -1, "receivedAt": 1_800_000_000_000, "occurredAt": -1, "headers": {"ü": "😀"}}

    assert is_compiled(EVENT, event)
    assert is_compiled(EVENT, event, REQUEST_FIELDS)
    assert not is_compiled(EVENT, event | {"url": "x" * 8192})


def test_a_dead_letter_is_written_by_the_generated_function() -> None:
    """Its bytes are no text, and pass as they are."""
    fields = json.loads(read_schema("dead_letter"))["fields"]
    plain = {"string": "", "bytes": bytes(range(256)), "int": -1, "long": -1}
    letter = {field["name"]: plain.get(field["type"] if isinstance(field["type"], str) else "", {}) for field in fields}

    assert is_compiled(read_schema("dead_letter"), letter | {"originAt": 1})


def test_what_is_shared_is_taken_from_the_first_record() -> None:
    """The other fields are each record's own, in the order of the records."""
    text = schema("string", "string", "string", "long")
    records = [{"a": f"a{n}", "b": "both", "c": "é", "d": n} for n in range(3)]
    encoder = Encoder(text, 1)

    assert encoder.sharing(("b", "c")).encode_all(records) == [encoder.encode(record) for record in records]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_unusual_record_costs_only_itself_its_speed(at: int) -> None:
    """Its neighbours have their bytes and it has its own, wherever it stands and whatever is shared."""
    records: list[dict[str, Any]] = [{"a": "x", "b": n} for n in range(3)]
    records[at]["b"] = True
    text = schema("string", "long")

    expected = [by_fastavro(text, record) for record in records]
    for shared in ((), ("a",)):
        assert [value[FRAME_BYTES:] for value in Encoder(text, 1).sharing(shared).encode_all(records)] == expected


def test_the_text_is_the_one_that_the_docstring_shows() -> None:
    """Who reads the sample knows what runs."""
    text = json.dumps(
        {
            "type": "record",
            "name": "Any",
            "fields": [
                {"name": "eventId", "type": UUID_TEXT},
                {"name": "active", "type": "int"},
                {"name": "headers", "type": STRINGS},
                {"name": "url", "type": "string"},
            ],
        }
    )
    compiled = compile_schema(fastavro.parse_schema(json.loads(text)), ("headers",))

    assert compiled is not None
    assert indent(compiled.source, "    ") in (schemas.compiler.__doc__ or "")


def test_no_records_are_no_values() -> None:
    """There is no first record to share from."""
    assert Encoder(EVENT, 1).sharing(REQUEST_FIELDS).encode_all([]) == []


@pytest.mark.parametrize("schema_id", [0, 0x7B7D2722, 0x5C5C5C5C, 2**32 - 1])
def test_no_schema_id_breaks_the_text(schema_id: int) -> None:
    """Brackets, quotes and backslashes of the frame are bytes like others."""
    value = Encoder(schema("string"), schema_id).encode({"a": "x"})

    assert value == b"\0" + schema_id.to_bytes(4, "big") + b"\x02x"


@pytest.mark.parametrize(
    "name", ["from", "class", "__debug__", "record", "frame", "number", "sizes", "len", "map", "é", "ﬁ"]
)
def test_no_name_of_a_field_breaks_the_text(name: str) -> None:
    """Python's words, names that the generated text has itself, and letters beyond ASCII."""
    text = json.dumps({"type": "record", "name": "Any", "fields": [{"name": name, "type": "string"}]})

    assert by_us(text, {name: "x"}) == by_fastavro(text, {name: "x"}) == b"\x02x"


def test_names_that_are_no_names_are_never_compiled() -> None:
    """A schema comes from a registry: nothing of it may become a program."""
    field = {"name": "a, = exit()", "type": "string"}

    assert compile_schema({"type": "record", "name": "Any", "fields": [field]}) is None
    assert compile_schema("string") is None


@given(longs)
def test_a_number_is_avros_long(number: int) -> None:
    """In steps of two bytes at a time it is the same form."""
    if number != -(2**63):
        assert number_text(number).encode("latin-1") == by_fastavro(schema("long"), {"a": number})
