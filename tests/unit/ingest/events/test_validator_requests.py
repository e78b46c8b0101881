"""The verdict on a request as a whole: its shape, its bounds, and what all its events share."""

import json
from typing import Any

import pytest

from ingest.errors import ErrorCode, Rule
from ingest.events.validator import EventLimits
from tests.support.results import ORIGIN, intake, judge, refusal


@pytest.mark.parametrize(
    ("body", "slug", "pointer", "rule"),
    [
        ("", ErrorCode.BAD_JSON, "", Rule.JSON),
        ("{", ErrorCode.BAD_JSON, "", Rule.JSON),
        ("{} {}", ErrorCode.BAD_JSON, "", Rule.JSON),
        ('{"messageBody": [{"eventType": "VIEW", "x": 1}], "y": NaN}', ErrorCode.BAD_JSON, "", Rule.JSON),
        ('{"messageBody": [{"eventType": "VIEW", "x": 1}], "y": 1e999}', ErrorCode.BAD_JSON, "", Rule.JSON),
        (
            b'{"messageBody": [{"eventType": "VIEW"}], "messageHeaders": {"a": "\xff"}}',
            ErrorCode.BAD_JSON,
            "",
            Rule.JSON,
        ),
        (r'{"messageBody": [{"eventType": "VIEW"}], "\udc00": 1}', ErrorCode.BAD_JSON, "", Rule.JSON),
        (r'{"messageBody": ["\ud800"], "messageBody": [1]}', ErrorCode.BAD_JSON, "", Rule.JSON),
        ('{"messageBody": [1, 2, 3, 4, NaN]}', ErrorCode.BAD_JSON, "", Rule.JSON),
        ('[{"eventType": "VIEW", "x": NaN}]', ErrorCode.BAD_JSON, "", Rule.JSON),
        ("[" * 100_000, ErrorCode.BAD_JSON, "", Rule.DEPTH),
        ('{"a":' * 100_000, ErrorCode.BAD_JSON, "", Rule.DEPTH),
        ("[]", ErrorCode.NOT_OBJECT, "", Rule.TYPE),
        ("null", ErrorCode.NOT_OBJECT, "", Rule.TYPE),
        ('"text"', ErrorCode.NOT_OBJECT, "", Rule.TYPE),
        ("{}", ErrorCode.NO_EVENTS, "/messageBody", Rule.REQUIRED),
        ('{"messageBody": null}', ErrorCode.NO_EVENTS, "/messageBody", Rule.REQUIRED),
        ('{"messagebody": []}', ErrorCode.NO_EVENTS, "/messageBody", Rule.REQUIRED),
        ('{"messageBody": {}}', ErrorCode.NO_EVENTS, "/messageBody", Rule.TYPE),
        ('{"messageBody": "x"}', ErrorCode.NO_EVENTS, "/messageBody", Rule.TYPE),
        ('{"messageBody": []}', ErrorCode.EVENT_COUNT, "/messageBody", Rule.ITEMS),
        ('{"messageBody": [1, 1, 1, 1]}', ErrorCode.EVENT_COUNT, "/messageBody", Rule.ITEMS),
        ('{"messageBody": [1], "messageHeaders": []}', ErrorCode.BAD_HEADERS, "/messageHeaders", Rule.TYPE),
        ('{"messageBody": [1], "messageheader": "x"}', ErrorCode.BAD_HEADERS, "/messageheader", Rule.TYPE),
        (
            '{"messageBody": [1], "messageHeaders": {"a/b~c": []}}',
            ErrorCode.BAD_HEADERS,
            "/messageHeaders/a~1b~0c",
            Rule.TYPE,
        ),
        (
            '{"messageBody": [1], "messageHeaders": {"a": 18446744073709551616}}',
            ErrorCode.BAD_HEADERS,
            "/messageHeaders/a",
            Rule.INTEGER,
        ),
        (
            '{"messageBody": [1], "messageHeaders": {"a": "' + "x" * 200 + '"}}',
            ErrorCode.BAD_HEADERS,
            "/messageHeaders",
            Rule.SIZE,
        ),
        ('{"messageBody": [1], "topic": ' + "[" * 32 + "]" * 32 + "}", ErrorCode.BAD_SHAPE, "/topic", Rule.DEPTH),
        ('{"messageBody": [1], "x": [-9223372036854775809]}', ErrorCode.BAD_SHAPE, "/x", Rule.INTEGER),
    ],
)
def test_a_request_without_a_list_of_events_is_refused_whole(
    body: bytes | str, slug: ErrorCode, pointer: str, rule: Rule
) -> None:
    """Each says why and where, in one fault that belongs to no event."""
    rejected = refusal(body, EventLimits(events_max=3, headers_bytes_max=200))

    assert rejected.code is slug
    assert [(fault.index, fault.pointer, fault.rule) for fault in rejected.faults] == [(None, pointer, rule)]
    assert rejected.message == rejected.faults[0].message


