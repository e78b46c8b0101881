"""What must hold before the first poll, for the promise rests on it; each fault is one sentence that says what to do.

ClickHouse: every column that the insert fills, or the table computes; a deduplication window on each table and on each
target of a view behind it, large enough for this installation; no profile that forbids a setting of ours; and a token
that really counts once.
Kafka: the topics, and room for an intent in a commit's metadata. Whether the broker keeps that metadata is only told:
without it a clean stop is still exact, and the log says what is left.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import Final
from uuid import uuid4

from consumer.clickhouse import Connection, Target
from consumer.cluster import Cluster, Topic
from consumer.errors import ConsumerError, Fatal, Rejected
from consumer.intent import METADATA_BYTES_MAX
from consumer.statements import PINNED, columns_of_table

MIGRATE: Final = "run `python -m consumer migrate`"
_MONTHS: Final = 2  # table partitions that one insert touches, at the turn of a month; the window counts each
_METADATA_DEFAULT: Final = 4096
LETTER_HEADERS_BYTES: Final = 64 * 1024
"""Room in a dead letter for what it says beside the record."""
_MESSAGE_BYTES: Final = "max.message.bytes"
_METADATA: Final = "offset.metadata.max.bytes"
_TABLE: Final = """
SELECT engine, engine_full, dependencies_database AS databases, dependencies_table AS views
FROM system.tables WHERE database = {database:String} AND name = {table:String}
"""
_COLUMNS: Final = "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}"
_VIEW: Final = """
SELECT engine, create_table_query AS text, toString(uuid) AS id
FROM system.tables WHERE database = {database:String} AND name = {table:String}
"""
_DEFAULT_WINDOW: Final = "SELECT toUInt64(value) AS value FROM system.{table:Identifier} WHERE name = {name:String}"
_TO: Final = re.compile(r"^CREATE MATERIALIZED VIEW \S+ (?:UUID \S+ )?TO (?:(?:(\w+)|`([^`]+)`)\.)?(?:(\w+)|`([^`]+)`)")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, at the most, inserts come to a table, and how long a late one may still land.

    Attributes:
        partitions: of all topics: one insert at a time for each. All of them end in the ledger of offsets.
        age_s: a batch closes after this at the latest; larger batches come less often.
        timeout_s: the client gives up an insert after this, and the server a little before.
        session_s: a frozen worker is expelled after this, and may have been about to send.
    """

    partitions: int
    age_s: float
    timeout_s: float
    session_s: float

    @property
    def window(self) -> int:
        """The blocks that a table must remember: inserts per second x partitions of the table x seconds.

        Twice the timeout: one for the insert that is late, one for the server's queue in front of it.
        """
        return ceil(self.partitions / self.age_s * _MONTHS * (self.session_s + 2 * self.timeout_s))


@dataclass(frozen=True, slots=True)
class TableCheck:
    """Checks one table and what hangs on it."""

    connection: Connection
    target: Target
    pace: Pace

    def run(self) -> None:
        """Return when all is well.

        Raises:
            Fatal: one sentence that says what to do.
            Transient: the server is away.
        """
        self._columns()
        for database, table in self._written():
            self._window(database, table)
        self._settings()
        self._token()

    def _columns(self) -> None:
        table, database = self.target.table, self.connection.database
        there = {row["name"] for row in self.connection.query(_COLUMNS, {"database": database, "table": table})}
        if not there:
            raise Fatal(f"there is no table {database}.{table}: {MIGRATE}")
        lacking = columns_of_table(self.target.schema_name, self.target.topic) - there
        if lacking:
            raise Fatal(f"{database}.{table} lacks the columns {', '.join(sorted(lacking))}: {MIGRATE}")

    def _written(self) -> Iterator[tuple[str, str]]:
        """Yield every table that an insert writes: the table itself, and the views' targets behind it."""
        queue, seen = [(self.connection.database, self.target.table)], set[tuple[str, str]]()
        while queue:
            place = queue.pop()
            if place in seen:
                continue
            seen.add(place)
            yield place
            (row,) = self.connection.query(_TABLE, {"database": place[0], "table": place[1]}) or [{}]
            views = zip(row.get("databases", ()), row.get("views", ()), strict=True)
            queue += filter(None, (self._target_of(*view) for view in views))

    def _target_of(self, database: str, view: str) -> tuple[str, str] | None:
        rows = self.connection.query(_VIEW, {"database": database, "table": view})
        if not rows or rows[0]["engine"] != "MaterializedView":
            return None
        found = _TO.match(rows[0]["text"])
        if found:
            return found[1] or found[2] or database, found[3] or found[4]
        return database, f".inner_id.{rows[0]['id']}"

    def _window(self, database: str, table: str) -> None:
        rows = self.connection.query(_TABLE, {"database": database, "table": table})
        if not rows:
            raise Fatal(f"a view writes to {database}.{table}, which is not there: make it, or drop the view")
        engine = rows[0]["engine"]
        if engine in ("Null", "View"):
            return
        if not engine.endswith("MergeTree"):
            raise Fatal(f"{database}.{table} has the engine {engine}, which knows no deduplication: use a MergeTree")
        setting, defaults = _window_setting(engine)
        found = re.search(rf"\b{setting} = (\d+)", rows[0]["engine_full"])
        window = int(found[1]) if found else self._default(setting, defaults)
        if window < self.pace.window:
            raise Fatal(
                f"{database}.{table} remembers {window} blocks, and {self.pace.window} are needed here:"
                f" ALTER TABLE {_quoted(database)}.{_quoted(table)} MODIFY SETTING {setting} = {self.pace.window}"
            )

    def _default(self, setting: str, defaults: str) -> int:
        rows = self.connection.query(_DEFAULT_WINDOW, {"table": defaults, "name": setting})
        return int(rows[0]["value"]) if rows else 0

    def _settings(self) -> None:
        """Send every setting that is pinned; a profile that forbids one says so."""
        self.connection.command("SELECT 1 FORMAT Null", settings=PINNED | {"insert_deduplication_token": "preflight"})

    def _token(self) -> None:
        """Insert two different rows under one token into a scratch table: one must be there."""
        name = f"preflight_probe_{uuid4().hex[:12]}"
        self.connection.command(
            f"CREATE TABLE {name} (n UInt8) ENGINE = MergeTree ORDER BY n"
            " SETTINGS non_replicated_deduplication_window = 10"
        )
        try:
            for number in (1, 2):
                settings = PINNED | {"insert_deduplication_token": "preflight"}
                self.connection.command(f"INSERT INTO {name} SELECT {number}", settings=settings)
            (row,) = self.connection.query(f"SELECT groupArray(n) AS rows FROM {name}")  # noqa: S608  (our own name)
        finally:
            with suppress(ConsumerError):
                self.connection.command(f"DROP TABLE IF EXISTS {name}")
        if row["rows"] != [1]:
            raise Fatal(
                "this ClickHouse does not count a repeated insert_deduplication_token once: use a version that"
                " headrace was tested with, and let no profile set deduplicate_insert or insert_deduplicate"
            )


