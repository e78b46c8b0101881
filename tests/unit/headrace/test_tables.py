"""What the tables say of an id, when many dead letters hold it."""

import base64
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import SINGLE
from consumer.delivery.ports import Partition
from headrace.findings import Finding, State, Station
from headrace.identity import identity_of
from headrace.remote_stations import Tables
from headrace.stations import Matcher
from ingest.events.ids import uuid7

NOW_MS = 1_767_323_045_678
ID = uuid7(NOW_MS)
DEAD = Partition("dead", 0)


class Server:
    """A ClickHouse that has dead letters, the newest first, and answers a page of them."""

    layout = SINGLE

    def __init__(self, *events: Mapping[str, Any], counted: bool = False) -> None:
        self._letters = [_letter(number, event) for number, event in enumerate(events)]
        self._counted = counted

    def query(self, query: str, asked: Mapping[str, Any], *, settings: object) -> list[dict[str, Any]]:
        """Return rows; of a place there are none."""
        assert settings
        if "is_counted" in query:
            return [{"is_counted": self._counted}]
        if "of_dead_letters" not in query or "offset" in asked:
            return []
        skipped = asked["skipped"]
        return self._letters[skipped : skipped + asked["limit"]]


def _letter(number: int, event: Mapping[str, Any]) -> dict[str, Any]:
    content = base64.b64encode(json.dumps(event).encode()).decode()
    place = {"letter_id": f"events/0/{number}", "service": "headrace-consumer/1", "refused_ms": NOW_MS}
    return {**place, "why": "bad_value", "error": "no number", "content": content, "headers": {}}


def _schema_of(_: int) -> str:
    raise LookupError


def _tables(server: Server) -> Tables:
    return Tables(cast("Connection", server), Matcher(identity_of(ID, NOW_MS), _schema_of))


def _letters(server: Server) -> list[Finding]:
    told = _tables(server).ask(identity_of(ID, NOW_MS))
    return [finding for finding in told if finding.station is Station.DEAD_LETTER]


@pytest.mark.parametrize("others", [0, 25, 99, 100, 250])
def test_a_dead_letter_is_found_behind_others_that_only_hold_its_id(others: int) -> None:
    """As in a url; they are newer."""
    (found,) = _letters(Server(*[{"url": ID}] * others, {"eventId": ID}))

    assert (found.state, found.place) == (State.FOUND, f"events/0/{others}")


def test_letters_that_only_hold_the_id_are_not_named() -> None:
    """All of them were looked at."""
    assert [one.state for one in _letters(Server(*[{"url": ID}] * 100))] == [State.ABSENT]


def test_more_letters_than_are_looked_at_are_unknown() -> None:
    """An older one may be the one."""
    assert [one.state for one in _letters(Server(*[{"url": ID}] * 1000))] == [State.UNKNOWN]


def test_a_record_of_the_dead_letter_topic_never_was_a_row() -> None:
    """What is counted there was a dead letter."""
    told = {
        is_letter: _tables(Server(counted=True)).ask_about(DEAD, "id", 3, is_letter=is_letter)
        for is_letter in (True, False)
    }

    assert [(one.station, one.state) for one in told[True]] == [(Station.DEAD_LETTER, State.PASSED)]
    assert [(one.station, one.state) for one in told[False]] == [(Station.ROW, State.PASSED)]
