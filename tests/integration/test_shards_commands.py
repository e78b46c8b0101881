"""What operators run over two ClickHouse servers as shards: every command sees the rows of both."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs

from consumer.__main__ import parser
from consumer.canary import finder
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import tables
from consumer.clickhouse.rows import DeadLetterRows, EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.countries import run_countries
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition, Record
from consumer.errors import Fatal, Halt, Misconfigured
from consumer.operations.audit import Auditor
from consumer.operations.people import Kind, Person, external, rows_of, with_visitors
from consumer.operations.spans import Span
from consumer.operations.whereabouts import audited, freshness, is_counted
from consumer.operations.whereabouts import rows_of as rows_named
from consumer.settings import Settings
from schemas.registry import LocalSchemas
from tests.support.clickhouse import PASSWORD, USER, password_file
from tests.support.clickhouse_shards import TwoServers, make_tables
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import AT_MS, TOPIC, encoded, record

TARGET = Target("events", "event", TOPIC, 30)
ID = "incarnation"


@pytest.fixture(scope="module")
def database(two_servers: TwoServers) -> Iterator[str]:
    """A database on both, whose tables lie on two shards, with twenty rows on each."""
    with two_servers.database("two") as name:
        for shard, partition in ((1, 0), (2, 1)):
            insert(two_servers.connect(name, "two"), shard, partition, range(20))
        yield name


@pytest.fixture
def both(two_servers: TwoServers, database: str) -> Connection:
    """A connection to both."""
    return two_servers.connect(database, "two")


def insert(connection: Connection, shard: int, partition: int, offsets: range) -> None:
    """Insert events of one visitor, who signs in with the last of them."""
    schemas = LocalSchemas()
    rows = EventRows(schemas)
    people = [{"anonId": "a", "userId": "u" * (offset == offsets[-1])} for offset in offsets]
    batch = [
        record(offset, encoded(partition * 1000 + offset, **person), partition)
        for offset, person in zip(offsets, people, strict=True)
    ]
    assert rows.screen(batch) == []
    (block,) = rows.blocks(batch, Origin(ID), f"{partition}/{offsets.start}")
    table = ClickHouseTable(connection, TARGET, rows, schemas.schema_of, Tally())
    table.insert(replace(block, shard=shard))


def test_an_event_is_found_on_whichever_shard_it_is(both: Connection) -> None:
    """By `headrace find`, and by the canary; the figures of `headrace top` can be asked for."""
    ids = [str(row["id"]) for row in both.query("SELECT event_id AS id FROM events_all WHERE _partition < 2")]

    assert finder(both)(ids) == set(ids)
    assert len(ids) == 40
    assert all(len(rows_named(both, name, "")) == 1 for name in ids)
    assert is_counted(both, Partition(TOPIC, 1), ID, 3)
    assert set(freshness(both, TOPIC)) == {"rows_per_minute", "delay_s", "complete_s"}
    assert audited(both)["partitions"] == 0


def test_a_person_s_rows_are_those_of_both_shards(both: Connection) -> None:
    """A visitor who was on one shard before it was added, and who signed in on the other one."""
    people = with_visitors(both, [Person(Kind.USER, "u", 2**41)])
    query = rows_of({person.kind for person in people}, "e._partition AS p, e._offset AS o", "events_all")
    found = [row for row in both.query(query, rows=external(people)) if row["p"] < 2]

    assert {person.value for person in people if person.kind is Kind.VISITOR} == {"a"}
    assert {(row["p"], row["o"]) for row in found} == {(p, o) for p in (0, 1) for o in range(20)}


def test_offsets_that_no_view_counted_are_counted_once_whatever_shard_has_their_rows(
    two_servers: TwoServers, database: str, both: Connection
) -> None:
    """The view was missing on both."""
    shards = two_servers.each(database)
    for one in shards:
        one.command("DETACH TABLE events_to_offsets SYNC")
    insert(both, 1, 2, range(10))
    insert(both, 2, 2, range(10, 20))
    for one in shards:
        one.command("ATTACH TABLE events_to_offsets")
    auditor, span = Auditor(both, {TOPIC: "events"}, None), Span(Partition(TOPIC, 2), ID, 0, 20)
    finding = auditor.audit(span)
    assert (finding.uncounted.count, finding.missing.count) == (20, 0)

    for _ in range(2):
        auditor.recount(finding)
    again = auditor.audit(span)
    assert (again.rows, again.offsets, again.is_clean) == (20, 20, True)


@pytest.fixture
def headrace(two_servers: TwoServers) -> Iterator[Settings]:
    """The settings of a cluster whose database has the name that the dictionary's account may read."""
    made = Settings(
        bootstrap_servers="nobody:1",
        clickhouse_url=two_servers.url,
        clickhouse_user=USER,
        clickhouse_password_file=str(password_file()),
        clickhouse_database="headrace",
        clickhouse_cluster="two",
        clickhouse_replicated=False,
    )
    for one in two_servers.each("headrace", "two"):
        make_tables(one)
    yield made
    for one in two_servers.each(""):
        one.command("DROP DATABASE headrace")


