"""Whose a dead letter is."""

import base64
import json
import uuid
from typing import Any

import pytest

from consumer.commands import without_erased
from consumer.delivery.ports import Partition, Record
from consumer.operations.erasure_key import ErasureKey
from consumer.operations.letters import HeldLetter, Wanted
from consumer.operations.people import Ids, Kind, ids_of
from consumer.operations.replay import Letter, ReplayVerdict
from ingest.events.fields import read_id
from schemas.codec import varint

EVENT_ID = str(uuid.UUID(int=7))


def letter(event: dict[str, Any] | None, value: bytes = b"", key: bytes = b"", at_ms: int = 5) -> HeldLetter:
    """Return a dead letter."""
    return HeldLetter({"key": base64.b64encode(key).decode(), "at_ms": at_ms}, event, value)


def wanting(*people: tuple[Kind, str], until_ms: int = 5) -> Wanted:
    """Return who is meant until a time."""
    return lambda kind, value: until_ms if (kind, value) in people else -1


@pytest.mark.parametrize(
    ("event", "ids"),
    [
        ({"userId": "u", "anonId": "a", "eventId": EVENT_ID}, Ids("u", "a", EVENT_ID)),
        ({"userId": 4711, "anonId": 0}, Ids("4711", "0", "")),
        ({"eventId": EVENT_ID.upper()}, Ids("", "", EVENT_ID)),
        ({"eventId": uuid.UUID(EVENT_ID)}, Ids("", "", EVENT_ID)),
        ({"eventId": EVENT_ID.replace("-", "")}, Ids("", "", EVENT_ID)),
        ({"userId": None, "anonId": ["a"], "eventId": {"a": 1}}, Ids("", "", "")),
        ({"userId": 4711.0, "anonId": 1.5}, Ids("4711", "1.5", "")),
        ({"userId": 1e300 * 1e300, "anonId": -0.0}, Ids("inf", "0", "")),
        ({"userId": True, "anonId": False, "eventId": "none"}, Ids("", "", "none")),
        ({}, Ids("", "", "")),
    ],
)
def test_ids_are_read_from_whatever_was_refused(event: dict[str, Any], ids: Ids) -> None:
    """Its types may be why it was refused; a number is its text, as the collector takes it."""
    assert ids_of(event) == ids


@pytest.mark.parametrize("number", ["4711", "4711.0", "4.711e3", "1.5", "-0.0", "1e-7", "9007199254740991.0"])
def test_a_number_is_the_id_that_the_collector_makes_of_it(number: str) -> None:
    """An event that was refused for something else belongs to the same person as its row would."""
    assert ids_of(json.loads(f'{{"userId": {number}}}')).user_id == read_id(json.loads(number))


def test_a_letter_is_of_the_person_that_its_event_names() -> None:
    """A visitor's, without a user, is told apart from one that names another user."""
    alice, visitor = (Kind.USER, "alice"), (Kind.VISITOR, "v")

    assert letter({"userId": "alice"}).is_wanted(wanting(alice))
    assert letter({"anonId": "v"}).is_wanted(wanting(alice, visitor))
    assert not letter({"userId": "bob", "anonId": "v"}).is_wanted(wanting(alice, visitor))
    assert letter({"userId": "bob", "anonId": "v"}).is_wanted(wanting((Kind.ANON, "v")))
    assert letter({"eventId": EVENT_ID}).is_wanted(wanting((Kind.EVENT, EVENT_ID)))
    assert not letter({"userId": "alice"}, at_ms=6).is_wanted(wanting(alice))
    assert not letter(None).is_wanted(wanting(alice))


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (b"\0\0\0\0\1" + varint(2) + b"u1" + b"cut", True),
        (b'{"userId":"u1", "x":', True),
        (b'{"userId":"u12", "x":', False),
        (b"in u1 other bytes", False),
        (b"the user alice-4711", True),
        (b"alice-47", False),
        (b'{"anonId": 4711, "x":', True),
        (b'{"userId":4.711e3}\xff', True),
        (b'{"userId":47110, "x":', False),
        (b'{"userId":4711.5, "x":', False),
        (b'{"userId":4711', True),
        (b'{"counter":4711, "x":', False),
        (b'{"userId":04711, "x":', False),
        (b'{"userId":' + b"4711" * 2000, False),
        (b'{"userId":1e999, "x":', False),
        (b'{"userId":"\\u00fc1", "x":', True),
        ('{"userId":"ü1", "x":'.encode(), True),
        (b'{"userId":"q\\"1", "x":', True),
    ],
)
def test_bytes_that_cant_be_read_hold_an_id_as_it_would_be_written(value: bytes, *, holds: bool) -> None:
    """A short id may stand in other values by chance, a long one hardly."""
    assert letter(None, value).holds({"u1", "alice-4711", "4711", "ü1", 'q"1'}) is holds


@pytest.mark.parametrize("event", [{"userId": ["alice-4711"]}, {"userId": "bob", "anonId": {"id": "alice-4711"}}])
def test_an_id_within_another_value_is_found(event: dict[str, Any]) -> None:
    """That may be why the event was refused."""
    held = letter(event, json.dumps(event).encode())

    assert not held.is_clear
    assert held.holds({"alice-4711"})
    assert not held.holds({"carol"})


def test_a_letter_that_can_be_read_is_not_searched() -> None:
    """What it says elsewhere, such as in an address, is not about this person; its key is."""
    assert not letter({"userId": "bob"}, json.dumps({"url": "https://x/?user=alice-4711"}).encode()).holds(
        {"alice-4711"}
    )
    assert letter(None, b"", b"u1").holds({"u1"})


def test_replay_leaves_dead_letters_of_people_who_were_erased_since() -> None:
    """By their hashes; those of others, and what came later, can be replayed."""
    key = ErasureKey(b"a key of sixteen bytes or more")
    until_ms: dict[tuple[str, str], int] = {(Kind.USER, key.digest("alice")): 5, (Kind.VISITOR, key.digest("v")): 5}
    events = [
        ({"userId": "alice"}, 5),
        ({"userId": "alice"}, 6),
        ({"anonId": "v"}, 5),
        ({"userId": "bob", "anonId": "v"}, 5),
        ({}, 5),
    ]
    letters = [
        Letter(f"{number}", Record(Partition("events", 0), number, at_ms, b"", b""), "constraint", event=event)
        for number, (event, at_ms) in enumerate(events)
    ]
    verdicts = [letter.verdict for letter in without_erased(letters, key, until_ms)]

    ready, erased = ReplayVerdict.READY, ReplayVerdict.ERASED
    assert verdicts == [erased, ready, erased, ready, ready]
