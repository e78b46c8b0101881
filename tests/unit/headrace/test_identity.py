"""What an id may be, and which events it names."""

import pytest

from headrace.identity import Identity, identity_of
from ingest.events.ids import uuid7

NOW_MS = 1_767_323_045_678
PAGE_VIEW = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"


def test_a_uuid7_has_the_time_at_which_it_was_made() -> None:
    """The topics are read from there on."""
    assert identity_of(uuid7(NOW_MS), NOW_MS).at_ms == NOW_MS


# Three days after NOW_MS, and a second after 1970.
AHEAD, EARLY = "019b8c1c-a32e-74e5-b34f-1d3d384a5d48", "00000000-03e8-7e19-b48f-14cdd653028b"


@pytest.mark.parametrize("text", [PAGE_VIEW, AHEAD, EARLY, "00000000-0000-0000-0000-000000000000"])
def test_other_ids_and_impossible_times_have_none(text: str) -> None:
    """A UUIDv4 has no time, and the clock of a client may be wrong by years."""
    assert identity_of(text, NOW_MS).at_ms is None


def test_a_uuid_in_capitals_is_the_same_id() -> None:
    """Events have their ids in small letters."""
    assert identity_of(PAGE_VIEW.upper(), NOW_MS) == identity_of(PAGE_VIEW, NOW_MS)


@pytest.mark.parametrize("member", ["eventId", "pingId", "traceId"])
def test_it_names_events_by_each_of_their_ids(member: str) -> None:
    """The pingId of an answer may be a page view's, and a request's id is the trace id of its rows."""
    found = identity_of(PAGE_VIEW, NOW_MS)
    value = PAGE_VIEW.replace("-", "") if member == "traceId" else PAGE_VIEW

    assert found.names({member: value})
    assert not found.names({"anonId": PAGE_VIEW, "properties": PAGE_VIEW})


def test_a_request_id_of_a_client_names_no_event() -> None:
    """It stands in no row; only the header of a dead letter has it."""
    assert identity_of("order-4711", NOW_MS) == Identity("order-4711")
    assert not identity_of("order-4711", NOW_MS).names({"eventId": "order-4711"})


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, "ü", "%00", "events/3/12"])
def test_what_can_be_no_id_is_refused(text: str) -> None:
    """Neither an event nor a request has such an id."""
    with pytest.raises(ValueError, match="must be a pingId"):
        identity_of(text, NOW_MS)
