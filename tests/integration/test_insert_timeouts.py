"""An insert that can't end within its time is given more of it, under the same token."""

from collections.abc import Iterator

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block
from consumer.errors import Cause, Transient
from schemas.registry import LocalSchemas
from tests.support.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, records
from tests.support.log_members import until
from tests.support.proxy import DelayAnswer, FaultProxy

TIMEOUT_S = 1.0


@pytest.fixture
def proxy(clickhouse: ClickHouse) -> Iterator[FaultProxy]:
    """Stands before the session's ClickHouse."""
    host, _, port = clickhouse.url.removeprefix("http://").rpartition(":")
    with FaultProxy(host, int(port)) as running:
        yield running


def test_the_time_grows_with_the_tries_until_there_is_an_answer(database: Connection, proxy: FaultProxy) -> None:
    """A second, then two, then four: the rows are there once, and the next insert has its ordinary time again."""
    schemas, metrics = LocalSchemas(), Tally()
    rows = EventRows(schemas)
    behind = Connection(proxy.url, USER, PASSWORD, database.database, TIMEOUT_S)
    table = ClickHouseTable(behind, Target("events", "event", TOPIC, TIMEOUT_S), rows, schemas.schema_of, metrics)
    batch = records(range(5))
    rows.screen(batch)
    (block,) = rows.blocks(batch, Origin("id"), "token")
    until(lambda: is_open(behind))
    proxy.set(DelayAnswer(2.5), only="INSERT")
    first_tries = [is_inserted(table, block) for _ in range(2)]
    until(lambda: is_inserted(table, block))

    assert first_tries == [False, False]
    assert database.query("SELECT count() AS n FROM events") == [{"n": 5}]
    assert metrics.counts["insert_seconds/events/inserted"] == 1
    assert metrics.counts["insert_seconds/events/unknown"] >= 2  # more, where a busy machine takes its time too
    behind.close()


def is_open(connection: Connection) -> bool:
    """Open a connection; a busy server may need longer for it than this one waits."""
    try:
        connection.client()
    except Transient:
        return False
    return True


def is_inserted(table: ClickHouseTable, block: Block) -> bool:
    """Try to insert a block; tell whether an answer came in time."""
    try:
        table.insert(block)
    except Transient as late:
        if late.cause is not Cause.UNKNOWN:
            raise
        return False
    return True
