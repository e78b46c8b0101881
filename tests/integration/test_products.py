"""The views that analysts read, beside what Python makes of the same events: with copies, replays and late ones."""

import json
import re
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bench.answers import headers, questions
from bench.readers import DAY_MS, Plan, traffic
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.migrations import create_database, migrate, migrations
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

ZONE = "America/New_York"  # where days begin in the evening before, in UTC
START_MS = 1_767_225_600_000
PLAN = Plan(START_MS, START_MS + 3 * DAY_MS, readers=300, visits_per_day=400, copied=0.1, late=0.1, bad=0.02, bots=0.1)
PAUSE_MS = 30 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Said:
    """One event as its client sent it, once."""

    at_ms: int
    received_ms: int
    day: str
    body: dict[str, Any]
    is_bot: bool

    def __getattr__(self, name: str) -> Any:
        """Return a member, "" when absent."""
        return self.body.get(name, "")


@pytest.fixture(scope="module")
def said() -> list[Said]:
    """Each good event once, by time and id."""
    first: dict[str, Said] = {}
    for sent in traffic(PLAN):
        body = sent.event
        if sent.kind != "bad" and body["eventId"] not in first:
            day = datetime.fromtimestamp(body["timestamp"] / 1000, ZoneInfo(ZONE)).date().isoformat()
            first[body["eventId"]] = Said(body["timestamp"], sent.at_ms, day, body, "bot" in body["userAgent"])
    return sorted(first.values(), key=lambda one: (one.at_ms, uuid.UUID(one.eventId)))


@pytest.fixture(scope="module")
def database(clickhouse: ClickHouse) -> Iterator[Connection]:
    """The same events in the table, some of them twice at other offsets, in another order."""
    name = f"test_{uuid.uuid4().hex}"
    first = open_database(clickhouse, "")
    create_database(first, name, time.sleep)
    ours = open_database(clickhouse, name)
    migrate(ours, migrations(), time.sleep)
    made = make_products(ours, ZONE, time.sleep)
    assert made == [f"the view {view} was created" for view in products(ZONE)]
    values = list(encoded())
    again = values[len(values) // 3 :]  # read again, as after a reprocess
    Random(3).shuffle(again)
    ours.command("SYSTEM STOP MERGES events")  # or there would be no copies left
    fill(ours, [*values, *again, *canaries()])
    yield ours
    ours.close()
    first.command(f"DROP DATABASE {name}")
    first.close()


def encoded() -> Iterator[bytes]:
    """Yield what the ingress accepts of the traffic, copies too, as records."""
    validator, encoder = Validator(read_catalogue(), EventLimits(), "production"), Encoder(EVENT, SCHEMA_ID)
    for sent in traffic(PLAN):
        if sent.kind != "bad":
            body = json.dumps({"messageBody": [sent.event]}).encode()
            (event,) = validator.read(body, Sender(sent.at_ms, ip=sent.ip)).events
            yield encoder.encode(event)


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


def by(said: Iterable[Said], key: Callable[[Said], Any]) -> dict[Any, list[Said]]:
    """Group events."""
    groups: dict[Any, list[Said]] = defaultdict(list)
    for one in said:
        groups[key(one)].append(one)
    return groups


def first(events: Iterable[Said], name: str) -> str:
    """Return the first value of a member that is not empty."""
    return str(next((one.body[name] for one in events if one.body.get(name)), ""))


def pages(events: Iterable[Said]) -> int:
    """Return how many page views there are."""
    return len({one.pingId for one in events if one.eventType in ("VIEW", "PING")})


def active_s(events: Iterable[Said]) -> int:
    """Return the seconds in focus."""
    return 15 * len([one for one in events if one.eventType == "PING" and one.active in (1, True)])


def count(events: Iterable[Said], kind: str) -> int:
    """Return how many events of a type there are."""
    return sum(one.eventType == kind for one in events)


def different(events: Iterable[Said], name: str) -> int:
    """Return how many values a member has."""
    return len({one.body[name] for one in events if one.body.get(name)})


def shown(database: Connection, columns: str, view: str) -> Counter[tuple[Any, ...]]:
    """Return the rows of a view; times as ms, days as text."""
    rows = database.query(f"SELECT {columns} FROM {view}")
    return Counter(tuple(_plain(value) for value in row.values()) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000)
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, (int, str, float, Decimal, type(None))) else str(value)


def test_page_views(database: Connection, said: list[Said]) -> None:
    """One row for each pingId that a VIEW or a PING names, late and doubled events or not."""
    groups = {key: group for key, group in by(said, lambda one: one.pingId).items() if pages(group)}
    wanted = Counter(
        (
            *(key, group[0].day, group[0].at_ms, group[-1].at_ms, group[0].clientId, group[0].anonId, group[0].is_bot),
            *(first(group, name) for name in ("userId", "sessionId", "contentId", "contentTitle", "referrer")),
            *(count(group, "VIEW"), count(group, "PING"), active_s(group), count(group, "CLICK")),
            max((one.scrollDepth for one in group if one.scrollDepth != ""), default=None),
            count(group, "EXIT") > 0,
        )
        for key, group in groups.items()
    )
    columns = (
        "ping_id, day, started_at, ended_at, client_id, anon_id, is_bot, user_id, session_id, content_id,"
        " content_title, referrer, views, pings, active_s, clicks, scroll_depth, has_exit"
    )

    assert len(wanted) > 500
    assert shown(database, columns, "page_views") == wanted


