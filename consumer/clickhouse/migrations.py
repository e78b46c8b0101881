"""Applies schemas/clickhouse/*.sql, each file once, in the order of their names.

The table `migrations` lists the applied files. Several programs may migrate at once, and any may die half way: every
statement may be repeated (a test checks that), and a row of `migrations` is inserted under a token. A statement below a
line `-- if: SELECT …` runs only while that query returns rows, and may fail when it no longer does. A program that is
older than the tables does not change what it does not know, so versions may be rolled out in any order.
docs/decisions/migrations.md says why this is not a library.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.remake import Remake
from consumer.clickhouse.statements import PINNED
from consumer.delivery.backoff import Backoff
from consumer.errors import Cause, Denied, Fatal, Transient

log = logging.getLogger(__name__)

_CONDITION: Final = "-- if: "
_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\b")
_TRIES: Final = 30  # with the backoff's steps: about five minutes
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS migrations
(
    name       String                COMMENT 'the file',
    checksum   String                COMMENT 'of its statements, comments and layout left out',
    applied_by String                COMMENT 'name and version of the program',
    applied_at DateTime64(3, 'UTC')  COMMENT 'when'
)
ENGINE = ReplacingMergeTree
ORDER BY name
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'which files of schemas/clickhouse were applied here'
"""
_ORPHANS: Final = """
SELECT name FROM system.tables
WHERE database = {database:String} AND match(name, '_(probe|mend_[0-9a-f]{12})_[0-9a-f]{12}$')
AND metadata_modification_time <= now() - {age_s:UInt32}
"""
_RUNNING: Final = """
SELECT query_id FROM system.processes
WHERE current_database = currentDatabase() AND startsWith(trimLeft(query), {begins:String})
"""
_UNCOMMENTED: Final = """
SELECT view.table AS view, view.name AS name, source.comment AS comment
FROM system.columns AS view
INNER JOIN system.columns AS source ON source.name = view.name
WHERE view.table IN (concat(source.table, '_unique'), if(source.table = 'events', 'events_ready', ''))
    AND view.database = currentDatabase() AND source.database = currentDatabase() AND view.comment != source.comment
"""
# Behind a balancer another server may get it too, which may not have the file's tables yet.
_NOTE: Final = """
INSERT INTO migrations SELECT {name:String}, {checksum:String}, {by:String}, now64(3, 'UTC')
WHERE {server:String} IN ('', displayName())
"""
_GIVEN_UP: Final = 0.9  # of the client's time, the server's
_ORPHAN_S: Final = 3600  # no search takes this long


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name and its statements."""

    name: str
    statements: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """A hash of the statements' text, independent of its layout."""
        text = "\n".join(" ".join(statement.split()) for statement in self.statements)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a run.

    Attributes:
        now: the files applied by this run (or by another one at the same moment).
        before: the files applied earlier.
        unknown: the files applied by a newer program, which are left unchanged.
        made: a sentence for each missing thing that was created again.
    """

    now: tuple[str, ...]
    before: tuple[str, ...]
    unknown: tuple[str, ...]
    made: tuple[str, ...] = ()


def migrations() -> list[Migration]:
    """Return the project's migrations, in order."""
    scripts = [file for file in files("schemas").joinpath("clickhouse").iterdir() if file.name.endswith(".sql")]
    sources = sorted((file.name, file.read_text("utf-8")) for file in scripts)
    return [Migration(name, tuple(split(text))) for name, text in sources]


def tables() -> frozenset[str]:
    """Return the names of the tables that the migrations create."""
    texts = (statement for migration in migrations() for statement in migration.statements)
    return frozenset(found[1] for text in texts if (found := _TABLE.match(text)))


def split(text: str) -> list[str]:
    """Split a script at semicolons that end a line; drop whole-line comments, except conditions."""
    lines = (line for line in text.splitlines() if line.startswith(_CONDITION) or not line.lstrip().startswith("--"))
    code = "\n".join(lines)
    return [part.strip() for part in re.split(r";\s*(?:\n|$)", code) if part.strip()]


def applied(connection: Connection) -> dict[str, str]:
    """Return the names of the files that were applied to their ends, and their checksums.

    Raises:
        Transient, Fatal: as errors.py says; without any migration there is no table to ask.
    """
    return {row["name"]: row["checksum"] for row in connection.query("SELECT name, checksum FROM migrations FINAL")}


def create_database(connection: Connection, database: str, wait: Callable[[float], object]) -> None:
    """Create the database, over a connection outside of it.

    Raises:
        Transient, Fatal: the server stays away, or refuses.
    """
    patiently(lambda: connection.define(f"CREATE DATABASE IF NOT EXISTS {database}"), wait)


