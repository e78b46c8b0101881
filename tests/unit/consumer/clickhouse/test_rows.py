"""Rows without decoding: which records can't be rows, and what a block's bytes are."""

import io
import json

import fastavro
import pytest

from consumer.clickhouse.containers import coordinates
from consumer.clickhouse.rows import DeadLetterRows, EventRows, letter_of
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition, Record
from consumer.errors import Cause, Halt, HaltCode, Reason, Transient
from schemas.codec import Encoder
from schemas.registry import LocalSchemas, RegistryAwayError, UnknownSchemaError
from tests.support.fixtures_consumer import AT_MS, EVENT, SCHEMA_ID, encoded, event, record

OTHER_ID = 7


class Registry:
    """Implements `Schemas`: the project's own, and one more text under OTHER_ID; counts its questions."""

    def __init__(self, text: str | Exception = "") -> None:
        self.text, self.asked = text, 0
        self._local = LocalSchemas()

    def id_of(self, schema: str) -> int:
        """Return the local id."""
        return self._local.id_of(schema)

    def schema_of(self, schema_id: int) -> str:
        """Return a schema's text, or raise what the test wants."""
        if schema_id != OTHER_ID:
            return self._local.schema_of(schema_id)
        self.asked += 1
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


def without(*fields: str) -> str:
    """Return the event's schema without some fields."""
    schema = json.loads(EVENT)
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in fields]
    return json.dumps(schema)


def written(schema: str, offset: int = 0) -> Record:
    """Return an event written with a schema under OTHER_ID."""
    names = {field["name"] for field in json.loads(schema)["fields"]}
    mine = {name: value for name, value in event(offset).items() if name in names}
    return record(offset, Encoder(schema, OTHER_ID).encode(mine))


def test_good_events_are_no_poison() -> None:
    """Any schema that the project knows."""
    assert EventRows(Registry()).screen([record(0), record(1)]) == []


@pytest.mark.parametrize("value", [b"", b"\0\0\0", b"\1\0\0\0\7x", b'{"json": 1}'])
def test_a_value_without_a_frame_is_poison(value: bytes) -> None:
    """Too short, or another first byte."""
    (poison,) = EventRows(Registry()).screen([record(5, value)])

    assert (poison.offset, poison.reason) == (5, Reason.FRAME)


def test_an_id_that_nobody_knows_is_poison_and_is_asked_for_once() -> None:
    """A topic full of them must not become as many questions."""
    registry = Registry(UnknownSchemaError("schema id 7 is not in the registry"))
    poison = EventRows(registry).screen([written(EVENT, offset) for offset in range(50)])

    assert [item.reason for item in poison] == [Reason.UNKNOWN_SCHEMA] * 50
    assert registry.asked == 1


def test_an_unknown_id_is_asked_for_again_with_the_next_batch() -> None:
    """Somebody may register it."""
    registry = Registry(UnknownSchemaError("no"))
    rows = EventRows(registry)
    assert rows.screen([written(EVENT)])
    registry.text = EVENT
    assert not rows.screen([written(EVENT)])


def test_a_registry_that_is_away_holds_the_batch() -> None:
    """Nothing is poison because a server does not answer; known ids need no registry."""
    rows = EventRows(Registry(RegistryAwayError("no answer")))
    assert not rows.screen([record(0)])
    with pytest.raises(Transient) as held:
        rows.screen([record(0), written(EVENT, 1)])
    assert held.value.cause is Cause.AWAY


def changed(name: str, kind: object, /, **record: object) -> str:
    """Return the event's schema with one field of another type, or one more; `record` replaces its own members."""
    schema = json.loads(EVENT) | record
    schema["fields"] = [field for field in schema["fields"] if field["name"] != name]
    schema["fields"].append({"name": name, "type": kind})
    return json.dumps(schema)


FRAME = b"\0\0\0\0\7"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("active", "long"), ("active", ["null", "int"]), ("campaign", ["null", "string"]), ("campaign", "string")],
)
def test_a_newer_schema_of_our_own_name_halts_its_partition(name: str, kind: object) -> None:
    """A newer collector is rolled out before the workers: nothing of its fields is dropped, and the log says so."""
    with pytest.raises(
        Halt, match=f"schema 7 is newer than this worker, which lacks \\['{name}'\\]: upgrade"
    ) as halted:
        EventRows(Registry(changed(name, kind))).screen([record(0, FRAME)])
    assert halted.value.code is HaltCode.NEWER


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            changed("campaign", "string", namespace="com.example"),
            "schema 7 (com.example.Event) is not an event's",
        ),
        (changed("campaign", ["null", "string"], name="Click"), "no column for campaign"),
        (changed("active", "string"), "another type of active"),
        (changed("active", ["null", "int"], name="Click"), "another type of active"),
        (changed("eventId", ["null", "string"], name="Click"), "another type of eventId"),
        (changed("receivedAt", "long"), "another type of receivedAt"),
    ],
    ids=["one field more", "one that may be null", "another type", "a number that may be null", "an id", "no time"],
)
def test_a_foreign_schema_that_would_lose_something_is_poison(text: str, why: str) -> None:
    """Its records are dead letters that name the schema and the field; nobody waits for them."""
    (poison,) = EventRows(Registry(text), patience_s=100).screen([record(0, FRAME)])

    assert poison.reason is Reason.UNKNOWN_SCHEMA
    assert why in poison.error