def test_sessions(database: Connection, said: list[Said]) -> None:
    """A pause of half an hour begins another one."""
    wanted: Counter[tuple[Any, ...]] = Counter()
    for (client, anon), group in by(said, lambda one: (one.clientId, one.anonId)).items():
        parts: list[list[Said]] = []
        for one in group:
            if not parts or one.at_ms - parts[-1][-1].at_ms >= PAUSE_MS:
                parts.append([])
            parts[-1].append(one)
        for part in parts:
            facts = (len(part), pages(part), active_s(part), count(part, "PURCHASE"), first(part, "url"))
            wanted[(client, anon, part[0].at_ms, part[-1].at_ms, part[0].day, first(part, "userId"), *facts)] += 1
    columns = (
        "client_id, anon_id, started_at, ended_at, day, user_id, events, page_views, active_s, purchases, entry_url"
    )

    assert len(wanted) > 200
    assert shown(database, columns, "sessions") == wanted


def test_visitors_daily(database: Connection, said: list[Said]) -> None:
    """Visitors, users and page views of the business's days."""
    wanted = Counter(
        (*key, different(group, "anonId"), different(group, "userId"), pages(group), len(group))
        for key, group in by(said, lambda one: (one.day, one.clientId, one.deviceType, one.is_bot)).items()
    )
    columns = "day, client_id, device_type, is_bot, visitors, users, page_views, events"

    assert len({row[0] for row in wanted}) == 4  # three days of UTC touch four of New York
    assert shown(database, columns, "visitors_daily") == wanted


def test_paywall_funnel(database: Connection, said: list[Said]) -> None:
    """Who saw it, clicked after that, and bought after that."""
    shown_walls = [one for one in said if one.paywallId and one.eventType in ("VIEW", "CLICK", "PURCHASE")]
    wanted: Counter[tuple[Any, ...]] = Counter()
    for (client, *wall), events in by(shown_walls, lambda one: (one.clientId, one.paywallId, one.is_bot)).items():
        visitors = by(events, lambda one: one.anonId).values()
        for day, group in by(events, lambda one: one.day).items():
            levels = [level(visitor, day) for visitor in visitors]
            reached = [sum(one >= wanted_level for one in levels) for wanted_level in (1, 2, 3)]
            counts = (count(group, kind) for kind in ("VIEW", "CLICK", "PURCHASE"))
            wanted[(day, client, *wall, *reached, *counts)] += 1
    columns = "day, client_id, paywall_id, is_bot, viewers, clickers, buyers, views, clicks, purchases"

    assert sum(row[6] for row in wanted) > 0
    assert shown(database, columns, "paywall_funnel") == wanted


def level(events: list[Said], day: str) -> int:
    """Return how far a visitor came within 24 hours of a VIEW of a day; events are in order."""
    return max((reach(events, start) for start, one in enumerate(events) if one.day == day), default=0)


def reach(events: list[Said], start: int) -> int:
    """Return how far a visitor came from an event on."""
    reached = 0
    for one in events[start:]:
        is_next = reached < 3 and one.eventType == ("VIEW", "CLICK", "PURCHASE")[reached]
        if is_next and one.at_ms - events[start].at_ms <= DAY_MS:
            reached += 1
        if not reached:
            break
    return reached


def test_content_daily(database: Connection, said: list[Said]) -> None:
    """Page views, visitors and attention by content."""
    wanted = Counter(
        (*key, pages(group), different(group, "anonId"), active_s(group), count(group, "PURCHASE"))
        for key, group in by(said, lambda one: (one.day, one.clientId, one.contentId, one.is_bot)).items()
    )
    columns = "day, client_id, content_id, is_bot, page_views, visitors, active_s, purchases"

    assert shown(database, columns, "content_daily") == wanted


def test_revenue_daily(database: Connection, said: list[Said]) -> None:
    """Money by currency, as numbers or as text; what was paid back is told apart."""
    paid = [one for one in said if one.eventType in ("PURCHASE", "TRANSACTION")]
    wanted: Counter[tuple[Any, ...]] = Counter()
    for key, group in by(paid, lambda one: (one.day, one.clientId, one.eventType, one.currency, one.plan)).items():
        amounts = [Decimal(str(one.amount)) for one in group]
        gross, back = sum(a for a in amounts if a > 0), -sum(a for a in amounts if a < 0)
        counts = (sum(a > 0 for a in amounts), sum(a < 0 for a in amounts))
        wanted[(*key, counts[0], gross, counts[1], back, gross - back)] += 1
    columns = "day, client_id, event_type, currency, plan, payments, gross, refunds, refunded, net"

    assert len(wanted) > 5
    assert shown(database, columns, "revenue_daily") == wanted
    assert database.query("SELECT sum(without) AS n FROM revenue_daily") == [{"n": 0}]


