"""The accounts of users.xml and deploy/clickhouse/roles.sql: each may do its work, and is refused the rest."""

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.countries import READER, load_countries
from consumer.clickhouse.grants import OF_CLUSTER, check_grants, of_replicas
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import create_database, migrate, migrations, sweep
from consumer.clickhouse.notes import write_audits, write_heartbeats
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.promotion import Promotion, await_filled, promote, refresh_views
from consumer.clickhouse.repair import ClickHouseRepairer
from consumer.clickhouse.retention import Retention, apply_retention
from consumer.clickhouse.rows import DeadLetterRows, EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Intent, Origin
from consumer.delivery.ports import Partition, Record
from consumer.errors import ConsumerError, Denied, Fatal, Halt, Rejected
from consumer.operations.audit import Auditor
from consumer.operations.background_audit import row_of
from consumer.operations.completeness import Heartbeat
from consumer.operations.preflight import check_tables
from consumer.operations.replay import Choice, Replay
from consumer.operations.spans import Span
from schemas.registry import LocalSchemas
from tests.support.clickhouse import PASSWORD, EmbeddedClickHouse
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import AT_MS, TOPIC, encoded_loosely, record, records

ROOT = Path(__file__).resolve().parents[2]
USERS = ROOT / "deploy/embedded/clickhouse_server/users.xml"
ROLES = ROOT / "deploy/clickhouse/roles.sql"
DATABASE = "headrace"
EVENTS = Target("events", "event", TOPIC, 30)
DEAD = Target("dead_letters", "dead_letter", "dead", 30)
PACE = InsertPace(1, 1.0, 30, 30)
PLACE = Partition(TOPIC, 0)


def no_wait(_: float) -> None:
    """Try again at once."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    """A server whose database has the name that the grants have; other tests' would be in the way."""
    with EmbeddedClickHouse(tmp_path_factory.mktemp("roles")) as running:
        yield running


def account(server: EmbeddedClickHouse, name: str, database: str = DATABASE) -> Connection:
    """Return a connection as an account."""
    return Connection(server.url, name, "" if name == "analyst" else PASSWORD, database, 30)


@pytest.fixture(scope="module")
def ops(server: EmbeddedClickHouse) -> Connection:
    """Operators, who have made the tables: from the first statement on, and again."""
    create_database(account(server, "ops", ""), DATABASE, no_wait)
    connection = account(server, "ops")
    for _ in range(2):
        migrate(connection, migrations(), no_wait)
        refresh_views(connection, "UTC", no_wait)
    return connection


@pytest.fixture
def worker(server: EmbeddedClickHouse, ops: Connection) -> Connection:
    """A worker."""
    del ops
    return account(server, "headrace_worker")


@pytest.fixture
def analyst(server: EmbeddedClickHouse, ops: Connection) -> Connection:
    """An analyst."""
    del ops
    return account(server, "analyst")


def test_operators_do_all_that_the_commands_do(ops: Connection) -> None:
    """Repairing what is missing, retention, promoting, counting again, erasing."""
    ops.command("DROP VIEW page_views")
    ops.command("DROP TABLE replays SYNC")
    ops.command("ALTER TABLE events DROP COLUMN plan")
    migrate(ops, migrations(), no_wait)
    refresh_views(ops, "UTC", no_wait)
    apply_retention(ops, Retention(3000, 3000, 3000), no_wait)
    apply_retention(ops, Retention(0, 0, 0), no_wait)
    wanted = Promotion("readingMode", "string")
    promote(ops, wanted, "UTC", no_wait)
    await_filled(ops, wanted, lambda _: None, time.sleep)
    auditor = Auditor(ops, {TOPIC: "events"}, None)
    finding = auditor.audit(Span(PLACE, "id", 0, 0))
    auditor.recount(finding)
    sweep(ops, 0)
    ops.command("DELETE FROM events WHERE event_type = 'NEVER'")
    ops.command("ALTER TABLE events UPDATE url = '' WHERE event_type = 'NEVER'")
    ops.query("SELECT count() AS n FROM system.mutations")


