"""Checks that a table accepts rows as exactly-once needs it; each fault is one sentence that says what to do.

A command in backquotes is complete: it can be run as it is, and repairs the fault.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import FIRST_SHARD
from consumer.clickhouse.servers import scratch_table
from consumer.clickhouse.statements import PINNED, columns_of_table, targets_of
from consumer.delivery.intent import Origin
from consumer.errors import Cause, ConsumerError, Fatal, Halt, Rejected, Transient
from schemas.codec import container_header, read_schema

LEDGER: Final = "offsets"
LEDGER_VIEWS: Final = {"events": "events_to_offsets", "dead_letters": "dead_letters_offsets"}
"""The views that count the rows inserted into each table."""
_COUNTED: Final = frozenset(
    {"topic", "topic_id", "partition", "million", "rows", "present", "first", "last", "newest_at", "reading", "epochs"}
)
"""The columns of the table `offsets`, each filled by its views."""
_TABLE: Final = """
SELECT engine, engine_full, dependencies_database AS databases, dependencies_table AS views
FROM system.tables WHERE database = {database:String} AND name = {table:String}
"""
_DETACHED: Final = """
SELECT table FROM system.detached_tables WHERE database = {database:String} AND table = {table:String}
"""
_COLUMNS: Final = """
SELECT name, default_kind AS kind, type FROM system.columns
WHERE database = {database:String} AND table = {table:String}
"""
_VIEW: Final = """
SELECT engine, create_table_query AS text, toString(uuid) AS id, as_select AS query
FROM system.tables WHERE database = {database:String} AND name = {table:String}
"""
_DEFAULT_WINDOW: Final = "SELECT toUInt64(value) AS value FROM system.{table:Identifier} WHERE name = {name:String}"
_TO: Final = re.compile(r"^CREATE MATERIALIZED VIEW \S+ (?:UUID \S+ )?TO (?:(?:(\w+)|`([^`]+)`)\.)?(?:(\w+)|`([^`]+)`)")
STORED: Final = ("", "DEFAULT")
"""The kinds of columns that store inserted values."""
_CURES: Final = {
    "MATERIALIZED": "REMOVE MATERIALIZED",
    "ALIAS": "REMOVE ALIAS",
    "EPHEMERAL": "DEFAULT defaultValueOfTypeName({type})",
}
"""By kind: what turns a column into one that stores inserted values; an ephemeral one can't be altered otherwise."""


class TableName(NamedTuple):
    """A table that an insert writes to, and the view through which it does; "" for the table itself."""

    database: str
    table: str
    view: str = ""

    @property
    def name(self) -> str:
        """The quoted name: a view's inner table has dots and dashes in its name."""
        return f"{quoted(self.database)}.{quoted(self.table)}"


