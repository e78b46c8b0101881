"""Where a statement ends and its data begin."""

from __future__ import annotations

import pytest

from deploy.embedded.clickhouse_errors import ClickHouseError
from deploy.embedded.clickhouse_statements import parse


@pytest.mark.parametrize(
    ("text", "sql", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2", b"INSERT INTO t  FROM INFILE 'F'  FORMAT CSV", b"1,2"),
        (b"insert into t (a, b) format CSV 1,2", b"insert into t (a, b)  FROM INFILE 'F'  FORMAT CSV", b"1,2"),
        (b"INSERT INTO d.t FORMAT Native\r\n\n\x00;", b"INSERT INTO d.t  FROM INFILE 'F'  FORMAT Native", b"\n\x00;"),
        (b"INSERT INTO t VALUES (1, ';')", b"INSERT INTO t  FROM INFILE 'F'  FORMAT Values", b" (1, ';')"),
        (b"INSERT INTO values VALUES(1)", b"INSERT INTO values  FROM INFILE 'F'  FORMAT Values", b"(1)"),
        (b"INSERT INTO TABLE format FORMAT TSV\n", b"INSERT INTO TABLE format  FROM INFILE 'F'  FORMAT TSV", b""),
        (
            b"INSERT INTO t SETTINGS a = 1 FORMAT JSONEachRow{}",
            b"INSERT INTO t  FROM INFILE 'F' SETTINGS a = 1  FORMAT JSONEachRow",
            b"{}",
        ),
        (
            b"INSERT INTO `FORMAT x` (`SELECT`) -- FORMAT CSV\nFORMAT TSV\n1",
            b"INSERT INTO `FORMAT x` (`SELECT`) -- FORMAT CSV\n FROM INFILE 'F'  FORMAT TSV",
            b"1",
        ),
        (
            b"INSERT INTO FUNCTION null('a Int8') VALUES (1)",
            b"INSERT INTO FUNCTION null('a Int8')  FROM INFILE 'F'  FORMAT Values",
            b" (1)",
        ),
        (
            b"INSERT INTO t (a) SELECT format, x FROM input('x String, y Int8') AS i WHERE y > 1 FORMAT Avro\nObj\x01",
            b"INSERT INTO t (a) SELECT format, x FROM file('F', 'Avro', 'x String, y Int8') AS i WHERE y > 1 ",
            b"Obj\x01",
        ),
        (
            b"INSERT INTO t WITH 1 AS k SELECT * FROM (SELECT x + k FROM input($$x Int8$$)) FORMAT CSV\n1",
            b"INSERT INTO t WITH 1 AS k SELECT * FROM (SELECT x + k FROM file('F', 'CSV', $$x Int8$$)) ",
            b"1",
        ),
    ],
)
def test_an_insert_reads_its_data_from_the_file(text: bytes, sql: bytes, data: bytes) -> None:
    """The SQL names the file where the data would have stood, and the data begin behind FORMAT or VALUES."""
    statement = parse(text)
    assert statement.data_at is not None
    assert (statement.sql("F"), text[statement.data_at :]) == (sql, data)


@pytest.mark.parametrize(
    ("text", "sql", "form"),
    [
        (b"SELECT 1", b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1\n FORMAT\tCSV ; -- end", b"SELECT 1\n FORMAT\tCSV ", "CSV"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT a format FROM t", b"SELECT a format FROM t", None),
        (b"SELECT 'x FORMAT CSV'", b"SELECT 'x FORMAT CSV'", None),
        (b"SELECT 'it''s; \\'fine\\''", b"SELECT 'it''s; \\'fine\\''", None),
        (b"SELECT $a$ ; $a$ -- ; x\n/* ; */", b"SELECT $a$ ; $a$ -- ; x\n/* ; */", None),
        (b"(SELECT 1 FORMAT CSV)", b"(SELECT 1 FORMAT CSV)", None),
        (b"INSERT INTO t SELECT * FROM s;", b"INSERT INTO t SELECT * FROM s", None),
        (b"INSERT INTO t (SELECT input, format FROM s)", b"INSERT INTO t (SELECT input, format FROM s)", None),
        (b"CREATE TABLE t (format String) ENGINE = Null", b"CREATE TABLE t (format String) ENGINE = Null", None),
        (b"SELECT '\xff'", b"SELECT '\xff'", None),
    ],
)
def test_a_statement_without_data_stays_as_it_is(text: bytes, sql: bytes, form: str | None) -> None:
    """Only a last semicolon goes, and the answer's format is the one at the end."""
    statement = parse(text)
    assert (statement.sql(), statement.format, statement.data_at) == (sql, form, None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"", "SYNTAX_ERROR"),
        (b" -- nothing\n", "SYNTAX_ERROR"),
        (b";", "SYNTAX_ERROR"),
        (b"SELECT 1; DROP TABLE t", "SYNTAX_ERROR"),
        (b"INSERT INTO t SELECT 1; DROP TABLE t", "SYNTAX_ERROR"),
        (b"INSERT INTO t FORMAT CSV;\n1", "SYNTAX_ERROR"),
        (b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", "UNKNOWN_TYPE_OF_QUERY"),
        (b"SELECT 1 INTO OUTFILE '/tmp/x'", "INTO_OUTFILE_NOT_ALLOWED"),
        (b"SELECT * FROM input('a Int8')", "INVALID_USAGE_OF_INPUT"),
        (b"INSERT INTO t SELECT * FROM input('a Int8')", "INVALID_USAGE_OF_INPUT"),
        (b"INSERT INTO t SELECT * FROM input() FORMAT CSV\n1", "INVALID_USAGE_OF_INPUT"),
        (b"INSERT INTO t SELECT * FROM input('a'), input('b') FORMAT CSV\n1", "INVALID_USAGE_OF_INPUT"),
    ],
)
def test_what_cannot_come_over_http_is_refused(text: bytes, name: str) -> None:
    """Nothing that the engine would read from elsewhere, or would not read at all, gets to it."""
    with pytest.raises(ClickHouseError) as refused:
        parse(text)
    assert refused.value.name == name


@pytest.mark.parametrize("text", [b"SELECT 1", b"WITH 1 AS a SELECT a", b"show tables", b"(SELECT 1)", b"DESC t"])
def test_a_statement_that_answers_with_rows_is_known(text: bytes) -> None:
    """Also when there is none to answer with."""
    assert parse(text).selects


@pytest.mark.parametrize("text", [b"CREATE TABLE t (a Int8) ENGINE = Null", b"INSERT INTO t VALUES (1)", b"SET a = 1"])
def test_a_statement_that_answers_without_rows_is_known(text: bytes) -> None:
    """A client tells the two apart by a header."""
    assert not parse(text).selects
