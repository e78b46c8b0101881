"""The rows of a table sorted as it was before: each finds its way into the one sorted by id, and is counted once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.migrations import Migration, migrate, migrations, run
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.clickhouse.table_check import InsertPace
from consumer.delivery.batch import Attempt, Batch, Inserted
from consumer.delivery.intent import Intent
from consumer.delivery.pipeline import Pipeline
from consumer.errors import Fatal, Transient
from consumer.operations.preflight import check_tables
from schemas.registry import LocalSchemas
from tests.support.clickhouse import ClickHouse
from tests.support.consumer_fakes import PLACE, Tally
from tests.support.fake_group import FakeBroker
from tests.support.fake_table import FakeLetters
from tests.support.fixtures_consumer import open_database, records

BEFORE, MOVE = migrations()[:7], migrations()[7]
MOVED = [*BEFORE, MOVE]
KEPT = "events_before_8"
COUNT = 2000
# As workers of before wrote: they named the JSON column.
WRITE = """
INSERT INTO events (event_id, event_type, received_at, occurred_at, headers, properties, properties_text,
    _topic, _topic_id, _offset, _timestamp)
SELECT toUUID(concat('019b0000-0000-7000-8000-', leftPad(toString(number), 12, '0'))), ['VIEW', 'PING'][number % 2 + 1],
    toDateTime64('2026-01-31 23:50:00', 3, 'UTC') + number AS received_at, received_at, map('n', toString(number)),
    '{"n":1}'::JSON, concat('{"n":', toString(number), ',"a":["a",true]}'), 'events', 'topic-id', number, received_at
