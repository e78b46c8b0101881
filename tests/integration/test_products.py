"""The views that analysts read, beside what Python makes of the same events: with copies, replays and late ones."""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from bench.answers import headers, questions
from bench.readers import DAY_MS, Plan, traffic
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.migrations import create_database
from consumer.clickhouse.products import make_products, products
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.errors import Fatal
from consumer.operations.canary import CLIENT_ID as CANARY_CLIENT
from docs.tables import ROOT
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import Encoder
from schemas.event import read_catalogue
from schemas.registry import LocalSchemas
from tests.support.clickhouse import ClickHouse
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import EVENT, SCHEMA_ID, TOPIC, open_database, record
from tests.support.known_networks import know_countries
from tests.support.migrated import make_tables
from tests.support.slow_products import (
    WANTED,
    ZONE,
    Said,
    by,
    day_of,
    each_once,
    paywall_funnel,
    records,
    shown,
    users,
)

START_MS = 1_767_225_600_000
PLAN = Plan(START_MS, START_MS + 3 * DAY_MS, readers=300, visits_per_day=400, copied=0.1, late=0.1, bad=0.02, bots=0.1)
ENOUGH = {"page_views": 500, "sessions": 200, "revenue_daily": 5}
"""So many rows at least: otherwise the traffic has become too thin to say much."""


