"""Sets, changes and removes the tables' TTLs, as the settings say how many days rows and addresses stay.

A setting that is not given leaves its TTL as it is, so that a `migrate` without the variables keeps nothing longer than
was promised. A TTL that is not ours (a tier of disks, an operator's rule) is never replaced. What ClickHouse does with
a TTL, and what it costs: docs/OPERATIONS.md, "How long rows stay".
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import patiently
from consumer.errors import ConsumerError, Fatal

_MOMENTS: Final = {"events": "received_at", "dead_letters": "_timestamp"}
"""Since when a row of each table stays."""
# DateTime ends in 2106: a later moment would begin again in 1970, and its row would be gone at once.
_EXPIRY: Final = "toDateTime(least({moment}, toDateTime64('2090-01-01', 3, 'UTC'))) + toIntervalDay({days})"
_DAYS: Final = re.compile(r"toIntervalDay\((\d+)\)")
_TABLE: Final = """
SELECT engine_full AS engine, create_table_query AS text FROM system.tables
WHERE database = {database:String} AND name = {table:String}
"""
_OF_TABLE: Final = re.compile(r" TTL (.*?)(?: SETTINGS .*)?$", re.DOTALL)
_OF_IP: Final = re.compile(r"`ip` [^`]*? TTL (.*?), `", re.DOTALL)
# Without the first, a new TTL would rewrite every part. With the second, a month that expires is rewritten once a day.
# What a table has already is an operator's, or from an earlier run.
_SETTINGS: Final = {"materialize_ttl_recalculate_only": 1, "merge_with_ttl_timeout": 86400}


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days rows and addresses stay; 0: for ever; None: as the table has it."""

    events_days: int | None = None
    dead_letters_days: int | None = None
    ip_days: int | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    """A TTL that may be set.

    Attributes:
        table: its table.
        days: what is wanted; 0: none.
        what: what expires, for sentences.
        found: where its expression stands in the table's definition.
        column: the column that it empties; "" when it removes rows.
    """

    table: str
    days: int
    what: str
    found: re.Pattern[str]
    column: str = ""

    @property
    def expiry(self) -> str:
        """The wanted expression, as ClickHouse writes it; "" for none."""
        return _EXPIRY.format(moment=_MOMENTS[self.table], days=self.days) if self.days else ""

    @property
    def statements(self) -> list[str]:
        """What sets it, or removes it."""
        change = f"ALTER TABLE {self.table} MODIFY"
        if not self.days:
            removal = f"MODIFY COLUMN {self.column} REMOVE TTL" if self.column else "REMOVE TTL"
            return [f"ALTER TABLE {self.table} {removal}"]
        where = f"COLUMN {self.column} String " if self.column else ""
        return [f"{change} {where}TTL {self.expiry}"]

    @property
    def sentence(self) -> str:
        """What was done."""
        return f"{self.what} now stay {f'{self.days} days' if self.days else 'for ever'}"


def apply_retention(connection: Connection, retention: Retention, wait: Callable[[float], object]) -> list[str]:
    """Make the tables' TTLs those of the settings; return a sentence for each that was changed, or is not ours.

    Old parts take a new TTL in the background; ClickHouse removes what has expired in merges, within about a day.

    Raises:
        Transient: the server stays away.
        Fatal: it refuses; or a TTL is wanted where another one stands.
    """
    rules = (
        ("events", retention.events_days, "rows of events", _OF_TABLE, ""),
        ("events", retention.ip_days, "addresses in events", _OF_IP, "ip"),
        ("dead_letters", retention.dead_letters_days, "rows of dead_letters", _OF_TABLE, ""),
    )
    said: list[str] = []
    for table, days, what, found, column in rules:
        if days is None:
            continue
        rule = _Rule(table, days, what, found, column)
        patiently(lambda rule=rule: said.extend(_apply(connection, rule)), wait)  # type: ignore[misc]  # bound now, not late
    return said


def _apply(connection: Connection, rule: _Rule) -> list[str]:
    there = _there(connection, rule)
    if there == rule.expiry:
        return []
    if there and not _is_ours(there, rule.table):
        if not rule.days:
            return [f"{rule.table} has a TTL that migrate has not set, and leaves: {there}"]
        raise Fatal(f"{rule.table} has another TTL ({there}): remove it, or set the days of {rule.what} to 0")
    try:
        if rule.days:
            _set_up(connection, rule.table)
        for statement in rule.statements:
            connection.define(statement)
    except ConsumerError:  # another program may have done it meanwhile
        if _there(connection, rule) != rule.expiry:
            raise
    return [rule.sentence]


def _set_up(connection: Connection, table: str) -> None:
    """Set those of _SETTINGS that the table lacks."""
    (found,) = connection.query(_TABLE, {"database": connection.database, "table": table})
    lacking = {name: value for name, value in _SETTINGS.items() if not re.search(rf"\b{name} =", found["engine"])}
    if lacking:
        changes = ", ".join(f"{name} = {value}" for name, value in lacking.items())
        connection.command(f"ALTER TABLE {table} MODIFY SETTING {changes}")


def _there(connection: Connection, rule: _Rule) -> str:
    """Return the expression of the TTL that a table has now; "" for none."""
    for row in connection.query(_TABLE, {"database": connection.database, "table": rule.table}):
        if found := rule.found.search(row["text"] if rule.column else row["engine"]):
            return found[1]
    return ""


def _is_ours(expression: str, table: str) -> bool:
    days = _DAYS.search(expression)
    return days is not None and expression == _EXPIRY.format(moment=_MOMENTS[table], days=days[1])


def expiry_of(connection: Connection, table: str) -> str:
    """Return when rows of a table expire, as an expression over its columns; "" when they stay.

    A TTL that is not ours, or that this account may not see, counts as none.

    Raises:
        Transient: the server is away.
    """
    with suppress(Fatal):
        there = _there(connection, _Rule(table, 0, "", _OF_TABLE))
        return there if _is_ours(there, table) else ""
    return ""
