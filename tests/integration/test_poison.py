"""Rows that a real ClickHouse refuses: each found, its neighbours inserted once."""

import json
import uuid
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.containers import coordinates
from consumer.clickhouse.errors import NAMES
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Poison, Record
from consumer.errors import Cause, Fatal, Reason, Rejected, Transient
from schemas.codec import Encoder, read_schema, varint
from schemas.registry import LocalSchemas, Schemas
from tests.conftest import cases
from tests.support.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.fixtures_consumer import TOPIC, encoded, encoded_loosely, event, record, records
from tests.support.proxy import FaultProxy, Profile
from tests.support.rig import INSERT

COUNT = 2000


class Probes:
    """A `Meter` that counts probes and remembers how inserts ended."""

    def __init__(self) -> None:
        self.probes = 0
        self.outcomes: list[str] = []

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count probes."""
        assert labels == {"table": "events"}
        self.probes += int(amount) if name == "poison_probes" else 0

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Remember an insert's outcome."""
        assert name == "insert_seconds"
        assert value > 0
        self.outcomes.append(labels["outcome"])

    def set(self, name: str, value: float, **labels: str) -> None:
        """Take nothing: an insert has no levels."""
        raise AssertionError((name, value, labels))


class Inserter:
    """The worker's way with a batch, without the worker: screen, insert, find, insert the rest."""

    def __init__(self, database: Connection, schemas: Schemas | None = None) -> None:
        self.schemas = schemas or LocalSchemas()
        self.rows = EventRows(self.schemas)
        self.metrics = Probes()
        target = Target("events", "event", TOPIC, 30)
        self.table = ClickHouseTable(database, target, self.rows, self.schemas.schema_of, self.metrics)

    def block(self, batch: list[Record]) -> Block:
        """Return the batch's block."""
        assert self.rows.screen(batch) == []
        (block,) = self.rows.blocks(batch, Origin("incarnation"), "cluster/incarnation/0/0/9")
        return block

    def refuses(self, each: Record) -> bool:
        """Insert one record alone; tell whether the table refuses it."""
        try:
            self.table.insert(self.block([each]))
        except Rejected:
            return True
        return False

    def insert(self, batch: list[Record]) -> list[Poison]:
        """Insert a batch as the worker does and return its poison, in offset order; the token stays the same."""
        poison: list[Poison] = []
        while rest := without(batch, poison):
            try:
                self.table.insert(self.block(rest))
            except Rejected as refusal:
                found = self.table.find_poison(self.block(rest), refusal, rest)
                assert found
                poison += found
            else:
                break
        return sorted(poison, key=lambda item: item.offset)


def without(batch: list[Record], poison: list[Poison]) -> list[Record]:
    """Return the records that are no poison."""
    bad = {item.offset for item in poison}
    return [each for each in batch if each.offset not in bad]


@pytest.fixture
def inserter(database: Connection) -> Inserter:
    """An inserter into the test's own events table."""
    return Inserter(database)


def offsets_in(database: Connection) -> list[int]:
    """Return the offsets that are in the table, in order, doubles and all."""
    return [row["_offset"] for row in database.query("SELECT _offset FROM events ORDER BY _offset")]


