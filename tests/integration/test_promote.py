"""`python -m consumer promote` on a real ClickHouse: a column like a documented member's, whatever clients send."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.__main__ import main
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.migrations import migrate, migrations
from consumer.clickhouse.promotion import TYPES, Promotion, await_filled, promote, refresh_views
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.errors import Misconfigured, Rejected
from consumer.operations.preflight import check_tables
from schemas.registry import LocalSchemas
from tests.support.clickhouse import USER, ClickHouse, password_file
from tests.support.consumer_fakes import Tally
from tests.support.fixtures_consumer import TOPIC, encoded, encoded_loosely, record

LIKE = {
    "decimal": ("amount", "amount"),
    "number": ("scrollDepth", "scroll_depth"),
    "integer": ("counter", "counter"),
    "boolean": ("adblocker", "adblocker"),
    "string": ("plan", "plan"),
    "strings": ("contentTags", "content_tags"),
}
"""By type: a documented member of it, and its column."""
EVENTS = Target("events", "event", TOPIC, 30)


def no_wait(_: float) -> None:
    """Try again at once."""


class Rows:
    """Inserts as a worker does that knows nothing of promoted columns."""

    def __init__(self, database: Connection) -> None:
        self.database, self.sent = database, 0
        self.rows = EventRows(LocalSchemas())
        self.table = ClickHouseTable(database, EVENTS, self.rows, LocalSchemas().schema_of, Tally())

    def insert(self, *properties: str) -> None:
        """Insert one batch of events with these properties."""
        numbers = range(self.sent, self.sent + len(properties))
        batch = [record(n, encoded(n, properties=text)) for n, text in zip(numbers, properties, strict=True)]
        assert self.rows.screen(batch) == []
        (block,) = self.rows.blocks(batch, Origin("id"), f"token/{self.sent}")
        self.table.insert(block)
        self.sent += len(properties)

    def promote(self, member: str, kind: str) -> list[str]:
        """Promote a member, and wait until it is stored."""
        wanted, told = Promotion(member, kind), list[str]()
        said = promote(self.database, wanted, "UTC", no_wait)
        await_filled(self.database, wanted, told.append, no_wait)
        return said


@pytest.fixture
def rows(database: Connection) -> Rows:
    """Tables with views of the test's own."""
    refresh_views(database, "UTC", no_wait)
    return Rows(database)


NUMBERS = [
    *(
        "0",
        "-0",
        "-0.0",
        "1",
        "-1",
        "1.0",
        "1.5",
        "1e5",
        "1E+2",
        "1e22",
        "1e308",
        "1e-400",
        "5e-324",
        "0.00005",
        "99.99995",
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "12345678901234567",
    ),
    *("123456789012345.12345", "-0.00004", "1" * 60),
]
TEXTS = [
    "",
    "a",
    "1",
    " 1",
    "1 ",
    "-1.5e3",
    "true",
    "FALSE",
    "NaN",
    "inf",
    "-inf",
    "1" * 60,
    "é" * 300,
    "\x00",
    "'",
    '"',
    "\\",
]
EDGES = [
    *NUMBERS,
    *map(json.dumps, [*TEXTS, *NUMBERS]),
    "null",
    "true",
    "false",
    "[]",
    "{}",
    '["a", 1, null, ["b"], {}]',
]
VALUES = st.lists(
    st.one_of(
        st.sampled_from(EDGES),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**64), 2**64)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ).map(json.dumps),
    ),
    max_size=60,
)


def properties_of(value: str) -> str:
    """Return properties with a value, given as JSON, under both names of each type."""
    names = [name for kind, (name, _) in LIKE.items() for name in (name, f"my{kind.title()}")]
    return "{" + ", ".join(f'"{name}": {value}' for name in names) + "}"


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(VALUES)
def insert_any(rows: Rows, values: list[str]) -> None:
    """Insert any values."""
    rows.insert("{}", *map(properties_of, values))


