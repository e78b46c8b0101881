"""What the tables say of an id, when many dead letters hold it."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Self, cast

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import SINGLE
from consumer.delivery.ports import Partition
from consumer.errors import Cause, ConsumerError, Denied, Transient
from headrace.findings import Finding, State, Station, verdict
from headrace.identity import identity_of
from headrace.remote_tables import Tables
from headrace.stations import Matcher
from ingest.events.ids import uuid7

NOW_MS = 1_767_323_045_678
ID = uuid7(NOW_MS)
DEAD = Partition("dead", 0)
EVENT = identity_of(ID, NOW_MS, is_event=True)


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


class Replica(Server):
    """A replica that lacks rows which another one has, until it was waited for; it may not catch up."""

    database, timeout_s = "d", 5.0

    def __init__(self, fault: ConsumerError | None = None) -> None:
        super().__init__(counted=True)
        self.fault, self.waited = fault, list[str]()

    def sticky(self) -> Self:
        """Stay at it."""
        return self

    def command(self, statement: str, *, settings: Mapping[str, Any]) -> None:
        """Wait, for a bounded time."""
        assert 0 < int(settings["receive_timeout"]) <= self.timeout_s
        if self.fault is not None:
            raise self.fault
        self.waited.append(statement)

    def query(self, query: str, asked: Mapping[str, Any], *, settings: object = None) -> list[dict[str, Any]]:
        """Return the event's row once it has it; of a place nothing but that it was counted."""
        if "startsWith(engine" in query:
            return [{"name": name} for name in asked["tables"]]
        if "event_id = " in query and self.waited:
            place = {"topic": "events", "topic_id": "id", "partition": 0, "offset": 7, "reading": 0}
            facts = {"event_type": "VIEW", "client_id": "c", "event": ID, "received_ms": 0, "inserted_ms": 0}
            return [place | facts]
        return super().query(query, asked, settings=settings or True)


def test_before_a_fate_is_told_replicas_are_waited_for() -> None:
    """The first answer of a replica that lags is not the last word."""
    server = Replica()
    tables = _tables(server)
    assert {one.state for one in tables.ask(EVENT)} == {State.ABSENT}

    tables.await_replicas()
    assert [one.state for one in tables.ask(EVENT)] == [State.FOUND, State.ABSENT]
    assert [text.split()[3] for text in server.waited] == ["d.events", "d.dead_letters", "d.offsets"]


@pytest.mark.parametrize("fault", [Transient("code 159", Cause.UNKNOWN), Transient("away"), Denied("no right")])
@pytest.mark.parametrize("is_letter", [True, False])
def test_of_a_replica_that_lags_nothing_is_missing_or_gone(fault: ConsumerError, is_letter: bool) -> None:  # noqa: FBT001  (a case)
    """It says which, and to ask again."""
    tables = _tables(Replica(fault))
    tables.await_replicas()
    told = tables.ask(EVENT) + tables.ask_about(DEAD, "id", 7, is_letter=is_letter)

    assert {one.state for one in told} == {State.UNKNOWN}
    assert all("a replica may lack it, ask again: " in one.detail for one in told)
    log = [Finding(Station.TOPIC, State.FOUND, "", "p"), Finding(Station.GROUP, State.PASSED, "", "p")]
    assert verdict([*told, *log]).where == "topic"


def test_plain_tables_are_asked_at_once() -> None:
    """What they lack is not there."""
    tables = _tables(Plain())
    tables.await_replicas()
    assert {one.state for one in tables.ask(EVENT)} == {State.ABSENT}


class Plain(Replica):
    """A server without replicas."""

    def query(self, query: str, asked: Mapping[str, Any], *, settings: object = None) -> list[dict[str, Any]]:
        """Return no rows."""
        return [] if "startsWith(engine" in query else super().query(query, asked, settings=settings)