KINDS: dict[str, tuple[Callable[[int], bytes], Reason, str]] = {
    "no uuid": (lambda n: encoded_loosely(n, eventId="S3CRET"), Reason.BAD_VALUE, "event_id is not a valid UUID"),
    "a uuid without dashes": (
        lambda n: encoded_loosely(n, pingId="0" * 32),
        Reason.BAD_VALUE,
        "ping_id is not a valid UUID",
    ),
    "beyond an Int8": (lambda n: encoded(n, active=5000), Reason.BAD_VALUE, "active is not a valid Int8"),
    "a year beyond DateTime64": (
        lambda n: encoded(n, receivedAt=9_999_999_999_999_999),
        Reason.CONSTRAINT,
        "times_in_range",
    ),
    "a year before DateTime64": (
        lambda n: encoded(n, occurredAt=-9_999_999_999_999),
        Reason.CONSTRAINT,
        "times_in_range",
    ),
    "truncated": (lambda n: encoded(n)[:-3], Reason.BAD_AVRO, "properties: the record ends in it"),
    "a frame and nothing else": (lambda n: encoded(n)[:5], Reason.BAD_AVRO, "eventId: the record ends before it"),
    "no record at all": (lambda n: encoded(n)[:5] + bytes(range(256)), Reason.BAD_AVRO, "pingId: a length is negative"),
}
"""Each kind: how its value is made, its reason, and what its dead letter names."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_record_is_found_and_its_neighbours_are_inserted_once(
    inserter: Inserter, database: Connection, kind: str
) -> None:
    """One of 2,000 records is bad; the others are in the table, each once, also when all of it happens again."""
    make, reason, named = KINDS[kind]
    batch = records(range(COUNT))
    batch[1234] = record(1234, make(1234))

    (poison,) = inserter.insert(batch)
    probes = inserter.metrics.probes
    again = inserter.insert(batch)

    print(f"{kind}: {probes} probes; {poison.error}")
    assert (poison.offset, poison.reason) == (1234, reason)
    assert named in poison.error
    assert "ClickHouse " in poison.error
    assert "S3CRET" not in poison.error
    assert [item.offset for item in again] == [1234]
    assert offsets_in(database) == [offset for offset in range(COUNT) if offset != 1234]
    assert (probes, inserter.metrics.probes) == (1, 1)  # itself, and later nothing: its kind is known
    assert inserter.metrics.outcomes == ["rejected", "inserted"] * 2


_SMALL_BLOCKS: Final = {
    "max_insert_block_size": 20,
    "max_block_size": 20,
    "min_insert_block_size_rows": 1,
    "min_insert_block_size_bytes": 1,
}


def test_settings_of_the_account_do_not_split_a_block(clickhouse: ClickHouse, database: Connection) -> None:
    """A profile that makes blocks of some rows would write half of a refused batch: each insert overrides it."""
    address = urlsplit(clickhouse.url)
    batch = records(range(COUNT))
    batch[1234] = record(1234, encoded(1234, active=5000))
    with FaultProxy(address.hostname or "", address.port or 0) as proxy:
        proxy.set(Profile(_SMALL_BLOCKS), only=INSERT)
        inserter = Inserter(Connection(proxy.url, USER, PASSWORD, database.database, 30))
        with pytest.raises(Rejected):
            inserter.table.insert(inserter.block(batch))
        assert offsets_in(database) == []
        assert [item.offset for item in inserter.insert(batch)] == [1234]
        assert proxy.count(Profile) == 3
    assert offsets_in(database) == [offset for offset in range(COUNT) if offset != 1234]


@pytest.mark.parametrize("place", cases([0, 3, 9], {9}))
@pytest.mark.parametrize(
    "behind",
    [b"\0", b"xx", encoded(77)[5:], coordinates(record(4)) + encoded(77)[5:]],
    ids=["a byte", "two bytes", "a record", "a row"],
)
def test_what_stands_behind_a_record_is_not_read(
    inserter: Inserter, database: Connection, behind: bytes, place: int
) -> None:
    """It spoils no neighbour, and makes no row, wherever in its batch the record stands."""
    batch = records(range(10))
    batch[place] = record(place, encoded(place) + behind)

    assert not inserter.insert(batch)
    rows = database.query("SELECT _offset AS o, toString(event_id) AS e FROM events")
    assert sorted((row["o"], uuid.UUID(row["e"]).int) for row in rows) == [(offset, offset) for offset in range(10)]


@pytest.mark.parametrize("places", [(0, 1999), (0, 1, 2, 3), (7, 8, 900, 901, 1998)])
def test_several_bad_records_of_several_kinds_are_all_found(
    inserter: Inserter, database: Connection, places: tuple[int, ...]
) -> None:
    """Poison side by side, at both ends and of different kinds, in one block."""
    batch = records(range(COUNT))
    kinds = list(KINDS.values())
    for number, place in enumerate(places):
        batch[place] = record(place, kinds[number * 3 % len(kinds)][0](place))

    poison = inserter.insert(batch)

    print(f"{len(places)} bad: {inserter.metrics.probes} probes")
    assert [item.offset for item in poison] == list(places)
    assert offsets_in(database) == [offset for offset in range(COUNT) if offset not in places]


def test_a_constraint_that_an_operator_added_is_named(inserter: Inserter, database: Connection) -> None:
    """The dead letter says which constraint, and not what the row held."""
    database.command("ALTER TABLE events ADD CONSTRAINT short_url CHECK length(url) < 20")
    batch = records(range(COUNT))
    batch[50] = record(50, encoded(50, url="https://S3CRET.example/and/more"))

    (poison,) = inserter.insert(batch)

    told = "constraint short_url is violated (ClickHouse 469 VIOLATED_CONSTRAINT, constraint short_url)"
    assert poison == Poison(50, Reason.CONSTRAINT, told)
    assert offsets_in(database) == [offset for offset in range(COUNT) if offset != 50]


def test_an_enum_that_an_operator_made_refuses_what_it_does_not_know(inserter: Inserter, database: Connection) -> None:
    """A narrower type is a bad value of the record, not a fault of the statement."""
    database.command("ALTER TABLE events MODIFY COLUMN environment Enum8('' = 0, 'production' = 1)")
    batch = records(range(COUNT))
    batch[50] = record(50, encoded(50, environment="S3CRET"))

    (poison,) = inserter.insert(batch)

    assert (poison.offset, poison.reason, inserter.metrics.probes) == (50, Reason.BAD_VALUE, 1)
    assert poison.error == "environment is not a valid name of the Enum (ClickHouse 691 UNKNOWN_ELEMENT_OF_ENUM)"


def test_text_that_is_no_utf_8_is_kept_as_it_is(inserter: Inserter, database: Connection) -> None:
    """A String of ClickHouse holds any bytes, so this is no poison; the bytes come out as they went in."""
    value = encoded(1, clientId="abcd").replace(b"abcd", b"\xff\xfe\xfd\xfc")

    assert inserter.insert([record(0), record(1, value), record(2)]) == []
    assert database.query("SELECT hex(client_id) AS h FROM events WHERE _offset = 1") == [{"h": "FFFEFDFC"}]


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", '{"S3CRET":', '["S3CRET"]', '{"a":1,"a":2}', '{"a":' * 2000 + "1" + "}" * 2000, '{"\udcff":1}'],
)
def test_properties_that_nobody_can_read_are_kept_and_harm_no_query(
    inserter: Inserter, database: Connection, text: str
) -> None:
    """Nothing of them is parsed on the way in; who asks for them as JSON gets an empty object or less of them."""
    value = encoded(1, properties="MARK").replace(
        b"\x08MARK", varint(len(text)) + text.encode("utf-8", "surrogateescape")
    )

    assert inserter.insert([record(0), record(1, value), record(2)]) == []
    kept = database.query("SELECT hex(properties_text) AS h FROM events WHERE _offset = 1")[0]["h"]
    assert bytes.fromhex(kept) == text.encode("utf-8", "surrogateescape")
    for table in ("events", "events_unique"):
        assert database.query(f"SELECT sum(properties.n::Int64) AS n FROM {table}") == [{"n": 2}]


def test_much_poison_of_all_kinds_is_told_by_one_statement(inserter: Inserter, database: Connection) -> None:
    """A third of 3,000 records, of every kind in turn: each found with its column, in a few probes for each kind."""
    database.command("ALTER TABLE events ADD CONSTRAINT short_url CHECK length(url) < 20")
    makers = [*KINDS.values(), (lambda n: encoded(n, url="u" * 20), Reason.CONSTRAINT, "short_url")]
    batch = records(range(3000))
    expected = {}
    for number, offset in enumerate(range(0, 3000, 3)):
        make, reason, named = makers[number % len(makers)]
        batch[offset], expected[offset] = record(offset, make(offset)), (reason, named)

    poison = inserter.insert(batch)

    assert {item.offset: item.reason for item in poison} == {offset: reason for offset, (reason, _) in expected.items()}
    assert [item for item in poison if expected[item.offset][1] not in item.error] == []
    assert offsets_in(database) == [offset for offset in range(3000) if offset % 3]
    assert inserter.metrics.probes <= 2 * len(makers)


def test_a_record_with_several_faults_names_them_all(inserter: Inserter) -> None:
    """One look suffices to repair it; a constraint over a column that is no value is not blamed as well."""
    bad = encoded_loosely(1, eventId="x", pingId="y", active=300)
    (poison,) = inserter.insert([record(0), record(1, bad)])

    faults = "event_id is not a valid UUID; ping_id is not a valid UUID; active is not a valid Int8"
    assert sorted(poison.error.partition(" (")[0].split("; ")) == sorted(faults.split("; "))


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        ("ADD COLUMN number UInt8 MATERIALIZED toUInt8(concat('1', url))", {"url": "x"}),
        ("ADD CONSTRAINT thrown CHECK throwIf(url = 'x', 'no') = 0", {"url": "x"}),
        ("MODIFY COLUMN environment Enum8('' = 0, 'production' = 1)", {"environment": "7"}),
    ],
    ids=["a computed column throws", "a constraint throws", "a number that is not in the Enum"],
)
def test_what_no_statement_can_tell_is_found_row_by_row(
    inserter: Inserter, database: Connection, change: str, bad: dict[str, object]
) -> None:
    """An operator's own expressions may throw; other kinds beside them are told all the same."""
    database.command(f"ALTER TABLE events {change}")
    batch = records(range(300))
    batch[7] = record(7, encoded(7, **bad))
    batch[200] = record(200, encoded(200, active=1000))

    poison = inserter.insert(batch)

    assert [item.offset for item in poison] == [7, 200]
    assert "active is not a valid Int8" in poison[1].error
    assert inserter.metrics.probes > 4


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_rows_that_an_expression_can_not_tell_apart_are_searched_as_one(
    inserter: Inserter, database: Connection, share: float
) -> None:
    """However many they are: the probes depend on how many different values there are."""
    database.command("ALTER TABLE events ADD COLUMN number UInt8 MATERIALIZED toUInt8(concat('1', access_type))")
    bad = {n for n in range(COUNT) if int((n + 1) * share) > int(n * share)}
    batch = [
        record(n, encoded(n, url=f"u{n}", accessType="xyz"[n % 3] if n in bad else str(n % 5))) for n in range(COUNT)
    ]

    assert {item.offset for item in inserter.insert(batch)} == bad
    assert offsets_in(database) == [offset for offset in range(COUNT) if offset not in bad]
    assert inserter.metrics.probes < 40


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("environment Enum8('' = 0, 'production' = 1)", {"environment": "7"}),
        ("headers Map(LowCardinality(String), UInt8)", {"headers": {"a": "b"}}),
        ("browser Float32", {"browser": "b"}),
    ],
)
def test_a_row_is_not_blamed_for_others_that_are_refused_for_another_column(
    inserter: Inserter, database: Connection, column: str, bad: dict[str, object]
) -> None:
    """To an expression that refuses none of them it looks like them."""
    database.command("ALTER TABLE events ADD COLUMN number UInt8 MATERIALIZED toUInt8(concat('1', access_type))")
    database.command(f"ALTER TABLE events MODIFY COLUMN {column}")
    good = {"browser": "1.5", "headers": {}}
    batch = [record(n, encoded(n, **(good | (bad if n in {0, 5, 9} else {})))) for n in range(10)]

    assert [item.offset for item in inserter.insert(batch)] == [0, 5, 9]


