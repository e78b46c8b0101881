"""Readers of a newspaper, as events on the wire: visits with views, PINGs and purchases, in the order of time."""

import random
import uuid
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import FRAME_BYTES, Encoder, read_schema
from schemas.event import read_catalogue

START_MS: Final = 1_767_225_600_000  # 2026-01-01
_SECTIONS: Final = ("politics", "sport", "business", "culture", "science", "local", "opinion", "travel")
_AGENTS: Final = tuple(
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 {mobile}Safari/537.36"
    for system, mobile in (
        ("Windows NT 10.0; Win64; x64", ""),
        ("Macintosh; Intel Mac OS X 10_15_7", ""),
        ("Linux; Android 14; SM-S918B", "Mobile "),
        ("Linux; Android 13; Pixel 7", "Mobile "),
    )
    for version in range(118, 146)
)
_REFERRERS: Final = ("https://www.google.com/", "https://t.co/abc", "https://www.facebook.com/", "")


def bodies(count: int, span_ms: int, seed: int = 7) -> Iterator[tuple[int, bytes]]:
    """Yield when each event came in, and its Avro body; ids are the collector's own UUIDv7."""
    chance = random.Random(seed)
    events: list[tuple[int, dict[str, Any], str, str]] = []
    while len(events) < count:
        events += visit(chance, START_MS + chance.randrange(span_ms))
    events.sort(key=lambda item: item[0])
    intake, encoder = Validator(read_catalogue(), EventLimits(), "production"), Encoder(read_schema("event"), 1)
    for at_ms, event, agent, ip in events[:count]:
        origin = Sender(at_ms, ip=ip, user_agent=agent, trace_id=f"{chance.getrandbits(128):032x}")
        said = event | {"timestamp": at_ms - chance.randrange(20, 400)}
        (taken,) = intake.read(msgspec.json.encode({"messageBody": [said]}), origin).events
        yield at_ms, encoder.encode(taken)[FRAME_BYTES:]


def visit(chance: random.Random, at_ms: int) -> list[tuple[int, dict[str, Any], str, str]]:
    """Return the events of one visit: when, what is sent, the User-Agent and the address."""
    agent = chance.choice(_AGENTS)
    ip = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
    is_mobile = "Mobile" in agent
    reader = {
        "clientId": "mweb" if is_mobile else "web",
        "anonId": _uuid(chance),
        "deviceType": "mobile" if is_mobile else "desktop",
        "osName": "Android" if is_mobile else "Windows",
        "browser": "Chrome",
        "sessionId": f"{chance.getrandbits(64):016x}",
    }
    if chance.random() < 0.2:
        reader |= {"userId": f"u{chance.randrange(10**6)}", "userType": "subscriber"}
    events: list[tuple[int, dict[str, Any]]] = []
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        at_ms = _page(chance, at_ms, reader, events)
    return [(when, event, agent, ip) for when, event in events]


def _page(chance: random.Random, at_ms: int, reader: dict[str, Any], events: list[tuple[int, dict[str, Any]]]) -> int:
    article = int(chance.paretovariate(1.1)) % 5000
    section = _SECTIONS[article % len(_SECTIONS)]
    common = reader | {
        "pingId": _uuid(chance),
        "eventLocation": "PAGE",
        "pageType": "article",
        "contentId": f"art-{article:06d}",
        "url": f"https://www.example-news.com/{section}/2026/a-headline-that-says-what-article-{article}-is-about",
        "accessType": chance.choice(("free", "metered", "premium")),
    }
    view = common | {
        "eventType": "VIEW",
        "contentTitle": f"A headline that says what article {article} is about",
        "authorName": f"Author {article % 200}",
        "contentTags": [f"tag{article % 50}", f"tag{article % 71}", f"tag{article % 97}"],
        "contentSections": [section],
        "referrer": chance.choice(_REFERRERS),
        "premiumContent": section == "business",
        "adblocker": chance.random() < 0.3,
        "pageLength": chance.randrange(1000, 9000),
    }
    if chance.random() < 0.2:
        view |= {"utm.source": chance.choice(("newsletter", "twitter", "fb")), "utm.campaign": f"c{article % 40}"}
    events.append((at_ms, view))
    depth = 0.0
    for number in range(int(chance.expovariate(0.25))):
        at_ms += 15_000 + chance.randrange(50)
        depth = min(100.0, depth + chance.random() * 20)
        ping = {"active": int(chance.random() < 0.8), "counter": number + 1, "scrollDepth": round(depth, 2)}
        ping |= {"activeTimeSpent": number * 15, "idleTimeSpent": chance.randrange(20), "totalTimeSpent": number * 15}
        events.append((at_ms, common | {"eventType": "PING"} | ping))
    if chance.random() < 0.02:
        order = {"amount": chance.choice((9, 9.99, 19.99, 99)), "currency": chance.choice(("EUR", "USD", "INR"))}
        order |= {"orderId": f"o-{chance.getrandbits(40):x}", "plan": chance.choice(("monthly", "yearly"))}
        events.append((at_ms, common | {"eventType": "PURCHASE"} | order))
    at_ms += chance.randrange(4000)
    events.append((at_ms, common | {"eventType": "EXIT", "scrollDepth": round(depth, 2)}))
    return at_ms


def _uuid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