def test_a_promoted_column_is_what_a_documented_member_of_its_type_has(rows: Rows) -> None:
    """For any JSON, of old rows and new ones, before and after it is stored; no content is refused."""
    insert_any(rows)
    rows.insert(*map(properties_of, EDGES))
    for kind in LIKE:
        (said,) = promote(rows.database, Promotion(f"my{kind.title()}", kind), "UTC", no_wait)
        assert said == f"events has the column my_{kind}: promoted: the member my{kind.title()} of properties as {kind}"
    rows.insert(*map(properties_of, EDGES), "", "[1]", "no json", '{"myNumber": 1')
    insert_any(rows)

    assert differences(rows) == {}
    for kind in LIKE:
        await_filled(rows.database, Promotion(f"my{kind.title()}", kind), lambda _: None, no_wait)
    assert differences(rows) == {}
    filled = ", ".join(f"countIf(toString(my_{kind}) NOT IN ('', '[]')) AS {kind}" for kind in LIKE)
    (counts,) = rows.database.query(f"SELECT {filled} FROM events")
    assert all(count >= 2 for count in counts.values()), counts


def differences(rows: Rows) -> dict[str, list[Any]]:
    """Return the values of rows whose two columns differ, by type."""
    found = {}
    for kind, (name, column) in LIKE.items():
        query = (
            f"SELECT properties_text AS text, toString({column}) AS ours, toString(my_{kind}) AS theirs FROM events"
            f" WHERE ours IS DISTINCT FROM theirs AND properties_text LIKE '%\"{name}\"%' LIMIT 3"
        )
        if different := rows.database.query(query):
            found[kind] = different
    return found


def test_rows_that_come_in_meanwhile_have_the_column_too(rows: Rows) -> None:
    """Workers need no restart, and lose no batch."""
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not stop.is_set():
                rows.insert(*(f'{{"readingMode": "dark", "n": {n}}}' for n in range(50)))
        except BaseException as error:  # noqa: BLE001  (the test fails with it)
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while rows.sent < 500:
            assert not failures
        before = rows.sent
        rows.promote("readingMode", "string")
        while rows.sent < before + 500:
            assert not failures
    finally:
        stop.set()
        thread.join()

    query = "SELECT count() AS n, countIf(reading_mode = 'dark') AS dark FROM events_unique"
    assert rows.database.query(query) == [{"n": rows.sent, "dark": rows.sent}]
    assert rows.database.query("SELECT count() AS n FROM events_ready WHERE reading_mode = 'dark'") == [
        {"n": rows.sent}
    ]
    check_tables(rows.database, [(EVENTS, InsertPace(1, 1.0, 30, 30))])


def test_it_may_run_again_and_migrate_leaves_it(rows: Rows) -> None:
    """Nothing is said the second time; the views show it with its comment, however often they are made."""
    rows.insert('{"abTest": 1}')
    assert rows.promote("abTest", "integer") != []
    assert rows.promote("abTest", "integer") == []
    assert migrate(rows.database, migrations(), no_wait).made == ()
    assert refresh_views(rows.database, "UTC", no_wait) == []
    comments = rows.database.query(
        "SELECT table, comment FROM system.columns"
        " WHERE database = currentDatabase() AND name = 'ab_test' ORDER BY table"
    )
    assert [(row["table"], row["comment"]) for row in comments] == [
        (table, "promoted: the member abTest of properties as integer")
        for table in ("events", "events_ready", "events_unique")
    ]

    rows.database.command("DROP VIEW events_unique")
    migrate(rows.database, migrations(), no_wait)
    refresh_views(rows.database, "UTC", no_wait)
    assert rows.database.query("SELECT ab_test FROM events_ready") == [{"ab_test": 1}]
    rows.database.command("ALTER TABLE events DROP COLUMN ab_test")
    migrate(rows.database, migrations(), no_wait)
    refresh_views(rows.database, "UTC", no_wait)
    assert rows.database.query("SELECT count() AS n FROM events_ready") == [{"n": 1}]


def test_a_promoted_column_is_not_taken_for_a_column_that_was_renamed(rows: Rows) -> None:
    """A missing column of its type is made again by migrate."""
    rows.promote("abTest", "number")
    rows.database.command("ALTER TABLE events DROP COLUMN scroll_depth")

    assert migrate(rows.database, migrations(), no_wait).made == (
        "the column scroll_depth of events was missing and has been created again",
    )


