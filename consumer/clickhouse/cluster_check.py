"""Checks what exactly-once needs of several servers; each fault is one sentence that says what to do.

On a cluster: all entry nodes know the same shards; each shard's replicas replicate themselves, and have macros of their
own; tables over all shards have no sharding key; all replicas' tables have the same columns, engines and windows; and
where tables are plain, each shard has a server that can be reached. The account has the rights for this. Servers
without a cluster must share their tables.
A server that does not answer is passed over: a worker must be able to start while one is down.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection
from consumer.clickhouse.grants import OF_CLUSTER, check_grants, of_replicas
from consumer.clickhouse.layout import WHO_ANSWERS
from consumer.clickhouse.servers import answering, servers_of, shard_of
from consumer.clickhouse.table_check import TableName, check_tokens
from consumer.errors import Fatal

log = logging.getLogger(__name__)

_SHARED: Final = ("Replicated", "Shared")
_SHARDS: Final = """
SELECT shard_num AS shard, replica_num AS replica, host_name AS host, port, internal_replication AS is_own
FROM system.clusters WHERE cluster = {cluster:String} ORDER BY shard, replica
"""
_TABLES: Final = """
SELECT hostName() AS host, tcpPort() AS port, name, engine, engine_full AS text FROM %s
WHERE database = {database:String} AND name IN {tables:Array(String)}
"""
_COLUMNS: Final = """
SELECT host, port, table, groupArray(text) AS columns FROM
(
    SELECT hostName() AS host, tcpPort() AS port, table, position,
        concat(name, ' ', type, ' ', default_kind, ' ', default_expression) AS text
    FROM %s WHERE database = {database:String} AND table IN {tables:Array(String)} ORDER BY host, port, table, position
)
GROUP BY host, port, table
"""
_MACROS: Final = """
SELECT hostName() AS host, tcpPort() AS port, macro, substitution FROM %s WHERE macro IN ('shard', 'replica')
"""
_IDENTITY: Final = """
SELECT engine, toString(uuid) AS id FROM system.tables WHERE database = {database:String} AND name = 'events'
"""
_REPLICA: Final = """
SELECT zookeeper_path AS id FROM system.replicas WHERE database = {database:String} AND table = 'events'
"""
_QUOTED: Final = re.compile(r"'[^']*'")

_Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ClusterCheck:
    """Checks the servers that a connection leads to."""

    connection: Connection

    def run(self) -> int:
        """Return how many shards there are, 0 without a cluster.

        Raises:
            Fatal: one sentence that says what to do.
            Transient: no server answers; or without a cluster, and with plain tables, one of them.
        """
        with ExitStack() as stack:
            if not self.connection.layout.cluster:
                self._check_shared(stack)
                return 0
            servers = answering(self.connection)
            for one in servers:
                stack.callback(one.close)
            return self._check_cluster(servers)

    def _check_shared(self, stack: ExitStack) -> None:
        """Check that a repeat at the next host meets the same tables, with the same tokens."""
        servers = answering(self.connection)
        for one in servers:
            stack.callback(one.close)
        for one in servers:
            if self._identity(one)[0].startswith("Replicated"):
                check_grants(one, of_replicas(one.layout, one.database))
        if len(servers) == 1 == len(self.connection.urls):
            return
        found = {self._identity(one): one.address for one in servers}
        if len(found) > 1:
            raise _fault(Sentence.SEPARATE_TABLES, hosts=" and ".join(found.values()))
        if not any(engine.startswith(_SHARED) for engine, _ in found):  # one that is away may have others
            for one in servers_of(self.connection):
                one.close()

    def _identity(self, one: Connection) -> tuple[str, str]:
        place = {"database": one.database}
        rows = one.query(_IDENTITY, place) or [{"engine": "", "id": ""}]
        engine = str(rows[0]["engine"])
        if engine.startswith("Replicated"):
            rows = one.query(_REPLICA, place) or rows
        return engine, str(rows[0]["id"])

    def _check_cluster(self, servers: Sequence[Connection]) -> int:
        shards = self._shards(servers)
        for one in servers:
            check_grants(one, OF_CLUSTER)
            self._check_routes(one)
            check_tokens(one)
        is_plain = self._check_alike(servers)
        if is_plain:
            self._check_reached(servers, {row["shard"] for row in shards})
        check_replication(self.connection.layout.cluster, shards, is_plain=is_plain)
        if not is_plain:
            for one in servers:
                check_grants(one, of_replicas(one.layout, one.database))
            query = _MACROS % self.connection.layout.everywhere("system.macros")
            check_macros(self.connection.query(query, settings=WHO_ANSWERS))
        return len({row["shard"] for row in shards})

    def _shards(self, servers: Sequence[Connection]) -> list[dict[str, Any]]:
        """Return the cluster's replicas; each entry node must know the same, in the same order."""
        cluster = self.connection.layout.cluster
        known = [one.query(_SHARDS, {"cluster": cluster}) for one in servers]
        for one, rows in zip(servers, known, strict=True):
            if not rows:
                raise _fault(Sentence.NO_CLUSTER, cluster=cluster, host=one.address)
            if rows != known[0]:
                raise _fault(Sentence.OTHER_SHARDS, cluster=cluster, host=one.address, first=servers[0].address)
        return known[0]

    def _check_routes(self, one: Connection) -> None:
        """Check that the tables over all shards are there, and send a block where the insert says."""
        layout, database = self.connection.layout, self.connection.database
        names = {layout.over_all(table): table for table in layout.tables}
        rows = one.query(_TABLES % "system.tables", {"database": database, "tables": sorted(names)})
        there = {row["name"]: str(row["text"]) for row in rows}
        for name, table in sorted(names.items()):
            place = TableName(database, name).name
            if name not in there:
                raise _fault(Sentence.NO_ROUTE, table=place, host=one.address)
            if there[name] != f"Distributed('{layout.cluster}', '{database}', '{table}')":
                raise _fault(Sentence.OTHER_ROUTE, table=place, engine=there[name], host=one.address)

    def _check_alike(self, servers: Sequence[Connection]) -> bool:
        """Check that every server's tables are those of the first entry node; tell whether they are plain."""
        layout, database = self.connection.layout, self.connection.database
        where = {"database": database, "tables": sorted(layout.tables)}
        first = servers[0]
        ours, columns = first.query(_TABLES % "system.tables", where), first.query(_COLUMNS % "system.columns", where)
        engines = {row["name"]: _engine(row) for row in ours}
        kept = {row["table"]: row["columns"] for row in columns}
        asked: list[tuple[Connection, str, str, Mapping[str, Any]]] = [
            (one, "system.tables", "system.columns", {}) for one in servers[1:]
        ]
        everywhere = layout.everywhere("system.tables"), layout.everywhere("system.columns"), WHO_ANSWERS
        for one, of_tables, of_columns, settings in (*asked, (first, *everywhere)):
            found = one.query(_TABLES % of_tables, where, settings=settings)
            shown = one.query(_COLUMNS % of_columns, where, settings=settings)
            self._compare({(*_place(row), row["name"]): _engine(row) for row in found}, engines, "engine or settings")
            self._compare({(*_place(row), row["table"]): row["columns"] for row in shown}, kept, "columns")
        return not any(str(row["engine"]).startswith(_SHARED) for row in ours)

    def _compare(self, found: Mapping[tuple[str, int, str], object], wanted: Mapping[str, object], what: str) -> None:
        for host, port in {key[:2] for key in found}:
            for table in sorted(wanted):
                if found.get((host, port, table)) != wanted[table]:
                    place = TableName(self.connection.database, table).name
                    raise _fault(Sentence.OTHER_TABLE, table=place, what=what, host=f"{host}:{port}")

    def _check_reached(self, servers: Sequence[Connection], shards: set[int]) -> None:
        """Check that rows which a killed server lost can be put back on every shard."""
        missing = sorted(shards - {shard_of(one) for one in servers})
        if missing and len({one.address for one in servers}) == len(self.connection.urls):
            raise _fault(Sentence.UNREACHED_SHARD, shard=missing[0], cluster=self.connection.layout.cluster)
        if missing:
            log.warning("shards without a server that answers", extra={"shards": missing})