@pytest.mark.parametrize(("depth", "good"), [(29, True), (30, False)])
def test_nesting_is_bounded_for_the_whole_body(depth: int, good: bool) -> None:  # noqa: FBT001  (a row's expectation)
    """The body, its list and the event are three of 32 levels."""
    verdict = judge({"eventType": "VIEW", "x": json.loads("[" * depth + "]" * depth)})

    assert (not verdict.faults) is good
    assert good or verdict.faults[0].rule is Rule.DEPTH


@pytest.mark.parametrize(("size", "good"), [(300, True), (301, False)])
def test_the_size_of_an_event_is_bounded_as_sent(size: int, good: bool) -> None:  # noqa: FBT001  (a row's expectation)
    """Blanks count: they are what the client sent. Another event of the request is not touched."""
    start, end = '{"eventType": "VIEW", "x": "', '"}'
    body = f'{{"messageBody": [{start}{"x" * (size - len(start) - len(end))}{end} , {{"eventType": "VIEW"}}]}}'
    verdict = intake(EventLimits(event_bytes_max=300)).read(body.encode(), ORIGIN)

    assert len(verdict.events) == 1 + good
    assert good or [(fault.index, fault.rule) for fault in verdict.faults] == [(0, Rule.SIZE)]


@pytest.mark.parametrize(
    ("members", "headers"),
    [
        ({}, {}),
        ({"messageHeaders": None}, {}),
        (
            {"messageHeaders": {"a": "x", "b": 1, "c": True, "d": 1.5, "e": None}},
            {"a": "x", "b": "1", "c": "true", "d": "1.5"},
        ),
        ({"messageheader": {"a": "x"}}, {"a": "x"}),
        ({"messageheader": {"a": "x"}, "messageHeaders": {"b": "y"}}, {"b": "y"}),
    ],
)
def test_every_event_carries_the_requests_headers(members: dict[str, Any], headers: dict[str, str]) -> None:
    """Scalars become text; both spellings are taken, and the documented one wins."""
    events = judge({"eventType": "VIEW"}, {"eventType": "EXIT"}, **members).events

    assert [item["headers"] for item in events] == [headers, headers]


def test_other_members_of_the_request_are_ignored() -> None:
    """A `topic` that a client sends chooses nothing."""
    assert len(judge({"eventType": "VIEW"}, topic="other", messageBodyId=5).events) == 1


def test_of_duplicate_names_the_last_counts() -> None:
    """In the request and in an event, and for the size of an event too."""
    body = b'{"messageBody": 1, "messageBody": [{"eventType": "X", "eventType": "VIEW", "a": 1, "a": 2}]}'
    stored = intake(EventLimits(event_bytes_max=70)).read(body, ORIGIN).events[0]

    assert (stored["eventType"], stored["properties"]) == ("VIEW", '{"a":2}')


def test_a_byte_order_mark_is_tolerated() -> None:
    """Some clients can't help sending one."""
    assert len(intake().read(b'\xef\xbb\xbf{"messageBody": [{"eventType": "VIEW"}]}', ORIGIN).events) == 1


def test_an_event_that_grows_beyond_its_bound_when_written_out_is_refused_alone() -> None:
    """1e15 has four bytes as sent and eighteen as kept: what the log could not hold is judged here, event by event."""
    grows = '{"eventType": "VIEW", "x": [' + ",".join(["1e15"] * 60) + "]}"

    verdict = intake(EventLimits(event_bytes_max=500)).read(
        f'{{"messageBody": [{grows}, {{"eventType": "VIEW"}}]}}'.encode(), ORIGIN
    )

    assert [(fault.rule, fault.index) for fault in verdict.faults] == [(Rule.SIZE, 0)]
    assert len(verdict.events) == 1


def test_headers_of_the_spelling_that_is_not_read_keep_the_bounds_too() -> None:
    """The member messageHeaders wins; what stands in messageheader is ignored, but not beyond 64 bits."""
    body = (
        '{"messageBody": [{"eventType": "VIEW"}], "messageHeaders": {}, "messageheader": {"a": 18446744073709551616}}'
    )

    assert refusal(body).code is ErrorCode.BAD_SHAPE


def test_a_body_that_broke_off_is_not_said_to_have_a_lone_surrogate() -> None:
    """The message names the fault that is there."""
    cut = refusal(r'{"messageBody": [{"eventType": "VIEW", "x": "\ud83d\ude00"')

    assert cut.message == "the body is not valid JSON: Input data was truncated"
