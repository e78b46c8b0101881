"""The contract's rows on the JSON of a request: its shape, its events, their ids."""

from typing import Final

from tests.contract.rows import FRESH, KNOWN, Row, bad_event, bad_request, detail, error, request, taken

ID: Final = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"
OTHER_ID: Final = "0b7a9c1e-55aa-4f0e-8f00-000000000001"
VIEW: Final = {"eventType": "VIEW"}
BAD: Final = {"eventType": "CLIK"}
BAD_SAYS: Final = f"eventType got 'CLIK'; known are {KNOWN}"


def nested(depth: int) -> bytes:
    """Return a body whose deepest value lies so many levels deep."""
    inside = depth - 3
    return b'{"messageBody": [{"eventType": "VIEW", "x": ' + b"[" * inside + b"]" * inside + b"}]}"


def event_of_bytes(size: int) -> bytes:
    """Return a body with one event of exactly this size."""
    start, end = b'{"eventType": "VIEW", "x": "', b'"}'
    return b'{"messageBody": [' + start + b"x" * (size - len(start) - len(end)) + end + b"]}"


TAKEN: Final = [
    Row("a pingId is answered", 201, request(VIEW | {"pingId": ID, "eventId": OTHER_ID}), taken(ID), events=1),
    Row("else an eventId is answered", 201, request(VIEW | {"eventId": ID}), taken(ID), events=1),
    Row("else a fresh UUIDv7", 201, request(VIEW), taken(FRESH), events=1),
    Row("an id is answered in canonical form", 201, request(VIEW | {"pingId": ID.upper()}), taken(ID), events=1),
    Row(
        "one element per event, in request order",
        201,
        request(VIEW | {"pingId": ID}, VIEW, VIEW | {"pingId": OTHER_ID}),
        taken(ID, FRESH, OTHER_ID),
        events=3,
    ),
    Row("the broker has it", 201, request(VIEW), bears={"x-durability": "broker"}, events=1),
    Row("500 events are taken", 201, request(*[VIEW] * 500), taken(*[FRESH] * 500), events=500),
    Row("messageHeaders is an object of scalars", 201, request(VIEW, messageHeaders={"a": 1, "b": None}), events=1),
    Row("messageheader is taken too", 201, request(VIEW, messageheader={"a": True}), events=1),
    Row("messageHeaders wins", 201, request(VIEW, messageHeaders={"a": "x"}, messageheader=5), events=1),
    Row("other members are ignored", 201, request(VIEW, topic="other", extra=[{}]), events=1),
    Row("the type's case does not matter", 201, request({"eventType": "view"}), events=1),
    Row("lossless coercions", 201, request(VIEW | {"active": True, "userId": None}, VIEW | {"active": 1.0}), events=2),
    Row("a number for an id", 201, request(VIEW | {"userId": 5, "contentId": 7.0, "anonId": 0}), events=1),
    Row('"1" and "0" for a flag', 201, request(VIEW | {"active": "1"}, VIEW | {"active": "0"}), events=2),
    Row('"" is absent', 201, request(VIEW | {"pingId": "", "eventId": "", "anonId": "", "active": ""}), events=1),
    Row("lists of values are open", 201, request(VIEW | {"eventLocation": "NEW", "clickAction": "NEW"}), events=1),
    Row("unknown fields are kept", 201, request(VIEW | {"x": {"y": [1, None]}}), events=1),
    Row("32 levels are taken", 201, nested(32), events=1),
    Row("64 bits are taken", 201, request(VIEW | {"x": [2**64 - 1, -(2**63)]}), events=1),
    Row("256 KiB of one event are taken", 201, event_of_bytes(256 * 1024), events=1),
]