def check_replication(cluster: str, replicas: Iterable[Mapping[str, Any]], *, is_plain: bool) -> None:
    """Check that a shard's replicas replicate themselves; `replicas` are rows of system.clusters.

    Raises:
        Fatal: they do not.
    """
    for row in replicas:
        if row["replica"] > 1 and is_plain:
            raise _fault(Sentence.PLAIN_REPLICAS, cluster=cluster, shard=row["shard"])
        if row["replica"] > 1 and not row["is_own"]:
            raise _fault(Sentence.WRITES_ALL_REPLICAS, cluster=cluster, shard=row["shard"])


def check_macros(rows: Iterable[Mapping[str, Any]]) -> None:
    """Check that no two servers are the same replica to ClickHouse Keeper; `rows` are their macros.

    Raises:
        Fatal: two are.
    """
    macros: dict[_Place, dict[str, str]] = {}
    for row in rows:
        macros.setdefault(_place(row), {})[row["macro"]] = row["substitution"]
    seen: dict[tuple[str, str], _Place] = {}
    for place, own in macros.items():
        names = own.get("shard", ""), own.get("replica", "")
        if "" in names or names in seen:
            host, other = f"{place[0]}:{place[1]}", seen.get(names, place)
            raise _fault(Sentence.SAME_MACROS, host=host, other=f"{other[0]}:{other[1]}")
        seen[names] = place


def _place(row: Mapping[str, Any]) -> _Place:
    return str(row["host"]), int(row["port"])


def _engine(row: Mapping[str, Any]) -> str:
    """Return a table's engine, keys and settings without paths, which may be written out."""
    return f"{row['engine']} {_QUOTED.sub('', str(row['text']))}"


def _fault(sentence: Sentence, **names: object) -> Fatal:
    return Fatal(sentence.format(**names))
