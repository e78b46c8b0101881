"""What the ingress accepts, the table accepts: arbitrary JSON through checks and encoder, into the real table.

`properties_text` is compared with what was posted, exactly; `properties` with what docs/EVENTS.md says that it shows.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from random import Random, SystemRandom
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.statements import TYPED, column_of
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin as RowOrigin
from consumer.delivery.ports import Record
from ingest.errors import Rejected
from ingest.events.dry_run import row_of
from ingest.events.fields import fits
from ingest.events.typed_columns import SPELLINGS
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import Encoder
from schemas.event import AT_MAX_MS, Event, Property, read_catalogue
from schemas.registry import LocalSchemas
from tests.support.arbitrary_json import event_text, text
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import AT_MS, EVENT, SCHEMA_ID, TOPIC, record

MEMBERS = {name: member for name, member in read_catalogue().properties.items() if member.type != "any"}
COUNT = max(4000, settings().max_examples)  # HYPOTHESIS_PROFILE=long: 20,000
BATCH = 5000
CATALOGUE = read_catalogue()
STRINGS = [name for name, field in CATALOGUE.fields.items() if field.type == "string" and name != "eventType"]
ENCODER = Encoder(EVENT, SCHEMA_ID)
EXACT_MAX = 2**53


class Table:
    """The worker's way into the table, without the worker."""

    def __init__(self, database: Connection) -> None:
        self._rows = EventRows(LocalSchemas())
        target = Target("events", "event", TOPIC, 60)
        self._table = ClickHouseTable(database, target, self._rows, None, Tally())

    def insert(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Insert events at the offsets of their places; a refusal is the test's failure."""
        records = [record(offset, ENCODER.encode(event)) for offset, event in enumerate(events)]
        for start in range(0, len(records), BATCH):
            self._insert(records[start : start + BATCH])

    def _insert(self, records: Sequence[Record]) -> None:
        assert self._rows.screen(records) == []
        (block,) = self._rows.blocks(records, RowOrigin("incarnation"), f"token/{records[0].offset}")
        self._table.insert(block)


@pytest.fixture
def table(database: Connection) -> Table:
    """The test's own table of events."""
    return Table(database)


@pytest.fixture
def random() -> Random:
    """The same randomness each time; HEADRACE_TEST_SEED sets its seed; HYPOTHESIS_PROFILE=long draws one."""
    chosen = 1 if settings().derandomize else SystemRandom().randrange(2**32)
    seed = int(os.environ.get("HEADRACE_TEST_SEED") or chosen)
    print(f"HEADRACE_TEST_SEED={seed}")  # shown when the test fails
    return Random(seed)


def accepted(body: str, origin: Sender, limits: EventLimits) -> Event | None:
    """Return the event of a request that has one, None if it is refused."""
    try:
        events = Validator(CATALOGUE, limits, "sandbox").read(body.encode(), origin).events
    except Rejected:
        return None
    return events[0] if events else None


def page_text(random: Random) -> str:
    """Return an event whose url may name a campaign, well or badly."""
    parts = ["?", "&", "#", "=", "+", "%20", "%zz", "%", "ü", "%c3%bc", "%ff", "x", "UTM_SOURCE=", "utm_source"]
    names = [
        f"{name}=" for name in ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "xutm_source")
    ]
    url = "https://a/" + "".join(random.choice(parts + names) for _ in range(random.randrange(12)))
    members = {
        name: random.choice(["", "a", None]) for name in random.sample(["utm_source", "utmSource", "utm.term"], 1)
    }
    return json.dumps({"eventType": "VIEW", "url": url} | members)


def kept(posted: str) -> dict[str, Any]:
    """Return the members of an event that have no column, in order."""
    return {name: value for name, value in json.loads(posted).items() if name not in CATALOGUE.fields}


def is_nothing(value: object) -> bool:
    """Tell whether a member is left out of `properties`: null, or an object without any other member."""
    return value is None or (isinstance(value, dict) and all(map(is_nothing, value.values())))


