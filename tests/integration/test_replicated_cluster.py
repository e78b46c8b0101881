"""A cluster with Replicated tables and ClickHouse Keeper; collected only where one is named, see CONTRIBUTING.

HEADRACE_TEST_CLICKHOUSE_CLUSTER=NAME=URL,URL,… gives the cluster's name and its servers, with two replicas of one shard
among them at least.
"""

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import create_database, migrate, migrations, tables
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.products import make_products
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.replication import Replicas as WaitedFor
from consumer.clickhouse.replication import synced
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.servers import each_shard, servers_of, shard_of
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.errors import Fatal, Transient, Unseen
from consumer.operations.audit import Auditor
from consumer.operations.erasure import Eraser
from consumer.operations.erasure_key import ErasureKey
from consumer.operations.people import Kind, Person
from consumer.operations.preflight import check_servers, check_tables
from consumer.operations.spans import Span
from schemas.registry import LocalSchemas
from tests.conftest import CLUSTER
from tests.support.clickhouse import PASSWORD, USER
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, encoded, record

TARGET = Target("events", "event", TOPIC, 30)
PACE = InsertPace(partitions=5, age_s=1.0, timeout_s=30, session_s=30)
PLACE, ID = Partition(TOPIC, 0), "incarnation"
SHORT_S = 5.0


class Replicas:
    """Two replicas of one shard, with the tables of a database on all servers."""

    def __init__(self, database: str) -> None:
        self.name, _, self.urls = os.environ[CLUSTER].partition("=")
        self.database = database
        first = self.connect("")
        create_database(first, database, time.sleep)
        migrate(self.connect(database), migrations(), time.sleep)
        make_products(self.connect(database), "UTC", time.sleep)
        found = servers_of(self.connect(database))
        self.shard = Counter(map(shard_of, found)).most_common(1)[0][0]
        self.all = [one for one in found if shard_of(one) == self.shard]
        self.first, self.second, *_ = self.all

    def connect(self, database: str, *, quorum: str = "0", timeout_s: float = 30.0) -> Connection:
        """Return a connection to all."""
        layout = Layout(self.name, is_replicated=True, tables=tables(), quorum=quorum)
        return Connection(self.urls, USER, PASSWORD, database, timeout_s, layout=layout)

    def drop(self) -> None:
        """Drop the database everywhere."""
        statement = f"DROP DATABASE {self.database} ON CLUSTER '{self.name}' SYNC"
        first = self.connect("")
        first.command(statement, settings=first.layout.settings_of(statement, first.timeout_s))

    def block(self, offsets: range, token: str) -> tuple[Block, list[Record]]:
        """Return a block for the shard, and its records."""
        rows = EventRows(LocalSchemas())
        batch = [record(offset, encoded(offset)) for offset in offsets]
        assert rows.screen(batch) == []
        (block,) = rows.blocks(batch, Origin(ID), token)
        return replace(block, shard=self.shard), batch

    def insert(self, through: Connection, offsets: range, token: str) -> None:
        """Insert rows through a server."""
        schemas = LocalSchemas()
        table = ClickHouseTable(through, TARGET, EventRows(schemas), schemas.schema_of, Tally())
        table.insert(self.block(offsets, token)[0])

    @contextmanager
    def lagging(self) -> Iterator[None]:
        """Let the second replica fetch nothing."""
        for table in ("events", "offsets"):
            self.second.command(f"SYSTEM STOP FETCHES {self.database}.{table}")
        try:
            yield
        finally:
            for table in ("events", "offsets"):
                self.second.command(f"SYSTEM START FETCHES {self.database}.{table}")

    def there(self, low: int, end: int) -> list[Counter[int]]:
        """Return how often each of these offsets is on each replica, once they have caught up."""
        synced(self.connect(self.database), "events", "offsets")
        query = "SELECT _offset AS o FROM events WHERE _offset >= {low:UInt64} AND _offset < {end:UInt64}"
        found = [one.query(query, {"low": low, "end": end}) for one in (self.first, self.second)]
        return [Counter(row["o"] for row in rows) for rows in found]


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    """The replicas, with new tables."""
    made = Replicas(f"replicated_{uuid.uuid4().hex[:12]}")
    yield made
    made.drop()


def test_what_migrate_makes_is_replicated_and_passes_preflight(replicas: Replicas) -> None:
    """Engines, windows and macros of every server; a second run changes nothing."""
    connection = replicas.connect(replicas.database)
    check_tables(connection, [(TARGET, PACE)])

    assert check_servers(connection) >= 1
    assert not migrate(connection, migrations(), time.sleep).now


