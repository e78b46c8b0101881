"""Erases what the tables hold of people, remembers that as keyed hashes, and erases again what comes back.

The order makes a crash harmless: first `erasures` says whose data goes, then `erased_rows` which rows, then the rows
go. What is listed and still there goes with the next run. Rows of `events` are deleted by a mutation, not by DELETE
FROM: that would only mark them, and the bytes would stay until a merge, perhaps for ever. Dead letters keep their row,
because the audit counts it, and lose their content.

`erased_rows` also keeps a worker's repair from putting the rows back: see clickhouse/repair.py. What is read again from
Kafka or replayed stands at another place, so only the hashes know it.

On a cluster `erasures` is read over all shards, and each shard lists and deletes its own rows: see erasing_shard.py.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import FIRST_SHARD
from consumer.clickhouse.replication import synced
from consumer.clickhouse.streams import lines
from consumer.operations.erasing_shard import NOW_AND_WHOLE, ErasingShard
from consumer.operations.erasure_key import ErasureKey, recorded
from consumer.operations.letters import HeldLetter, Wanted, letters
from consumer.operations.people import COLUMN_OF, CONDITION_OF, Kind, Person, external, with_visitors

_SEARCHED: Final = ("events", "dead_letters", "erased_rows", "erasures")
_NOW: Final = "SELECT toUnixTimestamp64Milli(now64(3)) AS now_ms"
_REMEMBER: Final = """
INSERT INTO {of_erasures:Identifier} SELECT kind, value, {key_id:String}, fromUnixTimestamp64Milli(until_ms, 'UTC'),
    {by:String}, now64(3, 'UTC') FROM erased_people
