"""Verdicts of the intake on events that a test writes down."""

import json
from typing import Any, Final

import pytest

from ingest.errors import Rejected
from ingest.events.validator import Intake, Limits, Origin, Verdict
from schemas.event import Event, read_catalogue

NOW_MS: Final = 1_800_000_000_000
ID: Final = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"
OTHER_ID: Final = "0b7a9c1e-55aa-4f0e-8f00-000000000001"
ORIGIN: Final = Origin(NOW_MS)


def intake(limits: Limits | None = None, required: tuple[str, ...] = ("eventType",)) -> Intake:
    """Return an intake with the project's catalogue."""
    return Intake(read_catalogue(), limits or Limits(), "sandbox", required)


def judge(*events: Any, origin: Origin = ORIGIN, limits: Limits | None = None, **members: Any) -> Verdict:
    """Judge events, with further members of the request."""
    return intake(limits).read(json.dumps({"messageBody": events} | members).encode(), origin)


def event(origin: Origin = ORIGIN, limits: Limits | None = None, /, **fields: Any) -> Event:
    """Return the one good event that these fields make."""
    return judge({"eventType": "VIEW"} | fields, origin=origin, limits=limits).events[0]


def faults(*events: Any, limits: Limits | None = None) -> list[tuple[int | None, str, str]]:
    """Return index, pointer and rule of every fault."""
    return [(fault.index, fault.pointer, str(fault.rule)) for fault in judge(*events, limits=limits).faults]


def refusal(body: bytes | str, limits: Limits | None = None) -> Rejected:
    """Return why a request is refused as a whole."""
    with pytest.raises(Rejected) as caught:
        intake(limits).read(body.encode() if isinstance(body, str) else body, ORIGIN)
    assert caught.value.status == 400
    return caught.value
