"""Each sentence of preflight about the tables: its cause brought about, its advice followed word for word, and well."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.migrations import migrations
from consumer.clickhouse.remake import RECOUNT
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition
from consumer.errors import Fatal
from consumer.operations.audit import Auditor
from consumer.operations.preflight import check_tables
from consumer.operations.spans import Span
from schemas.registry import LocalSchemas
from tests.conftest import cases
from tests.support.advice import follow
from tests.support.clickhouse import USER, ClickHouse, password_file
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, encoded, record

EVENTS: Final = Target("events", "event", TOPIC, 30)
DEAD: Final = Target("dead_letters", "dead_letter", "dead", 30)
PACE: Final = InsertPace(partitions=5, age_s=1.0, timeout_s=30, session_s=30)
VIEW_OF_BEFORE: Final = next(
    statement.partition(" AS\n")[2].replace(",\n    map(_leader_epoch, min(_offset)) AS epochs", "")
    for statement in migrations()[2].statements
    if statement.startswith("CREATE MATERIALIZED VIEW IF NOT EXISTS dead_letters_offsets")
)
_INTO: Final = "AS SELECT 1 AS n FROM events"


@dataclass(frozen=True)
class Fault:
    """One fault: what is said, the statements that bring it about, and which of several ways is taken in the end."""

    says: Sentence
    cause: Sequence[str]
    then: str = ""


FAULTS: Final[dict[str, Fault]] = {
    "no table": Fault(Sentence.NO_TABLE, ["DROP TABLE events SYNC"]),
    "no table of dead letters": Fault(Sentence.NO_TABLE, ["DROP TABLE dead_letters SYNC"]),
    "a detached table": Fault(Sentence.DETACHED, ["DETACH TABLE events"]),
    "a table detached for good": Fault(Sentence.DETACHED, ["DETACH TABLE dead_letters PERMANENTLY"]),
    "a detached view of the table of offsets": Fault(Sentence.DETACHED, ["DETACH TABLE events_to_offsets"]),
    "a detached ledger": Fault(Sentence.DETACHED, ["DETACH TABLE offsets"]),
    "dropped columns": Fault(
        Sentence.NO_COLUMNS, ["ALTER TABLE events DROP COLUMN browser, DROP COLUMN os_name, DROP COLUMN properties"]
    ),
    "a dropped column of dead letters": Fault(Sentence.NO_COLUMNS, ["ALTER TABLE dead_letters DROP COLUMN error"]),
    "a renamed column": Fault(
        Sentence.NO_COLUMNS,
        ["ALTER TABLE events RENAME COLUMN browser TO navigator"],
        then="RENAME COLUMN navigator TO browser",
    ),
    "a column dropped beside one of a person's": Fault(
        Sentence.NO_COLUMNS,
        ["ALTER TABLE events ADD COLUMN campaign LowCardinality(String), DROP COLUMN browser"],
        then="ADD COLUMN IF NOT EXISTS browser",
    ),
    "a column that computes": Fault(
        Sentence.KEEPS_NOTHING,
        ["ALTER TABLE events MODIFY COLUMN browser LowCardinality(String) MATERIALIZED upper(user_agent)"],
    ),
    "columns read from others": Fault(
        Sentence.KEEPS_NOTHING,
        [
            "ALTER TABLE events MODIFY COLUMN browser LowCardinality(String) ALIAS user_agent",
            "ALTER TABLE events MODIFY COLUMN active Int8 MATERIALIZED 1",
        ],
    ),
    "a column that keeps nothing": Fault(
        Sentence.KEEPS_NOTHING,
        [
            "ALTER TABLE events MODIFY COLUMN browser LowCardinality(String) EPHEMERAL",
            "ALTER TABLE events DROP INDEX inserted_at_range",
            "ALTER TABLE events MODIFY COLUMN _inserted_at DateTime64(3, 'UTC') EPHEMERAL",
        ],
    ),
    "no ledger": Fault(Sentence.NO_LEDGER, ["DROP TABLE offsets SYNC"]),
    "no view of the table of offsets": Fault(Sentence.NO_LEDGER_VIEW, ["DROP VIEW events_to_offsets"]),
    "no view of the dead letters' ledger": Fault(Sentence.NO_LEDGER_VIEW, ["DROP VIEW dead_letters_offsets"]),
    "a view of the table of offsets that writes elsewhere": Fault(
        Sentence.OTHER_LEDGER_VIEW,
        [
            "DROP VIEW events_to_offsets",
            "CREATE TABLE others AS offsets",
            "CREATE MATERIALIZED VIEW events_to_offsets TO others AS SELECT _topic AS topic FROM events",
        ],
    ),
    "a ledger of before": Fault(Sentence.NO_COLUMNS, ["ALTER TABLE offsets DROP COLUMN epochs"]),
    "a ledger of before, without its views": Fault(
        Sentence.NO_COLUMNS,
        ["DROP VIEW events_to_offsets", "DROP VIEW dead_letters_offsets", "ALTER TABLE offsets DROP COLUMN epochs"],
    ),
    "a view of the table of offsets that counts no epochs": Fault(
        Sentence.OLD_LEDGER_VIEW,
        [f"ALTER TABLE dead_letters_offsets MODIFY QUERY {VIEW_OF_BEFORE}"],
    ),
    "a migration that died before its end": Fault(Sentence.NOT_MIGRATED, ["TRUNCATE TABLE migrations"]),
    "a ledger with a small window": Fault(
        Sentence.SMALL_WINDOW, ["ALTER TABLE offsets MODIFY SETTING non_replicated_deduplication_window = 0"]
    ),
    "a table with a small window": Fault(
        Sentence.SMALL_WINDOW, ["ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 7"]
    ),
    "a view's own table": Fault(
        Sentence.SMALL_WINDOW,
        [f"CREATE MATERIALIZED VIEW own ENGINE = SummingMergeTree ORDER BY n {_INTO}"],
    ),
    "a name in quotes": Fault(
        Sentence.SMALL_WINDOW,
        [
            "CREATE TABLE `a-b` (n UInt8) ENGINE = MergeTree ORDER BY n",
            f"CREATE MATERIALIZED VIEW own TO `a-b` {_INTO}",
        ],
    ),
    "a target that is gone": Fault(
        Sentence.NO_TARGET,
        [
            "CREATE TABLE target (n UInt8) ENGINE = Null",
            f"CREATE MATERIALIZED VIEW own TO target {_INTO}",
            "DROP TABLE target SYNC",
        ],
    ),
    "a target that knows no deduplication": Fault(
        Sentence.NO_DEDUPLICATION,
        ["CREATE TABLE target (n UInt8) ENGINE = Log", f"CREATE MATERIALIZED VIEW own TO target {_INTO}"],
    ),
}


@pytest.fixture
def environ(database: Connection, clickhouse: ClickHouse) -> dict[str, str]:
    """What the commands are told."""
    return {
        "CONSUMER_BOOTSTRAP_SERVERS": "-",
        "CONSUMER_CLICKHOUSE_URL": clickhouse.url,
        "CONSUMER_CLICKHOUSE_USER": USER,
        "CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CONSUMER_CLICKHOUSE_DATABASE": database.database,
    }


def sentence(database: Connection) -> str:
    """Return what preflight says; "" when all is well."""
    try:
        check_tables(database, [(EVENTS, PACE), (DEAD, PACE)])
    except Fatal as fault:
        return str(fault)
    return ""


def refused(call: Callable[[], object]) -> str:
    """Return what a command can't do."""
    with pytest.raises(Fatal) as fault:
        call()
    return str(fault.value)