def test_a_worker_does_its_whole_work(worker: Connection, ops: Connection) -> None:
    """Preflight, inserts, poison, repair, offsets, audit, heartbeats; with what operators have set meanwhile."""
    check_tables(worker, [(EVENTS, PACE), (DEAD, PACE)])
    tally, schemas = Tally(), LocalSchemas()
    rows = EventRows(schemas)
    table = ClickHouseTable(worker, EVENTS, rows, schemas.schema_of, tally)
    batch = records(range(10))
    assert rows.screen(batch) == []
    (block,) = rows.blocks(batch, Origin("id"), "a")
    table.insert(block)
    bad = [record(10), record(11, encoded_loosely(11, eventId="x" * 36)), record(12)]
    (refused,) = rows.blocks(bad, Origin("id"), "b")
    with pytest.raises(Rejected) as refusal:
        table.insert(refused)
    assert [item.offset for item in table.find_poison(refused, refusal.value, bad)] == [11]
    assert tally.counts["poison_probes/events"] > 0

    ops.command("DELETE FROM events WHERE _offset IN (3, 4)")  # as a kill does
    ops.command("TRUNCATE TABLE offsets")
    assert ClickHouseRepairer(worker, EVENTS, rows, tally).repair(block, batch) == 2
    dead = [Record(Partition("dead", 0), 0, AT_MS, b"events/0/11", b"x", (("headrace.origin_topic", b"events"),))]
    letters = DeadLetterRows()
    (buried,) = letters.blocks(dead, Origin("id"), "c")
    ClickHouseTable(worker, DEAD, letters, None, tally).insert(buried)
    assert ClickHouseRepairer(worker, DEAD, letters, tally).repair(buried, dead) == 0

    offsets = OffsetsTable(worker, {TOPIC: "events"}, 500)
    assert offsets.end(PLACE, "id", 0) == 10
    offsets.await_replicas(batch, time.monotonic(), always=False)
    assert offsets.held(PLACE, block, batch).offsets == set(range(10))
    assert offsets.present(PLACE, block) == offsets.kept(PLACE, Intent("id", 0, 10)) == set(range(10))
    auditor = Auditor(worker, {TOPIC: "events", "dead": "dead_letters"}, None)
    finding = auditor.audit(Span(PLACE, "id", 0, 10))
    assert finding.is_clean
    assert auditor.expired(finding.span) == 0
    write_audits(worker, [row_of(finding, "worker")])
    write_heartbeats(worker, [Heartbeat(PLACE, "id", 1, 0, 10, 10, 0, "").row()])
    Replay(worker, table, rows, schemas.schema_of).plan(Choice(TOPIC), {}, again=False)


def test_operators_load_countries_and_analysts_see_them(ops: Connection, analyst: Connection) -> None:
    """Each run replaces the networks of the last; the dictionary reads them as its own account."""
    ops.command("INSERT INTO events (event_id, event_type, ip) SELECT generateUUIDv4(), 'LOOKED_UP', '192.0.2.7'")
    query = "SELECT country FROM events_ready WHERE event_type = 'LOOKED_UP'"
    seen = []
    for network in ("192.0.2.0/24", "192.0.0.0/16", "192.0.3.0/24"):
        country = "DE" if network.endswith("24") else "FR"
        assert load_countries(ops, [(network, country), ("2001:db8::/32", "JP")]) == 2
        refresh_views(ops, "UTC", no_wait)
        seen += [row["country"] for row in analyst.query(query)]

    assert seen == ["DE", "FR", ""]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE replays DELETE WHERE 1",
        "DELETE FROM heartbeats WHERE 1",
        "ALTER TABLE events DROP COLUMN url",
        "ALTER TABLE events UPDATE url = '' WHERE 1",
        "ALTER TABLE events MODIFY TTL toDate(received_at)",
        "ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0",
        "TRUNCATE TABLE events",
        "DROP TABLE events",
        "DROP VIEW page_views",
        "CREATE TABLE mine (n UInt8) ENGINE = MergeTree ORDER BY n",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE DATABASE mine",
        "DROP DATABASE headrace",
        "CREATE FUNCTION mine AS x -> x",
        "OPTIMIZE TABLE events",
        "SYSTEM STOP MERGES events",
        "SYSTEM FLUSH LOGS",
        "SELECT * FROM system.users",
        "SELECT * FROM default.anything",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "CREATE TABLE away (a String) ENGINE = URL('http://127.0.0.1:1/', 'CSV')",
        "GRANT SELECT ON headrace.* TO analyst",
    ],
)
def test_a_worker_may_do_nothing_else(worker: Connection, statement: str) -> None:
    """Beside inserts, and what attaching parts asks for: it changes no table, and leaves the database alone."""
    with pytest.raises(ConsumerError) as refused:
        worker.command(statement)
    assert isinstance(refused.value, Denied), refused.value


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count() AS n FROM events_unique",
        "SELECT count() AS n FROM page_views",
        "SELECT count() AS n FROM data_quality",
        "SELECT count() AS n FROM complete_until",
        "SELECT count() AS n FROM audit_daily",
        "SELECT name AS n FROM system.columns WHERE database = 'headrace' LIMIT 1",
        "SELECT name AS n FROM system.tables WHERE database = 'headrace' LIMIT 1",
        "SELECT 1 AS n SETTINGS max_threads = 1, max_execution_time = 5",
    ],
)
def test_an_analyst_reads_everything_in_the_database(analyst: Connection, query: str) -> None:
    """Tables, views, and what clients ask to show them."""
    assert len(analyst.query(query)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events (event_id) VALUES (generateUUIDv4())",
        "ALTER TABLE events DELETE WHERE 1",
        "TRUNCATE TABLE events",
        "DROP TABLE events",
        "CREATE TABLE mine (n UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE mine (n UInt8)",
        "CREATE VIEW mine AS SELECT 1",
        "OPTIMIZE TABLE events",
        "KILL QUERY WHERE 1",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.2:1', system.one)",
        "SELECT * FROM executable('x', 'TSV', 'a String')",
        "SELECT * FROM system.users",
        "SELECT * FROM system.processes",
        "SELECT * FROM default.anything",
        "SYSTEM FLUSH LOGS",
        "SYSTEM START LISTEN HTTP",
    ],
)
def test_an_analyst_changes_nothing_and_reads_nothing_else(analyst: Connection, statement: str) -> None:
    """No table functions, no other database, no word to the server."""
    with pytest.raises(ConsumerError) as refused:
        analyst.command(statement)
    assert isinstance(refused.value, Denied), refused.value


