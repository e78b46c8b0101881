"""The analysts' views as slow, obvious Python over the events that clients sent, each once.

`WANTED` has for each view the columns that are compared, and the function that counts them. `shown` reads what a view
shows. Both are rows with the number of times that each is there.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from bench.readers import DAY_MS, Sent
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import Encoder
from schemas.event import read_catalogue
from tests.support.fixtures_consumer import EVENT, SCHEMA_ID
from tests.support.known_networks import country_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from consumer.clickhouse.client import Connection

ZONE: Final = "America/New_York"  # where days begin in the evening before, in UTC
_PAUSE_MS: Final = 30 * 60 * 1000
_BROWSERS: Final = {"Chrome/": "Chrome", "Firefox/": "Firefox"}  # of what bench.readers sends
_SYSTEMS: Final = {"Windows NT": "Windows", "Macintosh": "macOS", "Android": "Android", "CFNetwork": "iOS"}
Rows = Counter[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Said:
    """One event as its client sent it, once."""

    at_ms: int
    received_ms: int
    day: str
    received_day: str
    body: dict[str, Any]
    is_bot: bool
    browser: str
    system: str
    country: str

    def __getattr__(self, name: str) -> Any:
        """Return a member, "" when absent."""
        return self.body.get(name, "")


def each_once(sent: Iterable[Sent]) -> list[Said]:
    """Return each good event once, as it came first, by time and id."""
    first: dict[str, Said] = {}
    for one in sent:
        body = one.event
        if one.kind != "bad" and body["eventId"] not in first:
            agent = body["userAgent"]
            first[body["eventId"]] = Said(
                at_ms=body["timestamp"],
                received_ms=one.at_ms,
                day=day_of(body["timestamp"]),
                received_day=day_of(one.at_ms),
                body=body,
                is_bot="Googlebot" in agent,
                browser=_named(_BROWSERS, agent),
                system=_named(_SYSTEMS, agent),
                country=country_of(one.ip),
            )
    return sorted(first.values(), key=lambda said: (said.at_ms, uuid.UUID(said.eventId)))


def _named(names: dict[str, str], agent: str) -> str:
    return next((found for name, found in names.items() if name in agent), "")


def records(sent: Iterable[Sent]) -> Iterator[tuple[str, bytes]]:
    """Yield what the ingress would publish of the good events, copies too: key and value."""
    validator, encoder = Validator(read_catalogue(), EventLimits(), "production"), Encoder(EVENT, SCHEMA_ID)
    for one in sent:
        if one.kind != "bad":
            body = json.dumps({"messageBody": [one.event]}).encode()
            (event,) = validator.read(body, Sender(one.at_ms, ip=one.ip)).events
            yield event["anonId"], encoder.encode(event)


def day_of(at_ms: int) -> str:
    """Return the day of the business's time zone."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(ZONE)).date().isoformat()


def shown(database: Connection, view: str) -> Rows:
    """Return the rows of a view; times as ms, days as text."""
    rows = database.query(f"SELECT {WANTED[view][0]} FROM {view}")
    return Counter(tuple(_plain(value) for value in row.values()) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000)
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, (int, str, float, Decimal, type(None))) else str(value)


def by(said: Iterable[Said], key: Callable[[Said], Any]) -> dict[Any, list[Said]]:
    """Group events."""
    groups: dict[Any, list[Said]] = defaultdict(list)
    for one in said:
        groups[key(one)].append(one)
    return groups


def first(events: Iterable[Said], name: str) -> str:
    """Return the first value of a member that is not empty."""
    return str(next((value for one in events if (value := getattr(one, name))), ""))


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


def page_views(said: list[Said]) -> Rows:
    """One row for each pingId that a VIEW or a PING names."""
    groups = {key: group for key, group in by(said, lambda one: one.pingId).items() if pages(group)}
    return Counter(
        (
            *(key, group[0].day, group[0].at_ms, group[-1].at_ms, group[0].clientId, group[0].anonId, group[0].is_bot),
            *(first(group, name) for name in ("userId", "sessionId", "contentId", "contentTitle", "referrer")),
            *(count(group, "VIEW"), count(group, "PING"), active_s(group), count(group, "CLICK")),
            max((one.scrollDepth for one in group if one.scrollDepth != ""), default=None),
            count(group, "EXIT") > 0,
            *(first(group, name) for name in ("browser", "system", "country")),
        )
        for key, group in groups.items()
    )


def sessions(said: list[Said]) -> Rows:
    """A pause of half an hour begins another one."""
    wanted: Rows = Counter()
    for (client, anon), group in by(said, lambda one: (one.clientId, one.anonId)).items():
        parts: list[list[Said]] = []
        for one in group:
            if not parts or one.at_ms - parts[-1][-1].at_ms >= _PAUSE_MS:
                parts.append([])
            parts[-1].append(one)
        for part in parts:
            facts = (len(part), pages(part), active_s(part), count(part, "PURCHASE"), first(part, "url"))
            named = (first(part, name) for name in ("deviceType", "browser", "system", "country"))
            row = (client, anon, part[0].at_ms, part[-1].at_ms, part[0].day, first(part, "userId"), *facts, *named)
            wanted[row] += 1
    return wanted


