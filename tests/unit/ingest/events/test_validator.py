"""The verdict on an event: what is one, what is wrong with it, and what of it is kept."""

import json
from typing import Any

import pytest

from ingest.events.validator import FAULTS_MAX, InvalidEvent
from tests.support.results import ID, ORIGIN, event, faults, intake, judge


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "required"),
        ({"eventType": None}, "required"),
        ({"eventType": "CLIK"}, "enum"),
        ({"eventType": ""}, "enum"),
        ({"eventType": "V\u0130EW"}, "enum"),
        ({"eventType": "cl\u0131ck"}, "enum"),
        ({"eventType": 1}, "type"),
        ({"eventType": ["VIEW"]}, "type"),
    ],
)
def test_an_event_needs_a_known_type(fields: dict[str, Any], rule: str) -> None:
    """Missing, unknown and not a string are three different faults; letters beyond ASCII match nothing."""
    assert faults(fields) == [(0, "/messageBody/0/eventType", rule)]


@pytest.mark.parametrize("given", ["click", "CLICK", "Click"])
def test_a_type_is_compared_without_regard_to_case(given: str) -> None:
    """It is stored in upper case."""
    assert event(eventType=given)["eventType"] == "CLICK"


def test_an_unknown_type_has_the_documents_own_sentence() -> None:
    """The details say what was got, at most 40 characters of it, and what is known."""
    fault = judge({"eventType": "x" * 100}).faults[0]

    assert fault.headline == "invalid event type"
    assert fault.message == (
        f"eventType got '{'x' * 40}'; known are CLICK, EXIT, PING, PURCHASE, REGISTRATION, TRANSACTION, VIEW"
    )


@pytest.mark.parametrize("raw", [None, 1, "x", [], True, 1.5])
def test_an_event_is_an_object(raw: Any) -> None:
    """Anything else in the list is a fault of that element."""
    assert faults({"eventType": "VIEW"}, raw) == [(1, "/messageBody/1", "type")]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"userId": {}}, "type"),
        ({"userId": True}, "type"),
        ({"userId": 2**64}, "integer"),
        ({"userId": 1e16}, "integer"),
        ({"anonId": []}, "type"),
        ({"anonId": -(2**63) - 1}, "integer"),
        ({"url": True}, "type"),
        ({"url": 5}, "type"),
        ({"osVersion": 14}, "type"),
        ({"eventId": "not-a-uuid"}, "format"),
        ({"eventId": "c523aa419f0f4fc2bc965a8ff5520b78"}, "format"),
        ({"pingId": f"{{{ID}}}"}, "format"),
        ({"pingId": 5}, "type"),
        ({"anonId": "x" * 129}, "length"),
        ({"active": "true"}, "type"),
        ({"active": "2"}, "type"),
        ({"active": " 1"}, "type"),
        ({"active": 1.5}, "type"),
        ({"active": 128}, "integer"),
        ({"active": -129}, "integer"),
        ({"active": 2**70}, "integer"),
        ({"extra": 2**64}, "integer"),
        ({"extra": [{"x": -(2**63) - 1}]}, "integer"),
    ],
)
def test_a_field_that_does_not_fit_is_a_fault(fields: dict[str, Any], rule: str) -> None:
    """The pointer names the field."""
    assert faults({"eventType": "VIEW"} | fields) == [(0, f"/messageBody/0/{next(iter(fields))}", rule)]


@pytest.mark.parametrize(
    ("fields", "name", "stored"),
    [
        ({"active": True}, "active", 1),
        ({"active": False}, "active", 0),
        ({"active": 1.0}, "active", 1),
        ({"active": "1"}, "active", 1),
        ({"active": "0"}, "active", 0),
        ({"active": ""}, "active", -1),
        ({"active": -128}, "active", -128),
        ({"active": None}, "active", -1),
        ({}, "active", -1),
        ({"userId": None}, "userId", ""),
        ({"userId": ""}, "userId", ""),
        ({"anonId": ""}, "anonId", ""),
        ({"userId": 5}, "userId", "5"),
        ({"clientId": 0}, "clientId", "0"),
        ({"anonId": -7}, "anonId", "-7"),
        ({"contentId": 2**64 - 1}, "contentId", str(2**64 - 1)),
        ({"paywallId": 12.0}, "paywallId", "12"),
        ({"popupId": 2.0**53}, "popupId", str(2**53)),
        ({"userId": -0.0}, "userId", "0"),
        ({"userId": 1.5}, "userId", "1.5"),
        ({"userId": 0.0001}, "userId", "0.0001"),
        ({"eventId": ID.upper()}, "eventId", ID),
        ({"pingId": ID.upper()}, "pingId", ID),
        ({"anonId": "x" * 128}, "anonId", "x" * 128),
        ({"anonId": "любой"}, "anonId", "любой"),
        ({"eventLocation": "SOMEWHERE_NEW"}, "eventLocation", "SOMEWHERE_NEW"),
        ({"clickAction": "SOMETHING_NEW"}, "clickAction", "SOMETHING_NEW"),
    ],
)
def test_a_field_is_coerced_without_loss(fields: dict[str, Any], name: str, stored: Any) -> None:
    """Booleans are 0 and 1, null and "" are absent, numbers are ids, UUIDs are canonical; lists are open."""
    assert event(**fields)[name] == stored  # type: ignore[literal-required]  # a test's own rows


def test_all_faults_of_all_events_are_told() -> None:
    """One answer is enough to repair a request."""
    assert faults({"eventType": "X", "active": "no"}, {"eventType": "VIEW"}, {"anonId": {}, "url": 5}) == [
        (0, "/messageBody/0/eventType", "enum"),
        (0, "/messageBody/0/active", "type"),
        (2, "/messageBody/2/anonId", "type"),
        (2, "/messageBody/2/url", "type"),
        (2, "/messageBody/2/eventType", "required"),
    ]


def test_the_faults_of_one_event_are_bounded() -> None:
    """An event of hundreds of faults is told of as many as an answer holds."""
    entry = judge({"eventType": "VIEW"} | {f"x{n}": 2**64 for n in range(900)}).entries[0]

    assert isinstance(entry, InvalidEvent)
    assert len(entry.faults) == FAULTS_MAX


def test_unknown_fields_are_kept_whole() -> None:
    """Nested values, both bounds of 64 bits, and null come out of `properties` as they went in."""
    extra = {"a": [{"b": [1, 2.5, None, True, "ü\x00"]}], "max": 2**64 - 1, "min": -(2**63), "none": None, "ip": "x"}

    assert json.loads(event(**extra)["properties"]) == extra


def test_without_unknown_fields_the_properties_are_an_empty_object() -> None:
    """The column always holds one JSON object."""
    assert event()["properties"] == "{}"


def test_with_a_registry_an_event_must_name_its_client() -> None:
    """`clientId` is required then, like eventType; "" names nobody."""
    keyed = intake(required=("eventType", "clientId"))

    for client_id in ("", ', "clientId": ""', ', "clientId": null'):
        verdict = keyed.read(f'{{"messageBody": [{{"x": 1{client_id}}}]}}'.encode(), ORIGIN)
        assert [fault.pointer for fault in verdict.faults] == ["/messageBody/0/eventType", "/messageBody/0/clientId"]


def test_the_pointer_of_a_strange_name_is_escaped_and_short() -> None:
    """RFC 6901, and no way to have a payload echoed."""
    names = [fault.pointer for fault in judge({"eventType": "VIEW", "a/b~c": 2**64, "n" * 500: 2**64}).faults]

    assert names == ["/messageBody/0/a~1b~0c", "/messageBody/0/" + "n" * 100]