def test_countries_are_known_on_every_server(two_servers: TwoServers, headrace: Settings, tmp_path: Path) -> None:
    """Each answers from its own dictionary, of the rows of all."""
    file = tmp_path / "networks.csv"
    file.write_text("10.0.0.0/8,DE\n")
    for shard in (1, 2):
        insert_of(two_servers, "headrace", shard, f"10.0.0.{shard}")

    assert run_countries(headrace, Namespace(file=[str(file)])) == 0
    for one in two_servers.each("headrace", "two"):
        assert one.query("SELECT country, count() AS n FROM events_ready GROUP BY country") == [
            {"country": "DE", "n": 2}
        ]


def test_countries_are_loaded_nowhere_unless_on_every_server(
    two_servers: TwoServers, headrace: Settings, tmp_path: Path
) -> None:
    """Else it would depend on the server that is asked whether a row has a country."""
    file = tmp_path / "networks.csv"
    file.write_text("10.0.0.0/8,DE\n")
    alone = structs.replace(headrace, clickhouse_url=two_servers.nodes[0].url)
    with pytest.raises(Misconfigured, match="names 1 of 2 servers of the cluster two"):
        run_countries(alone, Namespace(file=[str(file)]))

    assert two_servers.each("headrace")[0].query("SELECT count() AS n FROM networks") == [{"n": 0}]


def insert_of(two_servers: TwoServers, database: str, shard: int, ip: str) -> None:
    """Insert an event of an address."""
    one = Connection(two_servers.url, USER, PASSWORD, database, 30, layout=Layout("two", tables=tables()))
    statement = "INSERT INTO events_all (event_id, event_type, ip) SELECT generateUUIDv4(), 'VIEW', {ip:String}"
    one.command(statement, {"ip": ip}, settings=one.layout.of_insert(shard))


class Spread:
    """What an operator does on a cluster of two shards."""

    def __init__(self, two_servers: TwoServers, database: str, key: str) -> None:
        self.servers, self.database = two_servers, database
        self.both = two_servers.connect(database, "two")
        self.settings = Settings(
            bootstrap_servers="nobody:1",
            clickhouse_url=two_servers.url,
            clickhouse_user=USER,
            clickhouse_password_file=str(password_file()),
            clickhouse_database=database,
            clickhouse_cluster="two",
            clickhouse_replicated=False,
            erasure_key_file=key,
        )

    def fill(self) -> None:
        """Insert twenty events of a visitor on each shard, who signs in on both, and a dead letter of theirs."""
        for shard, partition in ((1, 0), (2, 1)):
            insert(self.both, shard, partition, range(20))
            bury(self.both, shard, partition)

    def run(self, *words: str) -> int:
        """Run a command, as main does."""
        arguments = parser().parse_args(words)
        return int(arguments.call(self.settings, arguments))

    def there(self) -> list[tuple[int, int, int]]:
        """Return each shard's rows of events, dead letters with content, and counted rows."""
        query = """
        SELECT (SELECT count() FROM events) AS rows, (SELECT countIf(value != '') FROM dead_letters) AS letters,
            (SELECT sum(rows) FROM offsets WHERE topic = {topic:String}) AS counted
        """
        found = [one.query(query, {"topic": TOPIC})[0] for one in self.servers.each(self.database)]
        return [(row["rows"], row["letters"], row["counted"]) for row in found]


