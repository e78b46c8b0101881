"""Which events `headrace tail` shows, and how."""

import json

import pytest

from consumer.delivery.ports import Partition, Record
from headrace.tail import Filter, Shown, as_json, line_of

EVENT = {
    "eventType": "CLICK",
    "clientId": "web",
    "eventId": "a-1",
    "pingId": "p-1",
    "active": 1,
    "properties": '{"plan": "year", "n": 3, "nested": {"a": [1]}}',
}
RECORD = Record(Partition("events", 3), 12, 1_767_323_045_678, b"k", b"\x00abc", (("traceparent", b"00-x"),))


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(frozenset({"web", "app"})),
        Filter(types=frozenset({"CLICK"})),
        Filter(ids=frozenset({"p-1"})),
        Filter(ids=frozenset({"a-1"})),
        Filter(conditions=(("plan", "year"), ("n", "3"), ("active", "1"), ("nested", '{"a": [1]}'))),
    ],
)
def test_what_fits_every_part_is_shown(wanted: Filter) -> None:
    """Fields and members of properties alike."""
    assert wanted.takes(EVENT)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(frozenset({"app"})),
        Filter(types=frozenset({"VIEW"})),
        Filter(frozenset({"web"}), frozenset({"VIEW"})),
        Filter(ids=frozenset({"k"})),
        Filter(conditions=(("plan", "month"),)),
        Filter(conditions=(("plan", "year"), ("other", ""))),
    ],
)
def test_what_one_part_refuses_is_not(wanted: Filter) -> None:
    """A member that is not there equals nothing."""
    assert not wanted.takes(EVENT)


def test_bytes_that_are_no_event_are_shown_unless_there_is_a_filter() -> None:
    """They are on the topic, and an operator wants to know."""
    assert Filter().takes(None)
    assert not Filter(types=frozenset({"CLICK"})).takes(None)
    assert "not readable, 4 bytes" in line_of(Shown(RECORD, None))
    assert json.loads(as_json(Shown(RECORD, None)))["bytes"] == "00616263"


@pytest.mark.parametrize("properties", ["", "[1]", "{", None, "[" * 100_000, '{"plan":' * 100_000])
def test_properties_that_are_no_object_have_no_members(properties: str | None) -> None:
    """An event of another producer may have them."""
    assert not Filter(conditions=(("plan", "year"),)).takes(EVENT | {"properties": properties})


def test_a_line_says_when_where_and_what() -> None:
    """And the whole event is in the JSON."""
    shown = Shown(RECORD, EVENT)

    assert line_of(shown).startswith("2026-01-02 03:04:05.678Z  events/3/12  CLICK  web  a-1")
    assert json.loads(as_json(shown))["event"] == EVENT


def test_a_client_can_not_write_to_the_terminal() -> None:
    """Control characters are shown, not sent."""
    shown = line_of(Shown(RECORD, EVENT | {"url": "\x1b[2J\r\n"}))

    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
    assert "\n" not in shown
