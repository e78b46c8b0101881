"""The migration files: what makes them safe to run twice, and by many at once."""

import re

import pytest

from consumer.clickhouse.migrations import Migration, migrations, split

REPEATABLE = re.compile(
    r"CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS "
    r"|CREATE OR REPLACE VIEW "
    r"|ALTER TABLE \w+ ADD (COLUMN|CONSTRAINT|INDEX) IF NOT EXISTS "
    r"|ALTER TABLE \w+ DROP (COLUMN|CONSTRAINT|INDEX) IF EXISTS "
    r"|ALTER TABLE \w+ MODIFY (SETTING|COMMENT|QUERY)\s"
    r"|DROP (TABLE|VIEW) IF EXISTS "
)


def test_every_statement_may_be_repeated() -> None:
    """A program that died half way, or another at the same moment, has run it already."""
    for migration in migrations():
        for statement in migration.statements:
            assert REPEATABLE.match(statement) or statement.startswith("-- if: SELECT"), (
                migration.name,
                statement[:60],
            )
            assert statement.count("ALTER TABLE") <= 1, migration.name


def test_the_files_are_numbered_without_a_gap() -> None:
    """Two changes can't take the same place in the order unnoticed."""
    assert [migration.name[:5] for migration in migrations()] == [f"{n:04}_" for n in range(1, len(migrations()) + 1)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("-- only words;\n", []),
        ("SELECT 1;\n\nSELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT 1  ;  \n-- a word; and more\nSELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT 'a;b',\n  2;\n", ["SELECT 'a;b',\n  2"]),
        ("-- why\n-- if: SELECT 1\nDROP TABLE a;\nSELECT 2;", ["-- if: SELECT 1\nDROP TABLE a", "SELECT 2"]),
    ],
)
def test_a_script_is_split_at_semicolons_that_end_a_line(text: str, parts: list[str]) -> None:
    """Those inside a line, and whole lines of comment, are not ends."""
    assert split(text) == parts


def test_a_checksum_sees_the_statements_and_not_their_layout() -> None:
    """Comments and indentation may be improved after a file was applied; a column may not."""
    one = Migration("a", tuple(split("CREATE  TABLE t\n(\n  a Int8\n);")))
    same = Migration("a", tuple(split("-- why\nCREATE TABLE t ( a Int8 );\n")))
    other = Migration("a", tuple(split("CREATE TABLE t ( a Int16 );\n")))

    assert one.checksum == same.checksum != other.checksum
