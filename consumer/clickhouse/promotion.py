"""Gives a member of `properties` a typed column, while rows come in.

The column has a DEFAULT expression over properties_text that never throws, so a client can't stop a worker with it.
Old rows show it at once: ClickHouse computes it when it is read, until a mutation has stored it. Workers name the
columns that they insert, so they need no restart. The column's comment says that it was promoted, from what.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.distributed import make_distributed
from consumer.clickhouse.migrations import comment_views, migrations, patiently
from consumer.clickhouse.products import make_products
from consumer.clickhouse.statements import PROMOTED, TYPED, column_of
from consumer.errors import Fatal, Misconfigured
from schemas.event import read_catalogue

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TEXT: Final = "JSONExtract(properties_text, '{name}', 'Nullable(String)')"
_NUMBER: Final = "JSONExtract(properties_text, '{name}', 'Nullable(Float64)')"
_DIGITS: Final = f"if(match({_TEXT}, '^[^eE]*[0-9]'), {_TEXT}, NULL)"
_FLAGS: Final = "['true', '1', 'false', '0', '-0'], [true, true, false, false, false], NULL"
TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "string": ("String", "JSONExtract(properties_text, '{name}', 'String')"),
    "number": ("Nullable(Float64)", f"if(isFinite({_NUMBER}), {_NUMBER}, NULL)"),
    "integer": ("Nullable(Int64)", f"toInt64OrNull({_TEXT})"),
    "decimal": (
        "Nullable(Decimal(18, 4))",
        f"accurateCastOrNull(round(toDecimal128OrNull({_DIGITS}, 12), 4), 'Decimal(18, 4)')",
    ),
    "boolean": ("Nullable(Bool)", f"transform({_TEXT}, {_FLAGS})"),
    "strings": ("Array(LowCardinality(String))", "JSONExtract(properties_text, '{name}', 'Array(String)')"),
}
"""By the catalogue's type: ClickHouse's, and the expression; the same as of documented members (0001_events.sql)."""
_COLUMNS: Final = """
SELECT name, comment FROM system.columns WHERE database = {database:String} AND table = {table:String}
"""
_VIEWS: Final = ("events_unique", "events_ready")
_WORD: Final = re.compile(
    "all|and|any|array|as|asc|between|by|case|cast|create|cross|delete|desc|distinct|drop|else|end|except"
    "|exists|false|final|format|from|full|global|group|having|if|ilike|in|inner|insert|intersect|interval"
    "|into|is|join|left|like|limit|not|null|offset|on|or|order|outer|over|prewhere|right|sample|select"
    "|settings|table|then|to|top|totals|true|union|update|using|values|when|where|window|with"
)
"""Words of SQL that a query would have to quote, or that its readers would stumble over."""
_MUTATION: Final = """
SELECT parts_to_do AS left, is_done, latest_fail_reason AS failure FROM system.mutations
WHERE database = {database:String} AND table = 'events' AND match(command, {pattern:String})
ORDER BY is_done, create_time DESC LIMIT 1
"""
_LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Promotion:
    """A member of `properties`, and the type of its column.

    Raises:
        Misconfigured: the member can't have a column of this type.
    """

    member: str
    type: str

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise Misconfigured(f"argument TYPE: must be one of {', '.join(TYPES)}")
        if not _NAME.fullmatch(self.member):
            raise Misconfigured(
                f"argument NAME: {self.member!r} can't be a column: a letter, then at most 63 letters, digits and _;"
                " members of members, and names with a dot, can be read as properties.`name`"
            )
        if _WORD.fullmatch(self.column):
            raise Misconfigured(
                f"argument NAME: {self.column} is a word of SQL: analysts would have to quote the column"
            )
        if self.member in read_catalogue().fields:
            raise Misconfigured(f"argument NAME: {self.member} is a field, and has the column {self.column}")
        if self.column in TYPED:
            raise Misconfigured(f"argument NAME: {self.member} has the column {self.column} already")

    @property
    def column(self) -> str:
        """The column's name."""
        return re.sub(r"_+", "_", column_of(self.member))

    @property
    def comment(self) -> str:
        """The column's comment, by which it is known again."""
        return f"{PROMOTED}the member {self.member} of properties as {self.type}"

    @property
    def definition(self) -> str:
        """The column, for ADD COLUMN."""
        kind, expression = TYPES[self.type]
        computed = f"DEFAULT {expression.format(name=self.member)}"
        return f"{self.column} {kind} {computed} COMMENT '{self.comment}' CODEC(ZSTD(1))"