def insert(database: Connection, offsets: range, token: str) -> None:
    """Insert events as a worker does."""
    schemas = LocalSchemas()
    rows = EventRows(schemas)
    batch = [record(offset, encoded(offset, browser="lynx")) for offset in offsets]
    assert rows.screen(batch) == []
    table = ClickHouseTable(database, EVENTS, rows, schemas.schema_of, Tally())
    for block in rows.blocks(batch, Origin("id"), token):
        table.insert(block)


@pytest.mark.parametrize("kind", cases(FAULTS, {fault.says: kind for kind, fault in FAULTS.items()}.values()))
def test_what_preflight_says_is_enough(database: Connection, environ: dict[str, str], kind: str) -> None:
    """After the commands in backquotes a worker starts with the tables, and they keep what it inserts."""
    fault = FAULTS[kind]
    for statement in fault.cause:
        database.command(statement)
    said = sentence(database)
    assert re.fullmatch(re.sub(r"\\{\w+\\}", ".+", re.escape(fault.says)), said), said

    if fault.then:  # what migrate can't know, it names
        follow(refused(lambda: follow(said, environ, database)), environ, database, fault.then)
    else:
        follow(said, environ, database)

    assert sentence(database) == ""
    insert(database, range(5), "behind it")
    assert database.query("SELECT count() AS n FROM events WHERE browser = 'lynx'") == [{"n": 5}]


def test_every_sentence_about_tables_has_its_cause_here() -> None:
    """A sentence that is added needs a row; the others stand with their tests."""
    about_topics = {item for item in Sentence if "{servers}" in item or item is Sentence.SMALL_METADATA}
    about_groups = {Sentence.NO_ASSIGNOR_IN_COMMON}
    in_test_migrate = {Sentence.RENAMED, Sentence.COMPUTES_NOTHING, Sentence.REPLICATED}
    by_profiles = {Sentence.NO_TOKENS, Sentence.TAKES_NO_ROW}

    of_servers = set(list(Sentence)[list(Sentence).index(Sentence.SEPARATE_TABLES) :]) - about_topics - about_groups
    in_test_shards = of_servers | {Sentence.DISTRIBUTED}
    in_test_cluster_check = {Sentence.SHORT_WINDOW, Sentence.NO_QUORUM}

    elsewhere = about_topics | about_groups | in_test_migrate | by_profiles | in_test_shards | in_test_cluster_check
    assert {fault.says for fault in FAULTS.values()} == set(Sentence) - elsewhere


def test_what_came_while_the_view_was_gone_is_counted_again(database: Connection, environ: dict[str, str]) -> None:
    """`migrate` says so, and the audit calls none of it lost."""
    span = Span(Partition(TOPIC, 0), "id", 0, 30)
    auditor = Auditor(database, {TOPIC: "events"}, None)
    insert(database, range(10), "a")
    database.command("DROP VIEW events_to_offsets")
    insert(database, range(10, 30), "b")
    assert str(auditor.audit(span).uncounted) == "10-29"

    follow(sentence(database), environ, database)
    auditor.recount(auditor.audit(span))  # what RECOUNT does; the command asks Kafka for the span

    assert RECOUNT == "`python -m consumer audit --recount`"
    assert auditor.audit(span).is_clean