def test_a_row_is_not_blamed_for_others_when_a_constraint_throws(inserter: Inserter, database: Connection) -> None:
    """Then the query can't tell which rows violate the other constraints, and rows that look alike need not be."""
    database.command("ALTER TABLE events ADD CONSTRAINT thrown CHECK throwIf(url = 'x', 'no') = 0")
    batch = records(range(10))
    for offset in (0, 9):
        batch[offset] = record(offset, encoded(offset, receivedAt=-1))
    batch[5] = record(5, encoded(5, url="x"))

    assert [item.offset for item in inserter.insert(batch)] == [0, 5, 9]


def test_rows_that_are_refused_only_together_are_not_blamed(inserter: Inserter, database: Connection) -> None:
    """An expression that throws by a row's place in its block: each row alone is accepted."""
    fifth = "throwIf(rowNumberInBlock() = 4 AND url = 'x') + length(url)"
    database.command(f"ALTER TABLE events ADD COLUMN odd UInt8 MATERIALIZED {fifth}")
    batch = [record(n, encoded(n, url="x")) for n in range(10)]

    with pytest.raises(Rejected) as refusal:
        inserter.table.insert(inserter.block(batch))
    assert inserter.table.find_poison(inserter.block(batch), refusal.value, batch) == []


class Foreign(LocalSchemas):
    """The registry of somebody who writes events with another schema, under the id 7."""

    def __init__(self, field: str, kind: object, **record: object) -> None:
        super().__init__()
        schema = json.loads(read_schema("event")) | record
        schema["fields"] = [each | ({"type": kind} if each["name"] == field else {}) for each in schema["fields"]]
        self.text = json.dumps(schema)

    def schema_of(self, schema_id: int) -> str:
        """Return a schema's text."""
        return self.text if schema_id == 7 else super().schema_of(schema_id)

    def record(self, offset: int, **fields: object) -> Record:
        """Return an event of theirs."""
        bare = json.loads(self.text)
        for each in bare["fields"]:
            each.pop("default", None)
        defaults = {each["name"]: each.get("default") for each in json.loads(read_schema("event"))["fields"]}
        value = Encoder(json.dumps(bare | {"name": "Any"}), 7).encode(defaults | event(offset, **fields))
        return record(offset, value)


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        (["null", "string"], None, ""),
        (["null", "string"], "web", "web"),
        (["string", "null"], "web", "web"),
        ({"type": "string", "avro.java.string": "String"}, "web", "web"),
    ],
)
def test_a_foreign_schema_that_says_the_same_becomes_rows(
    database: Connection, kind: object, sent: str | None, kept: str
) -> None:
    """Its defaults are of the wrong type for Avro's own reader, and need not be read."""
    foreign = Foreign("clientId", kind, name="Click", namespace="com.example")
    batch = [foreign.record(0, clientId=sent), foreign.record(1, clientId="other")]

    assert Inserter(database, foreign).insert(batch) == []
    assert database.query("SELECT client_id AS c FROM events WHERE _offset = 0") == [{"c": kept}]