def test_events_per_minute(database: Connection, said: list[Said]) -> None:
    """By the minute of receipt, each event once."""
    wanted = Counter(
        (one.received_ms // 60_000 * 60_000, one.clientId, one.eventType, one.eventLocation) for one in said
    )
    rows = shown(database, "minute, client_id, event_type, event_location, events", "events_per_minute")

    assert rows == Counter((*key, n) for key, n in wanted.items())


def test_users(database: Connection, said: list[Said]) -> None:
    """A visitor's events before the first sign-in are the user's, too."""
    owners = {one.anonId: one.userId for one in said if one.userId}  # the last one stays
    groups = by(said, lambda one: one.userId or owners.get(one.anonId) or one.anonId)
    wanted = Counter(
        (
            first(group, "userId"),
            tuple(sorted({one.anonId for one in group})),
            group[0].at_ms,
            group[-1].at_ms,
            pages(group),
        )
        for group in groups.values()
    )
    columns = "user_id, anon_ids, first_seen_at, last_seen_at, page_views"

    assert any(len(row[1]) > 1 for row in wanted)
    assert shown(database, columns, "users") == wanted


def test_data_quality(database: Connection, said: list[Said]) -> None:
    """By day of receipt: what came, what of it are copies, and how late it was."""
    days = [(_day(sent.at_ms), sent.event["clientId"]) for sent in traffic(PLAN) if sent.kind != "bad"]
    records = Counter([*days, *days[len(days) // 3 :]])
    wanted: Counter[tuple[Any, ...]] = Counter()
    for key, group in by(said, lambda one: (_day(one.received_ms), one.clientId)).items():
        delays = sorted(one.received_ms - one.at_ms for one in group)
        late = sum(delay > 3_600_000 for delay in delays)
        wanted[(*key, records.pop(key), len(group), late, sum(delay < 0 for delay in delays), 0)] += 1
    for (day, client), count_of_copies in records.items():  # a day of copies alone
        wanted[(day, client, count_of_copies, 0, 0, 0, 0)] += 1
    columns = "day, client_id, records, events, late, ahead, unbelieved"

    assert sum(row[4] for row in wanted) > 10
    assert shown(database, columns, "data_quality") == wanted
    (totals,) = database.query("SELECT sum(records) AS r, sum(events) AS e, sum(copies) AS c FROM data_quality")
    assert totals["c"] >= totals["r"] - totals["e"] > len(days) // 2
    plan = database.query("EXPLAIN indexes = 1 SELECT events FROM data_quality WHERE day = '2031-01-01'")
    reads = [line["explain"] for line in plan if " | Granules: " in line["explain"]]
    assert reads
    assert all(line.endswith("Parts: 0 | Granules: 0") for line in reads), reads


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(ZONE)).date().isoformat()


def test_every_column_of_every_view_says_what_it_is(database: Connection) -> None:
    """In the tool where analysts look."""
    query = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
    query += " AND table NOT IN (SELECT name FROM system.tables WHERE engine = 'MaterializedView')"

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
    migrate(empty_database, migrations(), time.sleep)
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
    (copy,) = re.findall(r"`(CREATE MATERIALIZED VIEW .*?)`", page, re.DOTALL)
    database.command(copy)
    database.command("DROP VIEW page_views_hourly SYNC")


@pytest.fixture
def views(empty_database: Connection) -> Connection:
    """The views over a table without events."""
    migrate(empty_database, migrations(), time.sleep)
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


def test_a_bot_is_known_by_its_name_and_a_phone_is_none(views: Connection) -> None:
    """A maker of phones is called CUBOT, and apps have names with these letters inside."""
    agents = {
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": True,
        "AdsBot-Google (+http://www.google.com/adsbot.html)": True,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2)": True,
        "TelegramBot (like TwitterBot)": True,
        "ubot": True,
        "Mozilla/5.0 (compatible; Baiduspider/2.0)": True,
        "Mozilla/5.0 HeadlessChrome/120.0": True,
        "python-requests/2.32": True,
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) Chrome/120.0 Mobile Safari/537.36": False,
        "Mozilla/5.0 (Linux; Android 13; CUBOT KINGKONG 9) Chrome/120.0 Mobile Safari/537.36": False,
        "Abbott/3.1 CFNetwork/1494.0.7 Darwin/23.4.0": False,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0.0.0 Safari/537.36": False,
        "": False,
    }
    for agent in agents:
        put(views, "2026-01-02 12:00:00", "VIEW", user_agent=agent)

    found = views.query("SELECT user_agent, is_bot FROM events_ready")
    assert {row["user_agent"]: bool(row["is_bot"]) for row in found} == agents


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
