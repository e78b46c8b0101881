"""An operator: runs `python -m consumer` in separate processes, and does what a sentence says, word for word."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from consumer.clickhouse.client import Connection
from tests.support.advice import follow
from tests.support.clickhouse import USER, ClickHouse, password_file
from tests.support.command import Command, environ_of
from tests.support.fixtures_consumer import encoded, open_database
from tests.support.kafka import Broker
from tests.support.kafka_clients import deliver
from tests.support.log_members import until
from tests.support.migrated import make_tables
from tests.support.ports import free_port

WAIT_S: Final = 60.0
_SENTENCE: Final = "consumer: "


class Operator:
    """Runs commands against topics and a database of the test's own."""

    def __init__(self, broker: Broker, clickhouse: ClickHouse, database: str, topics: tuple[str, str]) -> None:
        self.broker = broker
        self.database = open_database(clickhouse, database, WAIT_S)
        self.workers: list[Command | subprocess.Popen[str]] = []
        self.topic, self.dead_topic = topics
        self.http_port = free_port()
        self.environ = environ_of("CONSUMER_") | {
            "CONSUMER_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "CONSUMER_CLICKHOUSE_URL": clickhouse.url,
            "CONSUMER_CLICKHOUSE_USER": USER,
            "CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(password_file()),
            "CONSUMER_CLICKHOUSE_DATABASE": database,
            "CONSUMER_TOPIC": self.topic,
            "CONSUMER_DEAD_LETTER_TOPIC": self.dead_topic,
            "CONSUMER_GROUP_ID": f"group-{uuid.uuid4().hex[:8]}",
            "CONSUMER_HTTP_HOST": "127.0.0.1",
            "CONSUMER_HTTP_PORT": str(self.http_port),
            "CONSUMER_SESSION_TIMEOUT_MS": "2000" if broker.name == "apache-kafka" else "6000",
            "CONSUMER_BATCH_AGE_S_MAX": "0.5",
            "CONSUMER_AUDIT_EVERY_S": "1",
        }

    def start(self, *arguments: str, **settings: str) -> Command:
        """Start a command."""
        return Command(arguments, self.environ | {f"CONSUMER_{name}": text for name, text in settings.items()})

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Run a command to its end; return exit code, output and what it said besides."""
        process = self.start(*arguments, **settings)
        try:
            output, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
        assert process.returncode is not None
        return process.returncode, output, said

    def fails(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """Run a command that can't go on; return exit code and its one sentence."""
        code, _, said = self.run(*arguments, **settings)
        (sentence,) = [line.removeprefix(_SENTENCE) for line in said.splitlines() if line.startswith(_SENTENCE)]
        return code, sentence

    def follow(self, sentence: str, only: str = "") -> list[str]:
        """Run what a sentence names in backquotes, as it stands; a worker is started, and goes on; see `follow`."""
        return follow(sentence, self.environ, self.database, only, self.work)

    def work(self, **settings: str) -> Command:
        """Start a worker that ends with the test at the latest."""
        worker = self.start("run", **settings)
        self.workers.append(worker)
        return worker

    def make_tables(self) -> None:
        """Make the tables in this process; the views for analysts are left out."""
        make_tables(self.database)

    def send(self, count: int, partition: int = 0, first: int = 0) -> None:
        """Append good events to the topic."""
        events = [encoded(number) for number in range(first, first + count)]
        deliver(self.broker.bootstrap_servers, self.topic, events, partition)

    def rows(self) -> int:
        """Count the rows of events."""
        return int(self.database.query("SELECT count() AS n FROM events")[0]["n"])

    def await_rows(self, count: int) -> None:
        """Wait until there are so many rows of events."""
        until(lambda: self.rows() == count, timeout_s=WAIT_S)

    def stop(self) -> None:
        """Stop its workers, which must end well."""
        for worker in self.workers:
            assert finish(worker)[0] == 0
        self.workers.clear()

    def status(self, path: str = "/readyz") -> str:
        """Return what one of the worker's pages says it is; "" when it does not answer."""
        code, body = self.page(path)
        return str(json.loads(body)["status"]) if code else ""

    def await_status(self, name: str, path: str = "/readyz", timeout_s: float = WAIT_S) -> str:
        """Wait until one of the worker's pages says that it is so; return its sentence."""
        return str(
            json.loads(self.await_page(path, lambda _, body: f'"status": "{name}"' in body, timeout_s))["detail"]
        )

    def close(self) -> None:
        """End its workers."""
        for worker in self.workers:
            worker.kill()
            worker.communicate()
        self.database.close()

    def lines(self, *arguments: str) -> tuple[int, list[dict[str, object]]]:
        """Run a command with --json; return exit code and lines."""
        code, output, _ = self.run(*arguments, "--json")
        return code, [json.loads(line) for line in output.splitlines()]

    def page(self, path: str) -> tuple[int, str]:
        """Ask the worker's own port; status 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def await_page(self, path: str, condition: Callable[[int, str], bool], timeout_s: float = WAIT_S) -> str:
        """Ask until a condition holds, and return the page; fail with the last one when that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            status, body = self.page(path)
            if condition(status, body):
                return body
            if time.monotonic() >= deadline_s:
                raise AssertionError(f"{path} stays {status}: {body}\n{self._said()}")
            time.sleep(0.1)

    def _said(self) -> str:
        """End the workers, and return what they said at last."""
        for worker in self.workers:
            worker.kill()
        return "\n".join(worker.communicate()[1][-3000:] for worker in self.workers)


def finish(worker: Command | subprocess.Popen[str]) -> tuple[int, list[dict[str, object]]]:
    """Stop a worker; return its exit code and log lines, each of which must be JSON."""
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=WAIT_S)
    assert worker.returncode is not None
    return worker.returncode, [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def operator(
    kafka: Broker, clickhouse: ClickHouse, empty_database: Connection, new_topic: Callable[..., str]
) -> Iterator[Operator]:
    """An operator whose database has no tables yet."""
    made = Operator(kafka, clickhouse, empty_database.database, (new_topic(partitions=2), new_topic()))
    yield made
    made.close()
