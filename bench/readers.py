"""Readers of a newspaper as events: visits with views, PINGs, clicks, paywalls, purchases and refunds, by time.

The same seed gives the same events. Beside good ones there are what clients really send: copies (a retry under the same
eventId), events that arrive hours late, events that no catalogue accepts, and visits of bots.
"""

import heapq
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Kind = Literal["new", "copy", "bad"]
VISITS_PER_DAY: Final = 0.4
"""Of one reader, on average."""
PING_MS: Final = 15_000
DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
# Visits by hour of the day, UTC: few at night, most in the evening.
_HOURS: Final = (2, 1, 1, 1, 2, 4, 8, 10, 9, 8, 7, 8, 10, 9, 7, 7, 8, 10, 12, 14, 15, 12, 8, 4)
_SECTIONS: Final = ("politics", "sport", "business", "culture", "science", "local")
_ARTICLES: Final = 2000
_PAYWALLS: Final = ("metered", "premium")
_PLANS: Final = {"monthly": "9.99", "yearly": "99.00"}
_CURRENCIES: Final = {"web": "EUR", "mweb": "EUR", "app": "USD"}
_SOURCES: Final = (("google", "cpc"), ("newsletter", "email"), ("facebook", "social"))
_REFERRERS: Final = ("", "", "https://www.google.com/", "https://t.co/abc", "https://www.facebook.com/")
_BOT: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_DEVICES: Final = (
    ("web", "desktop", "Windows", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/{}.0.0.0 Safari/537.36"),
    ("web", "desktop", "macOS", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Firefox/{}.0"),
    ("mweb", "mobile", "Android", "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/{}.0.0.0 Mobile Safari/537.36"),
    ("app", "mobile", "iOS", "Daily/{} CFNetwork/1494.0.7 Darwin/23.4.0"),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as a client sends it, at `at_ms`; a copy and a late event have an earlier `timestamp`."""

    at_ms: int
    event: dict[str, Any]
    ip: str
    kind: Kind = "new"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many readers visit, from when to when; shares are of all events.

    Attributes:
        visits_per_day: of all readers together; None: VISITS_PER_DAY of each.
        is_curved: more visits in the evening than at night; otherwise they are spread evenly.
    """

    start_ms: int
    end_ms: int
    readers: int = 1000
    visits_per_day: float | None = None
    is_curved: bool = True
    copied: float = 0.01
    late: float = 0.005
    bad: float = 0.002
    bots: float = 0.02


@dataclass(frozen=True, slots=True)
class _Device:
    anon_id: str
    client_id: str
    kind: str
    system: str
    agent: str
    ip: str
    is_bot: bool = False


@dataclass(slots=True)
class _Reader:
    devices: list[_Device]
    user_id: str
    is_known: bool = False
    is_subscriber: bool = False


@dataclass(slots=True)
class _Visit:
    """What is equal in all events of a visit, and the events so far."""

    chance: random.Random
    reader: _Reader
    device: _Device
    at_ms: int
    session_id: str
    page: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def say(self, event_type: str, **members: Any) -> dict[str, Any]:
        """Add an event of this moment."""
        device, reader = self.device, self.reader
        event = {"eventType": event_type, "eventId": uuid7(self.chance, self.at_ms), "timestamp": self.at_ms}
        event |= {"clientId": device.client_id, "anonId": device.anon_id, "sessionId": self.session_id}
        event |= {"deviceType": device.kind, "osName": device.system, "userAgent": device.agent}
        if reader.is_known:
            event |= {"userId": reader.user_id, "userType": "subscriber" if reader.is_subscriber else "registered"}
        event |= self.page | members
        self.events.append((self.at_ms, event))
        return event


def traffic(plan: Plan, seed: int = 7) -> Iterator[Sent]:
    """Yield the events of a plan in the order in which they are sent; some come after its end."""
    chance = random.Random(seed)
    readers = [_reader(chance, plan.bots) for _ in range(plan.readers)]
    waiting: list[tuple[int, int, Sent]] = []
    number = 0
    for at_ms in _starts(chance, plan):
        while waiting and waiting[0][0] <= at_ms:
            yield heapq.heappop(waiting)[2]
        for sent in _sent(chance, plan, _visit(chance, chance.choice(readers), at_ms)):
            number += 1
            heapq.heappush(waiting, (sent.at_ms, number, sent))
    while waiting:
        yield heapq.heappop(waiting)[2]


def uuid7(chance: random.Random, at_ms: int) -> str:
    """Return a UUIDv7 of a time."""
    tail = chance.getrandbits(74)
    return str(uuid.UUID(int=(at_ms << 80) | (7 << 76) | ((tail >> 62) << 64) | (2 << 62) | (tail & (2**62 - 1))))


def _starts(chance: random.Random, plan: Plan) -> Iterator[int]:
    """Yield when each visit begins."""
    per_day = plan.readers * VISITS_PER_DAY if plan.visits_per_day is None else plan.visits_per_day
    peak = max(_HOURS) * 24 / sum(_HOURS) if plan.is_curved else 1.0
    at_ms = float(plan.start_ms)
    while True:
        at_ms += chance.expovariate(per_day * peak / DAY_MS)
        if at_ms >= plan.end_ms:
            return
        share = _HOURS[int(at_ms) % DAY_MS // _HOUR_MS] / max(_HOURS) if plan.is_curved else 1.0
        if chance.random() < share:
            yield int(at_ms)


def _reader(chance: random.Random, bots: float) -> _Reader:
    is_bot = chance.random() < bots
    count = 1 if is_bot or chance.random() < 0.8 else 2
    devices = [_device(chance, is_bot=is_bot) for _ in range(count)]
    known = not is_bot and chance.random() < 0.25
    return _Reader(devices, f"u{chance.getrandbits(40):011x}", known, known and chance.random() < 0.4)


def _device(chance: random.Random, *, is_bot: bool) -> _Device:
    client_id, kind, system, agent = _DEVICES[0] if is_bot else chance.choice(_DEVICES)
    agent = _BOT if is_bot else agent.format(chance.randrange(118, 146))
    ip = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
    anon_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    return _Device(anon_id, client_id, kind, system, agent, ip, is_bot)


def _visit(chance: random.Random, reader: _Reader, at_ms: int) -> _Visit:
    visit = _Visit(chance, reader, chance.choice(reader.devices), at_ms, f"{chance.getrandbits(64):016x}")
    source = _source(chance)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        _page(visit, source)
        source = {"referrer": visit.page["url"]}
        visit.at_ms += chance.randrange(200, 3000)
    return visit


def _source(chance: random.Random) -> dict[str, str]:
    if chance.random() < 0.2:
        source, medium = chance.choice(_SOURCES)
        return {"query": f"?utm_source={source}&utm_medium={medium}&utm_campaign=autumn%20sale", "referrer": ""}
    return {"referrer": chance.choice(_REFERRERS)}


def _page(visit: _Visit, source: dict[str, str]) -> None:
    """Read one article: its VIEW, PINGs every 15 s, sometimes its paywall, and mostly its EXIT."""
    chance = visit.chance
    number = min(int(chance.paretovariate(1.1)), _ARTICLES)
    section = _SECTIONS[number % len(_SECTIONS)]
    is_premium = number % 5 == 0
    url = f"https://daily.example/{section}/2026/article-{number}{source.get('query', '')}"
    visit.page = {"pingId": uuid7(chance, visit.at_ms), "contentId": f"art-{number}", "url": url, "pageType": "article"}
    visit.page |= {"eventLocation": "PAGE", "accessType": "premium" if is_premium else "free"}
    view = visit.say("VIEW", contentTitle=f"What article {number} says", authorName=f"Author {number % 50}")
    view |= {"contentSections": [section], "contentTags": [f"tag{number % 9}", f"tag{number % 31}"]}
    view |= {"referrer": source["referrer"], "premiumContent": is_premium, "pageLength": 1000 + number}
    if visit.device.is_bot:
        return
    is_closed = is_premium and not visit.reader.is_subscriber
    if is_closed:
        visit.at_ms += chance.randrange(300, 2000)
        _paywall(visit)
    depth = _read(visit, 1 if is_closed and not visit.reader.is_subscriber else 9)
    if chance.random() < 0.8:
        visit.say("EXIT", scrollDepth=depth)


def _read(visit: _Visit, pings_max: int) -> float:
    """Send the PINGs of a page; return how far it was scrolled, in per cent."""
    chance, depth, active_s = visit.chance, 0.0, 0
    for number in range(1, chance.randrange(pings_max + 1) + 1):
        visit.at_ms += PING_MS
        is_active = chance.random() < 0.8
        active_s += 15 * is_active
        depth = round(min(100.0, depth + chance.random() * 25), 1)
        # One client sends flags as booleans, and no eventLocation.
        active = is_active if visit.device.client_id == "app" else int(is_active)
        ping = visit.say("PING", active=active, counter=number, scrollDepth=depth, activeTimeSpent=active_s)
        if visit.device.client_id == "app":
            del ping["eventLocation"]
    visit.at_ms += chance.randrange(200, PING_MS)
    return depth


def _paywall(visit: _Visit) -> None:
    """Show the paywall; some click, some of those buy, and few of those want their money back."""
    chance, reader = visit.chance, visit.reader
    wall = chance.choice(_PAYWALLS)
    shown = {"eventLocation": "PAYWALL", "paywallId": f"pw-{wall}", "paywallType": wall, "paywallDisplayType": "modal"}
    visit.say("VIEW", **shown)
    if chance.random() > 0.3:
        return
    visit.at_ms += chance.randrange(1000, 9000)
    visit.say("CLICK", clickAction="BUY_NOW", **shown)
    if chance.random() > 0.4:
        return
    visit.at_ms += chance.randrange(20_000, 90_000)
    if not reader.is_known:
        reader.is_known = True
        visit.say("REGISTRATION", **shown)
    plan = chance.choice(list(_PLANS))
    # Amounts come as numbers from some clients, as text from others.
    amount: float | str = _PLANS[plan] if visit.device.client_id == "app" else float(_PLANS[plan])
    order = {"amount": amount, "currency": _CURRENCIES[visit.device.client_id], "plan": plan}
    order |= {"orderId": f"o-{chance.getrandbits(40):010x}"}
    reader.is_subscriber = True
    visit.say("PURCHASE", **shown, **order)
    if chance.random() < 0.15:
        visit.at_ms += chance.randrange(1000, 60_000)
        reader.is_subscriber = False
        visit.say("TRANSACTION", **shown, **order | {"amount": -float(amount)})


def _sent(chance: random.Random, plan: Plan, visit: _Visit) -> Iterator[Sent]:
    """Yield a visit's events as they are sent: in time, late, twice or broken."""
    ip = visit.device.ip
    for at_ms, event in visit.events:
        is_late = chance.random() < plan.late
        sent_ms = at_ms + (chance.randrange(_HOUR_MS, 6 * _HOUR_MS) if is_late else 0)
        if chance.random() < plan.bad:
            broken = chance.choice(({"eventType": "HOVER"}, {"pingId": "none"}, {"active": "often"}))
            yield Sent(sent_ms, event | broken, ip, "bad")
            continue
        yield Sent(sent_ms, event, ip)
        if chance.random() < plan.copied:
            yield Sent(sent_ms + chance.randrange(1000, 2 * _HOUR_MS), event, ip, "copy")