@pytest.fixture(scope="module")
def said() -> list[Said]:
    """Each good event once, by time and id."""
    return each_once(traffic(PLAN))


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouse) -> Iterator[Connection]:
    """The same events in the table, some of them twice at other offsets, in another order; and countries are known."""
    name = f"test_{uuid.uuid4().hex}"
    first = open_database(clickhouse, "")
    create_database(first, name, time.sleep)
    ours = open_database(clickhouse, name)
    make_tables(ours)
    made = make_products(ours, ZONE, time.sleep)
    assert made == [f"the view {view} was created" for view in products(ZONE)]
    know_countries(ours)
    assert make_products(ours, ZONE, time.sleep) == []
    values = [value for _, value in records(traffic(PLAN))]
    again = values[len(values) // 3 :]  # read again, as after a reprocess
    Random(3).shuffle(again)
    ours.command("SYSTEM STOP MERGES events")  # or there would be no copies left
    fill(ours, [*values, *again, *canaries()])
    yield ours
    ours.close()
    first.command(f"DROP DATABASE {name}")
    first.close()


def canaries() -> Iterator[bytes]:
    """Yield events of the canary, which no view may show; each would be a view, a visitor, a session, a sale."""
    validator, encoder = Validator(read_catalogue(), EventLimits(), "production"), Encoder(EVENT, SCHEMA_ID)
    for number in range(20):
        sent = {
            "eventType": ("VIEW", "PURCHASE", "CLICK")[number % 3],
            "clientId": CANARY_CLIENT,
            "anonId": f"canary-{number}",
            "userId": f"canary-{number}",
            "contentId": "canary",
            "paywallId": "canary",
            "amount": "lots" if number % 2 else 5,
            "currency": "EUR",
        }
        body = json.dumps({"messageBody": [sent]}).encode()
        (event,) = validator.read(body, Sender(START_MS + number * 3_600_000)).events
        yield encoder.encode(event)


def fill(database: Connection, values: list[bytes]) -> None:
    """Insert records as a worker does, in several batches."""
    rows = EventRows(LocalSchemas())
    table = ClickHouseTable(database, Target("events", "event", TOPIC, 60), rows, None, Tally())
    for start in range(0, len(values), 5000):
        records = [record(start + number, value) for number, value in enumerate(values[start : start + 5000])]
        assert rows.screen(records) == []
        (block,) = rows.blocks(records, Origin("topic-id"), f"token/{start}")
        table.insert(block)


@pytest.mark.parametrize("view", WANTED)
def test_a_view_shows_what_a_slow_count_of_the_events_says(database: Connection, said: list[Said], view: str) -> None:
    """Late and doubled events or not; tests/support/slow_products.py says what each view counts."""
    wanted = WANTED[view][1](said)

    assert len(wanted) > ENOUGH.get(view, 0)
    assert shown(database, view) == wanted


def test_the_traffic_has_what_the_views_tell_apart(database: Connection, said: list[Said]) -> None:
    """Days of two zones, buyers behind a paywall, people with two devices, addresses of several countries."""
    assert len({one.day for one in said}) == 4  # three days of UTC touch four of New York
    assert sum(row[7] for row in paywall_funnel(said)) > 0
    assert any(len(row[1]) > 1 for row in users(said))
    assert {one.country for one in said} == {"", "DE", "FR", "IN"}
    assert database.query("SELECT sum(without) AS n FROM revenue_daily") == [{"n": 0}]


def test_data_quality(database: Connection, said: list[Said]) -> None:
    """By day of receipt: what came, what of it are copies, and how late it was."""
    days = [(day_of(sent.at_ms), sent.event["clientId"]) for sent in traffic(PLAN) if sent.kind != "bad"]
    records = Counter([*days, *days[len(days) // 3 :]])
    wanted: Counter[tuple[Any, ...]] = Counter()
    for key, group in by(said, lambda one: (one.received_day, one.clientId)).items():
        delays = sorted(one.received_ms - one.at_ms for one in group)
        late = sum(delay > 3_600_000 for delay in delays)
        wanted[(*key, records.pop(key), len(group), late, sum(delay < 0 for delay in delays), 0)] += 1
    for (day, client), count_of_copies in records.items():  # a day of copies alone
        wanted[(day, client, count_of_copies, 0, 0, 0, 0)] += 1
    columns = "day, client_id, records, events, late, ahead, unbelieved"

    assert sum(row[4] for row in wanted) > 10
    rows = [tuple(row.values()) for row in database.query(f"SELECT {columns} FROM data_quality")]
    assert Counter((str(day), *rest) for day, *rest in rows) == wanted
    (totals,) = database.query("SELECT sum(records) AS r, sum(events) AS e, sum(copies) AS c FROM data_quality")
    assert totals["c"] >= totals["r"] - totals["e"] > len(days) // 2
    plan = database.query("EXPLAIN indexes = 1 SELECT events FROM data_quality WHERE day = '2031-01-01'")
    reads = [line["explain"] for line in plan if " | Granules: " in line["explain"]]
    assert reads
    assert all(line.endswith("Parts: 0 | Granules: 0") for line in reads), reads


def test_every_column_of_every_view_says_what_it_is(database: Connection) -> None:
    """In the tool where analysts look."""
    query = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
    query += " AND table NOT IN (SELECT name FROM system.tables WHERE engine IN ('MaterializedView', 'Dictionary'))"

    assert database.query(query) == []


def test_a_day_reads_no_other_days(database: Connection) -> None:
    """The condition on the day reaches the index of the time, through view, sum and time zone."""
    plan = database.query("EXPLAIN indexes = 1 SELECT * FROM visitors_daily WHERE day = '2031-01-01'")

    assert any(line["explain"].strip() == "Granules: 0/0" for line in plan)


def test_another_time_zone_replaces_the_views(database: Connection) -> None:
    """Nothing is counted again: views hold no rows."""
    assert make_products(database, "Asia/Tokyo", time.sleep) == []
    (tokyo,) = database.query("SELECT min(day) AS day FROM visitors_daily")
    with pytest.raises(Fatal, match="time zone"):
        make_products(database, "Mars/Olympus", time.sleep)
    assert make_products(database, ZONE, time.sleep) == []
    (york,) = database.query("SELECT min(day) AS day FROM visitors_daily")

    assert (str(tokyo["day"]), str(york["day"])) == ("2026-01-01", "2025-12-31")


def test_a_value_that_did_not_fit_is_counted(empty_database: Connection) -> None:
    """By member, with an example; the event is there."""
    make_tables(empty_database)
    make_products(empty_database, ZONE, time.sleep)
    empty_database.command(
        "INSERT INTO events (event_id, client_id, properties_text) SELECT generateUUIDv4(), 'odd', {text:String}",
        {"text": '{"amount":"ten","scrollDepth":null,"counter":1.5}'},
    )

    assert empty_database.query("SELECT member, events, example FROM misfits_daily ORDER BY member") == [
        {"member": "amount", "events": 1, "example": '"ten"'},
        {"member": "counter", "events": 1, "example": "1.5"},
    ]


def test_every_statement_of_the_analysts_page_answers(database: Connection) -> None:
    """A question whose answer is empty here would be an error that nobody sees, but for what must not happen."""
    page = (ROOT / "docs/ANALYTICS.md").read_text("utf-8")
    asked, below = questions(page), headers(page)

    assert len(asked) == page.count("```sql") >= 25
    for number, (_, statement) in enumerate(asked, 1):
        rows = database.query(statement)
        assert rows or any(view in statement for view in ("misfits_daily", "complete_until", "audit_daily")), statement
        assert number not in below or not rows or below[number] == list(rows[0]), statement
    (copy,) = re.findall(r"```\n(CREATE MATERIALIZED VIEW .*?)```", page, re.DOTALL)
    database.command(copy)
    database.command("DROP VIEW page_views_hourly SYNC")


@pytest.fixture
def views(empty_database: Connection) -> Connection:
    """The views over a table without events."""
    make_tables(empty_database)
    make_products(empty_database, ZONE, time.sleep)
    return empty_database


def put(database: Connection, at: str, event_type: str, **columns: str) -> None:
    """Insert an event of one visitor."""
    fields = {
        "occurred_at": at,
        "received_at": at,
        "event_type": event_type,
        "client_id": "c",
        "anon_id": "v",
    } | columns
    values = ", ".join(f"{{{name}:String}}" for name in fields)
    ids = "(SELECT generateUUIDv4() AS id)"
    database.command(
        f"INSERT INTO events (event_id, ping_id, {', '.join(fields)}) SELECT id, id, {values} FROM {ids}", fields
    )


def test_a_purchase_after_midnight_is_one_of_the_paywalls_day(views: Connection) -> None:
    """The day is that of the VIEW; nobody is counted whom no anon_id tells from others."""
    put(views, "2026-01-02 04:50:00", "VIEW", paywall_id="w", paywall_type="hard")
    put(views, "2026-01-02 04:59:00", "CLICK", paywall_id="w")
    put(views, "2026-01-02 05:01:00", "PURCHASE", paywall_id="w")
    for kind in ("VIEW", "CLICK", "PURCHASE"):
        put(views, "2026-01-04 12:00:00", kind, paywall_id="w", anon_id="")
    columns = "toString(day) AS on, viewers, clickers, buyers, views, purchases"

    rows = views.query(f"SELECT {columns} FROM paywall_funnel ORDER BY day")
    assert [tuple(row.values()) for row in rows] == [
        ("2026-01-01", 1, 1, 1, 1, 0),
        ("2026-01-02", 0, 0, 0, 0, 1),
        ("2026-01-04", 0, 0, 0, 1, 1),
    ]


def test_a_visits_source_and_medium_are_of_one_address(views: Connection) -> None:
    """The first that names any of them; a later campaign of the same visit lends it nothing."""
    put(views, "2026-01-02 12:00:00", "VIEW", url="https://x/?utm_source=letter")
    put(views, "2026-01-02 12:01:00", "VIEW", url="https://x/?utm_source=search&utm_medium=cpc&utm_campaign=brand")

    assert views.query("SELECT utm_source, utm_medium, utm_campaign FROM sessions") == [
        {"utm_source": "letter", "utm_medium": "", "utm_campaign": ""}
    ]


def test_visitors_without_a_user_stay_under_any_setting_of_joins(views: Connection) -> None:
    """Some tools set join_use_nulls for all that they ask."""
    put(views, "2026-01-02 12:00:00", "VIEW")

    assert views.query("SELECT anon_id FROM users SETTINGS join_use_nulls = 1") == [{"anon_id": "v"}]


@pytest.mark.parametrize("sent", ["-", ".", "+", "E5"])
def test_an_amount_without_a_digit_is_no_amount(views: Connection, sent: str) -> None:
    """ClickHouse reads such texts as 0."""
    put(views, "2026-01-02 12:00:00", "PURCHASE", properties_text=json.dumps({"amount": sent}))

    assert [row["without"] for row in views.query("SELECT without FROM revenue_daily")] == [1]
    assert [row["member"] for row in views.query("SELECT member FROM misfits_daily")] == ["amount"]


def test_a_source_is_readable_whatever_the_address_holds(views: Connection) -> None:
    """Anyone can send %FF, and clients fail to read a text that is no UTF-8."""
    put(views, "2026-01-02 12:00:00", "VIEW", url="https://x/?utm_source=a%FFb&utm_term=%E4%BD")

    assert views.query("SELECT utm_source, utm_term FROM events_unique") == [
        {"utm_source": "a\ufffdb", "utm_term": "\ufffd"}
    ]


def test_a_source_inside_another_parameters_value_is_none(views: Connection) -> None:
    """An address to return to has its own query, and sites do not always encode it."""
    urls = {
        "https://x/?next=https://y/?utm_source=theirs": "",
        "https://x/?next=/a?utm_source=theirs&utm_source=ours": "ours",
        "https://x/?utm_source=ours&next=https://y/?utm_source=theirs": "ours",
        "https://x/?next=https%3A%2F%2Fy%2F%3Futm_source%3Dtheirs": "",
        "https://x/?xutm_source=theirs": "",
        "https://x/#utm_source=ours": "ours",
        "https://x/#/page?utm_source=ours": "ours",
        "https://x/?a=1#utm_source=ours": "ours",
        "https://x/?a=1&utm_source=what?": "what?",
        "https://x/": "",
    }
    for url in urls:
        put(views, "2026-01-02 12:00:00", "VIEW", url=url)

    found = views.query("SELECT url, utm_source FROM events_unique")
    assert {row["url"]: row["utm_source"] for row in found} == urls


def test_a_page_view_over_midnight_is_one(views: Connection) -> None:
    """The views by day have it twice, as their comments say; `page_views` has it once."""
    for at in ("2026-01-02 04:59:00", "2026-01-02 05:01:00"):
        put(views, at, "PING", content_id="a")
    views.command(
        "ALTER TABLE events UPDATE ping_id = toUUID('00000000-0000-7000-8000-000000000001') WHERE 1",
        settings={"mutations_sync": 2},
    )

    assert views.query("SELECT sum(page_views) AS n FROM content_daily") == [{"n": 2}]
    assert views.query("SELECT count() AS n FROM page_views") == [{"n": 1}]
    for view in ("content_daily", "visitors_daily"):
        (column,) = views.query(
            f"SELECT comment FROM system.columns WHERE database = currentDatabase() AND table = '{view}'"
            " AND name = 'page_views'"
        )
        assert "midnight" in column["comment"]
