"""Verdicts of the intake on events that a test writes down."""

import json
from typing import Any, Final

import pytest

from ingest.errors import Rejected
from ingest.events.validator import EventLimits, Sender, ValidationResult, Validator
from schemas.event import Event, read_catalogue
from tests.support.both_ways import assert_alike

NOW_MS: Final = 1_800_000_000_000
ID: Final = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"
OTHER_ID: Final = "0b7a9c1e-55aa-4f0e-8f00-000000000001"
ORIGIN: Final = Sender(NOW_MS)


def intake(limits: EventLimits | None = None, required: tuple[str, ...] = ("eventType",)) -> Validator:
    """Return an intake with the project's catalogue."""
    return Validator(read_catalogue(), limits or EventLimits(), "sandbox", required)


def judge(*events: Any, origin: Sender = ORIGIN, limits: EventLimits | None = None, **members: Any) -> ValidationResult:
    """Judge events, with further members of the request; compiled code must come to the same."""
    validator, body = intake(limits), json.dumps({"messageBody": events} | members).encode()
    assert_alike(validator, body, origin)
    return validator.read(body, origin)


def event(origin: Sender = ORIGIN, limits: EventLimits | None = None, /, **fields: Any) -> Event:
    """Return the one good event that these fields make."""
    return judge({"eventType": "VIEW"} | fields, origin=origin, limits=limits).events[0]


def faults(*events: Any, limits: EventLimits | None = None) -> list[tuple[int | None, str, str]]:
    """Return index, pointer and rule of every fault."""
    return [(fault.index, fault.pointer, str(fault.rule)) for fault in judge(*events, limits=limits).faults]


def refusal(body: bytes | str, limits: EventLimits | None = None) -> Rejected:
    """Return why a request is refused as a whole."""
    with pytest.raises(Rejected) as caught:
        intake(limits).read(body.encode() if isinstance(body, str) else body, ORIGIN)
    assert caught.value.status == 400
    return caught.value