def promote(connection: Connection, wanted: Promotion, time_zone: str, wait: Callable[[float], object]) -> list[str]:
    """Add the column, have old rows filled in the background, and make the views again; return what was done.

    Running it again finishes what an earlier run began.

    Raises:
        Misconfigured: the name is taken, or reserved.
        Transient, Fatal: the server stays away, or refuses.
    """
    said: list[str] = []
    comment = _column(connection, "events", wanted.column)
    if comment is None:
        _check_free(connection, wanted.column)
        add = f"ALTER TABLE events ADD COLUMN IF NOT EXISTS {wanted.definition} AFTER content_categories"
        patiently(lambda: connection.define(add), wait)
        comment = _column(connection, "events", wanted.column)
        said.append(f"events has the column {wanted.column}: {wanted.comment}")
    if comment != wanted.comment:
        raise Misconfigured(f"argument NAME: events has a column {wanted.column} already ({comment or 'no comment'})")
    if _mutation(connection, wanted) is None:
        patiently(lambda: connection.define(f"ALTER TABLE events MATERIALIZE COLUMN {wanted.column}"), wait)
    refresh_views(connection, time_zone, wait)
    return said


def await_filled(
    connection: Connection, wanted: Promotion, tell: Callable[[str], object], wait: Callable[[float], object]
) -> None:
    """Wait until old rows have the column stored, and say how many parts are left whenever that changes.

    Raises:
        Transient, Fatal: the server stays away; or it can't store the column.
    """
    before, found = -1, list[dict[str, object] | None]()
    while True:
        patiently(lambda: found.append(_mutation(connection, wanted)), wait)
        state = found.pop() or {"is_done": True}
        if state.get("failure"):
            raise Fatal(
                f"the column {wanted.column} can be read, but is not stored in old rows yet: {state['failure']};"
                " ClickHouse goes on trying"
            )
        if state["is_done"]:
            return
        if (left := int(str(state["left"]))) != before:
            tell(f"{left} parts of events are left to fill; Ctrl-C leaves that to ClickHouse")
        before = left
        wait(_LOOK_S)


def refresh_views(connection: Connection, time_zone: str, wait: Callable[[float], object]) -> list[str]:
    """Create the views again that show all columns of events, if they show others; return what `make_products` says.

    A view keeps the columns that its `SELECT *` had.
    """
    spread = make_distributed(connection, wait)
    columns = {table: _columns(connection, table).keys() for table in ("events", *_VIEWS)}
    hidden = {"_known", "_precedence"}
    if columns["events"] - hidden != columns["events_unique"] - hidden:
        for statement in _unique():
            patiently(lambda statement=statement: connection.define(statement), wait)  # type: ignore[misc]  # bound now, not late
        patiently(lambda: comment_views(connection), wait)
    return [*spread, *make_products(connection, time_zone, wait)]


def _unique() -> list[str]:
    """Return the statements that make the view events_unique."""
    texts = [statement for migration in migrations() for statement in migration.statements]
    return [text for text in texts if text.startswith("CREATE OR REPLACE VIEW events_unique ")][-1:]


def _columns(connection: Connection, table: str) -> dict[str, str]:
    rows = connection.query(_COLUMNS, {"database": connection.database, "table": table})
    return {row["name"]: row["comment"] for row in rows}


def _column(connection: Connection, table: str, name: str) -> str | None:
    return _columns(connection, table).get(name)


def _check_free(connection: Connection, name: str) -> None:
    """Raise Misconfigured when a view adds a column of this name."""
    for view in _VIEWS:
        if name in _columns(connection, view):
            raise Misconfigured(f"argument NAME: {view} has a column {name} already")


def _mutation(connection: Connection, wanted: Promotion) -> dict[str, object] | None:
    """Return the state of the mutation that stores the column; None when there is none."""
    where = {"database": connection.database, "pattern": rf"MATERIALIZE COLUMN `?{wanted.column}`?\W*$"}
    return next(iter(connection.query(_MUTATION, where)), None)