@pytest.fixture(scope="module")
def emptied(two_servers: TwoServers) -> Iterator[str]:
    """A database like it, whose tables each test empties."""
    with two_servers.database("two") as name:
        yield name


@pytest.fixture
def spread(two_servers: TwoServers, emptied: str, tmp_path: Path) -> Spread:
    """The settings of the cluster of the database, whose tables are emptied before."""
    for one in two_servers.each(emptied):
        for table in ("events", "offsets", "received", "dead_letters", "erasures", "erased_rows"):
            one.command(f"TRUNCATE TABLE {table} SYNC")
    key = tmp_path / "key"
    key.write_text("k" * 64)
    return Spread(two_servers, emptied, str(key))


def bury(connection: Connection, shard: int, partition: int) -> None:
    """Insert a dead letter of the visitor."""
    rows = DeadLetterRows()
    value = json.dumps({"anonId": "a", "userId": "u", "eventId": str(uuid4())}).encode()
    dead = [Record(Partition("dead", partition), 0, AT_MS, b"k", value, (("headrace.origin_topic", b"events"),))]
    (block,) = rows.blocks(dead, Origin(ID), f"dead/{partition}")
    target = Target("dead_letters", "dead_letter", "dead", 30)
    ClickHouseTable(connection, target, rows, None, Tally()).insert(replace(block, shard=shard))


def test_a_person_is_erased_on_all_shards(spread: Spread, capsys: pytest.CaptureFixture[str]) -> None:
    """By one command, which counts all before; a visitor is a user's by the sign-ins of all shards."""
    spread.fill()
    assert spread.run("erase", "--user-id", "u") == 0
    assert "add --go to erase 42" in capsys.readouterr().err
    assert spread.there() == [(20, 1, 20), (20, 1, 20)]

    assert spread.run("erase", "--user-id", "u", "--go") == 0
    assert "40 rows and the content of 2 dead letters were erased" in capsys.readouterr().err
    assert spread.there() == [(0, 0, 20), (0, 0, 20)]
    auditor = Auditor(spread.both, {TOPIC: "events"}, None)
    assert all(auditor.audit(Span(Partition(TOPIC, number), ID, 0, 20)).is_clean for number in (0, 1))
    assert spread.both.query("SELECT uniqExact(digest) AS n FROM erasures_all") == [{"n": 2}]


def test_who_comes_back_on_another_shard_is_erased_there(spread: Spread, capsys: pytest.CaptureFixture[str]) -> None:
    """Who was erased is known on all shards, and on those that are added later."""
    insert(spread.both, 1, 0, range(20))
    assert spread.run("erase", "--user-id", "u", "--go") == 0
    insert(spread.both, 2, 3, range(20))

    assert spread.run("erase", "--again") == 0
    assert "add --go to erase 20" in capsys.readouterr().err
    assert spread.run("erase", "--again", "--go") == 0
    assert "20 rows and the content of 0 dead letters had come back" in capsys.readouterr().err
    assert [rows for rows, _, _ in spread.there()] == [0, 0]


def test_nothing_is_erased_while_a_shard_can_not_be_reached(spread: Spread) -> None:
    """An address of each is needed, and said."""
    spread.fill()
    spread.settings = structs.replace(spread.settings, clickhouse_url=spread.servers.nodes[0].url)
    with pytest.raises(Halt, match="names no server of shard 2 of two: add one"):
        spread.run("erase", "--user-id", "u", "--go")
    assert [rows for rows, _, _ in spread.there()] == [20, 20]