def migrate(connection: Connection, known: list[Migration], wait: Callable[[float], object]) -> Applied:
    """Apply the files that were not applied yet, and recreate what is missing; `wait` sleeps a number of seconds.

    If a newer program has migrated the database, nothing is recreated: its tables may differ.

    Raises:
        Transient: the server stays away.
        Fatal: it refuses a statement, a file was changed after it was applied, or an operator must recreate something.
    """
    patiently(lambda: connection.define(_LEDGER.strip()), wait)
    done = applied(connection)
    for migration in known:
        if done.get(migration.name, migration.checksum) != migration.checksum:
            raise Fatal(f"{migration.name} was changed after it was applied here; put the change into a new file")
    pending = [migration for migration in known if migration.name not in done]
    for migration in pending:
        _apply(connection, migration, wait)
    sweep(connection, _ORPHAN_S)
    names = {migration.name for migration in known}
    before, unknown = sorted(done.keys() & names), sorted(done.keys() - names)
    made = _made_again(connection, known, wait) if before and not unknown else []
    if not unknown:
        patiently(lambda: comment_views(connection), wait)
    return Applied(tuple(migration.name for migration in pending), tuple(before), tuple(unknown), tuple(made))


def comment_views(connection: Connection) -> None:
    """Give the columns of the views of all columns the comments of their tables: a view has only its own."""
    found: dict[str, list[str]] = {}
    for row in connection.query(_UNCOMMENTED):
        comment = row["comment"].replace("\\", "\\\\").replace("'", "\\'")
        found.setdefault(row["view"], []).append(f"COMMENT COLUMN {row['name']} '{comment}'")
    for view, changes in found.items():
        connection.define(f"ALTER TABLE {view} {', '.join(changes)}")


def _made_again(connection: Connection, known: list[Migration], wait: Callable[[float], object]) -> list[str]:
    def fill(empty: Connection) -> None:
        for migration in known:
            for statement in migration.statements:
                run(empty, statement)

    found: list[str] = []
    try:
        patiently(lambda: found.extend(Remake(connection, fill).run()), wait)
    except Denied as error:
        log.warning("can't check whether tables are missing", extra={"reason": str(error)})
    return found


def sweep(connection: Connection, age_s: int) -> None:
    """Drop temporary tables older than `age_s` seconds: the workers that created them were killed."""
    for row in connection.query(_ORPHANS, {"database": connection.database, "age_s": age_s}):
        connection.command(f"DROP TABLE IF EXISTS {row['name']}")


def run(connection: Connection, statement: str) -> None:
    """Run a statement, unless its condition's query returns no rows: then its work is done.

    Raises:
        Transient, Rejected, Fatal: the server is away, or refuses the statement while its condition holds.
    """
    first, _, rest = statement.partition("\n")
    if not first.startswith(_CONDITION):
        connection.define(statement)
        return
    condition = first.removeprefix(_CONDITION)
    if not connection.query(condition):
        return
    if _runs_already(connection, rest):
        raise Transient("the same copy of rows still runs, of another program or of one that died", Cause.BUSY)
    try:
        # The server gives up first: no copy runs on unseen, and the next try goes on where this one ended.
        connection.command(rest, settings={"max_execution_time": max(1, int(connection.timeout_s * _GIVEN_UP))})
    except (Fatal, Transient):  # another program may have done it meanwhile
        if connection.query(condition):
            raise


def _runs_already(connection: Connection, statement: str) -> bool:
    """Tell whether the server runs a copy of rows now; of two at once each would copy what the other has not yet."""
    if not statement.startswith("INSERT"):
        return False
    with suppress(Denied):  # who may not look takes the risk: rows that come twice are one event
        return bool(connection.query(_RUNNING, {"begins": statement.partition("\n")[0]}))
    return False


def _apply(connection: Connection, migration: Migration, wait: Callable[[float], object]) -> None:
    for statement in migration.statements:
        patiently(lambda statement=statement: run(connection, statement), wait)  # type: ignore[misc]  # bound now, not late
    values = {"name": migration.name, "checksum": migration.checksum, "by": f"headrace-consumer/{version('headrace')}"}
    connection.command(
        _NOTE,
        values | {"server": connection.server},
        settings=PINNED | {"insert_deduplication_token": f"{migration.name}/{migration.checksum}"},
    )


def patiently(call: Callable[[], None], wait: Callable[[float], object]) -> None:
    """Repeat a call while the server is away, or busy with the same change for another program.

    Raises:
        Transient: it stays away.
        Fatal: it refuses.
    """
    backoff = Backoff()
    for attempt in range(1, _TRIES + 1):
        try:
            return call()
        except Transient as error:
            if attempt == _TRIES:
                raise
            log.warning("waiting for ClickHouse", extra={"attempt": attempt, "reason": str(error)[:300]})
            wait(backoff.delay_s(attempt))
    return None
