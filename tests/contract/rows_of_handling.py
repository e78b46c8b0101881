"""The contract's rows on how a request is handled: leniently, or only tried."""

from typing import Final

from tests.contract.rows import FRESH, JSON, Row, bad_event, bad_request, detail, left, request, taken
from tests.contract.rows_of_events import BAD, BAD_SAYS, ID, VIEW

NO_JSON: Final = "the event is not valid JSON"
LENIENT: Final = {**JSON, "Prefer": "handling=lenient"}

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
                {"index": 0, "valid": True, "details": []},
                {
                    "index": 1,
                    "valid": False,
                    "message": "invalid event type",
                    "details": [detail(1, "/messageBody/1/eventType", "enum", BAD_SAYS)],
                },
            ],
        },
        path="/collect/validate",
    ),
    Row(
        "a good dry run publishes nothing either",
        200,
        request(VIEW),
        {"valid": True, "events": [{"index": 0, "valid": True, "details": []}]},
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
