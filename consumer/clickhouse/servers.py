"""Finds the single servers behind a connection's addresses, and keeps a sequence of statements on one of them.

An address may lead to a balancer that spreads connections, or even requests, over several servers. They are told apart
by the display name in their answers.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection
from consumer.errors import Cause, ConsumerError, Halt, HaltCode, Misconfigured, Transient
from schemas.transport.access import Url

log = logging.getLogger(__name__)

_QUIET_MIN: Final = 6
"""So many answers in a row without a new name end the search for servers."""
_SHARDS: Final = """
SELECT shard_num AS shard FROM system.clusters WHERE cluster = {cluster:String} AND is_local
"""
_NUMBERS: Final = """
SELECT DISTINCT shard_num AS shard FROM system.clusters WHERE cluster = {cluster:String} ORDER BY shard
"""
_REPLICAS: Final = """
SELECT replica_name AS name, total_replicas AS n FROM system.replicas
WHERE database = {database:String} AND table = 'events'
"""
_CURE: Final = (
    "name all, or the servers' cluster in CONSUMER_CLICKHOUSE_CLUSTER; `SYSTEM DROP REPLICA` removes one that is gone"
)
_COUNT: Final = "SELECT count() AS n FROM system.clusters WHERE cluster = {cluster:String}"


@contextmanager
def scratch_table(connection: Connection, prefix: str, definition: str) -> Iterator[tuple[Connection, str]]:
    """Create a table for a moment; yield a connection to the server that has it, and its name.

    Whatever needs the table must be asked of that connection. What can't be dropped afterwards, `migrate` sweeps.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    one = connection.sticky()
    name = one.create(prefix, definition)
    try:
        yield one, name
    finally:
        with suppress(ConsumerError):
            one.command(f"DROP TABLE IF EXISTS {name}")


def servers_of(connection: Connection) -> list[Connection]:
    """Return a connection to each server that the addresses lead to; the caller closes them.

    Raises:
        Transient, Fatal: a server is away, or refuses.
    """
    return [one for url in connection.urls for one in _behind(connection, url)]


def servers_of_cluster(connection: Connection) -> list[Connection]:
    """Return the same, all servers of the layout's cluster among them; for what each must do by itself.

    Raises:
        Transient, Fatal: a server is away, or refuses.
        Misconfigured: the addresses do not lead to all.
    """
    found, cluster = servers_of(connection), connection.layout.cluster
    count = found[0].query(_COUNT, {"cluster": cluster})[0]["n"] if cluster else 0
    if len(found) >= count:
        return found
    for one in found:
        one.close()
    named = f"names {len(found)} of {count} servers of the cluster {cluster}"
    raise Misconfigured(f"CONSUMER_CLICKHOUSE_URL: {named}: name all for this command")


def answering(connection: Connection) -> list[Connection]:
    """Return the same, but pass over addresses that do not answer: a warning names them.

    Raises:
        Transient: none answers.
        Fatal: a server refuses.
    """
    found: list[Connection] = []
    silent: list[Transient] = []
    for url in connection.urls:
        try:
            found += _behind(connection, url)
        except Transient as error:
            log.warning("a ClickHouse host does not answer", extra={"host": url.address, "reason": str(error)[:300]})
            silent.append(error)
    if not found:
        raise silent[0]
    return found


def _behind(connection: Connection, url: Url) -> list[Connection]:
    """Return a connection to each server that one address leads to."""
    names: list[str] = []
    quiet = 0
    scout = connection.to(url)
    try:
        while quiet < max(_QUIET_MIN, 2 * len(names)) and "" not in names:
            name = scout.whoami()
            quiet = quiet + 1 if name in names else 0
            names += [] if name in names else [name]
            scout.redial()
    finally:
        scout.close()
    return [connection.to(url, name) for name in names]


def shard_of(one: Connection) -> int:
    """Return which shard of the layout's cluster a server is; 0 when it is none.

    Raises:
        Transient, Fatal: the server is away, or refuses.
    """
    rows = one.query(_SHARDS, {"cluster": one.layout.cluster})
    return int(rows[0]["shard"]) if rows else 0


@contextmanager
def server_of_shard(connection: Connection, shard: int) -> Iterator[Connection]:
    """Yield a connection to a server of a shard itself, for what a table over all shards can't do.

    Raises:
        Transient: none answers.
        Halt: no address leads to it; or a server refuses.
    """
    one = _find(connection, shard)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def each_shard(connection: Connection) -> Iterator[dict[int, Connection]]:
    """Yield a connection to a server of each shard, by the shard's number; none without a cluster.

    Raises:
        Transient: a shard has none that answers.
        Halt: no address leads to a shard; or a server refuses.
        Misconfigured: there is no such cluster. Its one server would pass for all of it.
    """
    cluster = connection.layout.cluster
    rows = connection.query(_NUMBERS, {"cluster": cluster}) if cluster else []
    if cluster and not rows:
        raise Misconfigured(Sentence.NO_CLUSTER.format(host=connection.address, cluster=cluster))
    with ExitStack() as stack:
        yield {row["shard"]: stack.enter_context(server_of_shard(connection, row["shard"])) for row in rows}


@contextmanager
def each_replica(connection: Connection) -> Iterator[list[Connection]]:
    """Yield a connection to each replica of tables that are Replicated, and not of a cluster; none of other tables.

    Raises:
        Transient: a server is away.
        Halt: a server refuses.
        Misconfigured: the addresses do not lead to all replicas.
    """
    with ExitStack() as stack:
        where = {"database": connection.database}
        if connection.layout.cluster or not connection.query(_REPLICAS, where):
            yield []
            return
        found: dict[str, Connection] = {}
        count = 0
        for one in servers_of(connection):
            stack.callback(one.close)
            for row in one.query(_REPLICAS, where):
                count = max(count, row["n"])
                found.setdefault(row["name"], one)
        if len(found) < count:
            raise Misconfigured(f"CONSUMER_CLICKHOUSE_URL: names {len(found)} of {count} replicas of events: {_CURE}")
        yield list(found.values())


def _find(connection: Connection, shard: int) -> Connection:
    is_away, cluster = False, connection.layout.cluster
    for url in connection.urls:
        try:
            found = next((one for one in _behind(connection, url) if shard_of(one) == shard), None)
        except Transient:
            is_away = True
            continue
        if found is not None:
            return found
    if is_away:
        raise Transient(f"shard {shard} of {cluster} does not answer", Cause.AWAY)
    why = f"CONSUMER_CLICKHOUSE_URL names no server of shard {shard} of {cluster}: add one"
    raise Halt(why, HaltCode.SHARD)
