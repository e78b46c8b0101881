"""What is made for replicas and clusters, read by ClickHouse's own parser."""

import urllib.request

import pytest

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import _LEDGER, migrations, tables
from consumer.clickhouse.products import products
from consumer.clickhouse.promotion import Promotion
from consumer.clickhouse.retention import _OF_TABLE, _Rule
from tests.support.clickhouse import PASSWORD, USER, ClickHouse

REPLICATED = Layout("a-cluster", is_replicated=True, tables=tables())
SOURCES = [
    _LEDGER.strip(),
    *(statement for migration in migrations() for statement in migration.statements),
    *(statement for statements in products("Europe/Berlin").values() for statement in statements),
    *_Rule("events", 30, "", _OF_TABLE).statements,
    "CREATE DATABASE IF NOT EXISTS d",
    "ALTER TABLE events ADD COLUMN IF NOT EXISTS x String AFTER url",
    "RENAME TABLE d.a TO d.b, d.b TO d.a",
    f"ALTER TABLE events ADD COLUMN IF NOT EXISTS {Promotion('readingMode', 'string').definition} AFTER url",
    "ALTER TABLE events MATERIALIZE COLUMN reading_mode",
    "ALTER TABLE events_unique COMMENT COLUMN url 'as it was sent', COMMENT COLUMN referrer 'it\\'s'",
    *(REPLICATED.distributed(table, "d", again=True) for table in sorted(tables())),
]
_SECONDS = "replicated_deduplication_window_seconds"
_PLAIN = "ReplacingMergeTree(_precedence) PARTITION BY d ORDER BY a SETTINGS replicated_deduplication_window = 7"
BY_ITSELF = [
    Sentence.SHORT_WINDOW.split("`")[1].format(
        table="d.events", everywhere=" ON CLUSTER 'a-cluster'", setting=_SECONDS, needed=7
    ),
    "DROP DATABASE d ON CLUSTER 'a-cluster' SYNC",
    "ALTER TABLE events ATTACH PARTITION ALL FROM events_mend_1_2",
    f"CREATE TABLE events_mend_1_2 AS events ENGINE = {_PLAIN}",
]
"""What is made for a cluster as it stands here, also by tests/integration/test_replicated_cluster.py."""


def test_every_statement_for_a_replicated_cluster_parses(clickhouse: ClickHouse) -> None:
    """Each has its cluster, and each table its engine."""
    made = [text for statement in SOURCES for text in REPLICATED.statements(statement, "d")]
    headers = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
    for text in (*made, *BY_ITSELF):
        request = urllib.request.Request(clickhouse.url, f"EXPLAIN AST {text}".encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.read(), text

    assert sum("ON CLUSTER 'a-cluster'" in text for text in made) == len(made)


@pytest.mark.parametrize("verb", ["STOP", "START"])
def test_the_statements_by_which_a_test_lets_a_replica_lag_parse(verb: str, database: Connection) -> None:
    """They are run where there are replicas only."""
    text = f"SYSTEM {verb} FETCHES d.events"
    assert database.query("SELECT formatQuery({text:String}) AS text", {"text": text}) == [{"text": text}]


@pytest.mark.parametrize("layout", [Layout(), REPLICATED])
def test_the_statement_that_waits_for_replicas_parses(layout: Layout, database: Connection) -> None:
    """As it is written here; EXPLAIN knows no such statement."""
    text = layout.sync("events", "d")
    (row,) = database.query("SELECT formatQuery({text:String}) AS text", {"text": text})

    assert row["text"].replace("a-cluster", "'a-cluster'").replace("`", "") == text
    assert ("ON CLUSTER" in text) is layout.is_replicated


@pytest.mark.parametrize("layout", [Layout(), Layout("c", tables=tables()), REPLICATED])
def test_a_checksum_is_the_file_s_whatever_is_made_of_it(layout: Layout) -> None:
    """So a table that was made on one server counts as made when the server joins a cluster."""
    before = [migration.checksum for migration in migrations()]
    for migration in migrations():
        for statement in migration.statements:
            layout.statements(statement, "d")

    assert [migration.checksum for migration in migrations()] == before
