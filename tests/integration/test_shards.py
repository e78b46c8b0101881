"""Two ClickHouse servers as shards: whole batches to one shard, once, whichever server is asked."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import create_database
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.products import products
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.replica import copy_tables
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.streams import pieces
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import NO_SHARD, Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.errors import Cause, Fatal, Reason, Rejected, Transient
from consumer.operations.audit import Auditor
from consumer.operations.preflight import check_servers, check_tables
from consumer.operations.spans import Span
from schemas.registry import LocalSchemas
from tests.conftest import SOAK_ONLY
from tests.support.clickhouse import PASSWORD
from tests.support.clickhouse_shards import TwoServers, make_tables
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, encoded, record

TARGET = Target("events", "event", TOPIC, 30)
LETTERS = Target("dead_letters", "dead_letter", "events.dead", 30)
PACE = InsertPace(partitions=5, age_s=1.0, timeout_s=30, session_s=30)
TOPIC_ID = "incarnation"
KEPT = "Distributed('two', currentDatabase(), 'events')"
RANDOM = "Distributed('two', currentDatabase(), 'events', rand())"


@pytest.fixture(scope="module")
def kept(two_servers: TwoServers) -> Iterator[str]:
    """A database on both, whose tables lie on two shards; made once."""
    with two_servers.database("two") as name:
        yield name


@pytest.fixture
def database(two_servers: TwoServers, kept: str) -> str:
    """The same, without rows and tokens."""
    for one in two_servers.each(kept):
        for table in ("events", "offsets", "received"):
            one.command(f"TRUNCATE TABLE {table} SYNC")
    return kept


class Inserter:
    """A worker's way with a batch, over one connection."""

    def __init__(self, connection: Connection) -> None:
        schemas = LocalSchemas()
        self.rows, self.tally, self.connection = EventRows(schemas), Tally(), connection
        self.table = ClickHouseTable(connection, TARGET, self.rows, schemas.schema_of, self.tally)
        self.repairer = ClickHouseRepairer(connection, TARGET, self.rows, self.tally)

    def block(self, offsets: range, shard: int, partition: int = 0) -> tuple[Block, list[Record]]:
        """Return a batch's only block, and its records."""
        batch = [record(offset, encoded(partition * 1000 + offset), partition) for offset in offsets]
        assert self.rows.screen(batch) == []
        token = f"2/kafka/{TOPIC_ID}/{partition}/-1/0/{offsets.start}/{offsets.stop}"
        (block,) = self.rows.blocks(batch, Origin(TOPIC_ID), token)
        return replace(block, shard=shard), batch

    def insert(self, offsets: range, shard: int, partition: int = 0) -> None:
        """Insert a batch into a shard."""
        self.table.insert(self.block(offsets, shard, partition)[0])


def rows_of(two_servers: TwoServers, database: str) -> list[Counter[tuple[int, int]]]:
    """Return how many rows each server itself has of each partition and offset."""
    query = "SELECT _partition AS p, _offset AS o FROM events"
    return [Counter((row["p"], row["o"]) for row in one.query(query)) for one in two_servers.each(database)]


def counted(two_servers: TwoServers, database: str) -> list[int]:
    """Return how many rows each server has counted."""
    return [one.query("SELECT sum(rows) AS n FROM offsets")[0]["n"] for one in two_servers.each(database)]


def places(partition: int, offsets: range) -> Counter[tuple[int, int]]:
    """Return each offset of a partition once."""
    return Counter((partition, offset) for offset in offsets)


def test_a_batch_lies_on_its_shard_once_whichever_server_is_asked_again(two_servers: TwoServers, database: str) -> None:
    """The token travels with the block; the server that passes it on keeps nothing."""
    first, second = (Inserter(one) for one in two_servers.each(database, "two"))
    first.insert(range(30), shard=2, partition=1)
    second.insert(range(30), shard=2, partition=1)
    second.insert(range(30), shard=1)
    first.insert(range(30), shard=1)

    assert rows_of(two_servers, database) == [places(0, range(30)), places(1, range(30))]
    assert counted(two_servers, database) == [30, 30]


