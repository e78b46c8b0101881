"""One event, three forms: the wire (Avro), memory (Python) and the table (SQL) say the same."""

import json
import re
import typing
from importlib.resources import files

import pytest

from consumer.clickhouse.statements import TYPED, column_of, columns_of_table, insert_statement, type_of
from schemas.codec import COORDINATES, read_schema
from schemas.event import COLLECTOR_FIELDS, Event, read_catalogue

# What stands on the wire, and what the table makes of it.
COLUMN_TYPES = {
    "String": {"String", "LowCardinality(String)"},
    "UUID": {"UUID"},
    "Int32": {"Int8", "Int32", "UInt32"},
    "Int64": {"Int64", "UInt64"},
    "DateTime64(3, 'UTC')": {"DateTime64(3, 'UTC')"},
    "Map(String, String)": {"Map(LowCardinality(String), String)"},
}
# What the catalogue says of a documented member, and what the table makes of it.
MEMBER_TYPES = {
    "string": {"String", "LowCardinality(String)"},
    "number": {"Nullable(Float64)"},
    "integer": {"Nullable(Int64)"},
    "decimal": {"Nullable(Decimal(18, 4))"},
    "boolean": {"Nullable(Bool)"},
    "strings": {"Array(LowCardinality(String))"},
}
PYTHON_TYPES = {"string": str, "int": int, "long": int, "map": dict[str, str]}
TABLES = {"events": ("0001_events.sql", "event"), "dead_letters": ("0002_dead_letters.sql", "dead_letter")}


def lines_of(script: str) -> list[str]:
    """Return the lines that declare columns, one each: of a CREATE TABLE statement of ours, and of what came later."""
    folder = files("schemas").joinpath("clickhouse")
    text = folder.joinpath(script).read_text("utf-8")
    body = text.split("(\n", 1)[1].split("\n)\n", 1)[0]
    body = body.split("    CONSTRAINT ", 1)[0]
    lines = [line.strip() for line in body.splitlines() if not line.strip().startswith("INDEX")]
    table = text.split("CREATE TABLE IF NOT EXISTS ", 1)[1].split()[0].removesuffix("_next")
    later = "\n".join(sorted(file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".sql")))
    for alter in re.findall(rf"^ALTER TABLE {table}\b(.*?);$", later, re.MULTILINE | re.DOTALL):
        lines += re.findall(r"ADD COLUMN IF NOT EXISTS (\w+ .*)", alter)
    return lines


def columns_of(script: str) -> dict[str, str]:
    """Return name -> type of the columns of the table."""
    matches = [re.match(r"(\w+) +(.*?) +(?:DEFAULT|COMMENT|CODEC|,|$)", line) for line in lines_of(script)]
    return {match[1]: match[2] for match in matches if match}


def computed_of(script: str) -> set[str]:
    """Return the columns that the table fills itself."""
    lines = [line for line in lines_of(script) if re.search(r" (ALIAS|MATERIALIZED|DEFAULT [a-z]\w+\() ?", line)]
    return {line.split()[0] for line in lines}


def fields_of(schema: str) -> list[dict[str, typing.Any]]:
    """Return the fields of a schema file."""
    return list(json.loads(read_schema(schema))["fields"])


def test_python_has_the_fields_of_the_wire_in_order() -> None:
    """`Event` has the names of event.avsc, in its order, with the matching types."""
    fields = fields_of("event")
    kinds = {
        field["name"]: PYTHON_TYPES[field["type"] if isinstance(field["type"], str) else field["type"]["type"]]
        for field in fields
    }

    assert typing.get_type_hints(Event) == kinds
    assert list(Event.__annotations__) == [field["name"] for field in fields]


@pytest.mark.parametrize("table", TABLES)
def test_the_table_has_a_column_for_every_field(table: str) -> None:
    """Each field of the wire has a column of its snake_case name, of a type that holds it whole."""
    script, schema = TABLES[table]
    columns = columns_of(script)

    for field in fields_of(schema):
        assert columns[column_of(field["name"])] in COLUMN_TYPES[type_of(field["type"])], field["name"]


@pytest.mark.parametrize("table", TABLES)
def test_the_insert_fills_every_column(table: str) -> None:
    """The worker's statement names all columns of the table but those that it computes, and no other."""
    script, schema = TABLES[table]
    columns = columns_of(script)
    computed = computed_of(script)
    named = re.search(r"\((.*?)\) SELECT", insert_statement(table, schema, "events"))

    assert named is not None
    assert set(named[1].split(", ")) == set(columns) - computed
    assert columns_of_table(schema, "events") == set(columns)


def test_nothing_that_a_client_sends_is_parsed_on_its_way_in() -> None:
    """Content that is not parsed can't be refused, and makes no files: properties are stored as text alone."""
    columns = columns_of(TABLES["events"][0])

    assert [kind for kind in columns.values() if re.match("JSON|Dynamic|Variant", kind) and " ALIAS " not in kind] == []
    assert "::JSON" not in insert_statement("events", "event", "events")


def test_the_coordinates_are_columns_of_every_table() -> None:
    """Every row says where in the log it came from."""
    for script, _ in TABLES.values():
        assert {"_topic", "_topic_id", *(field["name"] for field in COORDINATES)} <= set(columns_of(script))


def test_every_field_of_a_client_is_in_the_catalogue() -> None:
    """What the collector does not set itself, a client may send."""
    assert set(read_catalogue().fields) == set(Event.__annotations__) - set(COLLECTOR_FIELDS)


def test_every_documented_member_has_a_column_of_its_type() -> None:
    """The catalogue and the table name the same members, and the tuple that parses them is written once."""
    columns = columns_of(TABLES["events"][0])
    filled = {name for name in computed_of(TABLES["events"][0]) if name[0] != "_"} - {"properties"}

    assert filled == TYPED.keys()
    assert [name for name, kind in TYPED.items() if columns[name] not in MEMBER_TYPES[kind]] == []
    known = re.search(r"Tuple\((.*)\) ALIAS JSONExtract\(properties_text, 'Tuple\((.*)\)'\)", columns["_known"])
    assert known is not None
    assert known[1] == known[2]


def test_dimensions_are_low_cardinality() -> None:
    """Columns that analysts group by are dictionaries; `Nullable` is for numbers and flags where 0 would lie."""
    columns = columns_of(TABLES["events"][0])

    assert all(columns[name] == "LowCardinality(String)" for name in ("event_type", "client_id", "event_location"))
    nullable = {name for name, kind in columns.items() if kind.startswith("Nullable")}
    assert nullable == {name for name, kind in TYPED.items() if kind not in ("string", "strings")}


def test_every_column_is_documented() -> None:
    """The data team reads a sentence about each column where it queries it."""
    for script, _ in TABLES.values():
        assert [line for line in lines_of(script) if not re.search(r" COMMENT '.{3}", line)] == []
