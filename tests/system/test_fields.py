"""Every event type with every documented field: posted, selected, compared field by field."""

import json
import re
import tomllib
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.system.conftest import ROOT, Pipeline

CATALOGUE = tomllib.loads((ROOT / "schemas" / "catalogue.toml").read_text("utf-8"))
HEADERS = {"appVersion": "7.1", "build": 42, "beta": True, "ratio": 0.5, "none": None}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
# Documented members of properties, and shapes that have no column: nested, empty, large, dotted.
PROPERTIES = {
    "scrollDepth": 55.5,
    "pageLength": 3200,
    "counter": 18_446_744_073_709_551_615,
    "idleTimeSpent": -9_223_372_036_854_775_808,
    "premiumContent": True,
    "adblocker": 0,
    "contentTitle": 'Ωmega "quoted" \\ \u2028 \x00 end',
    "contentTags": ["a", "b"],
    "contentSections": [],
    "cart": {"items": [{"sku": "1", "price": 9.99}, None, [1, [2, "x"]]], "empty": {}, "absent": None},
    "a.b": 1,
    "a": {"b": 2},
    "receivedAt": "a client cannot set this",
    "day": "2026-01-02",
    "moment": "2026-01-02T03:04:05Z",
}


def example(event_type: str, occurred_at: datetime) -> dict[str, object]:
    """Return an event of a type with a value for every field of the catalogue."""
    values: dict[str, object] = {}
    for name, field in CATALOGUE["fields"].items():
        if field["type"] == "uuid":
            values[name] = str(uuid.uuid4()).upper()
        elif field["type"] == "int8":
            values[name] = 1.0
        elif field["type"] == "id" and name != "anonId":
            values[name] = 9_007_199_254_740_993 + len(values)
        else:
            values[name] = field.get("known", [f"{name}: välue"])[-1]
    return values | PROPERTIES | {"eventType": event_type.lower(), "timestamp": occurred_at.isoformat()}


def column_of(name: str) -> str:
    """Return a field's column."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def expected(event: dict[str, object]) -> dict[str, object]:
    """Return what the columns of a field must hold."""
    kinds = {name: field["type"] for name, field in CATALOGUE["fields"].items()}
    forms: dict[str, Callable[[object], object]] = {
        "uuid": lambda value: str(value).lower(),
        "int8": lambda value: int(str(value).removesuffix(".0")),
        "string": str,
        "id": str,
    }
    columns = {column_of(name): forms[kind](event[name]) for name, kind in kinds.items()}
    return columns | {"event_type": str(event["eventType"]).upper()}


def test_every_documented_field_of_every_type_ends_in_its_typed_column(pipeline: Pipeline) -> None:
    """What a client sent is what an analyst reads: columns by name and type, everything else whole in properties."""
    occurred_at = (datetime.now(UTC) - timedelta(days=2)).replace(microsecond=123_000)
    events = [example(name, occurred_at) for name in CATALOGUE["types"]]
    request = urllib.request.Request(
        f"{pipeline.addresses['ingest']}/collect/event",
        json.dumps({"messageHeaders": HEADERS, "messageBody": events}).encode(),
        {"Content-Type": "application/json", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"},
    )

    with urllib.request.urlopen(request, timeout=30) as response:
        ping_ids = [json.loads(item["value"])["pingId"] for item in json.load(response)]
    found = pipeline.await_rows(f"SELECT * FROM headrace.events WHERE ping_id IN {tuple(ping_ids)}", len(events), 60)
    rows = {row["event_type"]: row for row in found}

    assert ping_ids == [str(event["pingId"]).lower() for event in events]
    assert set(rows) == set(CATALOGUE["types"])
    for event in events:
        row = rows[str(event["eventType"]).upper()]
        columns = expected(event)
        assert {name: row[name] for name in columns} == columns
        kept = {name: value for name, value in event.items() if name not in CATALOGUE["fields"]}
        assert json.loads(str(row["properties_text"])) == kept
        assert row["headers"] == {"appVersion": "7.1", "build": "42", "beta": "true", "ratio": "0.5"}
        assert row["occurred_at"] == occurred_at.strftime("%Y-%m-%d %H:%M:%S.") + "123"
        assert row["environment"] == "sandbox"
        assert row["ip"] == "127.0.0.1"
        assert row["trace_id"] == TRACE_ID


def test_members_of_properties_are_queried_by_path_and_keep_their_type(pipeline: Pipeline) -> None:
    """The JSON column gives numbers, strings, arrays and nested members; what looks like a date stays a string."""
    (ping_id,) = pipeline.post([{"eventType": "VIEW"} | PROPERTIES])
    query = f"""SELECT properties.scrollDepth::Float64 AS depth, properties.counter::UInt64 AS counter,
        properties.contentTags::Array(String) AS tags, properties.cart.items AS items,
        properties.`a%2Eb`::Int64 AS dotted, properties.a.b::Int64 AS nested,
        properties.day AS day, properties.moment AS moment FROM headrace.events_unique
        WHERE ping_id = '{ping_id}'"""

    row = pipeline.await_rows(query, 1, 60)[0]

    assert (row["depth"], int(str(row["counter"])), row["tags"]) == (55.5, PROPERTIES["counter"], ["a", "b"])
    assert (int(str(row["dotted"])), int(str(row["nested"]))) == (1, 2)
    assert (row["day"], row["moment"]) == ("2026-01-02", "2026-01-02T03:04:05Z")
    assert isinstance(row["items"], list)