def test_defaults_and_computed_columns_are_those_of_a_single_server(two_servers: TwoServers, database: str) -> None:
    """A row that was passed on equals one that was inserted where it lies."""
    through, direct = Inserter(two_servers.each(database, "two")[0]), Inserter(two_servers.each(database)[1])
    text = json.dumps({"amount": "12.5", "currency": "eur", "utmSource": "x", "contentTags": ["a"]})
    for number, inserter in enumerate((through, direct)):
        batch = [record(number, encoded(7, properties=text, url="https://a.example/?utm_term=t"), 1)]
        inserter.rows.screen(batch)
        (block,) = inserter.rows.blocks(batch, Origin(TOPIC_ID), f"token-{number}")
        inserter.table.insert(replace(block, shard=2))
    kept = two_servers.each(database)[1].query(
        "SELECT * EXCEPT (_offset, _inserted_at), intDiv(_precedence, 1048576) AS at, toString(properties) AS p"
        " FROM events ORDER BY _offset"
    )

    assert len(kept) == 2
    assert kept[0] == kept[1]
    assert (kept[0]["currency"], kept[0]["utm_term"]) == ("EUR", "t")


def test_a_range_without_a_shard_goes_to_the_first(two_servers: TwoServers, database: str) -> None:
    """It was meant for the single server from which the cluster has grown, and may be there already."""
    single = Inserter(two_servers.each(database)[0])
    single.insert(range(30), NO_SHARD)
    Inserter(two_servers.each(database, "two")[1]).insert(range(30), NO_SHARD)

    assert rows_of(two_servers, database) == [places(0, range(30)), Counter()]


def test_an_insert_that_names_no_shard_is_refused(two_servers: TwoServers, database: str) -> None:
    """Without a sharding key ClickHouse can't choose one, and would not choose the same again."""
    with pytest.raises(Transient, match="more than one shard and no sharding key"):
        two_servers.each(database, "two")[0].command("INSERT INTO events_all (event_id) SELECT generateUUIDv4()")


def test_a_range_goes_where_it_was_meant_after_a_shard_was_added(two_servers: TwoServers) -> None:
    """The first try went to the only shard; its partition belongs to the second one now."""
    with two_servers.database("one") as database:
        Inserter(two_servers.each(database, "one")[0]).insert(range(30), shard=1, partition=1)
        for one in two_servers.each(database, "two"):
            make_tables(one)
        later = Inserter(two_servers.each(database, "two")[1])
        later.insert(range(30), shard=1, partition=1)
        later.insert(range(30, 60), shard=2, partition=1)

        assert rows_of(two_servers, database) == [places(1, range(30)), places(1, range(30, 60))]
        assert two_servers.each(database, "two")[0].query("SELECT count() AS n FROM events_unique") == [{"n": 60}]


def test_rows_are_found_on_whichever_shard_they_are(two_servers: TwoServers, database: str) -> None:
    """Before a repeat, and when the group's offset was lost, all shards are asked."""
    one = two_servers.each(database, "two")[0]
    Inserter(one).insert(range(30), shard=2, partition=1)
    table = OffsetsTable(one, {TOPIC: "events"}, 60)
    block, batch = Inserter(one).block(range(40), shard=2, partition=1)
    part = Partition(TOPIC, 1)

    assert table.end(part, TOPIC_ID, 0) == 30
    table.await_replicas(batch, monotonic(), always=False)
    assert table.held(part, block, batch).offsets == frozenset(range(30))
    assert table.present(part, block) == frozenset(range(30))
    assert [(reading.first, reading.last) for reading in table.readings(part, TOPIC_ID)] == [(0, 29)]


def test_the_audit_counts_both_shards(two_servers: TwoServers, database: str) -> None:
    """What one lacks is missing, and what both have is double."""
    one = two_servers.each(database, "two")[0]
    Inserter(one).insert(range(30), shard=1)
    Inserter(one).insert(range(30), shard=2, partition=1)
    auditor = Auditor(one, {TOPIC: "events"}, None)
    spans = [Span(Partition(TOPIC, number), TOPIC_ID, 0, 30) for number in (0, 1)]
    assert all(auditor.audit(span).is_clean for span in spans)

    Inserter(one).insert(range(10), shard=2)
    double, lacking = auditor.audit(spans[0]), auditor.audit(replace(spans[1], end=33))

    assert (double.duplicates, str(double.duplicates_shown)) == (10, "0-9")
    assert str(lacking.missing) == "30-32"


