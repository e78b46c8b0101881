"""What a statement of a single server becomes over the shards of a cluster."""

import re

import pytest

from consumer.clickhouse.layout import SINGLE, Layout
from consumer.clickhouse.migrations import migrations, tables
from consumer.clickhouse.products import products

PLAIN = Layout("c", tables=tables())
REPLICATED = Layout("c", is_replicated=True, tables=tables())
STATEMENTS = [
    *(statement for migration in migrations() for statement in migration.statements),
    *(statement for statements in products("UTC").values() for statement in statements),
]


def test_a_single_server_gets_the_file_s_text() -> None:
    """Also its inserts have no setting more."""
    for statement in STATEMENTS:
        assert SINGLE.statements(statement, "d") == [statement]
    assert (SINGLE.of_insert(3), SINGLE.of_quorum(60), SINGLE.over_all("events")) == ({}, {}, "events")


def test_each_table_gets_one_over_all_shards_without_a_key() -> None:
    """Right behind it, because views that are created next read it."""
    made = [text for statement in STATEMENTS for text in PLAIN.statements(statement, "d")]
    names = {found[1] for text in made if (found := re.match(r"CREATE TABLE IF NOT EXISTS (\w+) AS", text))}

    assert names == {f"{table}_all" for table in tables()}
    assert all("Distributed('c', 'd', '" in text for text in made if "Distributed(" in text)
    assert not any("rand" in text for text in made if "Distributed(" in text)


def test_views_read_all_shards_and_views_that_fill_tables_their_own() -> None:
    """A count of all shards in one shard's table would count everything twice."""
    made = [text for statement in STATEMENTS for text in PLAIN.statements(statement, "d")]
    readers = [text for text in made if text.startswith("CREATE OR REPLACE VIEW")]
    fillers = [text for text in made if text.startswith("CREATE MATERIALIZED VIEW")]
    own = re.compile(rf"\b(?:FROM|JOIN) (?:{'|'.join(tables())})\b")

    assert readers
    assert not any(own.search(text) for text in readers)
    assert fillers
    assert all(own.search(text) for text in fillers)
    assert not any("_all" in text for text in fillers)


def test_replicated_tables_are_made_on_the_cluster_with_both_windows() -> None:
    """Every table, with the arguments that its engine had."""
    made = [text for statement in STATEMENTS for text in REPLICATED.statements(statement, "d")]
    path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"

    assert all(re.match(r"(?:CREATE|ALTER) [A-Z ]+ \w+ ON CLUSTER 'c'", text) for text in made)
    engines = [found[1] for text in made if (found := re.search(r"ENGINE = (\S[^\n]*)", text))]
    assert f"ReplicatedReplacingMergeTree({path}, _precedence)" in engines
    assert f"ReplicatedSummingMergeTree({path})" in engines
    assert f"ReplicatedMergeTree({path})" in engines
    assert all(engine.startswith(("Replicated", "Distributed(")) for engine in engines)
    assert not any("non_replicated" in text for text in made)
    assert any("replicated_deduplication_window_seconds = 1209600" in text for text in made)


def test_what_was_applied_is_noted_once_for_all_servers() -> None:
    """Its path has no shard, and each server is a replica of it."""
    (text,) = REPLICATED.statements("CREATE TABLE IF NOT EXISTS migrations (n Int8) ENGINE = ReplacingMergeTree", "d")

    assert "('/clickhouse/tables/{database}/{table}', '{shard}-{replica}')" in text


@pytest.mark.parametrize(
    ("statement", "made"),
    [
        ("CREATE DATABASE IF NOT EXISTS d", "CREATE DATABASE IF NOT EXISTS d ON CLUSTER 'c'"),
        ("RENAME TABLE a TO b, b TO a", "RENAME TABLE a TO b, b TO a ON CLUSTER 'c'"),
        ("ALTER TABLE d.events ADD COLUMN x Int8", "ALTER TABLE d.events ON CLUSTER 'c' ADD COLUMN x Int8"),
        ("CREATE VIEW IF NOT EXISTS v AS SELECT 1", "CREATE VIEW IF NOT EXISTS v ON CLUSTER 'c' AS SELECT 1"),
        ("INSERT INTO events SELECT 1", "INSERT INTO events SELECT 1"),
    ],
)
def test_changes_go_to_all_servers_and_rows_do_not(statement: str, made: str) -> None:
    """Rows replicate themselves."""
    assert REPLICATED.statements(statement, "d") == [made]


def test_a_statement_for_all_servers_ends_when_all_have_run_it() -> None:
    """And gives up before its client does; others have no such settings."""
    on_cluster = "ALTER TABLE events ON CLUSTER 'c' ADD COLUMN x Int8"

    assert REPLICATED.settings_of(on_cluster, 60) == {
        "distributed_ddl_output_mode": "none",
        "distributed_ddl_task_timeout": 54,
    }
    assert REPLICATED.settings_of("SELECT 1", 60) == {}


def test_an_insert_goes_to_the_shard_that_it_names_or_else_to_the_first() -> None:
    """The same on every try, and so is the quorum."""
    assert PLAIN.of_insert(2) == {"insert_shard_id": 2, "distributed_foreground_insert": 1}
    assert PLAIN.of_insert(-1)["insert_shard_id"] == 1
    quorum = Layout(quorum="auto").of_quorum(54)
    assert quorum == {"insert_quorum": "auto", "insert_quorum_timeout": 48_600}
