"""Which events compiled code takes by itself, and which it leaves to the validator."""

import json
from typing import Any, Final

import pytest

from ingest.events.plain import PlainEvents, compile_writer
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import Encoder
from schemas.event import REQUEST_FIELDS
from tests.support.front import SCHEMA
from tests.support.results import ID, NOW_MS, ORIGIN, intake

VIEW: Final = {"eventType": "VIEW", "clientId": "web", "anonId": "a"}
LIMITS: Final = EventLimits(event_bytes_max=100, depth_max=6)


def plain(validator: Validator) -> PlainEvents:
    """Return the compiled way, which is there: the project is installed with a compiler."""
    found = compile_writer(validator, Encoder(SCHEMA, 1).sharing(REQUEST_FIELDS))
    assert found is not None, "nothing was compiled: is there a compiler?"
    return found


def is_plain(event: Any, sender: Sender = ORIGIN, validator: Validator | None = None) -> bool:
    """Tell whether compiled code writes an event."""
    validator = validator or intake(LIMITS)
    judging = validator.judge(json.dumps({"messageBody": [event]}).encode(), sender)
    return plain(validator).writer(judging)(judging.raws[0]) is not None


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"pingId": ID, "eventId": ID.upper(), "userAgent": "", "active": 1, "url": "x" * 9000, "userId": None},
        {"active": True, "eventType": "view", "userId": 5, "contentId": 1.5},
        {"timestamp": NOW_MS, "scrollDepth": 41.25, "isNew": None, "tags": ["a", 1], "inner": {"a": [[1]]}},
        {"title": "Überschrift", "anonId": "", "userId": "u" * 128},
    ],
)
def test_what_readers_take_is_plain(members: dict[str, Any]) -> None:
    """Also a value that is read, and any property."""
    assert is_plain(VIEW | members)


@pytest.mark.parametrize(
    ("members", "sender"),
    [
        ({"eventType": "CLIK"}, ORIGIN),
        ({"eventType": None}, ORIGIN),
        ({"active": 128}, ORIGIN),
        ({"pingId": "5"}, ORIGIN),
        ({"anonId": "x" * 129}, ORIGIN),
        ({"url": ["x"]}, ORIGIN),
        ({"x": 2**64}, ORIGIN),
        ({"x": [[[[1]]]]}, ORIGIN),
        ({"x": "y" * 93}, ORIGIN),
        ({"anonId": "", "userId": "u" * 129}, ORIGIN),
        ({}, Sender(NOW_MS, idempotency_key="k")),
    ],
)
def test_faults_and_rare_cases_are_left_to_the_validator(members: dict[str, Any], sender: Sender) -> None:
    """Its rules say what becomes of them."""
    assert not is_plain(VIEW | members, sender)


@pytest.mark.parametrize("raw", [None, [], "x", 1, 1.5, True])
def test_what_is_no_object_is_left_to_the_validator(raw: Any) -> None:
    """An element of any type may stand in messageBody."""
    assert not is_plain(raw)


def test_a_missing_field_of_a_registry_is_left_to_the_validator() -> None:
    """With a registry each event names its client."""
    strict = intake(required=("eventType", "clientId"))

    assert is_plain({"eventType": "VIEW", "clientId": "web"}, validator=strict)
    assert not is_plain({"eventType": "VIEW", "clientId": ""}, validator=strict)
    assert not is_plain({"eventType": "VIEW"}, validator=strict)


def test_a_schema_with_another_kind_of_field_has_no_compiled_way() -> None:
    """Python writes its records."""
    schema = json.loads(SCHEMA)
    schema["fields"].append({"name": "more", "type": ["null", "string"], "default": None})

    assert compile_writer(intake(), Encoder(json.dumps(schema), 1)) is None