def test_poison_is_found_whichever_shard_it_is_for(two_servers: TwoServers, database: str) -> None:
    """The table of the server that is asked has the same constraints."""
    inserter = Inserter(two_servers.each(database, "two")[0])
    far = encoded(7, receivedAt=99_999_999_999_999)
    batch = [record(0, encoded(1), 1), record(1, far, 1), record(2, encoded(3), 1)]
    inserter.rows.screen(batch)
    (block,) = inserter.rows.blocks(batch, Origin(TOPIC_ID), "t")
    block = replace(block, shard=2)

    with pytest.raises(Rejected) as refusal:
        inserter.table.insert(block)
    found = inserter.table.find_poison(block, refusal.value, batch)

    assert [(item.offset, item.reason) for item in found] == [(1, Reason.CONSTRAINT)]
    assert rows_of(two_servers, database) == [Counter(), Counter()]


def test_a_view_that_throws_on_the_shard_is_known_as_one(two_servers: TwoServers, database: str) -> None:
    """The rows are in the table: nobody may look for poison among them."""
    shard = two_servers.each(database)[1]
    shard.command("CREATE TABLE own (n UInt8) ENGINE = MergeTree ORDER BY n")
    shard.command("CREATE MATERIALIZED VIEW throws TO own AS SELECT throwIf(_offset = 7) AS n FROM events")

    with pytest.raises(Transient) as failure:
        Inserter(two_servers.each(database, "two")[0]).insert(range(30), shard=2, partition=1)
    shard.command("DROP VIEW throws SYNC")
    shard.command("DROP TABLE own SYNC")
    assert failure.value.cause is Cause.VIEW


def test_every_view_says_of_two_shards_what_it_says_of_one_server(two_servers: TwoServers, database: str) -> None:
    """The same events, on one server and over both."""
    with two_servers.database("") as single:
        alone, spread = two_servers.each(single)[0], two_servers.each(database, "two")[0]
        for partition in (0, 1):
            batch = [record(number, visit(partition * 1000 + number), partition) for number in range(30)]
            for connection in (alone, spread):
                inserter = Inserter(connection)
                inserter.rows.screen(batch)
                (block,) = inserter.rows.blocks(batch, Origin(TOPIC_ID), f"visit-{partition}")
                inserter.table.insert(replace(block, shard=partition + 1))
        assert [rows.total() for rows in rows_of(two_servers, database)] == [30, 30]
        for view in products("UTC"):
            query = f"SELECT * EXCEPT _inserted_at FROM {view} ORDER BY ALL"
            query = query if view == "events_ready" else query.replace(" EXCEPT _inserted_at", "")
            assert spread.query(query) == alone.query(query), view
        assert spread.query("SELECT sum(events) AS n FROM events_per_minute") == [{"n": 60}]
        assert spread.query("SELECT count() AS n FROM dead_letters_unique") == [{"n": 0}]


def visit(number: int) -> bytes:
    """Return one of a visitor's events: views, clicks and purchases."""
    kind = ("VIEW", "PING", "CLICK", "PURCHASE")[number % 4]
    text = json.dumps({"amount": "1.5", "currency": "eur", "orderId": str(number), "scrollDepth": "far"})
    person = {"anonId": f"a{number // 8}", "userId": f"u{number // 16}", "clientId": f"c{number % 2}"}
    place = {"contentId": f"x{number % 3}", "paywallId": "p", "eventType": kind}
    return encoded(number, properties=text, **person, **place)


def test_copies_of_an_event_are_one_on_their_shard(two_servers: TwoServers, database: str) -> None:
    """As on a single server; a person's events are in one partition, so on one shard."""
    one = two_servers.each(database, "two")[0]
    Inserter(one).insert(range(30), shard=2, partition=1)
    inserter = Inserter(one)
    batch = [record(offset + 30, encoded(1000 + offset), 1) for offset in range(30)]
    inserter.rows.screen(batch)
    (block,) = inserter.rows.blocks(batch, Origin(TOPIC_ID), "again")
    inserter.table.insert(replace(block, shard=2))

    assert one.query("SELECT count() AS n, max(_offset) AS o FROM events_unique") == [{"n": 30, "o": 29}]