@pytest.mark.parametrize(
    "kind",
    [
        ["null", "string"],
        ["string", "null"],
        {"type": "string", "avro.java.string": "String"},
        ["null", {"type": "string", "avro.java.string": "String"}],
        {"type": {"type": "string"}, "doc": "twice"},
    ],
)
def test_a_foreign_schema_that_says_the_same_is_fine(kind: object) -> None:
    """Generators of other languages write the same types in their own words."""
    assert EventRows(Registry(changed("clientId", kind, name="Other"))).screen([record(0, FRAME)]) == []


def test_an_id_that_nothing_vouches_for_is_held_for_a_bounded_time() -> None:
    """It may be a newer release's, or two bytes of a text: all such ids share one clock, so junk can't prolong it."""
    now = [1000.0]
    rows = EventRows(LocalSchemas(), 300, lambda: now[0])
    junk = [record(offset, b"\0" + bytes([0x7B, 0, offset, 7]) + b"\0junk") for offset in range(50)]
    with pytest.raises(
        Halt, match="unknown; a newer release may have written it: upgrade this one; in 300 s its"
    ) as halted:
        rows.screen([record(99), *junk])
    assert halted.value.code is HaltCode.NEWER
    now[0] += 299
    with pytest.raises(Halt):
        rows.screen(junk[7:])
    now[0] += 2
    assert [item.reason for item in rows.screen(junk)] == [Reason.UNKNOWN_SCHEMA] * 50
    now[0] += 3599
    assert len(rows.screen([record(0, b"\0\x55\0\0\1")])) == 1
    now[0] += 3601
    with pytest.raises(Halt):
        rows.screen(junk)


@pytest.mark.parametrize(
    "text",
    [
        '"string"',
        "{}",
        "not JSON",
        "[" * 200_000,
        '{"type": "record", "name": "Event", "fields": 5}',
        '["null", "string"]',
    ],
)
def test_a_schema_that_is_no_record_is_poison(text: str) -> None:
    """Someone else's data on our topic: it stops nobody."""
    (poison,) = EventRows(Registry(text)).screen([written(EVENT, 3)])

    assert (poison.offset, poison.reason) == (3, Reason.UNKNOWN_SCHEMA)


def test_a_schema_nested_without_end_is_poison() -> None:
    """A registry keeps what anybody gives it."""
    (poison,) = EventRows(Registry("[" * 200_000)).screen([record(0, FRAME)])

    assert (poison.reason, "too deep" in poison.error) == (Reason.UNKNOWN_SCHEMA, True)


@pytest.mark.parametrize("field", ["eventId", "pingId", "receivedAt", "occurredAt"])
def test_a_schema_without_a_required_field_is_poison(field: str) -> None:
    """ClickHouse would fill it in: events with the id of zero are one event, and replace each other."""
    (poison,) = EventRows(Registry(without(field))).screen([written(without(field))])

    assert poison.reason is Reason.UNKNOWN_SCHEMA
    assert field in poison.error


def test_a_schema_without_optional_fields_is_fine() -> None:
    """An older collector's."""
    older = without("traceId", "environment", "clickAction")

    assert EventRows(Registry(older)).screen([written(older)]) == []


def test_a_block_is_a_container_of_coordinates_and_events() -> None:
    """Any Avro reader reads it, and sees what the record was and where it stood."""
    rows = EventRows(Registry())
    mine = [record(offset, partition=3) for offset in (2**40, 2**40 + 5)]
    rows.screen(mine)
    (block,) = rows.blocks(mine, Origin("topic-id"), "token")
    read = list(fastavro.reader(io.BytesIO(bytes(block.payload))))

    assert [(row["_partition"], row["_offset"]) for row in read] == [(3, 2**40), (3, 2**40 + 5)]  # type: ignore[index,call-overload]  # records are dicts
    assert read[0]["eventType"] == "VIEW"  # type: ignore[index,call-overload]  # as above
    assert (block.token, block.origin, block.offsets) == (
        f"token/{SCHEMA_ID}",
        Origin("topic-id"),
        (2**40, 2**40 + 5),
    )