"""
_OTHERS: Final = """
SELECT uniqExact(kind, digest) AS n FROM {of_erasures:Identifier} WHERE key_id != {key_id:String}
"""
_RETURNED: Final = """
SELECT DISTINCT '{kind}' AS kind, {column} AS value, toUnixTimestamp64Milli(r.until) AS until_ms
FROM events AS e INNER JOIN
(
    SELECT digest, max(until) AS until FROM {{of_erasures:Identifier}}
    WHERE kind = '{kind}' AND key_id = {{key_id:String}} GROUP BY digest
) AS r ON r.digest = lower(hex(SHA256(concat(
    (SELECT unhex(outer_pad) FROM erasure_key), SHA256(concat((SELECT unhex(inner_pad) FROM erasure_key), {column}))
))))
WHERE {condition} AND e.received_at <= r.until
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
    """Counts and erases, on all shards.

    Attributes:
        connection: connects to the tables, over all shards.
        schema_of: returns the text of a writer schema, for dead letters.
        report: takes a sentence while a mutation runs.
        wait: sleeps a number of seconds.
        shards: a connection to a server of each shard; none: the connection's own server has all.
        replicas: connections to all replicas of tables that are Replicated, and not of a cluster.
    """

    connection: Connection
    schema_of: Callable[[int], str]
    report: Callable[[str], object]
    wait: Callable[[float], object] = time.sleep
    shards: Sequence[Connection] = ()
    replicas: Sequence[Connection] = ()

    def catch_up(self) -> None:
        """Wait until replicas have what others had: rows that the one that is asked lacks would not be found, and stay.

        Raises:
            Transient: a replica does not catch up, or is away.
            Fatal: the account may not wait for replicas.
        """
        for one in self.replicas or self.shards or (self.connection,):
            synced(one, *_SEARCHED)

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
            rows[kind] = sum(shard.count(kind, people) for shard in self._shards)
        return Found(rows, sum(1 for _ in self.letters_of(people)))

    def erase(self, people: Sequence[Person], key: ErasureKey, by: str) -> tuple[int, int]:
        """Erase what is there of the people, and remember them; return how many rows and dead letters that were.

        Raises:
            Transient, Fatal: as errors.py says; the next run goes on.
        """
        hashed = [Person(person.kind, key.digest(person.value), person.until_ms) for person in people]
        told = {**self._names, "key_id": key.key_id, "by": by}
        settings = NOW_AND_WHOLE | self.connection.layout.of_insert(FIRST_SHARD)
        self.connection.command(_REMEMBER, told, settings=settings, rows=external(hashed))
        rows = letters = 0
        for shard in self._shards:
            run = str(uuid4())
            rows += shard.erase(run, people)
            letters += shard.empty(run, (letter.place for letter in self._letters_of(shard, people)))
        return rows, letters

    def again(self, key: ErasureKey, by: str) -> tuple[int, int]:
        """Erase whatever came back of the people who were erased; return as `erase`.

        Raises:
            Transient, Fatal: as errors.py says; the next run goes on.
        """
        rows = sum(shard.erase_again(str(uuid4())) for shard in self._shards)
        emptied = 0
        if people := self._returned(key):
            more, emptied = self.erase(people, key, by)
            rows += more
        for shard in self._shards:
            emptied += shard.empty(str(uuid4()), (letter.place for letter in self._letters_again(shard, key)))
        return rows, emptied

    def count_again(self, key: ErasureKey) -> Found:
        """Return what came back of the people who were erased; change nothing.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        letters = sum(1 for shard in self._shards for _ in self._letters_again(shard, key))
        return Found(self.count(self._returned(key)).rows, letters)

    @property
    def _shards(self) -> list[ErasingShard]:
        found = self.shards or self.replicas[:1] or (self.connection,)
        return [ErasingShard(one, self.report, self.wait, self.replicas) for one in found]

    @property
    def _dead_letters(self) -> str:
        """The table of each shard's dead letters; without shards, of all."""
        return "dead_letters" if self.shards else self.connection.layout.over_all("dead_letters")

    @property
    def _names(self) -> dict[str, str]:
        return self.connection.layout.names("erasures")

    def _letters_again(self, shard: ErasingShard, key: ErasureKey) -> Iterator[HeldLetter]:
        known = recorded(self.connection, key)
        wanted: Wanted = lambda kind, value: known.get((kind, key.digest(value)), -1)  # noqa: E731  (a Wanted)
        places = shard.still_readable()
        for letter in letters(shard.connection, self.schema_of, self.now_ms(), self._dead_letters):
            if letter.place in places or letter.is_wanted(wanted):
                yield letter

    def of_other_keys(self, key: ErasureKey) -> int:
        """Return how many people were erased under other keys: what comes back of them is not found."""
        return int(self.connection.query(_OTHERS, {**self._names, "key_id": key.key_id})[0]["n"])

    def _returned(self, key: ErasureKey) -> list[Person]:
        """Return the erased people of whom there are rows, and the visitor ids that came back with users."""
        found: list[Person] = []
        parameters = {**self._names, "key_id": key.key_id}
        for kind in sorted({Kind(kind) for kind, _ in recorded(self.connection, key)}):
            query = _RETURNED.format(kind=kind, column=COLUMN_OF[kind], condition=CONDITION_OF[kind])
            for shard in self._shards:
                rows = lines(shard.connection, query, parameters, key.external())
                found += [Person(kind, row["value"], row["until_ms"]) for row in rows]
        return with_visitors(self.connection, found)

    def letters_of(self, people: Sequence[Person]) -> Iterator[HeldLetter]:
        """Yield the dead letters of the people.

        Raises:
            Transient, Fatal: as errors.py says; Transient too while the schema registry is away.
        """
        for shard in self._shards:
            yield from self._letters_of(shard, people)

    def _letters_of(self, shard: ErasingShard, people: Sequence[Person]) -> Iterator[HeldLetter]:
        until_ms = {(person.kind, person.value): person.until_ms for person in people}
        wanted: Wanted = lambda kind, value: until_ms.get((kind, value), -1)  # noqa: E731  (a Wanted)
        values, latest_ms = {person.value for person in people}, max(until_ms.values(), default=-1)
        for letter in letters(shard.connection, self.schema_of, latest_ms, self._dead_letters):
            if letter.is_wanted(wanted) or (not letter.is_clear and letter.holds(values)):
                yield letter