@dataclass(frozen=True, slots=True)
class TableCheck:
    """Checks one table, its views and their targets."""

    connection: Connection
    target: Target
    pace: InsertPace

    def run(self) -> None:
        """Return if the table is as needed.

        Raises:
            Fatal: one sentence that says what to do.
            Transient: the server is away.
        """
        self._columns()
        written = dict(self._written())
        self._ledger(written)
        for place, row in written.items():
            self._window(place, row)
        self._settings()
        self._insert()

    def check_windows(self) -> None:
        """Check only how many blocks the table and the targets of its views remember.

        Raises:
            Fatal, Transient: as run.
        """
        for place, row in self._written():
            self._window(place, row)

    @property
    def _place(self) -> TableName:
        return TableName(self.connection.database, self.target.table)

    def _columns(self) -> None:
        place = self._place
        there = self._columns_of(place)
        if not there:
            raise self._gone(place, Sentence.NO_TABLE)
        _check_lacking(place, columns_of_table(self.target.schema_name, self.target.topic) - there.keys())
        filled = [there[name] for name in sorted(targets_of(self.target.schema_name, self.target.topic))]
        if cures := [cure_of(place, column) for column in filled if column["kind"] not in STORED]:
            raise _fault(Sentence.KEEPS_NOTHING, table=place.name, cures=", ".join(cures))

    def _columns_of(self, place: TableName) -> dict[str, dict[str, Any]]:
        where = {"database": place.database, "table": place.table}
        return {row["name"]: row for row in self.connection.query(_COLUMNS, where)}

    def _gone(self, place: TableName, otherwise: Sentence) -> Fatal:
        """Return the fault of a missing table: a detached one must be attached, not created."""
        is_detached = self._is_detached({"database": place.database, "table": place.table})
        return _fault(Sentence.DETACHED if is_detached else otherwise, table=place.name, view=place.view)

    def _is_detached(self, where: dict[str, str]) -> bool:
        with suppress(ConsumerError):  # an older server, or no permission
            return bool(self.connection.query(_DETACHED, where))
        return False

    def _written(self) -> Iterator[tuple[TableName, dict[str, Any]]]:
        """Yield every table that an insert writes to, the table itself and the targets of its views, and what it is.

        One that is not there is {}.
        """
        queue, seen = [self._place], set[tuple[str, str]]()
        while queue:
            place = queue.pop()
            if place[:2] in seen:
                continue
            seen.add(place[:2])
            (row,) = self._table(place) or [{}]
            yield place, row
            if row.get("engine") == "Distributed":
                raise _fault(Sentence.DISTRIBUTED, table=place.name)
            views = zip(row.get("databases", ()), row.get("views", ()), strict=True)
            queue += filter(None, (self._target_of(*view) for view in views))

    def _table(self, place: TableName) -> list[dict[str, Any]]:
        return self.connection.query(_TABLE, {"database": place.database, "table": place.table})

    def _target_of(self, database: str, view: str) -> TableName | None:
        rows = self.connection.query(_VIEW, {"database": database, "table": view})
        if not rows or rows[0]["engine"] != "MaterializedView":
            return None
        by = f"{quoted(database)}.{quoted(view)}"
        found = _TO.match(rows[0]["text"])
        if found:
            return TableName(found[1] or found[2] or database, found[3] or found[4], by)
        return TableName(database, f".inner_id.{rows[0]['id']}", by)

    def _ledger(self, places: Collection[TableName]) -> None:
        """Check that inserted rows are counted: without the view the audit would report all of them missing."""
        database, view = self.connection.database, LEDGER_VIEWS[self.target.table]
        ledger, own = TableName(database, LEDGER), TableName(database, view)
        if not self._table(ledger):
            raise self._gone(ledger, Sentence.NO_LEDGER)
        _check_lacking(ledger, _COUNTED - self._columns_of(ledger).keys())
        found = self.connection.query(_VIEW, {"database": database, "table": view})
        if not any(place[:2] == ledger[:2] for place in places):
            if not found:
                raise self._gone(own, Sentence.NO_LEDGER_VIEW)
            names = {"view": own.name, "table": self._place.name, "ledger": ledger.name}
            raise _fault(Sentence.OTHER_LEDGER_VIEW, **names)
        counted = set(re.findall(r"\bAS (\w+)", found[0]["query"])) if found else _COUNTED  # a person's own view
        if not counted >= _COUNTED:
            raise _fault(Sentence.OLD_LEDGER_VIEW, view=own.name, columns=", ".join(sorted(_COUNTED - counted)))

    def _window(self, place: TableName, row: Mapping[str, Any]) -> None:
        if not row:
            raise self._gone(place, Sentence.NO_TARGET)
        engine, full = str(row["engine"]), str(row["engine_full"])
        if engine in ("Null", "View"):
            return
        if not engine.endswith("MergeTree"):
            raise _fault(Sentence.NO_DEDUPLICATION, table=place.name, view=place.view, engine=engine)
        setting, defaults = _window_setting(engine)
        found = re.search(rf"\b{setting} = (\d+)", full)
        window = int(found[1]) if found else self._default(setting, defaults)
        if window < self.pace.window:
            needed = self.pace.window
            raise _fault(Sentence.SMALL_WINDOW, table=place.name, window=window, needed=needed, setting=setting)
        self._seconds(place, engine, full)

    def _seconds(self, place: TableName, engine: str, full: str) -> None:
        """Check how long a replicated table remembers: an intent may be repeated days later."""
        setting, defaults = _window_setting(engine)
        if not setting.startswith("replicated"):
            if self.connection.layout.quorum != "0":
                raise _fault(Sentence.NO_QUORUM, table=place.name)
            return
        setting += "_seconds"
        found = re.search(rf"\b{setting} = (\d+)", full)
        window, needed = int(found[1]) if found else self._default(setting, defaults), self.pace.window_s
        if window < needed:
            cluster = self.connection.layout.cluster
            where = f" ON CLUSTER '{cluster}'" if cluster else ""
            names = {"window": window, "needed": needed, "setting": setting, "everywhere": where}
            raise _fault(Sentence.SHORT_WINDOW, table=place.name, **names)

    def _default(self, setting: str, defaults: str) -> int:
        rows = self.connection.query(_DEFAULT_WINDOW, {"table": defaults, "name": setting})
        return int(rows[0]["value"]) if rows else 0

    def _settings(self) -> None:
        """Send every pinned setting; a profile that forbids one says so."""
        self.connection.command("SELECT 1 FORMAT Null", settings=PINNED | {"insert_deduplication_token": "preflight"})

    def _insert(self) -> None:
        """Run the insert statement without rows: a server that refuses the statement says so now."""
        payload = container_header(read_schema(self.target.schema_name))
        settings = PINNED | {"insert_deduplication_token": "preflight"}
        layout = self.connection.layout
        target = replace(self.target, table=layout.over_all(self.target.table))
        settings |= layout.of_insert(FIRST_SHARD) | layout.of_quorum(self.pace.timeout_s)
        try:
            self.connection.command(target.statement, Origin("preflight")._asdict(), payload, settings)
        except Transient as error:
            if error.cause is Cause.VIEW:
                raise _fault(Sentence.TAKES_NO_ROW, table=self._place.name, why=error) from error
            raise
        except (Halt, Rejected) as error:
            raise _fault(Sentence.TAKES_NO_ROW, table=self._place.name, why=error) from error


