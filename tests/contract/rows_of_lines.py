"""The contract's rows on newline-delimited JSON: one event a line, and every other rule of a batch."""

import gzip
import json
from typing import Final

from tests.contract.rows import FRESH, Row, bad_event, bad_request, detail, error, left, taken
from tests.contract.rows_of_events import BAD, BAD_SAYS, ID, VIEW
from tests.contract.rows_of_handling import NO_JSON, good, near
from tests.contract.rows_of_keys import KEYS

LINES: Final = {"Content-Type": "application/x-ndjson"}
LENIENT: Final = {**LINES, "Prefer": "handling=lenient"}
BOM: Final = b"\xef\xbb\xbf"
COUNT: Final = "the body must have 1 to 500 lines with an event, got"
CUT: Final = b'{"eventType": "VIE'


def lines(*events: object, end: bytes = b"\n") -> bytes:
    """Return a body with these events, or bytes as they are, on a line each."""
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + end for item in events)


def of_bytes(size: int) -> bytes:
    """Return a line with an event of exactly this size."""
    start, end = b'{"eventType": "VIEW", "x": "', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


TAKEN: Final = [
    Row(
        "one event a line, one pingId a line",
        201,
        lines(VIEW | {"pingId": ID}, VIEW),
        taken(ID, FRESH),
        headers=LINES,
        bears={"x-durability": "broker", "preference-applied": None},
        events=2,
    ),
    *(
        Row(f"lines: {name} is taken", 201, lines(VIEW), taken(FRESH), headers={"Content-Type": name}, events=1)
        for name in ("application/ndjson", "application/jsonl", "Application/X-NDJSON; charset=utf-8")
    ),
    Row("the last line needs no end", 201, lines(VIEW, VIEW)[:-1], taken(FRESH, FRESH), headers=LINES, events=2),
    Row("a line may end with CR LF", 201, lines(VIEW, VIEW, end=b"\r\n"), taken(FRESH, FRESH), headers=LINES, events=2),
    Row(
        "blank lines and a byte order mark are skipped",
        201,
        BOM + b"\n \t\r\n" + lines(VIEW, b"", VIEW) + b"\n\n  ",
        taken(FRESH, FRESH),
        headers=LINES,
        events=2,
    ),
    Row("lines in gzip", 201, gzip.compress(lines(VIEW)), headers={**LINES, "Content-Encoding": "gzip"}, events=1),
    Row("500 lines are taken", 201, lines(*[VIEW] * 500), taken(*[FRESH] * 500), headers=LINES, events=500),
    Row("a line of 256 KiB is taken", 201, lines(of_bytes(256 * 1024)), headers=LINES, events=1),
    Row(
        "lines have the ids of a batch under the same key",
        201,
        lines(VIEW | {"clientId": "web"}, b"", VIEW | {"clientId": "web"}, VIEW | {"eventId": ID}),
        taken("13ba02eb-d49e-56d6-bfaa-ad3a532c2e84", "ac6ae464-7b58-530c-bd83-0715c711eab9", ID),
        headers={**LINES, "Idempotency-Key": "order-1"},
        events=3,
    ),
]

