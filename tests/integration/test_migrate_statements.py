"""Statements of migrations that copy rows: they run while their condition holds, once at a time, and not for ever."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import Migration, run
from consumer.errors import Fatal, Transient
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import open_database


def test_a_statement_runs_only_while_its_condition_has_rows(empty_database: Connection) -> None:
    """What fails while it has some is told; what fails because somebody else did it meanwhile is not."""
    run(empty_database, "-- if: SELECT 1 WHERE 0\nDROP TABLE nothing_at_all")
    with pytest.raises(Fatal, match="60 UNKNOWN_TABLE"):
        run(empty_database, "-- if: SELECT 1\nDROP TABLE nothing_at_all")
    empty_database.command("CREATE TABLE one (n Int8) ENGINE = Memory")
    once = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'one'"
    run(empty_database, f"-- if: {once}\nRENAME TABLE one TO two, nothing_at_all TO three")  # the first comes true


@pytest.fixture
def slow(empty_database: Connection) -> str:
    """A copy that takes three seconds."""
    empty_database.command("CREATE TABLE one (n UInt64) ENGINE = MergeTree ORDER BY n")
    copy = "INSERT INTO one SELECT number FROM numbers(6)\nWHERE sleepEachRow(0.5) = 0 SETTINGS max_block_size = 1"
    return f"-- if: SELECT 1\n{copy}"


def running(database: Connection) -> int:
    """Return how many copies run."""
    query = "SELECT count() AS n FROM system.processes WHERE startsWith(query, 'INSERT INTO one')"
    return int(database.query(query)[0]["n"])


def test_a_copy_that_runs_is_not_begun_a_second_time(
    empty_database: Connection, clickhouse: ClickHouse, slow: str
) -> None:
    """Another program is in the middle of it: of two at once each would copy what the other has not yet."""
    other = open_database(clickhouse, empty_database.database)
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(run, other, slow)
        while not running(empty_database):
            assert not copying.done()
        with pytest.raises(Transient, match="still runs"):
            run(empty_database, slow)
        copying.result()
    other.close()

    assert empty_database.query("SELECT count() AS n FROM one") == [{"n": 6}]


def test_the_server_gives_up_a_copy_before_its_client_does(
    empty_database: Connection, clickhouse: ClickHouse, slow: str
) -> None:
    """Else it would run on beside the next try of it."""
    impatient = open_database(clickhouse, empty_database.database, timeout_s=6)  # of which the server has four
    with pytest.raises(Transient, match="159 TIMEOUT_EXCEEDED"):
        run(impatient, slow.replace("numbers(6)", "numbers(60)"))
    impatient.close()

    assert not running(empty_database)


def test_the_condition_is_part_of_what_was_applied() -> None:
    """Another condition is another statement."""
    assert Migration("a", ("-- if: SELECT 1\nDROP TABLE a",)).checksum != Migration("a", ("DROP TABLE a",)).checksum
