"""The pages of docs/RECOVERY.md: each loss is made, and its commands are run as they stand there."""

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from docs.tables import ROOT
from tests.conftest import SOAK_ONLY
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import encoded, open_database
from tests.support.kafka_clients import deliver
from tests.support.operator import WAIT_S, Operator

_PAGES: Final = dict(
    re.findall(
        r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (ROOT / "docs/RECOVERY.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
)


def blocks(page: str, language: str) -> list[str]:
    """Return the commands or statements of a page, in their order."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", _PAGES[page], re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


class Recovery:
    """An operator who has nothing but a page."""

    def __init__(self, operator: Operator, clickhouse: ClickHouse) -> None:
        self.operator = operator
        self.database = operator.database
        self._server = open_database(clickhouse, "", WAIT_S)
        self._backup = f"backup-{uuid.uuid4().hex[:8]}"

    def run(self, commands: str, **replaced: str) -> str:
        """Run shell commands of a page; events/0 and other names stand for those of the test."""
        for old, new in replaced.items():
            commands = commands.replace(old.replace("__", "/"), new)
        environ = self.operator.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euc", commands], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def execute(self, statements: str) -> None:
        """Run the statements of a page on the database of the test, with separate backups."""
        named = statements.replace("headrace.", f"{self.database.database}.").replace("headrace-1", self._backup)
        named = named.replace("DATABASE headrace ", f"DATABASE {self.database.database} ")
        for statement in filter(str.strip, named.split(";\n")):
            self._server.query(statement) if "SELECT" in statement else self._server.client().command(
                statement.rstrip(";\n")
            )

    def drop(self) -> None:
        """Lose ClickHouse's disk."""
        self._server.command(f"DROP DATABASE {self.database.database} SYNC")

    def count(self, what: str = "count()", table: str = "events") -> int:
        """Count rows."""
        return int(self.database.query(f"SELECT {what} AS n FROM {table}")[0]["n"])

    def await_events(self, count: int) -> None:
        """Wait until so many different events are rows."""
        deadline_s = time.monotonic() + WAIT_S
        while self.count("uniqExact(event_id)") < count and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert self.count("uniqExact(event_id)") == count

    def send(self, count: int, first: int = 0) -> None:
        """Append so many more events, to both partitions."""
        servers, topic = self.operator.broker.bootstrap_servers, self.operator.topic
        for partition in (0, 1):
            events = [encoded(number) for number in range(first + partition, first + count, 2)]
            deliver(servers, topic, events, partition)

    def insert(self, count: int, first: int = 0) -> None:
        """Let a worker insert so many more events."""
        self.send(count, first)
        self.work(first + count)

    def work(self, count: int) -> None:
        """Let a worker insert what there is, and stop it."""
        self.operator.work()
        self.await_events(count)
        self.operator.await_status("idle", "/healthz")
        self.operator.stop()


@pytest.fixture
def recovery(operator: Operator, clickhouse: ClickHouse) -> Recovery:
    """Migrated tables, and Apache Kafka: the embedded broker can't have offsets read again."""
    if not operator.broker.supports_commit_metadata:
        pytest.skip("a reading's number stands in the commit's metadata")
    operator.make_tables()
    return Recovery(operator, clickhouse)


@SOAK_ONLY
def test_a_lost_clickhouse_is_restored_and_what_came_since_is_read_again(recovery: Recovery) -> None:
    """A backup while nothing stands still, more events, the disk is gone: every event is there, no row twice."""
    recovery.insert(20)
    recovery.execute(blocks("Back up ClickHouse", "sql")[0])
    recovery.insert(10, first=20)
    recovery.drop()

    page = "ClickHouse is lost"
    recovery.execute(blocks(page, "sql")[0])
    assert recovery.count() == 20
    repair, check = blocks(page, "sh")
    said = recovery.run(repair)
    recovery.work(30)
    recovery.run(check)

    assert "committed 2 partitions" in said
    assert (recovery.count(), recovery.count("max(_reading)")) == (30, 1)
    assert recovery.count(table="events_unique") == 30


@SOAK_ONLY
def test_without_a_backup_everything_is_read_again(recovery: Recovery) -> None:
    """Empty tables, and all that Kafka still has."""
    recovery.insert(20)
    recovery.drop()

    recovery.run(blocks("ClickHouse is lost", "sh")[0])
    recovery.work(20)

    assert recovery.count() == 20
    assert recovery.operator.run("audit")[0] == 0


def test_a_time_range_is_inserted_again_without_doubling(recovery: Recovery) -> None:
    """Some rows of an hour are deleted by mistake: then each of that hour is there once, of the new reading."""
    recovery.send(10)
    time.sleep(0.01)
    since = datetime.now(UTC)
    recovery.send(10, first=10)
    until = datetime.now(UTC)
    time.sleep(0.01)
    recovery.send(10, first=20)
    recovery.work(30)
    wrong = "toUInt128(event_id) IN (11, 12, 13)"
    recovery.database.command(f"ALTER TABLE events DELETE WHERE {wrong}", settings={"mutations_sync": 2})
    topic = recovery.operator.topic
    names = {
        "events__0": f"{topic}/0",
        "events__1": f"{topic}/1",
        "2026-01-31T09:00": since.isoformat(timespec="milliseconds"),
        "2026-01-31T10:00": until.isoformat(timespec="milliseconds"),
    }

    said = recovery.run(blocks("A time range is inserted again", "sh")[0], **names)
    recovery.work(30)

    assert "add --go for 2 partitions" in said
    assert "deleted" in said
    assert recovery.count() == recovery.count("uniqExact(event_id)") == 30
    assert recovery.count("countIf(_reading = 1)") == 10
    assert recovery.operator.run("audit")[0] == 0


def test_a_spool_volume_is_drained_elsewhere(recovery: Recovery, tmp_path: Path) -> None:
    """The events of a dead ingress become rows, without another ingress."""
    from ingest.publishing.ports import Record  # noqa: PLC0415  (only here)
    from ingest.spool.file import SpoolFile  # noqa: PLC0415  (as above)

    spool = SpoolFile(tmp_path / "00000000000000000001-1.db")
    spool.append([Record(b"", encoded(number)) for number in range(3)], 1_767_323_045_678)
    spool.close()
    recovery.operator.environ |= {
        "INGEST_BOOTSTRAP_SERVERS": recovery.operator.broker.bootstrap_servers,
        "INGEST_TOPIC": recovery.operator.topic,
        "INGEST_SPOOL_DIR": str(tmp_path),
    }

    said = recovery.run(blocks("A spool volume is lost", "sh")[0])
    recovery.work(3)

    assert "sent 3 events, 0 left" in said


@SOAK_ONLY
def test_a_release_is_rolled_back(recovery: Recovery) -> None:
    """The command hands the group over, and says so when it is repeated."""
    recovery.insert(4)
    (command,) = blocks("A bad release is rolled back", "sh")

    first, again = recovery.run(command), recovery.run(command)

    assert "is handed to the previous release" in first
    assert "nothing to do" in again


@SOAK_ONLY
def test_a_client_is_shut_out(recovery: Recovery, tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    """The registry's edit is in force, and the client's rows go; those of others stay."""
    registry = tmp_path / "clients.toml"
    key = "0" * 64
    registry.write_text(f'[clients.poisoned]\nname = "P"\nkeys = ["sha256:{key}"]\nenabled = true\n')
    now_ms = time.time_ns() // 1_000_000
    values = [encoded(1, clientId="poisoned", receivedAt=now_ms), encoded(2, clientId="web", receivedAt=now_ms)]
    deliver(recovery.operator.broker.bootstrap_servers, recovery.operator.topic, values, 0)
    recovery.work(2)
    recovery.operator.environ["INGEST_CLIENTS_FILE"] = str(registry)
    who, rows = blocks("A client is shut out", "sql")
    (edit,) = blocks("A client is shut out", "sh")

    recovery.execute(who)
    recovery.run(edit)
    recovery.execute(rows)

    assert refusal(registry) == "client_disabled"
    assert recovery.count() == 1
    assert recovery.operator.run("audit")[0] == 0


@pytest.fixture
def refusal() -> Callable[[Path], str]:
    """A function that says how the registry of a file refuses its only client's key."""
    from ingest.access.clients import read_keys  # noqa: PLC0415  (only here)

    def refused(path: Path) -> str:
        (key,) = read_keys(str(path)).values()
        return "" if key.client.enabled else "client_disabled"

    return refused


def test_every_command_of_the_pages_is_run_by_a_test() -> None:
    """Those of a lost broker need three: they are run by tests/fault/test_recovery_soak.py."""
    run_here: Mapping[str, int] = {
        "Back up ClickHouse": 0,
        "ClickHouse is lost": 2,
        "A time range is inserted again": 1,
        "A broker is lost": 2,
        "A spool volume is lost": 1,
        "A bad release is rolled back": 1,
        "A client is shut out": 1,
    }

    assert {page: len(blocks(page, "sh")) for page in _PAGES} == run_here