def shows(shown: object, posted: object, *, in_array: bool = False) -> bool:
    """Tell whether `properties` shows what was posted, but for what docs/EVENTS.md names."""
    if isinstance(posted, dict):
        return isinstance(shown, dict) and _shows_members(shown, posted)
    if isinstance(posted, list):
        pairs = zip(shown, posted, strict=True) if isinstance(shown, list) and len(shown) == len(posted) else None
        return pairs is not None and all(shows(one, other, in_array=True) for one, other in pairs)
    if isinstance(posted, bool) or isinstance(shown, bool):
        return shown is posted
    if posted is None:
        return shown is None or (in_array and shown in ([], {}))
    is_float = isinstance(posted, float) or (in_array and isinstance(posted, int) and abs(posted) > EXACT_MAX)
    if is_float and isinstance(shown, int | float):
        return float(shown) == float(posted)  # type: ignore[arg-type]  # a number, as is_float says
    return type(shown) is type(posted) and shown == posted


def _shows_members(shown: dict[str, Any], posted: dict[str, Any]) -> bool:
    members = [(name.replace(".", "%2E"), value) for name, value in posted.items() if not is_nothing(value)]
    times = Counter(name for name, _ in members)
    return shown.keys() == times.keys() and all(
        shows(shown[name], value) for name, value in members if times[name] == 1
    )


def holds(shown: Any, posted: object, documented: Property) -> bool:
    """Tell whether a typed column shows a member as docs/EVENTS.md says: absent, its value, or anything of the type."""
    empty: dict[str, Any] = {"string": "", "strings": []}
    if posted is None:
        return bool(shown == empty.get(documented.type))
    if not fits(posted, documented):
        is_equal = documented.type == "number" or isinstance(posted, str) or posted == shown  # 1e16 is whole
        return shown is None or documented.type in empty or (is_equal and math.isfinite(shown))
    rules: dict[str, Callable[[], bool]] = {
        # Half of the last decimal, and what a double can't tell.
        "decimal": lambda: abs(shown - Decimal(str(posted))) <= Decimal("0.00005") + abs(shown) / 10**15,
        "boolean": lambda: shown is (posted in (True, "1")),
        "string": lambda: shown == posted or shown.upper() == str(posted).upper(),  # a currency
        "integer": lambda: shown == (posted if int(str(posted).partition(".")[0]) < 2**63 else None),  # an Int64
        "number": lambda: shown == float(str(posted)),
    }
    return rules.get(documented.type, lambda: bool(shown == posted))()