@pytest.mark.parametrize(
    "setting",
    [
        "max_execution_time = 0",
        "max_execution_time = 301",
        "max_rows_to_read = 0",
        "max_rows_to_read = 6000000000",
        "read_overflow_mode = 'break'",
        "result_overflow_mode = 'break'",
        "max_result_rows = 0",
        "max_memory_usage = 0",
        "max_concurrent_queries_for_user = 0",
        "readonly = 0",
    ],
)
def test_an_analysts_limits_bind(analyst: Connection, setting: str) -> None:
    """A query can't set them aside."""
    with pytest.raises(Halt, match=r"SETTING_CONSTRAINT_VIOLATION|READONLY"):
        analyst.query(f"SELECT 1 SETTINGS {setting}")


def test_an_analysts_queries_end_at_the_limits(analyst: Connection) -> None:
    """By rows, by time, by size of the answer; and there is a quota."""
    for query in (
        "SELECT count() FROM numbers(6000000000)",
        "SELECT sleepEachRow(1) FROM numbers(100) SETTINGS max_execution_time = 1, max_block_size = 1",
        "SELECT number FROM numbers(1000001)",
    ):
        with pytest.raises(ConsumerError, match=r"TOO_MANY_ROWS|TIMEOUT_EXCEEDED|158|159|396"):
            analyst.query(query)
    (quota,) = analyst.query("SHOW CURRENT QUOTA")
    assert (quota["quota_name"], quota["max_queries"]) == ("analyst", 5000)


def test_what_an_analyst_asks_may_be_larger_than_the_memory(analyst: Connection) -> None:
    """It goes to the disk at a number of bytes. A share of the server's memory, the default, would come too late."""
    query = """
    SELECT count() AS n FROM
    (
        SELECT repeat(hex(sipHash128(number)), 8) AS text, count() FROM numbers(1000000) GROUP BY text
    )
    SETTINGS max_threads = 1, max_memory_usage = 250000000, max_bytes_before_external_group_by = 30000000
    """
    (memory,) = analyst.query("SELECT toUInt64(getSetting('max_memory_usage')) AS bytes")

    assert analyst.query(query) == [{"n": 1_000_000}]
    for step in ("group_by", "sort"):
        (limits,) = analyst.query(
            f"SELECT toUInt64(getSetting('max_bytes_before_external_{step}')) AS bytes,"
            f" getSetting('max_bytes_ratio_before_external_{step}') AS ratio"
        )
        assert 0 < limits["bytes"] <= memory["bytes"] / 4
        assert limits["ratio"] == 0  # else a sort does not heed the bytes


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE DATABASE mine",
        "SELECT * FROM default.anything",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SYSTEM SHUTDOWN",
        "DROP DATABASE system",
        "CREATE USER mine",
        "GRANT ALL ON *.* TO analyst",
    ],
)
def test_an_operator_stays_in_the_database(ops: Connection, statement: str) -> None:
    """No other one, no file, no other server, no accounts."""
    with pytest.raises(ConsumerError) as refused:
        ops.command(statement)
    assert isinstance(refused.value, Denied), refused.value


