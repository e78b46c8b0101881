"""What operators run over two ClickHouse servers as shards: every command sees the rows of both."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from consumer.canary import finder
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import tables
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.countries import run_countries
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition
from consumer.errors import Misconfigured
from consumer.operations.audit import Auditor, Span
from consumer.operations.people import Kind, Person, external, rows_of, with_visitors
from consumer.operations.whereabouts import audited, freshness, is_counted
from consumer.operations.whereabouts import rows_of as rows_named
from consumer.settings import Settings
from schemas.registry import LocalSchemas
from tests.support.clickhouse import PASSWORD, USER, password_file
from tests.support.clickhouse_shards import TwoServers, make_tables
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, encoded, record

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