FROM numbers({from:UInt32}, {count:UInt32})
"""
ROWS = "SELECT * EXCEPT (properties) FROM events_unique ORDER BY _offset"
LEDGER = """
SELECT sum(rows) AS rows, groupBitmapMerge(present) AS offsets, min(first) AS first, max(last) AS last
FROM offsets WHERE topic = 'events'
"""


def no_wait(_: float) -> None:
    """Try again at once."""


@pytest.fixture
def older(empty_database: Connection) -> Connection:
    """A database of before, with rows of two months."""
    migrate(empty_database, BEFORE, no_wait)
    empty_database.command(WRITE, {"from": 0, "count": COUNT})
    return empty_database


def tables(database: Connection) -> set[str]:
    """Return the tables there are."""
    return {row["name"] for row in database.query("SHOW TABLES")}


def key(database: Connection) -> str:
    """Return what the table of events is sorted by."""
    query = "SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = 'events'"
    return str(database.query(query)[0]["sorting_key"])


def test_every_row_is_there_and_counted_once(older: Connection) -> None:
    """The rows of before and those of after; the old table stays for comparison."""
    before, ledger = older.query(ROWS), older.query(LEDGER)

    migrate(older, MOVED, no_wait)

    assert key(older) == "toUInt128(event_id)"
    assert older.query(ROWS) == before
    assert older.query(LEDGER) == ledger == [{"rows": COUNT, "offsets": COUNT, "first": 0, "last": COUNT - 1}]
    assert older.query("SELECT count() AS n FROM events") == older.query(f"SELECT count() AS n FROM {KEPT}")
    older.command(WRITE.replace("properties, ", "").replace("""'{"n":1}'::JSON, """, ""), {"from": COUNT, "count": 10})
    assert older.query(LEDGER)[0]["rows"] == COUNT + 10
    assert older.query("SELECT max(properties.n::Int64) AS n FROM events_unique") == [{"n": COUNT + 9}]


def test_a_table_without_rows_leaves_nothing_behind(empty_database: Connection) -> None:
    """A new installation has no table of before."""
    migrate(empty_database, migrations(), no_wait)

    assert tables(empty_database) & {KEPT, "events_next", "events_offsets"} == set()


@pytest.mark.parametrize("done", [1, 2, 5, 6, 7])
def test_a_move_that_died_is_finished_by_the_next(older: Connection, done: int) -> None:
    """Behind each of its statements, whatever was done is done once."""
    before, ledger = older.query(ROWS), older.query(LEDGER)
    for statement in MOVE.statements[:done]:
        run(older, statement)

    migrate(older, MOVED, no_wait)

    assert older.query(ROWS) == before
    assert older.query("SELECT count() AS n FROM events") == [{"n": COUNT}]
    assert older.query(LEDGER) == ledger
    assert "events_next" not in tables(older)


def test_a_server_that_died_between_two_names_has_its_table_back(older: Connection) -> None:
    """RENAME gives one name after the other."""
    before = older.query(ROWS)
    run(older, MOVE.statements[0])
    older.command(f"RENAME TABLE events TO {KEPT}")

    migrate(older, MOVED, no_wait)

    assert older.query(ROWS) == before
    assert key(older) == "toUInt128(event_id)"


def test_eight_moves_at_once_are_one(older: Connection, clickhouse: ClickHouse) -> None:
    """All succeed; a row that two of them copied is one event, and the table of offsets counts none of the copies."""
    before, ledger = older.query(ROWS), older.query(LEDGER)
    connections = [open_database(clickhouse, older.database) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda connection: migrate(connection, MOVED, time.sleep), connections))
    for connection in connections:
        connection.close()

    assert older.query(ROWS) == before
    assert older.query(LEDGER) == ledger
    assert tables(older) & {"events_next", "events_offsets"} == set()


def test_a_batch_that_was_inserted_before_the_move_is_not_inserted_again(older: Connection) -> None:
    """Its worker died a moment ago; the new table knows none of the old one's tokens, but the rows are counted."""
    older.command("ALTER TABLE events UPDATE _inserted_at = now64(3, 'UTC') WHERE 1 SETTINGS mutations_sync = 2")
    migrate(older, migrations(), no_wait)
    before = older.query(LEDGER), older.query("SELECT count() AS n FROM events")
    schemas, target = LocalSchemas(), Target("events", "event", "events", 30)
    rows = EventRows(schemas)
    table = ClickHouseTable(older, target, rows, schemas.schema_of, Tally())
    offsets, mender = OffsetsTable(older, {"events": "events"}), ClickHouseRepairer(older, target, rows, Tally())
    broker = FakeBroker(1)
    pipeline = Pipeline(rows, table, FakeLetters(), broker, mender, offsets)
    batch = Batch.of(PLACE, Intent("topic-id", 0, 100, version=1), tuple(records(range(100))))
    assert not rows.screen(batch.records)
    (block,) = rows.blocks(batch.records, batch.intent.origin, batch.token("cluster"))

    assert pipeline.insert(batch, block, Attempt(0, lambda: True, is_repeated=True)) == Inserted()
    assert (older.query(LEDGER), older.query("SELECT count() AS n FROM events")) == before
    table.insert(block)  # what it was kept from
    assert older.query(LEDGER)[0]["rows"] == COUNT + 100


def test_a_worker_of_before_writes_nothing_into_the_new_table(older: Connection) -> None:
    """It is refused at once, so nothing of its insert is in doubt."""
    migrate(older, MOVED, no_wait)

    with pytest.raises(Fatal, match="NO_SUCH_COLUMN_IN_TABLE"):
        older.command(WRITE, {"from": COUNT, "count": 1})


def test_a_worker_of_now_refuses_the_old_table(older: Connection) -> None:
    """Nobody writes while rows are copied, or they would not be counted."""
    pace = InsertPace(partitions=1, age_s=1.0, timeout_s=30, session_s=30)

    with pytest.raises(
        Fatal, match="lacks the columns _leader_epoch, _precedence, _reading: run `python -m consumer migrate`"
    ):
        check_tables(older, [(Target("events", "event", "events", 30), pace)])


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
    impatient = open_database(clickhouse, empty_database.database, timeout_s=3)  # of which the server has two
    with pytest.raises(Transient, match="159 TIMEOUT_EXCEEDED"):
        run(impatient, slow)
    impatient.close()

    assert not running(empty_database)


def test_the_condition_is_part_of_what_was_applied() -> None:
    """Another condition is another statement."""
    assert Migration("a", ("-- if: SELECT 1\nDROP TABLE a",)).checksum != Migration("a", ("DROP TABLE a",)).checksum
