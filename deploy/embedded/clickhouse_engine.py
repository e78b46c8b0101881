"""The ClickHouse engine in this process: one data directory, any number of statements at once.

Every statement gets a connection of its own (0.1 ms), so no setting of one reaches another, and the
engine lets go of Python's lock while it works: a slow statement holds up none of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from chdb._exceptions import ChdbError  # what its connections raise; chdb.ChdbError is another class
from chdb.state.sqlitelike import Connection

from deploy.embedded.clickhouse_errors import UNKNOWN_FORMAT, UNKNOWN_SETTING, ClickHouseError, from_engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.embedded.clickhouse_statements import Statement

_SETTING: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Where the engine as a library differs from a server; and no row count of a body may be remembered
# under its path, because the next body gets the same one.
_AS_SERVER: Final = {
    "implicit_select": "0",
    "use_cache_for_count_from_files": "0",
    "schema_inference_use_cache_for_file": "0",
}
# Formats of chdb's Python interface, not of ClickHouse.
_PYTHON_FORMATS: Final = frozenset(("arrowtable", "dataframe", "datastore"))


@dataclass(frozen=True, slots=True)
class Execution:
    """A statement and what the request says about it.

    Attributes:
        statement: What to run.
        body_path: The file with the statement's data; None when it takes none.
        database: The current database; None for `default`.
        settings: Engine settings, as text.
        parameters: Values for `{name:Type}`, in ClickHouse's escaped form.
        default_format: Of the answer, where the SQL names none.
        read_only: Refuse whatever writes, as a GET does.
    """

    statement: Statement
    body_path: str | None = None
    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    default_format: str = "TabSeparated"
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave: its output, and the counts of the X-ClickHouse-Summary header."""

    body: bytes
    summary: dict[str, str]


class Engine:
    """The engine over one data directory; `close` writes what is pending and ends it.

    A process can have one engine, and a directory one process: the caller sees to that.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = str(data_dir)
        self._anchor = Connection(self._path)  # the engine lives as long as one connection does
        facts = "SELECT version(), timezone(), getSetting('max_insert_block_size')"
        self.version, self.timezone, self._insert_rows = self._anchor.query(facts, "TSV").bytes().decode().split()

    def run(self, execution: Execution) -> Answer:
        """Run one statement to its end.

        Raises:
            ClickHouseError: With the engine's code, name and message.
        """
        if execution.default_format.lower() in _PYTHON_FORMATS:
            raise ClickHouseError(UNKNOWN_FORMAT, f"Unknown format {execution.default_format}")
        connection = Connection(self._path)
        try:
            for preparation in _preparations(execution, self._insert_rows):
                connection.query(preparation)
            sql = execution.statement.sql(execution.body_path)
            # bytes: SQL need not be UTF-8. Parameters do not come by SET, which ends at max_query_size.
            result = connection.query(sql, execution.default_format, dict(execution.parameters))  # type: ignore[arg-type]
            return Answer(result.bytes(), _summary(result, inserts=execution.body_path is not None))
        except UnicodeDecodeError as error:  # the message quotes a row that is no UTF-8
            raise from_engine(error.object.decode("utf-8", "replace")) from error
        except (ChdbError, RuntimeError) as error:
            raise from_engine(str(error)) from error
        finally:
            connection.close()

    def close(self) -> None:
        """End the engine; no statement may be running."""
        self._anchor.close()


def _preparations(execution: Execution, insert_rows: str) -> list[str]:
    """Return the statements that bring a new connection to where the request wants it."""
    values = {**_AS_SERVER, **execution.settings}
    if execution.statement.structure is not None:
        # input() gives blocks of that size, file() of the other; an insert's token counts the blocks.
        values["max_block_size"] = values.get("max_insert_block_size", insert_rows)
    for name in values:
        if not _SETTING.fullmatch(name):
            raise ClickHouseError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
    statements = ["SET " + ", ".join(f"{name} = {_quoted(value)}" for name, value in values.items())]
    if execution.database:
        statements.append("USE `" + execution.database.replace("\\", "\\\\").replace("`", "\\`") + "`")
    if execution.read_only:
        statements.append("SET readonly = 2")
    return statements


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _summary(result: Any, *, inserts: bool) -> dict[str, str]:
    # The engine counts the rows of a body as the result's, because its client side parses them.
    rows, row_bytes = result.rows_read(), result.bytes_read()
    counts = {
        "read_rows": result.storage_rows_read() or (rows if inserts else 0),
        "read_bytes": result.storage_bytes_read() or (row_bytes if inserts else 0),
        "written_rows": result.rows_written(),
        "written_bytes": result.bytes_written(),
        "total_rows_to_read": 0,
        "result_rows": result.rows_written() if inserts else rows,
        "result_bytes": result.bytes_written() if inserts else result.size(),
        "elapsed_ns": round(result.elapsed() * 1e9),
    }
    return {name: str(count) for name, count in counts.items()}