def check_tokens(connection: Connection) -> None:
    """Insert two different rows under one token into a temporary table: it must have one.

    Raises:
        Fatal: it has two, or the server refuses.
        Transient: the server is away.
    """
    definition = "(n UInt8) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 10"
    with scratch_table(connection, "preflight_probe_", definition) as (one, name):
        for number in (1, 2):
            settings = PINNED | {"insert_deduplication_token": "preflight"}
            one.command(f"INSERT INTO {name} SELECT {number}", settings=settings)
        (row,) = one.query(f"SELECT groupArray(n) AS rows FROM {name}")  # noqa: S608  (our own name)
    if row["rows"] != [1]:
        raise _fault(Sentence.NO_TOKENS)


def cure_of(place: TableName, column: Mapping[str, Any]) -> str:
    """Return the statement that makes a column (its name, kind and type) store inserted values."""
    escaped = column["type"].replace("\\", "\\\\").replace("'", "\\'")
    cure = _CURES.get(column["kind"], f"REMOVE {column['kind']}").format(type=f"'{escaped}'")
    return f"`ALTER TABLE {place.name} MODIFY COLUMN {quoted(column['name'])} {cure}`"


def _check_lacking(place: TableName, lacking: Collection[str]) -> None:
    if lacking:
        raise _fault(Sentence.NO_COLUMNS, table=place.name, columns=", ".join(sorted(lacking)))


def _fault(sentence: Sentence, **names: object) -> Fatal:
    return Fatal(sentence.format(**names))


def quoted(name: str) -> str:
    """Return a quoted name, without backquotes: these surround statements in our sentences."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _window_setting(engine: str) -> tuple[str, str]:
    """Return the name of an engine's window setting, and the system table with its default."""
    if engine.startswith(("Replicated", "Shared")):
        return "replicated_deduplication_window", "replicated_merge_tree_settings"
    return "non_replicated_deduplication_window", "merge_tree_settings"
