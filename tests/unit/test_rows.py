"""Rows without decoding: which records can't be rows, and what a block's bytes are."""

import io
import json

import fastavro
import pytest

from consumer.errors import Cause, Reason, Transient
from consumer.ports import Partition, Record
from consumer.rows import EventRows, coordinates, letter_of
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


def test_a_schema_with_fields_that_this_worker_lacks_is_held() -> None:
    """A newer collector is rolled out before the workers: nothing of its fields is dropped."""
    schema = json.loads(EVENT)
    schema["fields"].append({"name": "campaign", "type": "string", "default": ""})
    with pytest.raises(Transient, match=r"newer than this worker, which lacks \['campaign'\]") as held:
        EventRows(Registry(json.dumps(schema))).screen([written(json.dumps(schema))])
    assert held.value.cause is Cause.NEWER


def test_an_id_that_a_later_release_derived_is_held() -> None:
    """Without a registry too, and an alarm tells it from a server that is away."""
    with pytest.raises(Transient, match="from another release: upgrade") as held:
        EventRows(LocalSchemas()).screen([record(0, b"\0\x40\0\0\1")])
    assert held.value.cause is Cause.NEWER


@pytest.mark.parametrize(
    ("name", "kind"), [("active", "long"), ("active", ["null", "int"]), ("campaign", ["null", "string"])]
)
def test_a_schema_with_a_wider_type_is_held(name: str, kind: object) -> None:
    """Avro lets a release widen a field, and a registry lets it pass; the old worker waits for its successor."""
    schema = json.loads(EVENT)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != name]
    schema["fields"].append({"name": name, "type": kind})

    with pytest.raises(Transient, match=f"newer than this worker, which lacks \\['{name}'\\]"):
        EventRows(Registry(json.dumps(schema))).screen([record(0, b"\0\0\0\0\7")])


@pytest.mark.parametrize(
    "text",
    ['"string"', "{}", "not JSON", '{"type": "record", "name": "Event", "fields": 5}', '["null", "string"]'],
)
def test_a_schema_that_is_no_record_is_poison(text: str) -> None:
    """Someone else's data on our topic: it stops nobody."""
    (poison,) = EventRows(Registry(text)).screen([written(EVENT, 3)])

    assert (poison.offset, poison.reason) == (3, Reason.UNKNOWN_SCHEMA)


@pytest.mark.parametrize("field", ["eventId", "pingId", "receivedAt", "occurredAt"])
def test_a_schema_without_a_required_field_is_poison(field: str) -> None:
    """ClickHouse would fill it in: events with the id of zero are one event, and replace each other."""
    (poison,) = EventRows(Registry(without(field))).screen([written(without(field))])

    assert poison.reason is Reason.UNKNOWN_SCHEMA
    assert field in poison.error


def test_a_schema_with_another_type_is_poison() -> None:
    """ClickHouse would refuse the whole statement, and the worker would stop for one foreign record."""
    schema = json.loads(EVENT)
    for field in schema["fields"]:
        if field["name"] == "active":
            field |= {"type": "string", "default": ""}
    (poison,) = EventRows(Registry(json.dumps(schema))).screen([record(0, b"\0\0\0\0\7")])

    assert (poison.reason, "another type of active" in poison.error) == (Reason.UNKNOWN_SCHEMA, True)


def test_a_schema_without_optional_fields_is_fine() -> None:
    """An older collector's."""
    older = without("traceId", "environment", "clickAction")

    assert EventRows(Registry(older)).screen([written(older)]) == []


def test_a_block_is_a_container_of_coordinates_and_events() -> None:
    """Any Avro reader reads it, and sees what the record was and where it stood."""
    rows = EventRows(Registry())
    mine = [record(offset, partition=3) for offset in (2**40, 2**40 + 5)]
    rows.screen(mine)
    (block,) = rows.blocks(mine, "topic-id", "token")
    read = list(fastavro.reader(io.BytesIO(block.payload)))

    assert [(row["_partition"], row["_offset"]) for row in read] == [(3, 2**40), (3, 2**40 + 5)]  # type: ignore[index,call-overload]  # records are dicts
    assert read[0]["eventType"] == "VIEW"  # type: ignore[index,call-overload]  # as above
    assert (block.token, block.topic_id, block.offsets) == (f"token/{SCHEMA_ID}", "topic-id", (2**40, 2**40 + 5))


def test_each_writer_schema_has_a_block_whose_token_names_it() -> None:
    """Also when it is alone: leaving out the other schema's records must not change its token."""
    older = without("traceId")
    rows = EventRows(Registry(older))
    mine = [record(0), written(older, 1), record(2)]
    rows.screen(mine)
    blocks = rows.blocks(mine, "id", "token")

    assert [(block.token, block.offsets) for block in blocks] == [("token/7", (1,)), (f"token/{SCHEMA_ID}", (0, 2))]
    assert rows.blocks(mine[:1], "id", "token")[0].token == f"token/{SCHEMA_ID}"
    assert rows.blocks([], "id", "token") == []


def test_the_same_records_make_the_same_bytes() -> None:
    """A retry, here or at a successor, sends what was sent."""
    first, second = EventRows(Registry()), EventRows(Registry())
    mine = [record(offset) for offset in range(5)]
    made = [(rows.screen(mine), rows.blocks(mine, "id", "token"))[1] for rows in (first, second)]

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