def check_tables(connection: Connection, checks: Iterable[tuple[Target, Pace]]) -> None:
    """Check every table.

    Raises:
        Fatal, Transient: as TableCheck.run.
    """
    for target, pace in checks:
        try:
            TableCheck(connection, target, pace).run()
        except Rejected as error:
            raise Fatal(f"preflight: {error}") from error


def find_topics(cluster: Cluster, names: Sequence[str]) -> dict[str, Topic]:
    """Return the topics.

    Raises:
        Fatal: one is not there.
        Transient: no broker answers.
    """
    topics = {name: cluster.topic(name) for name in names}
    for name, topic in topics.items():
        if topic is None:
            create = f"kafka-topics.sh --bootstrap-server {cluster.servers} --create --topic {name} --partitions 4"
            raise Fatal(f"there is no topic {name}: run `{create}`")
    return {name: topic for name, topic in topics.items() if topic is not None}


def check_metadata(cluster: Cluster, topic: str) -> bool | None:
    """Check that an intent finds room in a commit, and tell whether the broker keeps it; None: it could not be tried.

    Raises:
        Fatal: it is too small.
    """
    allowed = int(cluster.broker_setting(_METADATA) or _METADATA_DEFAULT)
    if allowed < METADATA_BYTES_MAX:
        raise Fatal(
            f"the brokers' {_METADATA} is {allowed}, and {METADATA_BYTES_MAX} are needed: set it to {_METADATA_DEFAULT}"
        )
    return cluster.keeps_metadata(topic)


def size_warnings(cluster: Cluster, events: str, dead: str, batch_bytes_max: int) -> list[str]:
    """Compare what the two topics take with each other and with a batch; return a sentence for each that does not fit.

    A topic whose limit this client may not see is passed over.
    """
    limits = [cluster.topic_setting(topic, _MESSAGE_BYTES) for topic in (events, dead)]
    taken, kept = (int(limit) if limit is not None else None for limit in limits)
    told: list[str] = []
    if taken is not None and kept is not None and kept < taken + LETTER_HEADERS_BYTES:
        told.append(
            f"{dead} takes {kept} bytes, {events} {taken}: dead letters of its largest records are cut;"
            f" set {_MESSAGE_BYTES} of {dead} to {taken + LETTER_HEADERS_BYTES}"
        )
    if taken is not None and taken > batch_bytes_max:
        told.append(
            f"{events} takes {taken} bytes, more than a batch of CONSUMER_BATCH_BYTES_MAX ({batch_bytes_max}): one"
            f" record may take memory beyond the bound; set {_MESSAGE_BYTES} of {events} lower"
        )
    return told


def guarantee(*, keeps_metadata: bool) -> str:
    """Return what the log says of the promise at the start."""
    if keeps_metadata:
        return "every record becomes one row or one dead letter, through crashes, rebalances and lost answers"
    return (
        "this broker keeps no commit metadata: every record becomes a row or a dead letter at least once; a clean stop"
        " is exact, a crash between an insert and its commit may double one batch"
    )


def _quoted(name: str) -> str:
    """Return a name as SQL takes it: a view's own table has dots and dashes in its."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _window_setting(engine: str) -> tuple[str, str]:
    """Return the setting that is an engine's window, and the system table of its default."""
    if engine.startswith(("Replicated", "Shared")):
        return "replicated_deduplication_window", "replicated_merge_tree_settings"
    return "non_replicated_deduplication_window", "merge_tree_settings"
