"""What the spool and the tables say of an id that they do not have."""

from pathlib import Path

import pytest

from headrace.findings import State, Station
from headrace.identity import identity_of
from headrace.stations import Matcher, ask_spool, not_named
from ingest.publishing.ports import Record
from ingest.spool.file import SpoolFile

NOW_MS = 1_767_323_045_678
UUID4 = "c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"
UUID7 = "019b7ca9-8f2e-7615-99e2-0ec1c6bc52af"  # of NOW_MS
CHOSEN = ["My-Order.4711", UUID4, UUID4.replace("-", ""), UUID7, UUID7.replace("-", "").upper(), "0" * 32]


def _schema_of(_: int) -> str:
    raise LookupError


@pytest.mark.parametrize("text", CHOSEN)
@pytest.mark.parametrize("station", [Station.ROW, Station.TOPIC])
def test_a_station_is_never_empty_of_an_id_that_a_client_may_have_chosen(text: str, station: Station) -> None:
    """Events do not have it, so nobody was asked."""
    found = not_named(station, identity_of(text, NOW_MS), "not here")

    assert found.state is State.UNKNOWN
    assert "pingId" in found.detail


@pytest.mark.parametrize("text", [text for text in CHOSEN if "." not in text])
def test_what_is_an_events_id_is_not_there(text: str) -> None:
    """The caller must say that it is one: its form does not tell."""
    assert not_named(Station.ROW, identity_of(text, NOW_MS, is_event=True), "").state is State.ABSENT


def test_only_a_uuid_can_be_an_events_id() -> None:
    """A word is a request's."""
    with pytest.raises(ValueError, match="--event"):
        identity_of("My-Order.4711", NOW_MS, is_event=True)


@pytest.mark.parametrize("text", CHOSEN)
def test_a_spool_with_records_can_not_be_asked_by_a_chosen_id(tmp_path: Path, text: str) -> None:
    """One of them may be its event; an empty spool has none."""
    identity = identity_of(text, NOW_MS)
    matcher = Matcher(identity, _schema_of)

    assert [one.state for one in ask_spool(tmp_path, matcher, identity)] == [State.ABSENT]

    file = SpoolFile(tmp_path / "a.db")
    file.append([Record(b"", b"an event")], 1)
    file.close()

    assert [one.state for one in ask_spool(tmp_path, matcher, identity)] == [State.UNKNOWN]
