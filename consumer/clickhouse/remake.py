"""Recreates tables, columns and views that the migrations made and that are missing; names what an operator must do.

It runs the migrations in a temporary database, and drops that afterwards: so it knows the expected tables and columns
in ClickHouse's own form.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection
from consumer.clickhouse.statements import PROMOTED
from consumer.clickhouse.table_check import LEDGER, LEDGER_VIEWS, STORED, TableName, cure_of, quoted
from consumer.errors import Cause, ConsumerError, Fatal, Transient

RECOUNT: Final = "`python -m consumer audit --recount`"
_PREFIX: Final = "_reference_"
_TABLES: Final = """
SELECT name, engine, create_table_query AS text, as_select AS query
FROM system.tables WHERE database = {database:String} ORDER BY engine IN ('MaterializedView', 'View'), engine, name
"""
_DETACHED: Final = "SELECT table AS name FROM system.detached_tables WHERE database = {database:String}"
_COLUMNS: Final = """
SELECT table, name, type, default_kind AS kind, default_expression AS expression, comment, compression_codec AS codec,
    lagInFrame(name) OVER (PARTITION BY table ORDER BY position ROWS 1 PRECEDING) AS behind
FROM system.columns WHERE database = {database:String} ORDER BY table, position
"""
_LEFT_BEHIND: Final = """
SELECT database AS name FROM system.tables WHERE startsWith(database, {prefix:String})
GROUP BY name HAVING max(metadata_modification_time) <= now() - 3600
"""
_REPLICATED: Final = ("Replicated", "Shared")


@dataclass(frozen=True, slots=True)
class Remake:
    """Compares a database with what the migrations make.

    Attributes:
        connection: connects to the database.
        fill: runs the migrations over a connection to an empty database.
    """

    connection: Connection
    fill: Callable[[Connection], object]

    def run(self) -> list[str]:
        """Recreate what is missing; return a sentence for each thing that was created.

        Raises:
            Transient: the server is away.
            Fatal: an operator must act; the sentence names the statement to run.
        """
        with self._reference() as reference:
            ours = reference.query(_TABLES, {"database": reference.database})
            columns = reference.query(_COLUMNS, {"database": reference.database})
        there = self._named_back({row["name"]: row for row in self._query(_TABLES)})
        missing = [row for row in ours if row["name"] not in there]
        self._check(missing, there.values())
        made, faults = list[str](), list[str]()
        views = [row for row in missing if row["engine"].endswith("View")]
        self._make([row for row in missing if row not in views], reference.database, made)
        stored = {row["name"] for row in ours if not row["engine"].endswith("View")} & there.keys()
        self._mend_columns([row for row in columns if row["table"] in stored], made, faults)
        if not faults:  # else it may lack a column
            self._make(views, reference.database, made)
        for row in (row for row in ours if row["engine"] == "MaterializedView" and row["name"] in there):
            more, wrong = self._mend_view(row, there[row["name"]], reference.database)
            made, faults = made + more, faults + wrong
        if any(row["name"] in (LEDGER, *LEDGER_VIEWS.values()) for row in missing):
            made.append(f"rows inserted meanwhile are not counted: run {RECOUNT}")
        if faults:
            raise Fatal("; ".join((*made, *faults)))
        return made

    def _make(self, missing: list[dict[str, Any]], reference: str, made: list[str]) -> None:
        for row in missing:
            self.connection.define(again(row["text"], reference))
            made.append(f"{row['name']} was missing and has been created again")

    def _named_back(self, there: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return what is there, after a view got back the name that it lacked because the server was killed."""
        left = [view for view in LEDGER_VIEWS.values() if view not in there and _other_name(view) in there]
        for view in left:
            with suppress(Fatal):  # another program is renaming it
                self.connection.define(
                    f"RENAME TABLE {self._place(_other_name(view)).name} TO {self._place(view).name}"
                )
        now = {row["name"]: row for row in self._query(_TABLES)} if left else there
        if lacking := [view for view in left if view not in now]:
            raise Transient(f"{lacking[0]} is being renamed", Cause.BUSY)
        return now

    @contextmanager
    def _reference(self) -> Iterator[Connection]:
        prefix = f"{self.connection.database}{_PREFIX}"
        for row in self.connection.query(_LEFT_BEHIND, {"prefix": prefix}):
            self.connection.command(f"DROP DATABASE IF EXISTS {row['name']}")
        name = f"{prefix}{uuid4().hex[:12]}"
        self.connection.command(f"CREATE DATABASE {name}")
        reference = self.connection.beside(name)
        try:
            self.fill(reference)
            yield reference
        finally:
            reference.close()
            with suppress(ConsumerError):  # the next run drops it
                self.connection.command(f"DROP DATABASE IF EXISTS {name} SYNC")

    def _query(self, statement: str) -> list[dict[str, Any]]:
        return self.connection.query(statement, {"database": self.connection.database})

    def _place(self, table: str) -> TableName:
        return TableName(self.connection.database, table)

    def _check(self, missing: list[dict[str, Any]], there: Collection[dict[str, Any]]) -> None:
        """Raise Fatal when a missing table can't be recreated."""
        detached = {row["name"] for row in self._query(_DETACHED)} if missing else set[str]()
        for row in missing:
            partition = self._place(row["name"])
            if row["name"] in detached:
                raise Fatal(Sentence.DETACHED.format(table=partition.name))
            is_made_for_all = row["engine"].startswith(_REPLICATED) or self.connection.layout.is_replicated
            if not is_made_for_all and any(one["engine"].startswith(_REPLICATED) for one in there):
                raise Fatal(Sentence.REPLICATED.format(table=partition.name))

    def _mend_columns(self, ours: list[dict[str, Any]], made: list[str], faults: list[str]) -> None:
        """Add missing columns, and name those that were renamed or are of another kind."""
        there = {(row["table"], row["name"]): row for row in self._query(_COLUMNS)}
        strangers = there.keys() - {(row["table"], row["name"]) for row in ours}
        strangers -= {name for name, row in there.items() if row["comment"].startswith(PROMOTED)}
        for row in ours:
            now = there.get((row["table"], row["name"]))
            if now is not None:
                faults += self._faults_of(row, now)
                continue
            partition = self._place(row["table"])
            is_placed = (row["table"], row["behind"]) in there
            add = f"ALTER TABLE {partition.name} ADD COLUMN IF NOT EXISTS {_definition(row)}"
            add += f" AFTER {quoted(row['behind'])}" if is_placed else ""
            alike = [one for one in sorted(strangers) if one[0] == row["table"] and there[one]["type"] == row["type"]]
            if alike:
                rename = f"ALTER TABLE {partition.name} RENAME COLUMN {quoted(alike[0][1])} TO {quoted(row['name'])}"
                names = {"column": quoted(row["name"]), "rename": rename, "add": add}
                faults.append(Sentence.RENAMED.format(table=partition.name, **names))
                continue
            self.connection.define(add)
            there[row["table"], row["name"]] = row
            made.append(f"the column {row['name']} of {row['table']} was missing and has been created again")

    def _faults_of(self, ours: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with a column's kind."""
        partition, is_stored = self._place(ours["table"]), ours["kind"] in STORED
        if is_stored and now["kind"] not in STORED:
            yield Sentence.KEEPS_NOTHING.format(table=partition.name, cures=cure_of(partition, now))
        elif not is_stored and now["kind"] != ours["kind"]:
            modify = f"ALTER TABLE {partition.name} MODIFY COLUMN {_definition(ours)}"
            column = quoted(ours["name"])
            yield Sentence.COMPUTES_NOTHING.format(table=partition.name, column=column, modify=modify)

    def _mend_view(self, ours: dict[str, Any], now: dict[str, Any], reference: str) -> tuple[list[str], list[str]]:
        """Restore the query of one of our views; a view that writes elsewhere can't be altered.

        It is renamed there and back; otherwise its tokens would change when the server is restarted: ALTER gives the
        view another id in the running server, and the tokens name the id.
        """
        partition, database = self._place(ours["name"]), self.connection.database
        if _target(ours["text"], reference) != _target(now["text"], database):
            table, ledger = partition._replace(table=_source(ours["query"])), partition._replace(table=LEDGER)
            names = {"view": partition.name, "table": table.name, "ledger": ledger.name}
            return [], [Sentence.OTHER_LEDGER_VIEW.format(**names)]
        if _bare(ours["query"], reference) == _bare(now["query"], database):
            return [], []
        self.connection.define(f"ALTER TABLE {partition.name} MODIFY QUERY {_bare(ours['query'], reference)}")
        other = self._place(_other_name(ours["name"])).name
        self.connection.define(f"RENAME TABLE {partition.name} TO {other}, {other} TO {partition.name}")
        return [f"the query of {ours['name']} was changed and has been restored"], []


def _other_name(view: str) -> str:
    return f"{view}_renamed"


def again(text: str, database: str) -> str:
    """Return the statement that creates in our database what another one has, from `create_table_query` there."""
    kind, rest = re.fullmatch(r"CREATE (MATERIALIZED VIEW|VIEW|TABLE) (.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]  # every CREATE of ours is one
    return f"CREATE {kind} IF NOT EXISTS {_bare(rest, database)}"


def _bare(text: str, database: str) -> str:
    """Return a statement without its database's name."""
    return re.sub(rf"(?<![\w.]){database}\.", "", text)


def _source(query: str) -> str:
    """Return the table that one of our views reads."""
    return str(re.findall(r"\bFROM (?:\w+\.)?(\w+)", query)[-1])


def _target(text: str, database: str) -> str:
    found = re.match(r"CREATE MATERIALIZED VIEW \S+ (?:UUID \S+ )?(TO \S+)", _bare(text, database))
    return found[1] if found else ""


def _definition(row: dict[str, Any]) -> str:
    """Return a column's definition for CREATE TABLE."""
    computed = f"{row['kind']} {row['expression']}" if row["kind"] else ""
    comment = "'" + row["comment"].replace("\\", "\\\\").replace("'", "\\'") + "'"
    parts = (quoted(row["name"]), row["type"], computed, f"COMMENT {comment}", row["codec"])
    return " ".join(part for part in parts if part)
