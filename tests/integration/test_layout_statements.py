"""What is made for replicas and clusters, read by ClickHouse's own parser."""

import urllib.request

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import _LEDGER, migrations, tables
from consumer.clickhouse.products import products
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
]


def test_every_statement_for_a_replicated_cluster_parses(clickhouse: ClickHouse) -> None:
    """Each has its cluster, and each table its engine."""
    made = [text for statement in SOURCES for text in REPLICATED.statements(statement, "d")]
    headers = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
    for text in made:
        request = urllib.request.Request(clickhouse.url, f"EXPLAIN AST {text}".encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.read(), text

    assert sum("ON CLUSTER 'a-cluster'" in text for text in made) == len(made)


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
