"""Lists and deletes the rows of people on one shard, and empties its dead letters."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from consumer.clickhouse.client import Connection, ExternalTable
from consumer.clickhouse.layout import WHO_ANSWERS
from consumer.clickhouse.replication import synced
from consumer.clickhouse.streams import lines
from consumer.errors import Fatal
from consumer.operations.people import PLACE, Kind, Person, external, rows_of

_CHUNK: Final = 10_000
_POLL_S: Final = 0.2
_UNKNOWN_MAX: Final = 150  # a replica learns of a mutation from Keeper, within so many looks; of a killed one never
NOW_AND_WHOLE: Final = {"async_insert": 0, "wait_end_of_query": 1}
"""The settings of an insert that is there when it is answered."""
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
_OF_RUN: Final = f"""
({PLACE}) IN (SELECT {_LISTED} FROM {{database}}.erased_rows WHERE run = '{{run}}')
"""  # noqa: S608  (as above)
_DELETE: Final = f"ALTER TABLE events DELETE WHERE {_OF_RUN}"
_EMPTY: Final = f"""
ALTER TABLE dead_letters UPDATE value = '', key = '', headers = mapFilter((name, text) -> 0, headers),
    error = 'its content was erased' WHERE {_OF_RUN}
"""
_LEFT: Final = {
    _DELETE: f"SELECT count() AS n FROM {{events}} WHERE {_OF_RUN}",  # noqa: S608  (as above)
    _EMPTY: f"SELECT count() AS n FROM {{dead_letters}} WHERE value != '' AND {_OF_RUN}",  # noqa: S608  (as above)
}
"""What a mutation should have left nothing of, on any replica."""
_MUTATIONS: Final = """
SELECT count() AS known, countIf(NOT is_done) AS n, sumIf(parts_to_do, NOT is_done) AS parts,
    maxIf(latest_fail_reason, NOT is_done) AS reason
FROM %s WHERE database = {database:String} AND position(command, {run:String}) > 0
"""


@dataclass(frozen=True, slots=True)
class ErasingShard:
    """Counts and erases what one shard has, over a connection to one of its servers, or to the only one.

    Attributes:
        connection: connects to it.
        report: takes a sentence while a mutation runs.
        wait: sleeps a number of seconds.
        replicas: connections to all replicas, where no cluster's name leads to them; `connection` is one of them.
    """

    connection: Connection
    report: Callable[[str], object]
    wait: Callable[[float], object]
    replicas: Sequence[Connection] = ()

    def count(self, kind: Kind, people: Sequence[Person]) -> int:
        """Return how many rows name the people of one kind."""
        query = f"SELECT count() AS n FROM ({rows_of([kind], PLACE)})"  # noqa: S608  (our own text)
        return int(self.connection.query(query, rows=external(people))[0]["n"])

    def erase(self, run: str, people: Sequence[Person]) -> int:
        """List and delete the rows of people; return how many.

        Raises:
            Transient, Fatal: as errors.py says; the next run goes on.
        """
        return self._erase(run, rows_of({person.kind for person in people}, _FACTS), external(people))

    def erase_again(self, run: str) -> int:
        """List and delete rows that were listed before and are there; return how many.

        Raises:
            Transient, Fatal: as errors.py says; the next run goes on.
        """
        return self._erase(run, _STILL_THERE)

    def _erase(self, run: str, rows: str, beside: ExternalTable | None = None) -> int:
        self.connection.command(_LIST_ROWS.format(rows=rows), {"run": run}, settings=NOW_AND_WHOLE, rows=beside)
        count = int(self.connection.query(_COUNT, {"run": run})[0]["n"])
        if count:
            self._mutate(_DELETE, run)
        return count

    def still_readable(self) -> set[tuple[object, ...]]:
        """Return the places of dead letters that were erased under any reading, and have content."""
        return {tuple(row.values()) for row in lines(self.connection, _STILL_READABLE)}

    def empty(self, run: str, places: Iterable[tuple[str, str, int, int, int]]) -> int:
        """Take the content of the dead letters at these places; return how many."""
        left, names = iter(places), ("_topic", "_topic_id", "_partition", "_reading", "_offset")
        count = 0
        while chunk := [dict(zip(names, place, strict=True)) for place in islice(left, _CHUNK)]:
            payload = "\n".join(map(json.dumps, chunk)).encode()
            structure = "_topic String, _topic_id String, _partition UInt32, _reading UInt32, _offset UInt64"
            beside = ExternalTable("places", structure, payload, "JSONEachRow")
            self.connection.command(_LIST_PLACES, {"run": run}, settings=NOW_AND_WHOLE, rows=beside)
            count += len(chunk)
        if count:
            self._mutate(_EMPTY, run)
        return count

    def _mutate(self, statement: str, run: str) -> None:
        """Run a mutation, and wait for it on all replicas, as long as it takes; of a cluster on those that answer.

        Each replica reads its own list of rows, so all have it before.

        Raises:
            Transient: a replica does not catch up, or is away.
            Fatal: it is gone, but what it should have changed is not: it was killed.
        """
        servers = self.replicas or (self.connection,)
        for one in servers:
            synced(one, "erased_rows")
        where = {"database": self.connection.database, "run": run}
        settings = {"mutations_sync": 0, "allow_nondeterministic_mutations": 1}
        self.connection.command(statement.format(**where), settings=settings)
        for one in servers:
            self._await(one, statement, where)

    def _await(self, one: Connection, statement: str, where: dict[str, str]) -> None:
        layout, database = one.layout, one.database
        everywhere = WHO_ANSWERS if layout.cluster else {}
        mutations, said = _MUTATIONS % layout.everywhere("system.mutations"), ""
        unknown_left = _UNKNOWN_MAX if self.replicas else 0
        while True:
            (state,) = one.query(mutations, where, settings=everywhere)
            if not state["n"] and (state["known"] or not unknown_left):
                break
            unknown_left -= not state["known"]
            sentence = f"{state['parts']} parts of the table are left to rewrite"
            if state["reason"]:
                sentence = f"ClickHouse tries again: {state['reason'][:300]}"
            if sentence != said:
                self.report(sentence)
            said = sentence
            self.wait(_POLL_S)
        names = {table: layout.everywhere(f"{database}.{table}") for table in ("events", "dead_letters")}
        (left,) = one.query(_LEFT[statement].format(**where, **names), settings=everywhere)
        if left["n"]:
            cure = "run `python -m consumer erase --again --go`"
            raise Fatal(f"{left['n']} rows are still there, at {one.address}: the mutation was killed; {cure}")