def test_a_repeat_through_another_replica_is_dropped(replicas: Replicas) -> None:
    """They share their tokens."""
    for one in (replicas.first, replicas.second, replicas.first):
        replicas.insert(one, range(30), "tokens")

    assert replicas.there(0, 30) == [Counter(range(30))] * 2


def test_a_replica_that_lags_is_waited_for_and_is_no_loss(replicas: Replicas) -> None:
    """Neither the audit nor a worker that repeats old rows takes its word."""
    auditor = Auditor(replicas.connect(replicas.database, timeout_s=SHORT_S), {TOPIC: "events"}, None)
    block, batch = replicas.block(range(100, 130), "lag")
    known = OffsetsTable(replicas.connect(replicas.database, timeout_s=SHORT_S), {TOPIC: "events"}, 570)
    with replicas.lagging():
        replicas.insert(replicas.first, range(100, 130), "lag")
        with pytest.raises(Transient, match="does not have yet what another one has"):
            known.await_replicas(batch, time.monotonic(), always=False)

    known.await_replicas(batch, time.monotonic(), always=False)
    assert known.held(PLACE, block, batch).offsets == frozenset(range(100, 130))
    assert auditor.audit(Span(PLACE, ID, 100, 130)).is_clean


def test_a_quorum_that_is_not_reached_is_tried_again_and_inserts_once(replicas: Replicas) -> None:
    """The same on every try, of all replicas; a replica that fetches nothing has none of it."""
    every = str(len(replicas.all))
    through = replicas.connect(replicas.database, quorum=every, timeout_s=SHORT_S).to(replicas.first.urls[0])
    with replicas.lagging(), pytest.raises(Transient):
        replicas.insert(through, range(200, 230), "quorum")
    replicas.insert(replicas.connect(replicas.database, quorum=every), range(200, 230), "quorum")

    assert replicas.there(200, 230) == [Counter(range(200, 230))] * 2


def test_what_no_replica_has_is_put_back_on_all(replicas: Replicas) -> None:
    """As if acknowledged rows had gone with a disk: the token is known, the rows are nowhere."""
    connection = replicas.connect(replicas.database)
    rows, waiting = EventRows(LocalSchemas()), WaitedFor(connection, "events", "offsets", "erased_rows")
    block, batch = replicas.block(range(300, 330), "lost")
    assert rows.screen(batch) == []
    repairer = ClickHouseRepairer(connection, TARGET, rows, Tally(), waiting)
    replicas.insert(replicas.first, range(300, 330), "lost")
    lose = "ALTER TABLE events DELETE WHERE _offset >= 300 AND _offset < 320"
    replicas.first.command(lose, settings={"mutations_sync": 2})
    replicas.insert(replicas.second, range(300, 330), "lost")
    with pytest.raises(Unseen):
        repairer.repair(block, batch)

    for put_back in (20, 0):
        waiting.wait(time.monotonic())
        assert repairer.repair(block, batch, is_awaited=True) == put_back
        assert replicas.there(300, 330) == [Counter(range(300, 330))] * 2


def test_a_person_is_erased_from_every_replica(replicas: Replicas) -> None:
    """Each deletes by its own list of rows, which it has before."""
    connection = replicas.connect(replicas.database)
    replicas.insert(replicas.first, range(400, 430), "erased")
    query = "SELECT DISTINCT toString(event_id) AS id FROM events WHERE _offset >= 400 AND _offset < 430"
    people = [Person(Kind.EVENT, row["id"], 2**41) for row in replicas.first.query(query)]
    with each_shard(connection) as shards:
        eraser = Eraser(connection, LocalSchemas().schema_of, print, shards=list(shards.values()))
        assert eraser.erase(people, ErasureKey(b"k" * 32), "test") == (30, 0)

    assert replicas.there(400, 430) == [Counter()] * 2


def test_a_window_that_one_replica_keeps_too_short_is_refused(replicas: Replicas) -> None:
    """That replica removes the tokens of all."""
    setting = "replicated_deduplication_window_seconds"
    replicas.second.command(f"ALTER TABLE events MODIFY SETTING {setting} = 5")
    try:
        with pytest.raises(Fatal, match="events"):
            check_servers(replicas.connect(replicas.database))
    finally:
        replicas.second.command(f"ALTER TABLE events MODIFY SETTING {setting} = 1209600")