def test_a_schema_that_the_engine_does_not_read_costs_its_own_records(database: Connection) -> None:
    """Not the partition: the table takes containers of our own schema."""
    foreign = Foreign("clientId", "string", name="no name!")
    inserter, batch = Inserter(database, foreign), [foreign.record(0), foreign.record(1)]
    with pytest.raises(Rejected) as refusal:
        inserter.table.insert(inserter.block(batch))
    poison = inserter.table.find_poison(inserter.block(batch), refusal.value, batch)

    assert [(item.offset, item.reason) for item in poison] == [(0, Reason.UNKNOWN_SCHEMA), (1, Reason.UNKNOWN_SCHEMA)]
    assert "ClickHouse can't read schema 7" in poison[0].error


TEXTS = [
    *(
        "",
        " ",
        "x",
        "ab",
        "abc",
        "\0",
        "0" * 32,
        "0" * 36,
        "1.2.3.4",
        "1.2.3",
        "::1",
        "true",
        "null",
        "\n null\t",
        "[]",
        "{}",
    ),
    *(f"{'0' * 8}-0000-4000-8000-{'0' * 12}{end}" for end in ("", " ", "0")),
    *("2026-01-02", "2026-01-02 03:04:05", "2026-13-01", "1", "-1", "1e3", "1.5", "9" * 20, '{"a":1}', '{"a":1,"a":2}'),
]
KINDS_OF_TEXT = [
    *("UUID", "IPv4", "Bool", "Date", "DateTime", "DateTime64(3)", "Decimal(5, 2)", "JSON", "UInt8"),
    *("LowCardinality(FixedString(2))", "Nullable(Date32)", "Enum8('' = 0, 'x' = 1)"),
]


