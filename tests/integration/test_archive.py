"""A day as Parquet, and back: every row and column, counted once, without those who were erased since."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from consumer.clickhouse.client import Connection
from consumer.clickhouse.streams import lines, pieces
from consumer.errors import ConsumerError, Misconfigured, Transient
from consumer.operations.archive import TIME_OF, Archive, Restored
from consumer.operations.people import Kind
from tests.support.fixtures_consumer import AT_MS
from tests.support.held import Held

DAY = datetime.fromtimestamp(AT_MS / 1000, UTC).date()
_DAY_MS = 86_400_000
LEFT_BEHIND = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name LIKE '%_mend_%'"
ODD: list[dict[str, Any]] = [
    {
        "userId": "alice-4711",
        "properties": '{"amount":"-12345678901234.5678","scrollDepth":0.1,"adblocker":false,'
        '"counter":-9223372036854775808,"contentTags":["a","","\U0001f9c0"],"title":"a\\u0000b","odd":{"utm.source":[1,[true,null]]}}',
        "headers": {"a": "1", "": "\n"},
        "active": 0,
        "clientId": "ünïcode \x00",
        "url": "https://x.example/?utm_source=a%FFb",
        "traceId": "0" * 32,
    },
    {"properties": "{}", "occurredAt": 0},
    {"properties": '{"amount":null,"scrollDepth":"no"}', "occurredAt": 10_413_705_599_999, "userAgent": "'\"\\"},
]


@pytest.fixture
def held(database: Connection) -> Held:
    """Rows of one day, and of the days beside it."""
    made = Held(database)
    beside = [{"receivedAt": AT_MS + _DAY_MS}, {"receivedAt": AT_MS - _DAY_MS}]
    made.insert(made.events(*ODD, *beside))
    return made


def rows(database: Connection, table: str) -> list[dict[str, Any]]:
    """Return every stored column of each row."""
    computed = ", _precedence" if table == "events" else ""
    return database.query(f"SELECT *{computed} FROM {table} ORDER BY _offset")


def test_a_day_comes_back_as_it_was(held: Held, tmp_path: Path) -> None:
    """Whatever clients have sent; and `offsets`, which has counted the rows, does not count them again."""
    before = rows(held.database, "events")
    archive = Archive(held.database, "events")
    made = archive.write(DAY, tmp_path)
    delete = f"ALTER TABLE events DELETE WHERE toDate(received_at) = '{DAY}'"
    held.database.command(delete, settings={"mutations_sync": 2})
    assert len(held.offsets()) == 2

    assert (made.rows, made.size_bytes) == (3, made.path.stat().st_size)
    assert [path.name for path in tmp_path.iterdir()] == [f"events-{DAY}.parquet"]
    assert archive.read(made.path) == (3, 3)
    assert rows(held.database, "events") == before
    assert held.counted() == (5, 5)
    assert archive.read(made.path) == (3, 0)
    assert len(held.offsets()) == 5
    assert not held.database.query(LEFT_BEHIND)


def test_dead_letters_come_back_with_their_bytes(held: Held, tmp_path: Path) -> None:
    """Which may be no text."""
    held.bury([bytes(range(256)), b""], key=b"\xff\x00")
    before, archive = rows(held.database, "dead_letters"), Archive(held.database, "dead_letters")
    made = archive.write(DAY, tmp_path)
    held.database.command("TRUNCATE TABLE dead_letters")

    assert archive.read(made.path) == (2, 2)
    assert rows(held.database, "dead_letters") == before


def test_other_programs_read_the_files(held: Held, tmp_path: Path) -> None:
    """Text is text, and what may be none is bytes."""
    held.bury([b"\x00\xff"], key=b"\xfe")
    made = {table: Archive(held.database, table).write(DAY, tmp_path).path for table in TIME_OF}

    (letter,) = parquet.read_table(made["dead_letters"]).to_pylist()
    assert (letter["value"], letter["key"], letter["reason"]) == (b"\x00\xff", b"\xfe", b"frame")
    assert "alice-4711" in {row["user_id"] for row in parquet.read_table(made["events"]).to_pylist()}


def test_who_was_erased_since_does_not_come_back(held: Held, tmp_path: Path) -> None:
    """Their rows are listed, and left out."""
    archive = Archive(held.database, "events")
    made = archive.write(DAY, tmp_path)
    held.erase(Kind.USER, "alice-4711")

    assert archive.read(made.path) == (3, 0)
    held.database.command("TRUNCATE TABLE events")
    assert archive.read(made.path) == (3, 2)
    assert held.offsets() == [1, 2]


def test_a_file_is_not_written_twice(held: Held, tmp_path: Path) -> None:
    """Nor over another one."""
    archive = Archive(held.database, "events")
    made = archive.write(DAY, tmp_path)
    with pytest.raises(Misconfigured, match="is there already"):
        archive.write(DAY, tmp_path)
    with pytest.raises(Misconfigured, match="No such file or directory"):
        archive.write(DAY, tmp_path / "nowhere")

    assert list(tmp_path.iterdir()) == [made.path]


def test_a_day_without_rows_is_a_file_too(held: Held, tmp_path: Path) -> None:
    """It says that there were none."""
    archive = Archive(held.database, "events")
    made = archive.write(date(2001, 1, 1), tmp_path)

    assert made.rows == 0
    assert archive.read(made.path) == (0, 0)


def test_of_two_restores_at_once_the_second_is_refused(held: Held, tmp_path: Path) -> None:
    """Each would attach what the other has not yet; one that died says what to drop."""
    archive = Archive(held.database, "events")
    made = archive.write(DAY, tmp_path)
    held.database.command("TRUNCATE TABLE events")
    start = threading.Barrier(4)

    def restore() -> Restored | str:
        start.wait()
        try:
            return archive.read(made.path)
        except Transient as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = [job.result() for job in [pool.submit(restore) for _ in range(4)]]
    assert held.offsets() == [0, 1, 2]
    assert sum(one.new for one in found if isinstance(one, Restored)) == 3
    with archive._beside(), pytest.raises(Transient, match="another restore of events is running") as refused:  # noqa: SLF001  (as a restore that died leaves it)
        archive.read(made.path)
    held.database.command(f"DROP TABLE IF EXISTS {str(refused.value).rpartition(' ')[2]}")
    assert archive.read(made.path) == (3, 0)


@pytest.mark.parametrize("broken", ["cut", "foreign", "text", "empty"])
def test_a_file_that_is_none_brings_nothing(held: Held, tmp_path: Path, broken: str) -> None:
    """And leaves nothing behind."""
    made = Archive(held.database, "events").write(DAY, tmp_path)
    whole, path = made.path.read_bytes(), tmp_path / "broken.parquet"
    path.write_bytes({"cut": whole[:-1], "foreign": whole, "text": b"event_id\n1\n" * 9, "empty": b""}[broken])
    held.database.command("TRUNCATE TABLE events")
    table = "dead_letters" if broken == "foreign" else "events"
    with pytest.raises(ConsumerError):
        Archive(held.database, table).read(path)

    assert held.offsets() == []
    assert held.database.query("SELECT count() AS n FROM dead_letters") == [{"n": 0}]
    assert not held.database.query(LEFT_BEHIND)


def test_an_answer_that_breaks_off_is_no_answer(database: Connection) -> None:
    """An error of the server's in the middle of it is not taken for its end."""
    query = "SELECT throwIf(number = 3000000) AS n, number FROM numbers(4000000)"

    with pytest.raises(ConsumerError):
        for _ in lines(database, query):
            pass
    with pytest.raises(ConsumerError):
        for _ in pieces(database, f"{query} FORMAT Parquet", settings={"max_block_size": 10_000}):
            pass
