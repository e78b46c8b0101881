"""Erases what the tables hold of people, remembers that as keyed hashes, and erases again what comes back.

The order makes a crash harmless: first `erasures` says whose data goes, then `erased_rows` which rows, then the rows
go. What is listed and still there goes with the next run. Rows of `events` are deleted by a mutation, not by DELETE
FROM: that would only mark them, and the bytes would stay until a merge, perhaps for ever. Dead letters keep their row,
because the audit counts it, and lose their content.

`erased_rows` also keeps a worker's repair from putting the rows back: see clickhouse/repair.py. What is read again from
Kafka or replayed stands at another place, so only the hashes know it.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final
from uuid import uuid4

from consumer.clickhouse.client import Connection, ExternalTable
from consumer.clickhouse.streams import lines
from consumer.errors import Fatal
from consumer.operations.erasure_key import ErasureKey, recorded
from consumer.operations.letters import HeldLetter, Wanted, letters
from consumer.operations.people import COLUMN_OF, CONDITION_OF, PLACE, Kind, Person, external, rows_of, with_visitors

_CHUNK: Final = 10_000
_POLL_S: Final = 0.2
_NOW_AND_WHOLE: Final = {"async_insert": 0, "wait_end_of_query": 1}
_NOW: Final = "SELECT toUnixTimestamp64Milli(now64(3)) AS now_ms"
_REMEMBER: Final = """
INSERT INTO erasures SELECT kind, value, {key_id:String}, fromUnixTimestamp64Milli(until_ms, 'UTC'), {by:String},
    now64(3, 'UTC') FROM erased_people
"""
_LISTED: Final = "topic, topic_id, partition, reading, offset"
_FACTS: Final = f"{PLACE}, received_at, client_id, event_id, _precedence"
# One row of each event counts as the event: the one that FINAL shows. Without that, data_quality took events that were
# erased for copies.
_LIST_ROWS: Final = f"""
INSERT INTO erased_rows SELECT {PLACE}, {{{{run:UUID}}}}, now64(3, 'UTC'),
    toStartOfFifteenMinutes(toDateTime(received_at, 'UTC')), client_id,
    row_number() OVER (PARTITION BY event_id ORDER BY _precedence DESC) = 1
FROM ({{rows}})
"""  # noqa: S608  (our own text)
_LIST_PLACES: Final = f"""
INSERT INTO erased_rows ({_LISTED}, run, erased_at) SELECT {PLACE}, {{run:UUID}}, now64(3, 'UTC') FROM places
"""  # noqa: S608  (as above)
_COUNT: Final = "SELECT count() AS n FROM erased_rows WHERE run = {run:UUID}"
_OTHERS: Final = "SELECT uniqExact(kind, digest) AS n FROM erasures WHERE key_id != {key_id:String}"
_RETURNED: Final = """
SELECT DISTINCT '{kind}' AS kind, {column} AS value, toUnixTimestamp64Milli(r.until) AS until_ms
FROM events AS e INNER JOIN
(
    SELECT digest, max(until) AS until FROM erasures WHERE kind = '{kind}' AND key_id = {{key_id:String}}
    GROUP BY digest
) AS r ON r.digest = lower(hex(SHA256(concat(
    (SELECT unhex(outer_pad) FROM erasure_key), SHA256(concat((SELECT unhex(inner_pad) FROM erasure_key), {column}))
))))
WHERE {condition} AND e.received_at <= r.until
"""
# The same rows under the same reading: of a backup, or of a run that did not come to its end.
_STILL_THERE: Final = f"""
SELECT {_FACTS} FROM events WHERE ({PLACE}) IN (SELECT {_LISTED} FROM erased_rows)
"""  # noqa: S608  (our own text)
# The same dead letters, under any reading: bytes that can't be read have no ids to hash.
_STILL_READABLE: Final = f"""
SELECT {PLACE} FROM dead_letters INNER JOIN
(
    SELECT topic, topic_id, partition, offset, max(erased_at) AS until FROM erased_rows
    GROUP BY topic, topic_id, partition, offset
) AS r ON _topic = r.topic AND _topic_id = r.topic_id AND _partition = r.partition AND _offset = r.offset
WHERE value != '' AND origin_at <= r.until
"""  # noqa: S608  (as above)
_OF_RUN: Final = f"({PLACE}) IN (SELECT {_LISTED} FROM erased_rows WHERE run = '{{run}}')"  # noqa: S608  (as above)
_DELETE: Final = f"ALTER TABLE events DELETE WHERE {_OF_RUN}"
_EMPTY: Final = f"""
ALTER TABLE dead_letters UPDATE value = '', key = '', headers = mapFilter((name, text) -> 0, headers),
    error = 'its content was erased' WHERE {_OF_RUN}
