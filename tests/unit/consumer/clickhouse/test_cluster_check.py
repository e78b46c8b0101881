"""What preflight asks of replicas; that it asks every server: tests/integration/test_shards.py."""

from dataclasses import replace
from typing import Any

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.cluster_check import check_macros, check_replication
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.table_check import TableCheck
from consumer.errors import Fatal

PACE = InsertPace(partitions=5, age_s=1.0, timeout_s=30, session_s=30)
WINDOW = "replicated_deduplication_window = 100000"


def replica(number: int, *, is_own: bool) -> dict[str, Any]:
    """Return a row of system.clusters."""
    return {"shard": 1, "replica": number, "is_own": int(is_own)}


def test_replicas_replicate_themselves() -> None:
    """Else each insert is sent to all of them, and each replicates it to the others."""
    check_replication("c", [replica(1, is_own=False)], is_plain=True)
    check_replication("c", [replica(1, is_own=True), replica(2, is_own=True)], is_plain=False)

    with pytest.raises(Fatal, match="shard 1 of the cluster c lacks internal_replication"):
        check_replication("c", [replica(1, is_own=False), replica(2, is_own=False)], is_plain=False)
    with pytest.raises(Fatal, match="several replicas, but the tables are not replicated"):
        check_replication("c", [replica(1, is_own=True), replica(2, is_own=True)], is_plain=True)


def macros(host: str, **names: str) -> list[dict[str, Any]]:
    """Return rows of a server's macros."""
    return [{"host": host, "port": 9000, "macro": name, "substitution": text} for name, text in names.items()]


def test_each_server_is_a_replica_of_its_own_shard() -> None:
    """Two that are the same to Keeper would take each other's place."""
    one = macros("a", shard="1", replica="a")
    check_macros([*one, *macros("b", shard="1", replica="b"), *macros("c", shard="2", replica="a")])

    with pytest.raises(Fatal, match="b:9000 and a:9000 have the same macros"):
        check_macros([*one, *macros("b", shard="1", replica="a")])
    with pytest.raises(Fatal, match="or lack one of them"):
        check_macros([*one, *macros("b", shard="1")])


class Described(Connection):
    """A server whose table has an engine, and whose default settings are ClickHouse's."""

    def __init__(self, engine: str, text: str, layout: Layout) -> None:
        self.engine, self.text, self.layout, self.database = engine, text, layout, "d"

    def query(self, statement: str, *_: object, **__: object) -> list[dict[str, Any]]:
        """Describe the table, or tell the default of replicated_deduplication_window_seconds."""
        is_default = "value" in statement
        return [{"value": 3600}] if is_default else [{"engine": self.engine, "engine_full": self.text}]


def check(engine: str, text: str, layout: Layout | None = None) -> None:
    """Check a table's windows."""
    connection = Described(engine, text, layout or Layout())
    TableCheck(connection, Target("events", "event", "t", 30), PACE).check_windows()


def test_a_replicated_table_remembers_tokens_for_a_week() -> None:
    """By default it is an hour: an unfinished batch that is repeated later would be there twice."""
    check("ReplicatedMergeTree", f"… SETTINGS {WINDOW}, replicated_deduplication_window_seconds = 604800")

    cure = r"run `ALTER TABLE d\.events MODIFY SETTING replicated_deduplication_window_seconds = 604800`"
    with pytest.raises(Fatal, match=rf"for 3600 seconds, but 604800 are needed, on every replica: {cure}"):
        check("ReplicatedMergeTree", f"… SETTINGS {WINDOW}")
    with pytest.raises(Fatal, match="for 5 seconds"):
        check("SharedMergeTree", f"… SETTINGS {WINDOW}, replicated_deduplication_window_seconds = 5")
    with pytest.raises(Fatal, match=r"ALTER TABLE d\.events ON CLUSTER 'c' MODIFY"):
        check("ReplicatedMergeTree", f"… SETTINGS {WINDOW}", Layout("c"))
    slow = replace(PACE, timeout_s=100_000)
    assert slow.window_s == 2 * slow.late_s


def test_a_quorum_needs_replicas() -> None:
    """A plain table would take the setting, and not heed it."""
    plain = "… SETTINGS non_replicated_deduplication_window = 100000"
    check("MergeTree", plain)

    with pytest.raises(Fatal, match=r"CONSUMER_INSERT_QUORUM is set, but d\.events is not replicated"):
        check("MergeTree", plain, Layout(quorum="2"))