def visitors_daily(said: list[Said]) -> Rows:
    """Visitors, users and page views of the business's days."""
    return Counter(
        (*key, different(group, "anonId"), different(group, "userId"), pages(group), len(group))
        for key, group in by(said, lambda one: (one.day, one.clientId, one.deviceType, one.is_bot, one.country)).items()
    )


def paywall_funnel(said: list[Said]) -> Rows:
    """Who saw it, then clicked, then bought; a visitor's country is that of the first event that has one."""
    walls = [one for one in said if one.paywallId and one.eventType in ("VIEW", "CLICK", "PURCHASE")]
    wanted: Rows = Counter()
    for (client, *wall), events in by(walls, lambda one: (one.clientId, one.paywallId, one.is_bot)).items():
        for day in {one.day for one in events}:
            # Events count for their day and for the day before.
            near = [one for one in events if one.day == day or _day_before(one.day) == day]
            visitors: dict[str, list[list[Said]]] = defaultdict(list)
            for visitor in by(near, lambda one: one.anonId).values():
                visitors[first(visitor, "country")].append(visitor)
            for country, group in visitors.items():
                mine = [one for visitor in group for one in visitor if one.day == day]
                if not mine:
                    continue
                levels = [level(visitor, day) for visitor in group]
                reached = [sum(one >= wanted_level for one in levels) for wanted_level in (1, 2, 3)]
                counts = (count(mine, kind) for kind in ("VIEW", "CLICK", "PURCHASE"))
                wanted[(day, client, *wall, country, *reached, *counts)] += 1
    return wanted


def _day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(1)).isoformat()


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


def content_daily(said: list[Said]) -> Rows:
    """Page views, visitors and attention by content."""
    return Counter(
        (*key, pages(group), different(group, "anonId"), active_s(group), count(group, "PURCHASE"))
        for key, group in by(said, lambda one: (one.day, one.clientId, one.contentId, one.is_bot, one.country)).items()
    )


def revenue_daily(said: list[Said]) -> Rows:
    """Money by currency, as numbers or as text; what was paid back is told apart."""
    paid = [one for one in said if one.eventType in ("PURCHASE", "TRANSACTION")]
    wanted: Rows = Counter()
    for key, group in by(
        paid, lambda one: (one.day, one.clientId, one.eventType, one.currency, one.plan, one.country)
    ).items():
        amounts = [Decimal(str(one.amount)) for one in group]
        gross, back = sum(a for a in amounts if a > 0), -sum(a for a in amounts if a < 0)
        counts = (sum(a > 0 for a in amounts), sum(a < 0 for a in amounts))
        wanted[(*key, counts[0], gross, counts[1], back, gross - back)] += 1
    return wanted


def events_per_minute(said: list[Said]) -> Rows:
    """By the minute of receipt, each event once."""
    found = Counter(
        (one.received_ms // 60_000 * 60_000, one.clientId, one.eventType, one.eventLocation) for one in said
    )
    return Counter((*key, n) for key, n in found.items())


def users(said: list[Said]) -> Rows:
    """A visitor's events before the first sign-in are the user's, too."""
    owners = {one.anonId: one.userId for one in said if one.userId}  # the last one stays
    groups = by(said, lambda one: one.userId or owners.get(one.anonId) or one.anonId)
    return Counter(
        (
            first(group, "userId"),
            tuple(sorted({one.anonId for one in group})),
            group[0].at_ms,
            group[-1].at_ms,
            pages(group),
            first(reversed(group), "country"),
        )
        for group in groups.values()
    )


_COLUMNS: Final = {
    "page_views": """
        ping_id, day, started_at, ended_at, client_id, anon_id, is_bot, user_id, session_id, content_id, content_title,
        referrer, views, pings, active_s, clicks, scroll_depth, has_exit, browser, system, country""",
    "sessions": """
        client_id, anon_id, started_at, ended_at, day, user_id, events, page_views, active_s, purchases, entry_url,
        device_type, browser, system, country""",
    "visitors_daily": "day, client_id, device_type, is_bot, country, visitors, users, page_views, events",
    "paywall_funnel": """
        day, client_id, paywall_id, is_bot, country, viewers, clickers, buyers, views, clicks, purchases""",
    "content_daily": "day, client_id, content_id, is_bot, country, page_views, visitors, active_s, purchases",
    "revenue_daily": """
        day, client_id, event_type, currency, plan, country, payments, gross, refunds, refunded, net""",
    "events_per_minute": "minute, client_id, event_type, event_location, events",
    "users": "user_id, anon_ids, first_seen_at, last_seen_at, page_views, country",
}
_COUNTS: Final = (
    page_views, sessions, visitors_daily, paywall_funnel, content_daily, revenue_daily, events_per_minute, users,
)  # fmt: skip
WANTED: Final[dict[str, tuple[str, Callable[[list[Said]], Rows]]]] = {
    count.__name__: (_COLUMNS[count.__name__], count) for count in _COUNTS
}