def statements() -> list[str]:
    """Return the statements of roles.sql."""
    text = "\n".join(line for line in ROLES.read_text("utf-8").splitlines() if not line.startswith("--"))
    return [part.strip() for part in text.split(";\n") if part.strip()]


def test_clickhouse_parses_every_statement_of_roles_sql(server: EmbeddedClickHouse) -> None:
    """The embedded server stores no accounts, so it only parses them."""
    for statement in statements():
        headers = {"X-ClickHouse-User": "headrace", "X-ClickHouse-Key": PASSWORD}
        request = urllib.request.Request(server.url, f"EXPLAIN AST {statement.rstrip(';')}".encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert b"Query" in answer.read(), statement


def test_whatever_was_there_gets_what_roles_sql_says_now() -> None:
    """Who is made if missing has nothing but a name; all else is altered, which keeps who has it, and its rights."""
    for statement in statements():
        if statement.startswith("CREATE") and not statement.startswith("CREATE USER"):
            assert re.fullmatch(r"CREATE (?:ROLE|QUOTA|SETTINGS PROFILE) IF NOT EXISTS \w+;?", statement), statement
        else:
            assert statement.startswith(("GRANT", "ALTER", "CREATE USER IF NOT EXISTS")), statement
    altered = [found[1] for text in statements() if (found := re.match(r"ALTER (.+?) headrace_analyst", text))]
    assert altered == ["SETTINGS PROFILE", "ROLE", "QUOTA"]


def test_preflight_names_the_right_that_an_account_lacks(worker: Connection) -> None:
    """In the words of roles.sql, where each of them stands: on a cluster, and for replicas."""
    check_grants(worker, of_replicas(Layout(), DATABASE))
    says = r"the account headrace_worker at \S+ lacks .*`GRANT REMOTE ON \*\.\* TO headrace_worker`"
    with pytest.raises(Fatal, match=says):
        check_grants(worker, OF_CLUSTER)
    with pytest.raises(Fatal, match=r"`GRANT CLUSTER ON \*\.\* TO headrace_worker`"):
        check_grants(worker, of_replicas(Layout("c", is_replicated=True), DATABASE))

    text = ROLES.read_text("utf-8")
    for grant in (*OF_CLUSTER, *of_replicas(Layout("c", is_replicated=True), DATABASE)):
        assert f"GRANT {grant} TO headrace_worker;" in text


def test_the_profile_of_roles_sql_puts_on_the_disk_what_is_larger_than_the_memory() -> None:
    """As the embedded analyst's does: by bytes, and by no share of the server's memory."""
    limits = {
        name: int(number) for name, number in re.findall(r"^    (\w+) = (\d+)", ROLES.read_text("utf-8"), re.MULTILINE)
    }

    for step in ("group_by", "sort"):
        assert 0 < limits[f"max_bytes_before_external_{step}"] <= limits["max_memory_usage"] / 4
        assert limits[f"max_bytes_ratio_before_external_{step}"] == 0


def test_the_grants_of_roles_sql_are_those_that_the_embedded_accounts_are_tried_with() -> None:
    """What is not tried here would be a guess."""
    users = ET.parse(USERS).getroot().find("users")  # noqa: S314  (our own file)
    assert users is not None
    for role, name in (
        ("headrace_worker", "headrace_worker"),
        ("headrace_analyst", "analyst"),
        ("headrace_ops", "ops"),
        (READER, READER),
    ):
        tried = {query.text for query in users.findall(f"{name}/grants/query")}
        given = {
            re.sub(rf" TO {role};?$", "", line) for line in statements() if line.rstrip(";").endswith(f" TO {role}")
        }
        assert {line for line in given if line.startswith("GRANT")} == tried
