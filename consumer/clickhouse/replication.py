"""Waits until replicas have what the others had: one that lags looks like one that has lost rows."""

from typing import Final

from consumer.clickhouse.client import Connection
from consumer.errors import Cause, Transient

_REPLICATED: Final = """
SELECT name FROM system.tables
WHERE database = {database:String} AND name IN {tables:Array(String)} AND startsWith(engine, 'Replicated')
ORDER BY name
"""
_GIVEN_UP: Final = 0.9  # the server's timeout as a share of the client's


def synced(connection: Connection, *tables: str) -> Connection | None:
    """Wait until these tables have all that other replicas had, and return a connection to read them with.

    Of a cluster all replicas that run are waited for; else the one that the connection leads to.

    Returns:
        None where tables are plain: there is nothing to wait for.

    Raises:
        Transient: a replica does not catch up in time, or a server is away.
        Denied: the account may not wait for replicas.
    """
    if connection.layout.is_replicated:
        for table in tables:
            _sync(connection, table)
        return connection
    if connection.layout.cluster:
        return None
    one = connection.sticky()
    replicated = one.query(_REPLICATED, {"database": one.database, "tables": list(tables)})
    for row in replicated:
        _sync(one, row["name"])
    return one if replicated else None


def _sync(connection: Connection, table: str) -> None:
    limit_s = max(1, int(connection.timeout_s * _GIVEN_UP))
    settings: dict[str, object] = {"receive_timeout": limit_s}
    if connection.layout.is_replicated:  # nobody reads a replica that is down
        settings |= {"distributed_ddl_output_mode": "none_only_active", "distributed_ddl_task_timeout": limit_s}
    try:
        connection.command(connection.layout.sync(table, connection.database), settings=settings)
    except Transient as error:
        name = f"{connection.database}.{table}"
        why = f"a replica of {name} does not have yet what another one has; system.replication_queue says why"
        raise Transient(f"{why}: {error}", Cause.BUSY) from error