REFUSED: Final = [
    Row("no body", 400, b"", bad_request("", "json", "the body is not valid JSON: it is empty")),
    Row(
        "no JSON",
        400,
        b"{]",
        bad_request("", "json", "the body is not valid JSON: object keys must be strings (byte 1)"),
    ),
    Row("no object", 400, b"[]", bad_request("", "type", "the body must be an object, got an array")),
    Row("messageBody missing", 400, b"{}", bad_request("/messageBody", "required", "messageBody is required")),
    Row(
        "messageBody no array",
        400,
        b'{"messageBody": {}}',
        bad_request("/messageBody", "type", "messageBody must be an array, got an object"),
    ),
    Row(
        "messageBody empty",
        400,
        request(),
        bad_request("/messageBody", "items", "messageBody must have 1 to 500 events, got 0"),
    ),
    Row(
        "messageBody too long",
        400,
        request(*[VIEW] * 501),
        bad_request("/messageBody", "items", "messageBody must have 1 to 500 events, got 501"),
    ),
    Row(
        "messageHeaders no object",
        400,
        request(VIEW, messageHeaders="x"),
        bad_request("/messageHeaders", "type", "messageHeaders must be an object, got a string"),
    ),
    Row(
        "a header no scalar",
        400,
        request(VIEW, messageHeaders={"a": {}}),
        bad_request("/messageHeaders/a", "type", "a member of messageHeaders must be a scalar, got an object"),
    ),
    Row(
        "an event no object",
        400,
        request(VIEW, 5),
        bad_event(1, "", "type", "an event must be an object, got an integer"),
    ),
    Row("eventType missing", 400, request({}), bad_event(0, "eventType", "required", "eventType is required")),
    Row("eventType unknown", 400, request(BAD), bad_event(0, "eventType", "enum", BAD_SAYS)),
    Row(
        "eventType no string",
        400,
        request({"eventType": 5}),
        bad_event(0, "eventType", "type", "eventType must be a string, got an integer"),
    ),
    Row(
        "a known field of the wrong type",
        400,
        request(VIEW | {"active": "yes"}),
        bad_event(0, "active", "type", "active must be an integer or a boolean, got a string"),
    ),
    Row(
        "a UUID that is none",
        400,
        request(VIEW | {"pingId": "x"}),
        bad_event(0, "pingId", "format", "pingId must be a UUID of 8-4-4-4-12 hexadecimal digits"),
    ),
    Row(
        "anonId too long",
        400,
        request(VIEW | {"anonId": "x" * 129}),
        bad_event(0, "anonId", "length", "anonId must have 1 to 128 characters, got 129"),
    ),
    Row("33 levels", 400, nested(33), bad_event(0, "x", "depth", "nested too deeply")),
    Row(
        "50,000 levels",
        400,
        nested(50_000),
        bad_event(0, "x", "depth", "nested too deeply"),
    ),
    Row(
        "an integer beyond 64 bits",
        400,
        request(VIEW | {"x": 2**64}),
        bad_event(0, "x", "integer", "an integer needs more than 64 bits"),
    ),
    Row(
        "an integer of 5,000 digits",
        400,
        b'{"messageBody": [{"eventType": "VIEW", "x": ' + b"9" * 5000 + b"}]}",
        bad_event(0, "x", "json", "the event is not valid JSON: a number is out of range"),
    ),
    Row("NaN", 400, b'{"messageBody": [{"eventType": "VIEW", "x": NaN}]}'),
    Row("Infinity", 400, b'{"messageBody": [{"eventType": "VIEW", "x": -Infinity}]}'),
    Row(
        "invalid UTF-8",
        400,
        b'{"messageBody": [{"eventType": "VIEW", "x": "\xff"}]}',
        bad_event(0, "x", "json", "the event is not valid JSON: not valid UTF-8"),
    ),
    Row(
        "a lone surrogate is refused, not repaired",
        400,
        rb'{"messageBody": [{"eventType": "VIEW", "x": "\ud800"}]}',
        bad_event(0, "x", "json", "the event is not valid JSON: a lone surrogate"),
    ),
    Row(
        "the event that is no JSON is named",
        400,
        b'{"messageBody": [{"eventType": "VIEW"}, {"eventType": "VIEW", "x": 1e999}]}',
        bad_event(1, "x", "json", "the event is not valid JSON: a number is out of range"),
    ),
    Row(
        "where events can't be told apart, none is",
        400,
        b'{"messageBody": [{"eventType": "VIEW", "x": "y}, {"eventType": "VIEW"}]}',
        bad_request("", "json", "the body is not valid JSON: expected ',' or '}' (byte 51)"),
    ),
    Row(
        "a fault outside the events is the request's",
        400,
        b'{"messageBody": [{"eventType": "VIEW"}], "x": "\xff"}',
        bad_request("", "json", "the body is not valid JSON: not valid UTF-8"),
    ),
    Row(
        "an event over 256 KiB",
        400,
        event_of_bytes(256 * 1024 + 1),
        bad_event(0, "", "size", "an event must have at most 262144 bytes"),
    ),
    Row(
        "every bad field of every bad event",
        400,
        request(BAD | {"url": 5}, VIEW, {}),
        error(
            400,
            "invalid event type",
            detail(0, "/messageBody/0/eventType", "enum", BAD_SAYS),
            detail(0, "/messageBody/0/url", "type", "url must be a string, got an integer"),
            detail(2, "/messageBody/2/eventType", "required", "eventType is required"),
        ),
    ),
    Row(
        "50 details at most",
        400,
        request(*[BAD] * 60),
        error(
            400,
            "invalid event type",
            *(detail(index, f"/messageBody/{index}/eventType", "enum", BAD_SAYS) for index in range(50)),
        ),
    ),
    Row(
        "at most 40 characters of an unknown type",
        400,
        request({"eventType": "x" * 100_000}),
        bad_event(0, "eventType", "enum", f"eventType got '{'x' * 40}'; known are {KNOWN}"),
    ),
]

ROWS: Final = [*TAKEN, *REFUSED]
