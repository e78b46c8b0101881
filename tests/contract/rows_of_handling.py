"""The contract's rows on how a request is handled: leniently, or only tried."""

from typing import Any, Final

from tests.contract.rows import FRESH, JSON, Row, Shown, bad_event, bad_request, detail, error, left, request, taken
from tests.contract.rows_of_events import BAD, BAD_SAYS, ID, VIEW

NO_JSON: Final = "the event is not valid JSON"
NO_TIME: Final = "is neither ISO 8601, RFC 2822 nor an epoch in s, ms or us"
LENIENT: Final = {**JSON, "Prefer": "handling=lenient"}


def good(index: int, *warnings: dict[str, Any], **row: object) -> dict[str, Any]:
    """Return what a dry run says of a good event with these columns, among others."""
    return {"index": index, "valid": True, "details": [], "warnings": list(warnings), "row": Shown(**row)}


def near(index: int, name: str, meant: str) -> dict[str, Any]:
    """Return the warning of a member with a name near a known one."""
    message = f"{name} is kept in properties; did you mean {meant}?"
    return detail(index, f"/messageBody/{index}/{name}", "near_name", message)


LENIENTLY: Final = [
    Row(
        "lenient takes the good ones",
        201,
        request(VIEW | {"pingId": ID}, BAD, 5, VIEW),
        [
            *taken(ID),
            left("invalid event type"),
            left("an event must be an object, got an integer"),
            *taken(FRESH),
        ],
        headers=LENIENT,
        bears={"preference-applied": "handling=lenient", "x-durability": "broker"},
        events=2,
        letters=2,
    ),
    Row(
        "lenient among other preferences, in any case",
        201,
        request(VIEW, BAD),
        headers={**JSON, "Prefer": 'respond-async, Handling="LENIENT"; x=y'},
        bears={"preference-applied": "handling=lenient"},
        events=1,
        letters=1,
    ),
    Row(
        "lenient with nothing to forgive",
        201,
        request(VIEW | {"pingId": ID}),
        taken(ID),
        headers=LENIENT,
        bears={"preference-applied": "handling=lenient"},
        events=1,
    ),
    Row(
        "lenient with nothing good",
        400,
        request(BAD),
        bad_event(0, "eventType", "enum", BAD_SAYS),
        headers=LENIENT,
        bears={"preference-applied": None},
    ),
    *(
        Row(
            f"lenient: {what} costs its event alone",
            201,
            b'{"messageBody": [{"eventType": "VIEW", "pingId": "'
            + ID.encode()
            + b'"}, {"x": '
            + bad
            + b'}, {"eventType": "VIEW"}]}',
            [*taken(ID), left(says), *taken(FRESH)],
            headers=LENIENT,
            bears={"preference-applied": "handling=lenient"},
            events=2,
            letters=1,
        )
        for what, bad, says in (
            ("a cut surrogate", rb'"\ud83d"', f"{NO_JSON}: a lone surrogate"),
            ("1e999", b"1e999", f"{NO_JSON}: a number is out of range"),
            ("bad UTF-8", b'"\xc3"', f"{NO_JSON}: not valid UTF-8"),
            ("an integer of 5,000 digits", b"9" * 5000, f"{NO_JSON}: a number is out of range"),
            ("nesting without end", b"[" * 2000 + b"]" * 2000, "nested too deeply"),
            ("NaN", b"NaN", f"{NO_JSON}: invalid character (byte 6)"),
        )
    ),
    Row("lenient does not extend to the request", 400, b"[]", headers=LENIENT, bears={"preference-applied": None}),
    Row(
        "strict is the default",
        400,
        request(VIEW, BAD),
        bad_event(1, "eventType", "enum", BAD_SAYS),
        headers={**JSON, "Prefer": "handling=strict"},
    ),
    Row(
        "a minimal answer names no pingIds",
        201,
        request(*[VIEW] * 50),
        [],
        headers={**JSON, "Prefer": "return=minimal"},
        bears={"preference-applied": "return=minimal", "x-durability": "broker", "content-length": "2"},
        events=50,
    ),
    Row(
        "a minimal error has no details",
        400,
        request(*[BAD] * 50),
        error(400, "invalid event type"),
        headers={**JSON, "Prefer": "return=minimal"},
        bears={"preference-applied": None},
    ),
    Row("nobody asked for leniency", 201, request(VIEW), bears={"preference-applied": None}, events=1),
]

TRIED: Final = [
    Row(
        "a dry run gives a verdict per event",
        200,
        request(VIEW, BAD),
        {
            "valid": False,
            "events": [
                good(0, event_type="VIEW", active=-1, environment="sandbox", properties={}, headers={}),
                {
                    "index": 1,
                    "valid": False,
                    "message": "invalid event type",
                    "details": [detail(1, "/messageBody/1/eventType", "enum", BAD_SAYS)],
                    "warnings": [],
                },
            ],
        },
        path="/collect/validate",
    ),
    Row(
        "a good dry run publishes nothing either",
        200,
        request(VIEW),
        {"valid": True, "events": [good(0)]},
        path="/collect/validate",
    ),
    Row(
        "a dry run shows the row as it would stand",
        200,
        request(
            {"eventType": "click", "eventId": ID.upper(), "userId": 5, "active": "1", "x": {"y": [1, None]}}
            | {"amount": "9.5", "currency": "eur", "contentTags": ["a"], "url": "https://a/?utm_source=may+mail"},
            messageHeaders={"a": 1},
        ),
        {
            "valid": True,
            "events": [
                good(
                    0,
                    event_id=ID,
                    ping_id=ID,
                    event_type="CLICK",
                    user_id="5",
                    active=1,
                    content_id="",
                    properties={"x": {"y": [1, None]}, "amount": "9.5", "currency": "eur", "contentTags": ["a"]},
                    headers={"a": "1"},
                    amount=9.5,
                    currency="EUR",
                    content_tags=["a"],
                    content_sections=[],
                    premium_content=None,
                    plan="",
                    utm_source="may mail",
                )
            ],
        },
        path="/collect/validate",
    ),
    Row(
        "a dry run warns of what may not be meant",
        200,
        request(VIEW | {"content_id": "a"}, VIEW | {"timestamp": "yesterday", "scrollDepth": "deep"}),
        {
            "valid": True,
            "events": [
                good(0, near(0, "content_id", "contentId"), properties={"content_id": "a"}, scroll_depth=None),
                good(
                    1,
                    detail(
                        1, "/messageBody/1/timestamp", "time", f"timestamp {NO_TIME}; occurredAt is the time of receipt"
                    ),
                    detail(
                        1,
                        "/messageBody/1/scrollDepth",
                        "type",
                        "scrollDepth is kept in properties as it is; it is no number, so the row leaves its column out",
                    ),
                ),
            ],
        },
        path="/collect/validate",
    ),
    Row(
        "a dry run warns of bad events too",
        200,
        request({"event_type": "VIEW"}),
        {
            "valid": False,
            "events": [
                {
                    "index": 0,
                    "valid": False,
                    "message": "eventType is required",
                    "details": [detail(0, "/messageBody/0/eventType", "required", "eventType is required")],
                    "warnings": [near(0, "event_type", "eventType")],
                }
            ],
        },
        path="/collect/validate",
    ),
    Row(
        "a dry run needs a list of events",
        400,
        b"{}",
        bad_request("/messageBody", "required", "messageBody is required"),
        path="/collect/validate",
    ),
    Row("a dry run is held to the type too", 415, b"x", headers={"Content-Type": "text/csv"}, path="/collect/validate"),
]

ROWS: Final = [*LENIENTLY, *TRIED]