def test_rows_that_a_killed_shard_lost_are_put_back_there(two_servers: TwoServers, database: str) -> None:
    """The token is known and the rows are gone: the repair goes to a server of the shard itself."""
    shard = two_servers.each(database)[1]
    inserter = Inserter(two_servers.connect(database, "two"))
    inserter.insert(range(30), shard=2, partition=1)
    shard.command("ALTER TABLE events DELETE WHERE _offset < 20", settings={"mutations_sync": 2})
    inserter.insert(range(30), shard=2, partition=1)
    assert rows_of(two_servers, database)[1] == places(1, range(20, 30))

    assert inserter.repairer.repair(*inserter.block(range(30), shard=2, partition=1)) == 20
    assert rows_of(two_servers, database) == [Counter(), places(1, range(30))]
    assert counted(two_servers, database) == [0, 30]
    assert inserter.repairer.repair(*inserter.block(range(30), shard=2, partition=1)) == 0


def preflight(connection: Connection) -> int:
    """Check tables and servers as a worker's start does; return the number of shards."""
    check_tables(connection, [(TARGET, PACE), (LETTERS, PACE)])
    return check_servers(connection)


def test_preflight_passes_what_migrate_makes_and_counts_the_shards(two_servers: TwoServers, database: str) -> None:
    """Nothing is left behind on either server."""
    before = [one.query("SHOW TABLES") for one in two_servers.each(database)]

    assert preflight(two_servers.connect(database, "two")) == 2
    assert [one.query("SHOW TABLES") for one in two_servers.each(database)] == before


@pytest.mark.parametrize(
    ("cause", "cure", "says"),
    [
        (
            f"CREATE OR REPLACE TABLE events_all AS events ENGINE = {RANDOM}",
            f"CREATE OR REPLACE TABLE events_all AS events ENGINE = {KEPT} COMMENT 'events of all shards'",
            r"events_all at \S+ is Distributed\(.*rand\(\)\): a repeated insert could go to another shard",
        ),
        (
            "RENAME TABLE offsets_all TO away",
            "RENAME TABLE away TO offsets_all",
            r"there is no table \S+\.offsets_all at \S+: run `python -m consumer migrate`",
        ),
        (
            "ALTER TABLE events ADD COLUMN more String",
            "ALTER TABLE events DROP COLUMN more",
            r"\.events at \S+ has another columns than",
        ),
        (
            "ALTER TABLE offsets MODIFY SETTING non_replicated_deduplication_window = 7",
            "ALTER TABLE offsets MODIFY SETTING non_replicated_deduplication_window = 100000",
            r"\.offsets at \S+ has another engine or settings than",
        ),
    ],
    ids=["an unkeyed distribution", "no table over all shards", "other columns", "a smaller window"],
)
def test_preflight_asks_every_server(two_servers: TwoServers, database: str, cause: str, cure: str, says: str) -> None:
    """A fault of the second server is as bad as one of the first."""
    second = two_servers.each(database)[1]
    second.command(cause)
    try:
        with pytest.raises(Fatal, match=says):
            check_servers(two_servers.connect(database, "two"))
    finally:
        second.command(cure)
    assert check_servers(two_servers.connect(database, "two")) == 2


def test_preflight_refuses_a_cluster_that_it_can_not_keep_exact(two_servers: TwoServers, database: str) -> None:
    """One that nobody knows; a shard that no address leads to; servers that are no cluster, and have other tables."""
    with pytest.raises(Fatal, match="knows no cluster nowhere"):
        check_servers(two_servers.connect(database, "nowhere"))
    with pytest.raises(Fatal, match="know other shards or replicas of the cluster apart: give them the same"):
        check_servers(two_servers.connect(database, "apart"))
    with pytest.raises(Fatal, match="names no server of shard 2 of two: add one"):
        check_servers(two_servers.connect(database, "two", two_servers.nodes[0].url))
    with pytest.raises(Fatal, match=r"leads to servers whose tables are not the same: \S+ and \S+;"):
        check_servers(two_servers.connect(database))


def test_preflight_names_the_right_that_the_account_lacks(two_servers: TwoServers, database: str) -> None:
    """Before it asks all servers, whose answer would not name it."""
    as_worker = Connection(two_servers.url, "headrace_worker", PASSWORD, database, 30, layout=Layout("two"))
    with pytest.raises(Fatal, match=r"let an administrator run `GRANT REMOTE ON \*\.\* TO headrace_worker`"):
        check_servers(as_worker)


def test_preflight_refuses_plain_tables_as_replicas(two_servers: TwoServers) -> None:
    """Each server would have the rows that went to it."""
    says = "shard 1 of the cluster copies has several replicas, but the tables are not"
    with two_servers.database("copies") as other, pytest.raises(Fatal, match=says):
        check_servers(two_servers.connect(other, "copies"))


