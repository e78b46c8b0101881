"""How the tables lie on servers: all on one, or over the shards of a cluster; and which statements make them so.

schemas/clickhouse/*.sql has the statements of a single server. On a cluster each server has the same tables, and beside
each table `t` a table `t_all` over all shards (Distributed): inserts go through it, to the shard that they name, and
reading views read it. Views that fill tables stay on their shard. With replicas, engines are Replicated, and one
server makes the tables on all (ON CLUSTER), which needs ClickHouse Keeper.

A migration's checksum is that of the file, whatever is made of it here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

FIRST_SHARD: Final = 1
"""Where a range goes that was meant for a single server, from which a cluster grew; and what is of no partition."""
WINDOW_S: Final = 1_209_600
"""How long a Replicated table remembers tokens, in seconds: two weeks."""
WHO_ANSWERS: Final[Mapping[str, Any]] = {"skip_unavailable_shards": 1}
"""The settings of a query that asks all servers, and passes over those that are away."""
OF_EACH: Final = "migrations"
"""The table that is of no shard."""
_PATH: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
_PATH_OF_EACH: Final = "'/clickhouse/tables/{database}/{table}', '{shard}-{replica}'"
_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\b")
_READER: Final = re.compile(r"CREATE (?:OR REPLACE )?VIEW\b")
_NAMED: Final = re.compile(
    r"^((?:CREATE (?:OR REPLACE )?(?:TABLE|VIEW|MATERIALIZED VIEW|DATABASE)|ALTER TABLE|DROP (?:TABLE|VIEW))"
    r"(?: IF (?:NOT )?EXISTS)? [\w.]+)"
)
_RENAME: Final = re.compile(r"^RENAME TABLE ")
_ENGINE: Final = re.compile(r"\bENGINE = (\w*MergeTree)\b(?:\(([^()]*)\))?")
_WINDOW: Final = re.compile(r"\bnon_replicated_deduplication_window = (\d+)")
_ON_CLUSTER: Final = re.compile(r"\bON CLUSTER '")
_OF_TIMEOUT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tables lie.

    Attributes:
        cluster: the cluster's name in ClickHouse's configuration; "": a single server, or servers with shared tables.
        is_replicated: whether the tables of a cluster are Replicated, and made ON CLUSTER.
        tables: those that have a table over all shards.
        quorum: how many replicas must have an insert before it succeeds: a number or "auto"; "0": one.
    """

    cluster: str = ""
    is_replicated: bool = False
    tables: frozenset[str] = frozenset()
    quorum: str = "0"

    def over_all(self, table: str) -> str:
        """Return the name of a table over all shards."""
        return f"{table}_all" if self.cluster else table

    def names(self, *tables: str) -> dict[str, str]:
        """Return tables over all shards as a query's parameters: `of_offsets` for the table `offsets`."""
        return {f"of_{table}": self.over_all(table) for table in tables}

    def everywhere(self, table: str) -> str:
        """Return a system table as a query reads it on all servers that answer; see `WHO_ANSWERS`."""
        return f"clusterAllReplicas('{self.cluster}', {table})" if self.cluster else table

    def of_insert(self, shard: int) -> dict[str, Any]:
        """Return the settings of an insert into a table over all shards: the whole block goes to one."""
        if not self.cluster:
            return {}
        return {"insert_shard_id": max(shard, FIRST_SHARD), "distributed_foreground_insert": 1}

    def of_quorum(self, limit_s: float) -> dict[str, Any]:
        """Return the settings of an insert that must reach several replicas; the server gives it up after `limit_s`."""
        if self.quorum == "0":
            return {}
        return {"insert_quorum": self.quorum, "insert_quorum_timeout": int(limit_s * 1000 * _OF_TIMEOUT)}

    def statements(self, statement: str, database: str) -> list[str]:
        """Return what a statement of a single server is here; a new table gets its table over all shards."""
        if not self.cluster:
            return [statement]
        made = _TABLE.match(statement)
        more = [self.distributed(made[1], database)] if made and made[1] in self.tables else []
        return [self._rendered(self._reading(text)) for text in (statement, *more)]

    def distributed(self, table: str, database: str, *, again: bool = False) -> str:
        """Return the statement for a table over all shards, not rendered; `again` replaces one that is there.

        It has no sharding key: ClickHouse refuses an insert that names no shard, where there are several.
        """
        create = "CREATE OR REPLACE TABLE" if again else "CREATE TABLE IF NOT EXISTS"
        engine = f"Distributed('{self.cluster}', '{database}', '{table}')"
        return f"{create} {self.over_all(table)} AS {table} ENGINE = {engine} COMMENT '{table} of all shards'"

    def settings_of(self, statement: str, timeout_s: float) -> Mapping[str, Any]:
        """Return the settings of a rendered statement: ON CLUSTER it returns when all servers have run it."""
        if not _ON_CLUSTER.search(statement):
            return {}
        limit_s = max(1, int(timeout_s * _OF_TIMEOUT))
        return {"distributed_ddl_output_mode": "none", "distributed_ddl_task_timeout": limit_s}

    def sync(self, table: str, database: str) -> str:
        """Return the statement that waits until replicas of a table have fetched what others have inserted."""
        return f"SYSTEM SYNC REPLICA {self._on_cluster}{database}.{table} LIGHTWEIGHT"

    @property
    def _on_cluster(self) -> str:
        return f"ON CLUSTER '{self.cluster}' " if self.is_replicated else ""

    def _reading(self, statement: str) -> str:
        """Return a view that reads tables of all shards."""
        if not _READER.match(statement) or not self.tables:
            return statement
        names = "|".join(sorted(self.tables))
        return re.sub(rf"\b(FROM|JOIN) ((?:\w+\.)?)({names})\b(?!\.)", r"\1 \2\3_all", statement)

    def _rendered(self, statement: str) -> str:
        if not self.is_replicated:
            return statement
        where = f" ON CLUSTER '{self.cluster}'"
        if _RENAME.match(statement):
            return statement + where
        path = _PATH_OF_EACH if (made := _TABLE.match(statement)) and made[1] == OF_EACH else _PATH
        text = _NAMED.sub(lambda found: found[1] + where, statement, count=1)
        text = _ENGINE.sub(lambda found: f"ENGINE = Replicated{found[1]}({_joined(path, found[2])})", text)
        window = rf"replicated_deduplication_window = \1, replicated_deduplication_window_seconds = {WINDOW_S}"
        return _WINDOW.sub(window, text)


def _joined(path: str, arguments: str | None) -> str:
    return f"{path}, {arguments}" if arguments else path


SINGLE: Final = Layout()