def test_arbitrary_json_is_kept_as_it_was_posted(
    table: Table, database: Connection, random: Random, record_property: Callable[[str, object], None]
) -> None:
    """Nested, dotted, empty, colliding and doubled names, numbers at their bounds, every kind of text."""
    posted = [event_text(random) for _ in range(COUNT)] + [page_text(random) for _ in range(COUNT // 10)]
    origins = [Sender(received_at_ms=AT_MS + number) for number in range(len(posted))]
    events = [
        accepted(f'{{"messageBody":[{body}]}}', origin, EventLimits())
        for body, origin in zip(posted, origins, strict=True)
    ]
    taken = [(body, event) for body, event in zip(posted, events, strict=True) if event is not None]
    assert len(taken) > COUNT * 0.9
    table.insert([event for _, event in taken])
    record_property("says", f"{len(taken)} of {len(posted)} objects accepted, none refused by the table")

    rows = database.query(
        f"SELECT properties_text AS text, properties::String AS shown, {', '.join(TYPED)}"
        " FROM events_unique ORDER BY _offset"
    )

    assert len(rows) == len(taken)
    for (body, event), row in zip(taken, rows, strict=True):
        want = kept(body)
        told = row_of(event)
        assert {name: row[name] for name in TYPED if name in told} == {n: told[n] for n in TYPED if n in told}, body
        # As text: 1, 1.0 and true are equal in Python, and the order of members counts.
        assert json.dumps(json.loads(row["text"])) == json.dumps(want), body
        assert shows(json.loads(row["shown"]), want), (body, row["shown"])
        for name, documented in MEMBERS.items():
            if name in SPELLINGS and "https://a/" in body:
                continue  # the url's campaign, which row_of tells
            posted_value = (
                want.get(name) if want.get(name) not in (None, "") else want.get(name.replace("utm_", "utm."))
            )
            assert holds(row[column_of(name)], posted_value, documented), (name, body)
    for name, documented in MEMBERS.items():
        assert any(fits(kept(body).get(name), documented) and name in kept(body) for body, _ in taken), name


def test_every_string_and_header_is_kept_as_it_was_posted(table: Table, database: Connection, random: Random) -> None:
    """Control characters and all planes in each column, in headers, and the longest text that an event takes."""
    events = []
    for number in range(COUNT // 10):
        body = {"eventType": "VIEW"} | {name: text(random) for name in STRINGS}
        headers = {text(random): text(random) for _ in range(random.randrange(4))}
        request = json.dumps({"messageBody": [body], "messageHeaders": headers})
        origin = Sender(AT_MS + number, ip=text(random), user_agent=text(random), trace_id=text(random))
        if event := accepted(request, origin, EventLimits()):
            events.append(event)
    longest = "xü" * 87_000
    for name in STRINGS:
        if CATALOGUE.fields[name].length_max is None:
            request = f'{{"messageBody":[{{"eventType":"VIEW","{name}":"{longest}"}}]}}'
            event = accepted(request, Sender(AT_MS), EventLimits())
            assert event is not None
            events.append(event)
    assert len(events) > COUNT // 12

    table.insert(events)

    columns = {name: column_of(name) for name in (*STRINGS, "ip", "traceId", "headers")}
    rows = database.query(f"SELECT {', '.join(columns.values())} FROM events ORDER BY _offset")
    for event, row in zip(events, rows, strict=True):
        assert {name: row[column] for name, column in columns.items()} == {name: event[name] for name in columns}  # type: ignore[literal-required]  # names of fields


def test_no_time_that_is_believed_is_refused(table: Table, database: Connection, random: Random) -> None:
    """Whatever clocks say and bounds allow: what is beyond the table's years is not believed by the ingress."""
    limits = EventLimits(clock_past_ms_max=2**62, clock_future_ms_max=2**62)
    said = ["0001-01-01", "1969-12-31T23:59:59.999Z", "1970-01-01", "2299-12-30T23:59:59.999Z", "2299-12-31T00:00:00Z"]
    said += ["2299-12-31T00:00:00.001Z", "9999-12-31T23:59:59Z", "999999999999999", "1e18"]
    numbers = [-1, 0, 1, AT_MAX_MS - 1, AT_MAX_MS, AT_MAX_MS + 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, -1e308]
    times = [json.dumps(item) for item in (*said, *numbers, *(random.randrange(-(2**45), 2**45) for _ in range(200)))]
    events = [
        accepted(f'{{"messageBody":[{{"eventType":"VIEW","timestamp":{time}}}]}}', Sender(received), limits)
        for time in times
        for received in (AT_MS, 0, AT_MAX_MS)
    ]
    taken = [event for event in events if event is not None]
    assert len(taken) == len(events)

    table.insert(taken)

    rows = database.query(
        "SELECT toUnixTimestamp64Milli(occurred_at) AS occurred_at, toUnixTimestamp64Milli(received_at) AS received_at"
        " FROM events ORDER BY _offset"
    )
    for event, row in zip(taken, rows, strict=True):
        for column, at_ms in (("occurred_at", event["occurredAt"]), ("received_at", event["receivedAt"])):
            assert 0 <= at_ms <= AT_MAX_MS
            assert row[column] == at_ms
    assert len({event["occurredAt"] for event in taken}) > 20  # many were believed


def test_half_a_million_names_flood_nothing(table: Table, database: Connection) -> None:
    """No name of a client's is a file of the table, and a query for one of them is answered."""
    names = iter(range(500_000))
    blank = accepted('{"messageBody":[{"eventType":"VIEW"}]}', Sender(AT_MS), EventLimits())
    assert blank is not None
    events = [
        blank
        | {"eventId": str(UUID(int=n)), "properties": json.dumps({f"name{next(names)}": 1 for _ in range(20_000)})}
        for n in range(25)
    ]

    table.insert(events)

    (files,) = database.query(
        "SELECT sum(length(substreams)) AS n FROM system.parts_columns"
        " WHERE database = currentDatabase() AND table = 'events' AND active"
    )
    assert files["n"] < 200
    for name in ("events", "events_unique"):
        answer = database.query(f"SELECT sum(properties.name499999::Int64) AS n, count() AS rows FROM {name}")
        assert answer == [{"n": 1, "rows": 25}]
    found = database.query("SELECT count() AS n FROM events WHERE JSONExtractInt(properties_text, 'name250000') = 1")
    assert found == [{"n": 1}]
