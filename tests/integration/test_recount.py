"""Counting again what the view has not counted, on a real ClickHouse: once, whatever became of the runs before."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from consumer.clickhouse.client import Connection
from consumer.errors import ConsumerError, Transient
from consumer.operations.audit import Auditor
from tests.integration.test_audit import Tables
from tests.support.fixtures_consumer import TOPIC, records
from tests.support.log_members import until


@pytest.fixture
def uncounted(database: Connection) -> Tables:
    """Ten rows, of which the view has counted none."""
    tables = Tables(database)
    database.command("DETACH TABLE events_to_offsets SYNC")
    tables.insert(records(range(10)), "a")
    database.command("ATTACH TABLE events_to_offsets")
    return tables


def test_what_a_killed_server_knows_the_token_of_is_counted_by_the_next_run(
    uncounted: Tables, database: Connection
) -> None:
    """It was killed before the counts were in place: under the same token they would be dropped again and again."""
    auditor, finding = Auditor(database, {TOPIC: "events"}, None), uncounted.audit(0, 10)
    for _ in range(3):
        assert auditor.recount(finding).is_clean
        database.command("ALTER TABLE offsets DELETE WHERE 1", settings={"mutations_sync": 2})  # no token is forgotten

    after = auditor.recount(uncounted.audit(0, 10))
    assert (after.rows, after.offsets, after.is_clean) == (10, 10, True)


def test_runs_at_the_same_time_count_once_while_the_group_goes_on(uncounted: Tables, database: Connection) -> None:
    """Each looks further than the one before; what it finds uncounted is the same."""
    findings = []
    for end in range(11, 19):
        uncounted.insert(records(range(end - 1, end)), f"b{end}")
        findings.append(uncounted.audit(0, end))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Auditor(database, {TOPIC: "events"}, None).recount, findings))
    after = uncounted.audit(0, 18)
    assert (after.rows, after.offsets, after.is_clean) == (18, 18, True)


def test_a_run_whose_client_was_killed_is_waited_for(uncounted: Tables, database: Connection) -> None:
    """It goes on in the server, and would be counted twice; one that goes on for too long is told."""
    auditor, finding = Auditor(database, {TOPIC: "events"}, None), uncounted.audit(0, 10)
    token = {"insert_deduplication_token": f"recount/{finding.span.topic_id}/0/0/0/0/7/7/0"}
    slow = "INSERT INTO FUNCTION null('n UInt8') SELECT sleepEachRow(1) FROM numbers(30) SETTINGS max_block_size = 1"
    query = "SELECT query_id AS id FROM system.processes WHERE startsWith(Settings['insert_deduplication_token'], 're')"
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            (row,) = database.query(query)
            with suppress(ConsumerError):  # it answers with rows
                database.command(f"KILL QUERY WHERE query_id = '{row['id']}' ASYNC")
        time.sleep(0.1)  # a killed one ends its second of sleep first

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(database.command, slow, settings=token)
        until(lambda: bool(database.query(query)), timeout_s=30)
        with pytest.raises(Transient, match=r"an earlier recount of .*/0 still runs in ClickHouse"):
            auditor.recount(finding, lambda _: None)
        assert auditor.recount(finding, rest).is_clean
        assert isinstance(running.exception(30), ConsumerError)
    assert len(rests) >= 3