@pytest.mark.parametrize("kind", cases(KINDS_OF_TEXT, {"UUID", "DateTime64(3)", "JSON", "Enum8('' = 0, 'x' = 1)"}))
def test_a_record_is_blamed_just_when_the_table_refuses_it_alone(
    inserter: Inserter, database: Connection, kind: str
) -> None:
    """Whatever type an operator gives a column, and whatever text comes for it."""
    database.command(f"ALTER TABLE events MODIFY COLUMN browser {kind}")
    batch = [record(number, encoded(number, browser=text)) for number, text in enumerate(TEXTS)]
    refused = {each.offset for each in batch if inserter.refuses(each)}
    database.command("TRUNCATE TABLE events")

    assert {item.offset for item in inserter.insert(batch)} == refused


def test_a_failing_view_is_no_poison_and_doubles_nothing(inserter: Inserter, database: Connection) -> None:
    """The rows are in the table; the batch is held until the view is repaired, and then the view has it once too."""
    database.command("CREATE TABLE narrow (n UInt8) ENGINE = MergeTree ORDER BY n")
    database.command("ALTER TABLE narrow MODIFY SETTING non_replicated_deduplication_window = 100")
    database.command("CREATE MATERIALIZED VIEW narrow_view TO narrow AS SELECT toUInt8(url) AS n FROM events")
    batch = [record(0, encoded(0, url="7")), record(1, encoded(1, url="none"))]

    for _ in range(2):
        with pytest.raises(Transient) as held:
            inserter.insert(batch)
        assert held.value.cause is Cause.VIEW
    assert inserter.metrics.probes == 0
    database.command("ALTER TABLE narrow_view MODIFY QUERY SELECT toUInt8OrZero(url) AS n FROM events")
    inserter.insert(batch)

    assert offsets_in(database) == [0, 1]
    assert database.query("SELECT n FROM narrow ORDER BY n") == [{"n": 0}, {"n": 7}]
    assert database.query("SELECT sum(rows) AS n FROM offsets") == [{"n": 2}]


