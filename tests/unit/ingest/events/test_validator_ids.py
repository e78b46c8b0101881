"""What the collector adds to an event: its ids, its time, where it came from, its key on the log."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.events.collector import key_of
from ingest.events.ids import uuid5
from ingest.events.validator import EventLimits, Sender
from schemas.event import AT_MAX_MS
from tests.support.results import ID, NOW_MS, OTHER_ID, event, judge


@pytest.mark.parametrize(
    ("fields", "ping_id", "event_id"),
    [
        ({"pingId": ID, "eventId": OTHER_ID}, ID, OTHER_ID),
        ({"pingId": ID}, ID, None),
        ({"eventId": ID}, ID, ID),
        ({}, None, None),
    ],
)
def test_the_ping_id_is_the_events_own_or_its_id(
    fields: dict[str, Any], ping_id: str | None, event_id: str | None
) -> None:
    """A pingId first, then an eventId, then a fresh UUIDv7 that is both."""
    stored = event(**fields)

    assert stored["pingId"] == (ping_id or stored["eventId"])
    assert stored["eventId"] == (event_id or str(UUID(stored["eventId"])))
    if event_id is None:
        assert UUID(stored["eventId"]).version == 7
        assert UUID(stored["eventId"]).int >> 80 == NOW_MS


@pytest.mark.parametrize("nil", ["00000000-0000-0000-0000-000000000000", ""])
def test_a_nil_uuid_is_no_id(nil: str) -> None:
    """A client whose id is a variable that was never set names no event and no page view."""
    stored = event(eventId=nil, pingId=nil)

    assert UUID(stored["eventId"]).version == 7
    assert stored["pingId"] == stored["eventId"]


KEYED = Sender(NOW_MS, idempotency_key="k")
VIEW = {"eventType": "VIEW", "clientId": "web"}


def ids(*events: dict[str, Any], origin: Sender = KEYED) -> list[str]:
    """Return the ids that events get."""
    return [item["eventId"] for item in judge(*events, origin=origin).events]


def test_an_idempotency_key_gives_the_same_ids_again() -> None:
    """They follow from client, key, index and content, however the request arrives; an event's own id goes first."""
    later = Sender(NOW_MS + 5, ip="192.0.2.9", user_agent="Other/1", trace_id="t", idempotency_key="k")

    first = ids(VIEW, VIEW, VIEW | {"eventId": ID})
    assert first == ids(VIEW, VIEW, VIEW | {"eventId": ID}, origin=later)
    assert first[2] == ID
    assert len(set(first)) == 3
    assert [UUID(text).version for text in first[:2]] == [5, 5]
    assert ids(VIEW, origin=Sender(NOW_MS, idempotency_key="l")) != first[:1]


@pytest.mark.parametrize(
    "other",
    [
        {"anonId": "visitor-2"},
        {"userId": "u"},
        {"x": None},
        {"x": 1},
        {"x": 1.0},
        {"x": True},
        {"x": "1"},
        {"x": {"y": [1]}},
        {"x": {"y": [[1]]}},
        {"timestamp": NOW_MS},
        {"clientId": "app"},
        {"eventType": "EXIT"},
    ],
)
def test_another_event_under_a_used_key_is_another_event(other: dict[str, Any]) -> None:
    """Two visitors with one key, or one client that uses a key twice: both events stay."""
    assert ids(VIEW | other) != ids(VIEW)


@example([("a", "k", 11), ("a1", "k", 1)])
@example([("a", "", 1), ("", "", 1)])
@given(
    st.lists(
        st.tuples(*[st.text(alphabet="01:;a", min_size=1, max_size=6)] * 2, st.integers(0, 20)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_client_key_and_index_do_not_run_into_each_other(places: list[tuple[str, str, int]]) -> None:
    """Whatever characters a client chooses for its key, it can't name another one's event."""
    first, second = (uuid5(client, key, index, b"{}") for client, key, index in places)

    assert first != second


def test_with_a_key_of_its_own_the_client_is_the_keys() -> None:
    """Ids follow the client that the registry knows; in an open collector it is the one that the event names."""
    web, app = (Sender(NOW_MS, idempotency_key="k", client_id=client_id) for client_id in ("web", "app"))

    assert ids(VIEW, origin=web) == ids(VIEW)
    assert ids(VIEW, origin=app) != ids(VIEW)


@pytest.mark.parametrize(
    ("said", "believed_ms"),
    [
        (NOW_MS - 1000, NOW_MS - 1000),
        ("2027-01-15T07:59:59Z", NOW_MS - 1000),
        (NOW_MS + 300_000, NOW_MS + 300_000),
        (NOW_MS + 300_001, NOW_MS),
        (NOW_MS - 30 * 86_400_000, NOW_MS - 30 * 86_400_000),
        (NOW_MS - 30 * 86_400_000 - 1, NOW_MS),
        (0, NOW_MS),
        ("yesterday", NOW_MS),
        ("9" * 400, NOW_MS),
        (1e300, NOW_MS),
        (True, NOW_MS),
        (None, NOW_MS),
        ({}, NOW_MS),
    ],
)
def test_a_clients_clock_is_believed_within_bounds(said: Any, believed_ms: int) -> None:
    """30 days back and 5 minutes ahead; what the client said stays in the properties either way."""
    stored = event(timestamp=said)

    assert (stored["occurredAt"], stored["receivedAt"]) == (believed_ms, NOW_MS)
    assert json.loads(stored["properties"]) == {"timestamp": said}


@pytest.mark.parametrize(
    ("said", "believed_ms"),
    [(0, 0), (-1, NOW_MS), (AT_MAX_MS, AT_MAX_MS), (AT_MAX_MS + 1, NOW_MS), ("1969-12-31T23:59:59Z", NOW_MS)],
)
def test_no_clock_is_believed_beyond_the_years_of_the_table(said: Any, believed_ms: int) -> None:
    """However wide the settings are: from 1970 up to the last moment that a column holds."""
    wide = EventLimits(clock_past_ms_max=10**15, clock_future_ms_max=10**15)

    assert event(Sender(NOW_MS), wide, timestamp=said)["occurredAt"] == believed_ms


def test_the_requests_browser_fills_what_the_event_does_not_say() -> None:
    """An event's own userAgent stays."""
    origin = Sender(NOW_MS, ip="192.0.2.1", user_agent="Browser/1", trace_id="t")

    assert event(origin)["userAgent"] == "Browser/1"
    assert event(origin, userAgent="Own/1")["userAgent"] == "Own/1"
    assert event(origin, userAgent="")["userAgent"] == "Browser/1"
    assert event(origin, userAgent=None)["userAgent"] == "Browser/1"
    stored = event(origin)
    assert (stored["ip"], stored["traceId"], stored["environment"]) == ("192.0.2.1", "t", "sandbox")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"anonId": "a", "userId": "u"}, "a"),
        ({"userId": "u"}, "u"),
        ({"userId": "u" * 1000}, "u" * 128),
        ({"eventId": ID}, ID),
    ],
)
def test_the_record_key_is_the_person(fields: dict[str, Any], key: str) -> None:
    """anonId, else userId, else the event's id: no client's id makes a hot partition."""
    assert key_of(event(clientId="web", **fields)) == key