def test_a_distributed_table_in_the_table_s_place_says_what_to_do(two_servers: TwoServers, database: str) -> None:
    """As installations have it that were made by hand."""
    one = two_servers.each(database)[0]
    one.command("DROP VIEW events_to_offsets SYNC")
    one.command("DROP VIEW events_to_received SYNC")
    one.command("RENAME TABLE events TO events_of_server")
    one.command("CREATE TABLE events AS events_of_server ENGINE = Distributed('two', currentDatabase(), 'x', 1)")
    try:
        with pytest.raises(Fatal, match="is a Distributed table: let it be the table of each server"):
            check_tables(two_servers.connect(database, "two"), [(TARGET, PACE)])
    finally:
        one.command("DROP TABLE events SYNC")
        one.command("RENAME TABLE events_of_server TO events")
        make_tables(two_servers.each(database, "two")[0])


def test_a_second_run_changes_only_what_an_operator_altered(two_servers: TwoServers, database: str) -> None:
    """Once more changes nothing; what an operator has altered reaches the tables over all shards."""
    query = "SELECT name, create_table_query AS text FROM system.tables WHERE database = currentDatabase()"
    one = two_servers.each(database, "two")[0]
    before = one.query(query)
    make_tables(one)
    assert sorted(row["name"] for row in one.query(query)) == sorted(row["name"] for row in before)

    one.command("ALTER TABLE events ADD COLUMN more String DEFAULT 'x'")
    make_tables(one)
    shown = {row["name"] for row in one.query("DESCRIBE TABLE events_all")}
    one.command("ALTER TABLE events DROP COLUMN more")
    make_tables(one)
    assert "more" in shown
    assert "more" not in {row["name"] for row in one.query("DESCRIBE TABLE events_all")}


def test_a_new_replica_gets_the_tables_that_another_one_has_now(two_servers: TwoServers) -> None:
    """With what was altered since the migrations, and every view; then `migrate` has nothing to do."""
    query = (
        "SELECT name, create_table_query AS text FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    with two_servers.database("two", is_empty=True) as name:
        living, new = two_servers.each(name, "two")
        make_tables(living)
        living.command("ALTER TABLE events ADD COLUMN more String DEFAULT 'x', ADD INDEX more_range more TYPE minmax")
        make_tables(living)
        create_database(new.beside("", new.layout), name, lambda _: None)

        made = copy_tables(living, new)

        assert new.query(query) == living.query(query)
        assert len(made) == len(living.query(query))
        assert copy_tables(living, new) == []


@SOAK_ONLY
def test_shards_come_back_from_backups_of_one_round(two_servers: TwoServers) -> None:
    """Each by itself, as docs/RECOVERY.md has it for one server; then all is as it was, over both."""
    with two_servers.database("two") as name:
        one = two_servers.each(name, "two")[0]
        for shard, partition in ((1, 0), (2, 1)):
            Inserter(one).insert(range(30), shard=shard, partition=partition)
        counted_first = f"TABLE {name}.offsets, TABLE {name}.dead_letter_origins"
        rest = f"DATABASE {name} EXCEPT TABLES {name}.offsets, {name}.dead_letter_origins"
        for number, server in enumerate(two_servers.each("")):
            b"".join(pieces(server, f"BACKUP {counted_first} TO File('{name}-{number}-offsets')"))
            b"".join(pieces(server, f"BACKUP {rest} TO File('{name}-{number}-tables')"))
        for server in two_servers.each(""):
            server.command(f"DROP DATABASE {name} SYNC")
        for number, server in enumerate(two_servers.each("")):
            b"".join(pieces(server, f"RESTORE DATABASE {name} FROM File('{name}-{number}-tables')"))
            b"".join(pieces(server, f"RESTORE {counted_first} FROM File('{name}-{number}-offsets')"))

        assert preflight(two_servers.connect(name, "two")) == 2
        assert rows_of(two_servers, name) == [places(0, range(30)), places(1, range(30))]
        auditor = Auditor(one, {TOPIC: "events"}, None)
        assert all(auditor.audit(Span(Partition(TOPIC, number), TOPIC_ID, 0, 30)).is_clean for number in (0, 1))
        make_tables(one)