def test_a_table_of_another_shape_stops_the_worker(inserter: Inserter, database: Connection) -> None:
    """When no row at all is taken the records are not to blame, and none of them is searched."""
    batch = records(range(10))
    database.command("ALTER TABLE events RENAME COLUMN browser TO navigator")

    with pytest.raises(Fatal, match="16 NO_SUCH_COLUMN_IN_TABLE"):
        inserter.insert(batch)
    assert offsets_in(database) == []


def test_the_search_leaves_no_table_behind(inserter: Inserter, database: Connection) -> None:
    """The probe table is gone, and it never was a table that a migration could miss."""
    before = database.query("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name")

    inserter.insert([record(0), record(1, encoded(1)[:-1])])

    assert database.query("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name") == before


def test_the_probe_writes_nothing_to_views(inserter: Inserter, database: Connection) -> None:
    """A ledger of offsets holds each good record once, and the poison not at all."""
    batch = records(range(COUNT))
    batch[3] = record(3, encoded(3, active=5000))
    batch[777] = record(777, encoded_loosely(777, eventId=str(uuid.uuid4())[:-1]))

    inserter.insert(batch)

    (ledger,) = database.query("SELECT sum(rows) AS rows, groupBitmapMerge(present) AS offsets FROM offsets")
    assert ledger == {"rows": COUNT - 2, "offsets": COUNT - 2}
    missing = database.query(
        "WITH bitmapBuild(range(toUInt64(2000))) AS all SELECT"
        " arrayJoin(bitmapToArray(bitmapAndnot(all, groupBitmapMergeState(present)))) AS n FROM offsets ORDER BY n"
    )
    assert [row["n"] for row in missing] == [3, 777]