REFUSED: Final = [
    Row("no line", 400, b"", bad_request("", "items", f"{COUNT} none"), headers=LINES),
    Row("blank lines alone", 400, b"\n \r\n\n", bad_request("", "items", f"{COUNT} none"), headers=LINES),
    Row("501 lines", 400, lines(*[VIEW] * 501), bad_request("", "items", f"{COUNT} more"), headers=LINES),
    Row(
        "one bad line refuses the request",
        400,
        lines(VIEW, BAD, VIEW),
        bad_event(1, "eventType", "enum", BAD_SAYS),
        headers=LINES,
    ),
    Row(
        "lines that are no JSON are named",
        400,
        lines(VIEW, CUT, b"", b"[" * 5000, b'{"eventType": "VIEW", "x": 1e999}'),
        error(
            400,
            f"{NO_JSON}: Input data was truncated",
            detail(1, "/messageBody/1", "json", f"{NO_JSON}: Input data was truncated"),
            detail(2, "/messageBody/2", "depth", "nested too deeply"),
            detail(3, "/messageBody/3/x", "json", f"{NO_JSON}: a number is out of range"),
        ),
        headers=LINES,
    ),
    Row(
        "an event has one line",
        400,
        b'{"eventType":\n"VIEW"}',
        headers=LINES,
    ),
    Row(
        "a line has one event",
        400,
        lines(b'{"eventType": "VIEW"}{"eventType": "VIEW"}'),
        bad_event(0, "", "json", f"{NO_JSON}: trailing characters (byte 22)"),
        headers=LINES,
    ),
    Row(
        "nor do commas make two of it",
        400,
        lines(b'{"eventType": "VIEW"},{"eventType": "VIEW"}'),
        bad_event(0, "", "json", f"{NO_JSON}: trailing characters (byte 22)"),
        headers=LINES,
    ),
    Row(
        "a line is no batch",
        400,
        lines({"messageBody": [VIEW]}),
        bad_event(0, "eventType", "required", "eventType is required"),
        headers=LINES,
    ),
    Row(
        "a line that is no object",
        400,
        lines([VIEW]),
        bad_event(0, "", "type", "an event must be an object, got an array"),
        headers=LINES,
    ),
    Row(
        "a line over 256 KiB",
        400,
        lines(of_bytes(256 * 1024 + 1)),
        bad_event(0, "", "size", "an event must have at most 262144 bytes"),
        headers=LINES,
    ),
    Row(
        "a quote that a line leaves open hides no values",
        413,
        lines(VIEW, b'"', b'{"x": [' + b"[]," * 200_000 + b"1]}", b'"'),
        error(413, "the body has more than 100000 JSON values, send fewer events at once"),
        headers=LENIENT,
    ),
    Row("lines in another charset", 415, lines(VIEW), headers={"Content-Type": "application/x-ndjson; charset=cp1252"}),
    Row("lines are no JSON body", 400, lines(VIEW, VIEW)),
]

HANDLED: Final = [
    Row(
        "lenient: a bad line costs itself alone",
        201,
        lines(VIEW | {"pingId": ID}, CUT, BAD, 5, b'{"x": "\xff"}', VIEW),
        [
            *taken(ID),
            left(f"{NO_JSON}: Input data was truncated"),
            left("invalid event type"),
            left("an event must be an object, got an integer"),
            left(f"{NO_JSON}: not valid UTF-8"),
            *taken(FRESH),
        ],
        headers=LENIENT,
        bears={"preference-applied": "handling=lenient"},
        events=2,
        letters=4,
    ),
    Row(
        "lenient and minimal together",
        201,
        lines(VIEW, CUT),
        [],
        headers={**LINES, "Prefer": "handling=lenient, return=minimal"},
        events=1,
        letters=1,
    ),
    Row("lenient with no good line", 400, lines(CUT), headers=LENIENT, bears={"preference-applied": None}),
    Row(
        "a dry run of lines",
        200,
        lines(VIEW | {"content_id": "a"}, CUT),
        {
            "valid": False,
            "events": [
                good(0, near(0, "content_id", "contentId"), event_type="VIEW"),
                {
                    "index": 1,
                    "valid": False,
                    "message": f"{NO_JSON}: Input data was truncated",
                    "details": [detail(1, "/messageBody/1", "json", f"{NO_JSON}: Input data was truncated")],
                    "warnings": [],
                },
            ],
        },
        headers=LINES,
        path="/collect/validate",
    ),
    Row(
        "another client's line",
        403,
        lines(VIEW | {"clientId": "web"}, VIEW | {"clientId": "app"}),
        error(403, "an event names another clientId than the key's"),
        headers={**LENIENT, "X-API-Key": KEYS["web"]},
        house="keyed",
    ),
]

ROWS: Final = [*TAKEN, *REFUSED, *HANDLED]
