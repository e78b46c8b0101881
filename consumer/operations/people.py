"""Finds what the tables hold of people: rows of `events`, and the ids that a dead letter names.

A person is named by a user id, a visitor id (anon_id) or the id of one event. To a user belongs what the view `users`
counts as theirs: the events that name the user, and those that name no user of the visitor ids whose latest sign-in was
this user's.

Ids are sent beside the query, as a table that ClickHouse forgets. So they are in no query log, and not in the text of a
mutation, which ClickHouse keeps.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from consumer.clickhouse.client import Connection, ExternalTable
from consumer.clickhouse.streams import lines, text_bytes


class Kind(StrEnum):
    """What an id names, as the table `erasures` has it."""

    USER = "user_id"
    ANON = "anon_id"
    EVENT = "event_id"
    VISITOR = "visitor"  # an anon_id, and only its events that name no user


class Person(NamedTuple):
    """One id, and until when events of it were received that are meant, in Unix ms."""

    kind: Kind
    value: str
    until_ms: int


COLUMN_OF: Final = {
    Kind.USER: "user_id",
    Kind.ANON: "anon_id",
    Kind.EVENT: "toString(event_id)",
    Kind.VISITOR: "anon_id",
}
"""The text of the ids of each kind."""
CONDITION_OF: Final = {
    Kind.USER: "user_id != ''",
    Kind.ANON: "anon_id != ''",
    Kind.EVENT: "1",
    Kind.VISITOR: "user_id = '' AND anon_id != ''",
}
"""What else holds of rows whose id is of that kind."""
_CHOSEN: Final = {  # for the index: a join alone reads every row
    Kind.USER: "user_id IN (SELECT value FROM erased_people WHERE kind = 'user_id')",
    Kind.ANON: "anon_id IN (SELECT value FROM erased_people WHERE kind = 'anon_id')",
    Kind.EVENT: "event_id IN (SELECT toUUID(value) FROM erased_people WHERE kind = 'event_id')",
    Kind.VISITOR: "user_id = '' AND anon_id IN (SELECT value FROM erased_people WHERE kind = 'visitor')",
}
_ROWS: Final = """
SELECT {columns} FROM {table} AS e INNER JOIN erased_people AS p ON p.value = {column}
WHERE p.kind = '{kind}' AND {chosen} AND e.received_at <= fromUnixTimestamp64Milli(p.until_ms, 'UTC')
"""
# The latest sign-in of each visitor id that the users have ever signed in from.
_VISITORS: Final = """
SELECT anon_id AS value, argMax(user_id, (occurred_at, event_id)) AS owner FROM {of_events:Identifier}
WHERE user_id != '' AND anon_id GLOBAL IN (
    SELECT anon_id FROM {of_events:Identifier}
    WHERE anon_id != '' AND user_id IN (SELECT value FROM erased_people WHERE kind = 'user_id')
)
GROUP BY anon_id HAVING owner IN (SELECT value FROM erased_people WHERE kind = 'user_id')
"""
PLACE: Final = "_topic, _topic_id, _partition, _reading, _offset"
"""The columns that tell a row from all others."""


def external(people: Iterable[Person]) -> ExternalTable:
    """Return the people as the table `erased_people` of a query."""
    rows = (
        json.dumps({"kind": kind, "value": value, "until_ms": until_ms}, ensure_ascii=False)
        for kind, value, until_ms in dict.fromkeys(people)
    )
    return ExternalTable(
        "erased_people", "kind String, value String, until_ms Int64", b"\n".join(map(text_bytes, rows)), "JSONEachRow"
    )


def rows_of(kinds: Collection[Kind], columns: str, table: str = "events") -> str:
    """Return the query for the rows of the people of `external`, each row once; `kinds` are theirs."""
    texts = (
        _ROWS.format(columns=columns, table=table, column=COLUMN_OF[kind], kind=kind, chosen=_CHOSEN[kind])
        for kind in sorted(kinds)
    )
    return "UNION DISTINCT".join(texts)


def with_visitors(connection: Connection, people: Collection[Person]) -> list[Person]:
    """Return the people, and the visitor ids of the users among them; each once, with its latest moment.

    Raises:
        Transient, Fatal: as errors.py says.
    """
    until_ms = {person.value: person.until_ms for person in people if person.kind is Kind.USER}
    names = connection.layout.names("events")
    found = lines(connection, _VISITORS, names, external(people)) if until_ms else ()
    named = [*people, *(Person(Kind.VISITOR, row["value"], until_ms[row["owner"]]) for row in found)]
    latest = {person[:2]: person for person in sorted(named, key=lambda person: person.until_ms)}
    return list(latest.values())


class Ids(NamedTuple):
    """The ids that an event names; "" for those that it lacks."""

    user_id: str
    anon_id: str
    event_id: str

    def named(self) -> Iterator[tuple[Kind, str]]:
        """Yield each id with what it names; it may be that of a person."""
        found = {Kind.USER: self.user_id, Kind.ANON: self.anon_id, Kind.EVENT: self.event_id}
        if not self.user_id:
            found[Kind.VISITOR] = self.anon_id
        yield from ((kind, value) for kind, value in found.items() if value)


def ids_of(event: Mapping[str, Any]) -> Ids:
    """Return the ids of an event as it was sent, or as Avro has it; an id that is a number is its text."""
    event_id = _text(event.get("eventId"))
    with suppress(ValueError):
        event_id = str(UUID(event_id))
    return Ids(_text(event.get("userId")), _text(event.get("anonId")), event_id)


def _text(value: object) -> str:
    """Return an id as the collector takes it: of a number, its shortest decimal text, 4711 also for 4711.0."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, str | int | UUID) and not isinstance(value, bool) else ""