def test_a_dead_letter_that_its_table_refuses_is_no_dead_letter_again(database: Connection) -> None:
    """That would go round for ever: its partition is held instead."""
    rows = EventRows(LocalSchemas())
    table = ClickHouseTable(database, Target("dead_letters", "dead_letter", "dead", 30), rows, None, Probes())

    assert table.find_poison(Block(-1, Origin(""), "", (5,), b""), Rejected("no", 469, 1), [record(5)]) == []


def test_every_code_bears_the_engines_name_for_it(database: Connection) -> None:
    """The table of codes is ClickHouse's own, as of the version that the tests run on."""
    named = database.query(f"SELECT number AS code, errorCodeToName(number) AS name FROM numbers({max(NAMES) + 1})")

    assert {row["code"]: row["name"] for row in named if row["code"] in NAMES} == NAMES


def bad(offset: int) -> Record:
    """Return a record whose number is beyond its column."""
    return record(offset, encoded(offset, active=5000))


def test_a_kind_that_is_known_is_not_probed_until_the_table_changes(inserter: Inserter, database: Connection) -> None:
    """Two probes for the first batch, and none for the next; a table of another shape may accept such rows."""
    assert len(inserter.insert([bad(0), record(1), bad(2)])) == 2
    assert inserter.metrics.probes == 2
    assert len(inserter.insert([bad(3), record(4), bad(5)])) == 2
    assert inserter.metrics.probes == 2
    database.command("ALTER TABLE events ADD CONSTRAINT short_url CHECK length(url) < 20")
    assert len(inserter.insert([bad(6), record(7)])) == 1
    assert inserter.metrics.probes == 3


def test_an_unlimited_number_of_faults_is_a_limited_number_of_kinds(inserter: Inserter) -> None:
    """Numbers in a fault's sentence come from the client: each would have to be probed."""
    batch = [record(n, encoded(n)[:5] + varint(-n)) for n in range(1, 40)]

    assert len(inserter.insert([record(0), *batch])) == 39
    assert inserter.metrics.probes == 2


def test_a_row_is_not_blamed_for_a_constraint_that_is_gone(inserter: Inserter, database: Connection) -> None:
    """What was learnt about the table ends with it, though its rows were refused a moment ago."""
    database.command("ALTER TABLE events ADD CONSTRAINT short_url CHECK length(url) < 20")
    long = [record(n, encoded(n, url="u" * 20)) for n in range(3)]
    assert len(inserter.insert([long[0]])) == 1
    database.command("ALTER TABLE events DROP CONSTRAINT short_url")

    assert [item.offset for item in inserter.insert([long[1], bad(5)])] == [5]
    assert offsets_in(database) == [1]


def test_what_would_be_refused_is_told_before_the_insert(inserter: Inserter, database: Connection) -> None:
    """The same poison as after it; and nothing is written, nor refused."""
    batch = records(range(20))
    for number, (make, _, _) in enumerate(KINDS.values()):
        batch[2 * number] = record(2 * number, make(2 * number))
    told = inserter.table.screen(inserter.block(batch), batch)

    assert (offsets_in(database), inserter.metrics.outcomes) == ([], [])
    assert told == inserter.insert(batch)


def test_a_table_that_can_not_be_asked_tells_nothing(inserter: Inserter, database: Connection) -> None:
    """The insert says why, and whether to wait."""
    batch = [record(0), bad(1)]
    database.command("RENAME TABLE events TO elsewhere")

    assert inserter.table.screen(inserter.block(batch), batch) == []