"""
_LEFT: Final = {
    _DELETE: f"SELECT count() AS n FROM events WHERE {_OF_RUN}",  # noqa: S608  (as above)
    _EMPTY: f"SELECT count() AS n FROM dead_letters WHERE value != '' AND {_OF_RUN}",  # noqa: S608  (as above)
}
"""What a mutation should have left nothing of."""
_MUTATIONS: Final = """
SELECT count() AS n, sum(parts_to_do) AS parts, max(latest_fail_reason) AS reason FROM system.mutations
WHERE database = currentDatabase() AND NOT is_done AND position(command, {run:String}) > 0
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What the tables hold: rows of `events` by what they name, and dead letters."""

    rows: dict[Kind, int]
    letters: int

    @property
    def count(self) -> int:
        """Rows and dead letters together."""
        return sum(self.rows.values()) + self.letters


@dataclass(frozen=True, slots=True)
class Eraser:
    """Counts and erases.

    Attributes:
        connection: connects to the tables.
        schema_of: returns the text of a writer schema, for dead letters.
        report: takes a sentence while a mutation runs.
        wait: sleeps a number of seconds.
    """

    connection: Connection
    schema_of: Callable[[int], str]
    report: Callable[[str], object]
    wait: Callable[[float], object] = time.sleep

    def now_ms(self) -> int:
        """Return the time by ClickHouse's clock."""
        return int(self.connection.query(_NOW)[0]["now_ms"])

    def count(self, people: Sequence[Person]) -> Found:
        """Return what is there of the people; change nothing.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        rows: dict[Kind, int] = {}
        for kind in sorted({person.kind for person in people}):
            query = f"SELECT count() AS n FROM ({rows_of([kind], PLACE)})"  # noqa: S608  (our own text)
            rows[kind] = self.connection.query(query, rows=external(people))[0]["n"]
        return Found(rows, sum(1 for _ in self.letters_of(people)))

    def erase(self, people: Sequence[Person], key: ErasureKey, by: str) -> tuple[int, int]:
        """Erase what is there of the people, and remember them; return how many rows and dead letters that were.

        Raises:
            Transient, Fatal: as errors.py says; the next run goes on.
        """
        hashed = [Person(person.kind, key.digest(person.value), person.until_ms) for person in people]
        told = {"key_id": key.key_id, "by": by}
        self.connection.command(_REMEMBER, told, settings=_NOW_AND_WHOLE, rows=external(hashed))
        run = str(uuid4())
        self._list(run, rows_of({person.kind for person in people}, _FACTS), external(people))
        rows = self._count(run)
        self._delete(run, rows)
        return rows, self._empty(run, (letter.place for letter in self.letters_of(people)))

    def again(self, key: ErasureKey, by: str) -> tuple[int, int]:
        """Erase whatever came back of the people who were erased; return as `erase`.

        Raises:
            Transient, Fatal: as errors.py says; the next run goes on.
        """
        run = str(uuid4())
        self._list(run, _STILL_THERE)
        rows = self._count(run)
        self._delete(run, rows)
        emptied = 0
        if people := self._returned(key):
            more, emptied = self.erase(people, key, by)
            rows += more
        emptied += self._empty(str(uuid4()), (letter.place for letter in self._letters_again(key)))
        return rows, emptied

    def count_again(self, key: ErasureKey) -> Found:
        """Return what came back of the people who were erased; change nothing.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        return Found(self.count(self._returned(key)).rows, sum(1 for _ in self._letters_again(key)))

    def _letters_again(self, key: ErasureKey) -> Iterator[HeldLetter]:
        known = recorded(self.connection, key)
        wanted: Wanted = lambda kind, value: known.get((kind, key.digest(value)), -1)  # noqa: E731  (a Wanted)
        places = {tuple(row.values()) for row in lines(self.connection, _STILL_READABLE)}
        for letter in letters(self.connection, self.schema_of, self.now_ms()):
            if letter.place in places or letter.is_wanted(wanted):
                yield letter

    def of_other_keys(self, key: ErasureKey) -> int:
        """Return how many people were erased under other keys: what comes back of them is not found."""
        return int(self.connection.query(_OTHERS, {"key_id": key.key_id})[0]["n"])

    def _returned(self, key: ErasureKey) -> list[Person]:
        """Return the erased people of whom there are rows, and the visitor ids that came back with users."""
        found: list[Person] = []
        for kind in sorted({Kind(kind) for kind, _ in recorded(self.connection, key)}):
            query = _RETURNED.format(kind=kind, column=COLUMN_OF[kind], condition=CONDITION_OF[kind])
            rows = lines(self.connection, query, {"key_id": key.key_id}, key.external())
            found += [Person(kind, row["value"], row["until_ms"]) for row in rows]
        return with_visitors(self.connection, found)

    def letters_of(self, people: Sequence[Person]) -> Iterator[HeldLetter]:
        """Yield the dead letters of the people.

        Raises:
            Transient, Fatal: as errors.py says; Transient too while the schema registry is away.
        """
        until_ms = {(person.kind, person.value): person.until_ms for person in people}
        wanted: Wanted = lambda kind, value: until_ms.get((kind, value), -1)  # noqa: E731  (a Wanted)
        values = {person.value for person in people}
        for letter in letters(self.connection, self.schema_of, max(until_ms.values(), default=-1)):
            if letter.is_wanted(wanted) or (not letter.is_clear and letter.holds(values)):
                yield letter

    def _list(self, run: str, rows: str, beside: ExternalTable | None = None) -> None:
        statement = _LIST_ROWS.format(rows=rows)
        self.connection.command(statement, {"run": run}, settings=_NOW_AND_WHOLE, rows=beside)

    def _count(self, run: str) -> int:
        return int(self.connection.query(_COUNT, {"run": run})[0]["n"])

    def _delete(self, run: str, rows: int) -> None:
        if rows:
            self._mutate(_DELETE, run)

    def _empty(self, run: str, places: Iterable[tuple[str, str, int, int, int]]) -> int:
        """Take the content of the dead letters at these places."""
        left, names = iter(places), ("_topic", "_topic_id", "_partition", "_reading", "_offset")
        count = 0
        while chunk := [dict(zip(names, place, strict=True)) for place in islice(left, _CHUNK)]:
            payload = "\n".join(map(json.dumps, chunk)).encode()
            structure = "_topic String, _topic_id String, _partition UInt32, _reading UInt32, _offset UInt64"
            beside = ExternalTable("places", structure, payload, "JSONEachRow")
            self.connection.command(_LIST_PLACES, {"run": run}, settings=_NOW_AND_WHOLE, rows=beside)
            count += len(chunk)
        if count:
            self._mutate(_EMPTY, run)
        return count

    def _mutate(self, statement: str, run: str) -> None:
        """Run a mutation, and wait for it as long as it takes.

        Raises:
            Fatal: it is gone, but what it should have changed is not: it was killed.
        """
        settings = {"mutations_sync": 0, "allow_nondeterministic_mutations": 1}
        self.connection.command(statement.format(run=run), settings=settings)
        said = ""
        while True:
            (state,) = self.connection.query(_MUTATIONS, {"run": run})
            if not state["n"]:
                break
            sentence = f"{state['parts']} parts of the table are left to rewrite"
            if state["reason"]:
                sentence = f"ClickHouse tries again: {state['reason'][:300]}"
            if sentence != said:
                self.report(sentence)
            said = sentence
            self.wait(_POLL_S)
        (left,) = self.connection.query(_LEFT[statement].format(run=run))
        if left["n"]:
            cure = "run `python -m consumer erase --again --go`"
            raise Fatal(f"{left['n']} rows are still there: the mutation was killed; {cure}")