def test_nothing_is_erased_by_an_account_that_can_not_ask_all_servers(spread: Spread) -> None:
    """It would be denied when it counts what is left, with rows gone already."""
    spread.fill()
    spread.settings = structs.replace(spread.settings, clickhouse_user="ops")
    with pytest.raises(Fatal, match=r"the account ops at \S+ lacks a right .*`GRANT REMOTE ON \*\.\* TO ops`"):
        spread.run("erase", "--user-id", "u", "--go")
    assert [rows for rows, _, _ in spread.there()] == [20, 20]


def test_a_day_of_each_shard_comes_back_to_it(spread: Spread, tmp_path: Path) -> None:
    """By one command each; it is counted once, and what is there is left alone."""
    spread.fill()
    day = datetime.fromtimestamp(AT_MS / 1000, UTC).date().isoformat()
    assert spread.run("archive", "--day", day, "--to", str(tmp_path)) == 0
    files = sorted(str(path) for path in tmp_path.glob("*.parquet"))
    assert [Path(name).name for name in files] == [
        f"{table}-{day}-shard-{shard}.parquet" for table in ("dead_letters", "events") for shard in (1, 2)
    ]
    for one in spread.servers.each(spread.database):
        for table in ("events", "dead_letters"):
            one.command(f"TRUNCATE TABLE {table} SYNC")

    for _ in range(2):
        assert spread.run("restore", *files) == 0
        assert spread.there() == [(20, 1, 20), (20, 1, 20)]
    assert spread.both.query("SELECT DISTINCT _partition AS p FROM events_all ORDER BY p") == [{"p": 0}, {"p": 1}]


@pytest.mark.parametrize(("name", "option", "there"), [("", (), [20, 0]), ("-shard-2", ("--shard", "1"), [20, 0])])
def test_a_file_goes_to_the_shard_that_is_named(
    spread: Spread, tmp_path: Path, name: str, option: tuple[str, ...], there: list[int]
) -> None:
    """A file of the single server before the cluster goes to the first one."""
    insert(spread.both, 2, 1, range(20))
    day = datetime.fromtimestamp(AT_MS / 1000, UTC).date().isoformat()
    assert spread.run("archive", "--day", day, "--to", str(tmp_path)) == 0
    file = tmp_path / f"events-old{name}.parquet"
    (tmp_path / f"events-{day}-shard-2.parquet").rename(file)
    spread.servers.each(spread.database)[1].command("TRUNCATE TABLE events SYNC")
    with pytest.raises(Misconfigured, match="is of shard 3, and the cluster has 2"):
        spread.run("restore", str(file), "--shard", "3")

    assert spread.run("restore", str(file), *option) == 0
    assert [rows for rows, _, _ in spread.there()] == there


def test_what_is_on_another_shard_or_was_erased_there_is_not_brought_back(spread: Spread, tmp_path: Path) -> None:
    """A file goes to another shard than it is of: by --shard, or because it was renamed."""
    spread.fill()
    day = datetime.fromtimestamp(AT_MS / 1000, UTC).date().isoformat()
    assert spread.run("archive", "--day", day, "--to", str(tmp_path)) == 0
    files = [str(tmp_path / f"{table}-{day}-shard-2.parquet") for table in ("events", "dead_letters")]
    assert spread.run("restore", *files, "--shard", "1") == 0
    assert spread.there() == [(20, 1, 20), (20, 1, 20)]

    assert spread.run("erase", "--user-id", "u", "--go") == 0
    assert spread.run("restore", *files, "--shard", "1") == 0
    assert [one.query("SELECT count() AS n FROM events")[0]["n"] for one in spread.servers.each(spread.database)] == [
        0,
        0,
    ]


@pytest.mark.parametrize("words", [("archive", "--day", "2026-01-02"), ("erase", "--user-id", "u", "--go")])
def test_a_cluster_that_no_server_knows_is_no_single_server(
    spread: Spread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """A name that is misspelt: one shard's rows would pass for all."""
    spread.fill()
    monkeypatch.chdir(tmp_path)
    spread.settings = structs.replace(spread.settings, clickhouse_cluster="tow")
    with pytest.raises(Misconfigured, match="tow"):
        spread.run(*words)
    assert (list(tmp_path.glob("*.parquet")), spread.there()) == ([], [(20, 1, 20), (20, 1, 20)])