def test_poison_beside_a_promoted_column_is_found(rows: Rows) -> None:
    """The search knows the table's columns as they are."""
    rows.promote("abTest", "decimal")
    batch = [record(0), record(1, encoded_loosely(1, eventId="x" * 36)), record(2)]
    assert rows.rows.screen(batch) == []
    (block,) = rows.rows.blocks(batch, Origin("id"), "bad")

    with pytest.raises(Rejected) as refused:
        rows.table.insert(block)
    assert [item.offset for item in rows.table.find_poison(block, refused.value, batch)] == [1]


@pytest.mark.parametrize(
    ("member", "kind", "why"),
    [
        ("", "string", "can't be a column"),
        ("utm.source", "string", "can't be a column"),
        ("a b", "string", "can't be a column"),
        ("1a", "string", "can't be a column"),
        ("_topic", "string", "can't be a column"),
        ("é", "string", "can't be a column"),
        ("a" * 65, "string", "can't be a column"),
        ("x') || (SELECT 1", "string", "can't be a column"),
        ("a`; DROP TABLE events", "string", "can't be a column"),
        ("a\n", "string", "can't be a column"),
        ("mood", "text", "must be one of string, number"),
        ("mood", "String); DROP TABLE events", "must be one of string, number"),
        ("clientId", "string", "clientId is a field, and has the column client_id"),
        ("scrollDepth", "number", "scrollDepth has the column scroll_depth already"),
        ("scroll_depth", "number", "scroll_depth has the column scroll_depth already"),
        ("receivedAt", "string", "events has a column received_at already"),
        ("day", "string", "events_ready has a column day already"),
        ("isBot", "boolean", "events_ready has a column is_bot already"),
        ("properties", "string", "events has a column properties_text already"),
        ("null", "string", "null is a word of SQL"),
        ("from", "string", "from is a word of SQL"),
        ("Select", "string", "select is a word of SQL"),
        ("distinct", "string", "distinct is a word of SQL"),
        ("true", "string", "true is a word of SQL"),
    ],
)
def test_what_can_not_be_a_column_is_one_sentence(rows: Rows, member: str, kind: str, why: str) -> None:
    """And nothing is changed."""
    before = rows.database.query("SELECT name FROM system.columns WHERE database = currentDatabase()")

    with pytest.raises(Misconfigured, match=r"argument (NAME|TYPE): ") as refused:
        promote(rows.database, Promotion(member, kind), "UTC", no_wait)
    assert why in str(refused.value)
    assert rows.database.query("SELECT name FROM system.columns WHERE database = currentDatabase()") == before


def test_another_type_or_another_member_of_the_name_is_refused(rows: Rows) -> None:
    """The column can have one meaning."""
    rows.promote("abTest", "integer")
    for member, kind in (("abTest", "string"), ("ab_test", "integer"), ("abTEst", "integer")):
        if Promotion(member, kind).column == "ab_test":
            with pytest.raises(
                Misconfigured, match=r"events has a column ab_test already .promoted: the member abTest"
            ):
                promote(rows.database, Promotion(member, kind), "UTC", no_wait)


def test_the_command_says_what_it_does(
    rows: Rows, clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was added, how far old rows are, and that it is done; a mistake is code 2."""
    monkeypatch.setattr("consumer.__main__.start_logging", lambda _: None)  # logging is the process's
    rows.insert('{"mood": "good"}')
    given = {
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_USER": USER,
        "CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CLICKHOUSE_DATABASE": rows.database.database,
    }
    for name, value in given.items():
        monkeypatch.setenv(f"CONSUMER_{name}", value)

    assert ended(lambda: main(["promote", "mood", "string"])) == 0
    assert capsys.readouterr().out.splitlines() == [
        "events has the column mood: promoted: the member mood of properties as string",
        "the column mood is stored in all rows, and shown by events_unique and events_ready",
    ]
    assert ended(lambda: main(["promote", "mood", "strings"])) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("consumer: argument NAME: events has a column mood")


def ended(call: Callable[[], object]) -> object:
    """Return a command's exit code."""
    with pytest.raises(SystemExit) as end:
        call()
    return end.value.code


def test_types_are_those_of_the_catalogue() -> None:
    """One list of names for documented members and promoted ones."""
    assert set(TYPES) == set(LIKE)
