"""What validation and encoding of an event cost: events of 3, 10 and 20 members, 1, 10 and 100 of them a request.

    python -m bench.encode [ROUNDS]

Process CPU time in us an event, median and range of the rounds. In each round every part runs once, so all see the
same machine. `fastavro` writes the same records, one by one: it is what the encoder is measured by, and what it must
equal byte by byte. `Python` and `compiled` are what the collector does with a request, from its bytes to its records:
without and with compiled code.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import fastavro
import msgspec

from ingest.counters import EventCounters
from ingest.events.collector import Collector
from ingest.events.validator import EventLimits, Sender, Validator
from ingest.memory import UNBOUNDED, Body
from schemas.codec import FRAME_BYTES, Encoder, read_schema
from schemas.event import REQUEST_FIELDS, Event, read_catalogue
from tests.support.front import Shelf

NOW_MS: Final = 1_800_000_000_000
AGENT: Final = (
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile"
)
# 16 members with columns, and 4 without: a time, a float, an integer and a title.
MEMBERS: Final[dict[str, Any]] = {
    "eventType": "PING",
    "clientId": "mweb",
    "anonId": "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78",
    "timestamp": NOW_MS - 500,
    "eventLocation": "PAGE",
    "pageType": "article",
    "contentId": "art-000123",
    "url": "https://www.example-news.com/politics/2026/a-headline-that-says-what-article-123-is-about",
    "deviceType": "mobile",
    "pingId": "0b7a9c1e-55aa-4f0e-8f00-000000000001",
    "active": 1,
    "userId": "u123456",
    "osName": "Android",
    "osVersion": "14",
    "browser": "Chrome",
    "userType": "subscriber",
    "accessType": "premium",
    "scrollDepth": 41.25,
    "counter": 3,
    "contentTitle": "A headline that says what article 123 is about",
}
TITLE: Final = {"contentTitle": "Überschrift, die sagt, worum es in Artikel 123 geht, für Leser von überall"}
EVENTS_PER_PART: Final = 3000  # of a round: some 30 ms


def main(rounds: int) -> None:
    """Print one line per shape of a request."""
    parts = ("parse", "validate", "fastavro", "encode", "Python", "compiled")
    print(f"{'members':>9} {'events':>7} " + " ".join(f"{part:>20}" for part in parts))
    for members in (3, 10, 20):
        for events in (1, 10, 100):
            report(f"{members}", events, [dict(list(MEMBERS.items())[:members])] * events, rounds)
    report("20, UTF-8", 100, [MEMBERS | TITLE] * 100, rounds)


def report(name: str, events: int, body: list[dict[str, Any]], rounds: int) -> None:
    """Measure the parts of one request in turns and print their medians."""
    parts = parts_of(json.dumps({"messageBody": body}, ensure_ascii=False).encode())
    for warm in parts.values():
        warm()
    calls = EVENTS_PER_PART // events
    taken_us: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(rounds):
        for part, call in parts.items():
            taken_us[part].append(cpu_us(call, calls) / events)
    cells = (f"{median(us):7.2f} ({min(us):.2f}-{max(us):.2f})" for us in taken_us.values())
    print(f"{name:>9} {events:>7} " + " ".join(f"{cell:>20}" for cell in cells), flush=True)


def parts_of(body: bytes) -> dict[str, Callable[[], object]]:
    """Return what is measured of a request, once its records are seen to be the same."""
    intake = Validator(read_catalogue(), EventLimits(), "production")
    origin = Sender(NOW_MS, ip="192.0.2.1", user_agent=AGENT, trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
    encode_all = Encoder(read_schema("event"), 1).sharing(REQUEST_FIELDS).encode_all
    schema = fastavro.parse_schema(json.loads(read_schema("event")))
    taken = intake.read(body, origin).events
    assert [value[FRAME_BYTES:] for value in encode_all(taken)] == by_fastavro(schema, taken)
    return {
        "parse": lambda: msgspec.json.decode(body),
        "validate": lambda: intake.read(body, origin),
        "fastavro": lambda: by_fastavro(schema, taken),
        "encode": lambda: encode_all(taken),
        "Python": preparing(intake, body, origin, is_compiled=False),
        "compiled": preparing(intake, body, origin, is_compiled=True),
    }


def preparing(intake: Validator, text: bytes, origin: Sender, *, is_compiled: bool) -> Callable[[], object]:
    """Return a collector's way from a request to its records."""
    collector = Collector(intake, Encoder(read_schema("event"), 1), Shelf(), is_compiled=is_compiled)
    assert collector.is_compiled is is_compiled
    body, counter = Body(text, len(text), UNBOUNDED), EventCounters().open()
    return lambda: collector.prepare(body, origin, counter)


def by_fastavro(schema: Any, events: list[Event]) -> list[bytes]:
    """Encode events one by one as fastavro does."""
    bodies = []
    for event in events:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, event)
        bodies.append(out.getvalue())
    return bodies


def cpu_us(call: Callable[[], object], calls: int) -> float:
    """Return the process CPU time of one call."""
    begin = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begin) / calls * 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
