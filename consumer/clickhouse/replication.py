"""Waits until replicas have what the others had: one that lags looks like one that has lost rows."""

import math
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from time import monotonic
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import WHO_ANSWERS
from consumer.clickhouse.table import GROWTH_MAX
from consumer.delivery.repeats import FENCE_S
from consumer.errors import Cause, ConsumerError, Transient

_REPLICATED: Final = """
SELECT name FROM system.tables
WHERE database = {database:String} AND name IN {tables:Array(String)} AND startsWith(engine, 'Replicated')
ORDER BY name
"""
_BEHIND: Final = """
SELECT hostName() AS host, tcpPort() AS port, absolute_delay AS delay_s, queue_size AS entries FROM %s
WHERE database = {database:String} AND table = {table:String} ORDER BY delay_s DESC, entries DESC LIMIT 1
"""
_WHY: Final = "system.replication_queue says why"
_GIVEN_UP: Final = 0.9  # the server's timeout as a share of the client's


class Replicas:
    """The replicas of some tables. Threads share it; one waits at a time.

    A wait serves all who had asked for it when it began. One that took too long gets more time the next time, up to
    `GROWTH_MAX` times as much, so that it ends although a replica is always behind by the same. Its result can be used
    for somewhat less time than tables remember a token (`remembered_s`), so no wait takes longer.
    """

    def __init__(
        self,
        connection: Connection,
        *tables: str,
        remembered_s: float = math.inf,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._known_s = max(FENCE_S, remembered_s - FENCE_S)
        self._total_s = max(self._known_s / 2, self._known_s - FENCE_S)
        self._now_s = now_s
        self._began_s = float("-inf")
        self._lacking = ""  # what the last wait ended with, if not well
        self._growth = 1
        self._reader: Connection | None = None
        self._lock = threading.Lock()

    @property
    def reader(self) -> Connection:
        """The connection that shows all which the replicas had when they were last waited for.

        Raises:
            Transient: they were not waited for yet.
        """
        if self._reader is None:
            raise Transient("the replicas were not waited for yet", Cause.REPLICA)
        return self._reader

    def wait(self, asked_s: float) -> float:
        """Wait until they have all that one of them had at a moment (monotonic); it may be over already.

        Returns:
            until when (monotonic) an intent may be committed on this wait. Its insert begins at most `FENCE_S` later,
            when tables still know the tokens of all rows that came since the wait began.

        Raises:
            Transient: a replica does not catch up in time, or a server is away.
            Denied: the account may not wait for replicas.
        """
        with self._lock:
            if self._began_s <= asked_s:
                self._wait()
            if self._lacking:
                raise Transient(self._lacking, Cause.REPLICA)
            return self._began_s + self._known_s

    def _wait(self) -> None:
        began_s = self._now_s()
        try:
            limit_s = self._connection.timeout_s * self._growth
            found = synced(self._connection, *self._tables, limit_s=limit_s, total_s=self._total_s)
            self._reader, self._lacking, self._growth = found or self._connection, "", 1
        except Transient as error:
            if error.cause is not Cause.REPLICA:
                raise
            self._lacking, self._growth = str(error), min(GROWTH_MAX, 2 * self._growth)
        self._began_s = began_s


def synced(
    connection: Connection, *tables: str, limit_s: float | None = None, total_s: float = math.inf
) -> Connection | None:
    """Wait until these tables have all that other replicas had, and return a connection to read them with.

    Of a cluster all replicas that run are waited for; else the one that the connection leads to. Each table is waited
    for up to `limit_s`, by default as long as for any answer, and all of them up to `total_s`.

    Returns:
        None where tables are plain: there is nothing to wait for.

    Raises:
        Transient: a replica does not catch up in time, or a server is away.
        Denied: the account may not wait for replicas.
    """
    limit_s, end_s = connection.timeout_s if limit_s is None else limit_s, monotonic() + total_s
    if connection.layout.is_replicated:
        for table in tables:
            _sync(connection, table, min(limit_s, end_s - monotonic()))
        return connection
    if connection.layout.cluster:
        return None
    one = connection.sticky()
    replicated = one.query(_REPLICATED, {"database": one.database, "tables": list(tables)})
    for row in replicated:
        _sync(one, row["name"], min(limit_s, end_s - monotonic()))
    return one if replicated else None


def _sync(connection: Connection, table: str, limit_s: float) -> None:
    given_s = max(1, int(limit_s * _GIVEN_UP))
    settings: dict[str, object] = {"receive_timeout": given_s}
    if connection.layout.is_replicated:  # nobody reads a replica that is down
        settings |= {"distributed_ddl_output_mode": "none_only_active", "distributed_ddl_task_timeout": given_s}
    try:
        _send(connection, connection.layout.sync(table, connection.database), settings, limit_s)
    except Transient as error:
        if error.cause is Cause.AWAY:
            raise
        name = f"{connection.database}.{table}"
        why = f"a replica of {name} does not have yet what another one has{_behind(connection, table)}; {_WHY}"
        raise Transient(f"{why}: {error}", Cause.REPLICA) from error


def _send(connection: Connection, statement: str, settings: dict[str, object], limit_s: float) -> None:
    if limit_s <= connection.timeout_s:
        connection.command(statement, settings=settings)
        return
    with closing(connection.patient(limit_s)) as patient:
        patient.command(statement, settings=settings)


def _behind(connection: Connection, table: str) -> str:
    """Return which replica is the furthest behind, as far as the servers tell."""
    layout = connection.layout
    settings = WHO_ANSWERS if layout.cluster else {}
    where = {"database": connection.database, "table": table}
    with suppress(ConsumerError):
        for row in connection.query(_BEHIND % layout.everywhere("system.replicas"), where, settings=settings):
            return f" ({row['host']}:{row['port']} is {row['delay_s']} s behind, with {row['entries']} entries to do)"
    return ""
