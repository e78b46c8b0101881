"""Asks ClickHouse's tables about an event: its row, its dead letter, or that it was there once."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.replication import synced
from consumer.delivery.ports import Partition
from consumer.errors import ConsumerError
from consumer.operations.whereabouts import (
    PAGE,
    SHOWN_MAX,
    Rows,
    is_counted,
    letters_at,
    letters_in,
    letters_naming,
    rows_of,
)
from headrace.findings import Finding, State, Station
from headrace.identity import Identity
from headrace.services import addresses
from headrace.stations import Matcher, moment, not_named

_PAGES_MAX: Final = 10
_ASKED: Final = ("events", "dead_letters", "offsets")
_LETTER_GONE: Final = "it was a dead letter in the table, and is none any more: erased or expired"
_GONE: Final = "it was a row, and is none any more: erased, expired, or replaced by an earlier record of the same id"


class Tables:
    """Asks ClickHouse. `why_not` says why it can't be asked; "" when it can.

    What a replica does not show that others may have is unknown.
    """

    def __init__(self, connection: Connection | None, matcher: Matcher, why_not: str = "") -> None:
        self._connection, self._matcher, self._why_not = connection, matcher, why_not
        self._lacking = ""  # why a replica may lack what others have

    def await_replicas(self) -> None:
        """Wait until replicas have what others had, at most as long as for an answer about each table."""
        if self._connection is None:
            return
        try:
            self._connection = synced(self._connection, *_ASKED) or self._connection
            self._lacking = ""
        except ConsumerError as error:
            self._lacking = f"a replica may lack it, ask again: {error}"

    def ask(self, identity: Identity) -> list[Finding]:
        """Return the rows and the dead letters that an identity names."""
        return [
            *self._asked(Station.ROW, lambda connection: self._rows(connection, identity)),
            *self._asked(Station.DEAD_LETTER, lambda connection: self._letters(connection, identity)),
        ]

    def ask_about(self, partition: Partition, topic_id: str, offset: int, *, is_letter: bool) -> list[Finding]:
        """Return what became of a record that the workers have passed: a dead letter, or what the table had once."""
        letters_of = letters_in if is_letter else letters_at
        station, gone = (Station.DEAD_LETTER, _LETTER_GONE) if is_letter else (Station.ROW, _GONE)

        def letters(connection: Connection) -> list[Finding]:
            return [_of_letter(letter) for letter in letters_of(connection, partition, topic_id, offset)]

        def passed(connection: Connection) -> list[Finding]:
            counted = is_counted(connection, partition, topic_id, offset)
            return [Finding(station, State.PASSED, gone)] if counted else []

        found = self._asked(Station.DEAD_LETTER, letters) or self._asked(station, passed)
        return found or ([Finding(station, State.UNKNOWN, self._lacking)] if self._lacking else [])

    def _asked(self, station: Station, question: Callable[[Connection], list[Finding]]) -> list[Finding]:
        if self._connection is None:
            return [Finding(station, State.UNKNOWN, self._why_not)]
        try:
            return [self._as_known(finding) for finding in question(self._connection)]
        except ConsumerError as error:
            return [Finding(station, State.UNKNOWN, f"{error}; asked: {addresses(self._connection)}")]

    def _as_known(self, finding: Finding) -> Finding:
        if not self._lacking or finding.state is State.FOUND:
            return finding
        return replace(finding, state=State.UNKNOWN, detail=f"{finding.detail}; but {self._lacking}")

    @staticmethod
    def _rows(connection: Connection, identity: Identity) -> list[Finding]:
        rows = rows_of(connection, identity.event_id, identity.trace_id)
        if not rows:
            return [not_named(Station.ROW, identity, "no row has this eventId, pingId or trace id")]
        more = [Finding(Station.ROW, State.FOUND, "there are more rows")] if len(rows) > SHOWN_MAX else []
        return [_of_row(row) for row in rows[:SHOWN_MAX]] + more

    def _letters(self, connection: Connection, identity: Identity) -> list[Finding]:
        needles = [needle.decode() for needle in identity.needles] if identity.event_id else []
        named: Rows = []
        for number in range(_PAGES_MAX):
            page = letters_naming(connection, identity.text, needles, number * PAGE)
            named += [row for row in page if self._is_named(row)]
            if len(named) >= SHOWN_MAX:
                break
            if len(page) < PAGE:
                absent = Finding(Station.DEAD_LETTER, State.ABSENT, "no dead letter names it")
                return [_of_letter(letter) for letter in named] or [absent]
        unread = f"more than {_PAGES_MAX * PAGE} dead letters hold the id, and none of the newest is named by it"
        unknown = Finding(Station.DEAD_LETTER, State.UNKNOWN, unread)
        return [_of_letter(letter) for letter in named[:SHOWN_MAX]] or [unknown]

    def _is_named(self, letter: Mapping[str, Any]) -> bool:
        headers = {str(name): str(text).encode() for name, text in dict(letter["headers"]).items()}
        return self._matcher.is_named(base64.b64decode(letter["content"]), headers)


def _of_row(row: Mapping[str, Any]) -> Finding:
    again = f", reading {row['reading']}" if row["reading"] else ""
    detail = (
        f"{row['event_type']} of client {row['client_id'] or '(none)'}, event {row['event']},"
        f" received {moment(row['received_ms'])}, inserted {moment(row['inserted_ms'])}{again}"
    )
    return Finding(Station.ROW, State.FOUND, detail, f"{row['topic']}/{row['partition']}/{row['offset']}")


def _of_letter(letter: Mapping[str, Any]) -> Finding:
    detail = f"{letter['why']}: {letter['error']} ({letter['service']}, {moment(letter['refused_ms'])})"
    return Finding(Station.DEAD_LETTER, State.FOUND, detail, letter["letter_id"])
