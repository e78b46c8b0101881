"""What the collector adds to an event: its ids, its time, where it came from, its key on the log."""

import json
from typing import Any
from uuid import UUID

import pytest

from ingest.intake import Origin, key_of
from tests.support.verdicts import ID, NOW_MS, OTHER_ID, event, judge


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


def test_an_idempotency_key_gives_the_same_ids_again() -> None:
    """Ids follow from client, key and index, and from nothing else; an event's own id goes before them."""
    keyed = Origin(NOW_MS, idempotency_key="k")
    later = Origin(NOW_MS + 5, ip="192.0.2.9", idempotency_key="k")
    events = [{"eventType": "VIEW", "clientId": "web"}] * 2 + [{"eventType": "VIEW", "eventId": ID}]

    first, second = ([item["eventId"] for item in judge(*events, origin=origin).events] for origin in (keyed, later))
    assert first == second
    assert first[2] == ID
    assert len(set(first)) == 3
    assert UUID(first[0]).version == 5
    assert judge(*events, origin=Origin(NOW_MS, idempotency_key="l")).events[0]["eventId"] != first[0]
    assert event(keyed, clientId="app")["eventId"] != first[0]


def test_with_a_key_of_its_own_the_client_is_the_keys() -> None:
    """Ids follow the client that the registry knows, not what an event says."""
    assert (
        event(Origin(NOW_MS, idempotency_key="k", client_id="web"))["eventId"]
        == event(Origin(NOW_MS, idempotency_key="k"), clientId="web")["eventId"]
    )


@pytest.mark.parametrize(
    ("said", "believed_ms"),
    [
        (NOW_MS - 1000, NOW_MS - 1000),
        (float(NOW_MS - 1000), NOW_MS - 1000),
        (NOW_MS - 1000 + 0.75, NOW_MS - 1000),
        (str(NOW_MS - 1000), NOW_MS - 1000),
        ("2027-01-15T07:59:59Z", NOW_MS - 1000),
        ("2027-01-15T08:59:59+01:00", NOW_MS - 1000),
        ("2027-01-15T07:59:59", NOW_MS - 1000),
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


def test_the_requests_browser_fills_what_the_event_does_not_say() -> None:
    """An event's own userAgent stays."""
    origin = Origin(NOW_MS, ip="192.0.2.1", user_agent="Browser/1", trace_id="t")

    assert event(origin)["userAgent"] == "Browser/1"
    assert event(origin, userAgent="Own/1")["userAgent"] == "Own/1"
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