def test_a_block_that_waits_holds_no_encoded_rows() -> None:
    """They would take as much memory as the records; each try of an insert makes the same bytes again."""
    rows = EventRows(Registry())
    mine = [record(offset) for offset in range(3)]
    rows.screen(mine)
    (block,) = rows.blocks(mine, Origin("topic-id"), "token")
    (of_letters,) = DeadLetterRows().blocks(mine, Origin("topic-id"), "token")

    for one in (block, of_letters):
        assert not isinstance(one.payload, bytes)
        assert bytes(one.payload) == bytes(one.payload)


def test_each_writer_schema_has_a_block_whose_token_names_it() -> None:
    """Also when it is alone: leaving out the other schema's records must not change its token."""
    older = without("traceId")
    rows = EventRows(Registry(older))
    mine = [record(0), written(older, 1), record(2)]
    rows.screen(mine)
    blocks = rows.blocks(mine, Origin("id"), "token")

    assert [(block.token, block.offsets) for block in blocks] == [("token/7", (1,)), (f"token/{SCHEMA_ID}", (0, 2))]
    assert rows.blocks(mine[:1], Origin("id"), "token")[0].token == f"token/{SCHEMA_ID}"
    assert rows.blocks([], Origin("id"), "token") == []


def test_the_same_records_make_the_same_bytes() -> None:
    """A retry, here or at a successor, sends what was sent."""
    first, second = EventRows(Registry()), EventRows(Registry())
    mine = [record(offset) for offset in range(5)]
    made = [(rows.screen(mine), rows.blocks(mine, Origin("id"), "token"))[1] for rows in (first, second)]

    assert made[0] == made[1]


def test_a_record_without_a_timestamp_has_that_of_the_epoch() -> None:
    """Kafka says -1."""
    assert coordinates(record(1)._replace(timestamp_ms=-1)) == coordinates(record(1)._replace(timestamp_ms=0))


OURS = tuple(
    (f"headrace.{name}", value)
    for name, value in (
        ("reason", b"frame"),
        ("origin_topic", b"events"),
        ("origin_offset", b"7"),
        ("origin_key", b"key"),
    )
)


@pytest.mark.parametrize(
    "name", ["reason", "service", "error", "origin_topic", "origin_offset", "origin_key", "dead_at"]
)
def test_a_refused_records_own_headers_are_kept_under_their_names(name: str) -> None:
    """Whatever they are called: ours have a prefix."""
    letter = letter_of(Record(Partition("dead", 0), 5, AT_MS, b"events/0/7", encoded(1), (*OURS, (name, b"666"))))

    assert letter["headers"] == {name: "666"}
    assert (letter["reason"], letter["originTopic"], letter["originOffset"], letter["key"]) == (
        "frame",
        "events",
        7,
        b"key",
    )


@pytest.mark.parametrize("name", ["reason", "origin_topic", "origin_offset", "origin_key"])
def test_a_refused_records_own_headers_do_not_pass_for_ours(name: str) -> None:
    """Ours come first; what the record had under the same name, prefix and all, is not believed."""
    headers = (*OURS, (f"headrace.{name}", b"666"))
    letter = letter_of(Record(Partition("dead", 0), 5, AT_MS, b"events/0/7", encoded(1), headers))

    assert (letter["reason"], letter["originTopic"], letter["originOffset"], letter["key"]) == (
        "frame",
        "events",
        7,
        b"key",
    )


@pytest.mark.parametrize("at_ms", [0, 1, -1, 1_000_000_000_000, AT_MS * 2, 10_413_791_999_999])
def test_a_letters_month_is_near_the_one_it_was_sent_in(at_ms: int) -> None:
    """By producers' clocks a record may be of any month, and a thousand of them would be as many table partitions."""
    letter = letter_of(
        Record(Partition("dead", 0), 5, AT_MS, b"k", b"", (("headrace.origin_at", str(at_ms).encode()),))
    )

    assert letter["originAt"] == AT_MS


@pytest.mark.parametrize("sent_ms", [-1, 0, 10_413_791_999_999])
def test_a_letter_of_no_believable_time_is_of_the_epoch(sent_ms: int) -> None:
    """Anybody may write to the dead-letter topic."""
    assert letter_of(Record(Partition("dead", 0), 5, sent_ms, b"k", b"", ()))["originAt"] == 0


def test_other_headers_are_kept_once() -> None:
    """The first of a name wins here too."""
    headers = (("headrace.reason", b"frame"), ("trace", b"one"), ("trace", b"two"))
    letter = letter_of(Record(Partition("dead", 0), 5, AT_MS, b"k", b"", headers))

    assert letter["headers"] == {"trace": "one"}
