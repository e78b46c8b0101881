"""A request with an event that is no JSON: which one it is, why, and what is left of the others."""

import pytest

from ingest.errors import Overloaded, Rule
from ingest.events.envelope import BODY
from ingest.events.salvage import COPIES, elements
from ingest.events.validator import InvalidEvent
from ingest.memory import MemoryBudget
from tests.support.results import ORIGIN, intake, refusal

VIEW = b'{"eventType": "VIEW", "url": "[\\"{,"}'


def body(*events: bytes) -> bytes:
    """Return a request around events as they are sent."""
    return b'{"a": [1, {"messageBody": [2]}],"message\\u0042ody" : [' + b" , ".join(events) + b'] , "z": "]"}'


@pytest.mark.parametrize(
    ("bad", "member", "rule", "says"),
    [
        (rb'{"eventType": "VIEW", "x": "\ud83d"}', "/x", Rule.JSON, "a lone surrogate"),
        (rb'{"x": {"y": ["\udc00a"]}, "eventType": "VIEW"}', "/x", Rule.JSON, "a lone surrogate"),
        (rb'{"\ud800": 1}', "", Rule.JSON, "a lone surrogate"),
        (b'{"a/b": "\xff"}', "/a~1b", Rule.JSON, "not valid UTF-8"),
        (b'{"x": "caf\xc3"}', "/x", Rule.JSON, "not valid UTF-8"),
        (b'{"x": "\xed\xa0\x80"}', "/x", Rule.JSON, "not valid UTF-8"),
        (b'{"y": 1, "x": 1e999}', "/x", Rule.JSON, "a number is out of range"),
        (b'{"x": ' + b"9" * 5000 + b"}", "/x", Rule.JSON, "a number is out of range"),
        (b'{"x": [NaN]}', "/x", Rule.JSON, "invalid character (byte 7)"),
        (b'{"x": -Infinity}', "/x", Rule.JSON, "invalid character (byte 7)"),
        (b'{"x": undefined}', "/x", Rule.JSON, "invalid character (byte 6)"),
        (b'{"x": 01}', "/x", Rule.JSON, "invalid number (byte 7)"),
        (b'{"x": "a\nb"}', "/x", Rule.JSON, "invalid character (byte 8)"),
        (rb'{"x": "\q"}', "/x", Rule.JSON, "invalid escape character in string (byte 9)"),
        (b'{"x": 1,}', "", Rule.JSON, "trailing comma in object (byte 8)"),
        (b"{'x': 1}", "", Rule.JSON, "object keys must be strings (byte 1)"),
        (rb"{\"x\": 1}", "", Rule.JSON, "object keys must be strings (byte 1)"),
        (b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "/x", Rule.DEPTH, ""),
        (b'{"x": ' + b'{"y":' * 2000 + b"1" + b"}" * 2000 + b"}", "/x", Rule.DEPTH, ""),
        (b"NaN", "", Rule.JSON, "invalid character (byte 0)"),
        (rb'"\ud800"', "", Rule.JSON, "a lone surrogate"),
        (b"[1e999]", "", Rule.JSON, "a number is out of range"),
        (b"\x0b" + VIEW, "", Rule.JSON, "invalid character (byte 0)"),
        (VIEW + b"\x0c", "", Rule.JSON, "trailing characters (byte 38)"),
        (b"\x00" + VIEW, "", Rule.JSON, "invalid character (byte 0)"),
    ],
)
def test_a_fault_inside_an_event_is_that_events_own(bad: bytes, member: str, rule: Rule, says: str) -> None:
    """Index, member and reason are told, and its neighbours are as they would be without it."""
    verdict = intake().read(body(VIEW, bad, VIEW), ORIGIN)

    (fault,) = verdict.faults
    assert (fault.index, fault.pointer, fault.rule) == (1, f"/messageBody/1{member}", rule)
    assert fault.message == (f"the event is not valid JSON: {says}" if says else "nested too deeply")
    assert fault.code.startswith("bad_event_")
    assert [event["url"] for event in verdict.events] == ['["{,'] * 2


@pytest.mark.parametrize(
    "bad",
    [
        b'{"x": "a}',
        b'{"x": a"}',
        b'{"x: "a"}',
        rb'{"x": "a\"}',
        b'{"x": [1}',
        b'{"x": 1}}',
        b'{"x": 1',
        b'{"x": 1]',
        b"",
        b" ",
        b'{"x": NaN} {"x": 2}',
        b'{"x": NaN} 1',
        b'1 {"x": NaN}',
        b'"a" "b"',
        b'{"x": "a" "y": 2}',
        b'{"x" 1}',
    ],
)
def test_where_events_can_not_be_told_apart_the_request_is_refused(bad: bytes) -> None:
    """A quote, a bracket or a comma that is missing: which event is which would be a guess."""
    rejected = refusal(body(VIEW, bad, VIEW))

    assert [(fault.index, fault.pointer) for fault in rejected.faults] == [(None, "")]


def test_every_bad_event_is_told_and_every_good_one_judged() -> None:
    """Malformed events stand among others with faults of their fields."""
    verdict = intake().read(body(b'{"x": NaN}', b'{"eventType": "X"}', VIEW, b"5", b'{"x": 1e999}'), ORIGIN)

    assert [(fault.index, fault.rule) for fault in verdict.faults] == [
        *((0, Rule.JSON), (1, Rule.ENUM), (3, Rule.TYPE), (4, Rule.JSON)),
    ]
    assert [isinstance(entry, InvalidEvent) for entry in verdict.entries] == [True, True, False, True, True]


def test_the_bytes_of_each_event_are_found_whatever_is_wrong_inside() -> None:
    """Dead letters hold what was sent."""
    sent = (VIEW, b'{"x": "\xff"}', rb'{"x": "\ud800]"}', b"NaN")

    assert elements(body(*sent), BODY) == list(sent)
    assert elements(body(VIEW, rb'{"x": "\\\\", "y": "\\\"\\", "z": NaN}'), BODY)[1].endswith(b"NaN}")
    assert elements(b"\xef\xbb\xbf" + body(VIEW, b"5"), BODY) == [VIEW, b"5"]


@pytest.mark.parametrize("tail", [b'"', b' "a', b']"'])
def test_events_before_a_string_without_an_end_are_not_told_apart(tail: bytes) -> None:
    """Which quote is missing would be a guess."""
    sent = body(VIEW, b'{"x": NaN}')

    assert len(elements(sent, BODY)) == 2
    assert elements(sent + tail, BODY) == []


def test_telling_events_apart_takes_its_share_of_memory() -> None:
    """Copies of a large body are memory too: a process that has none for them says so, and takes good bodies."""
    bad, good = body(VIEW, b'{"x": NaN}'), body(VIEW, b'{"eventType": "VIEW"}')
    budget = MemoryBudget(COPIES * len(bad) - 1)

    with budget.lease() as lease:
        assert len(intake().read(good, ORIGIN, lease).events) == 2
        with pytest.raises(Overloaded):
            intake().read(bad, ORIGIN, lease)


def test_a_body_of_brackets_without_end_is_given_up() -> None:
    """What it costs is bounded; the request is refused whole."""
    assert refusal(body(VIEW, b'{"x": NaN, "y": [' + b"[]," * 60_000 + b"1]}")).message.startswith("the body is not")
