"""A new field, from one release to the next, in every order: each event once, and the field where it was sent.

Real processes of two trees, on one topic and one database.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from consumer.clickhouse.client import Connection
from tests.conftest import SOAK_ONLY
from tests.support.clickhouse import ClickHouse
from tests.support.fleet import Fleet
from tests.support.ingress import Ingress
from tests.support.kafka import Broker
from tests.support.member import Member
from tests.support.registry import SchemaRegistry
from tests.support.release import Visitors, await_rows, next_release, run_migrate

OLD = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


class Deployment:
    """An installation whose programs are of either release."""

    def __init__(self, directory: Path, fleet: Fleet, registry_url: str) -> None:
        self.fleet = fleet
        self.fleet.settings |= {"schema_registry_url": registry_url, "drain_s_max": 1}
        self._directory = directory
        self._registry_url = registry_url
        self._running = ExitStack()

    def worker(self, root: Path) -> Member:
        """Start a worker of a tree."""
        self.fleet.root = root
        return self.fleet.start()

    def ingress(self, root: Path) -> int:
        """Start a collector of a tree and return its port; it has its own disk."""
        directory = self._directory / root.name
        directory.mkdir(exist_ok=True)
        settings = self.fleet.settings
        made = Ingress(
            directory,
            str(settings["bootstrap_servers"]),
            topic=self.fleet.topic,
            dead_letter_topic=f"{self.fleet.topic}.dead",
            schema_registry_url=self._registry_url,
            threads=4,
        )
        made.root = root
        self._running.callback(made.end)
        made.start()
        return made.port

    def letters(self) -> int:
        """Count the dead letters."""
        (row,) = self.fleet.connection.query("SELECT count() AS n FROM dead_letters")
        return int(row["n"])

    def rows(self) -> int:
        """Count the rows."""
        (row,) = self.fleet.connection.query("SELECT count() AS n FROM events")
        return int(row["n"])

    def stop(self) -> None:
        """Stop the collectors."""
        self._running.close()


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the next release."""
    return next_release(tmp_path_factory.mktemp("next"))


@pytest.fixture
def deploy(
    kafka: Broker, clickhouse: ClickHouse, tmp_path: Path, new_topic: Callable[..., str]
) -> Iterator[Callable[[str], Deployment]]:
    """A function that makes a deployment, with the address of a registry or without."""
    topic = new_topic(partitions=4)
    kafka.create_topic(f"{topic}.dead")
    with ExitStack() as stack:

        def make(registry_url: str) -> Deployment:
            fleet = stack.enter_context(Fleet(tmp_path, kafka.bootstrap_servers, topic, clickhouse.url))
            made = Deployment(tmp_path, fleet, registry_url)
            stack.callback(made.stop)
            return made

        yield make


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {WAIT_S} s: {what}"
        time.sleep(0.1)


def owned(worker: Member) -> float:
    """Return how many partitions a worker owns, those of the dead letters too."""
    return worker.figure("headrace_consumer_partitions", state="owned")


def test_the_table_then_workers_one_by_one_then_the_ingress(deploy: Callable[[str], Deployment], new: Path) -> None:
    """The order for a release, under load: nothing is ever held up, and at no step does anybody have to stop.

    And the way back: the column stays, and the old worker goes on beside it.
    """
    all_of = deploy("")
    visitors, old_port = Visitors(), all_of.ingress(OLD)
    first = all_of.worker(OLD)
    with visitors.running(old_port, knows_field=False):
        until(lambda: all_of.rows() > 20, "rows of the old worker")
        assert "campaign" in run_migrate(all_of.fleet, new)
        before = all_of.rows()
        until(lambda: all_of.rows() > before + 20, "the old worker goes on after the migration")
        second = all_of.worker(new)
        until(lambda: owned(second) > 0 and owned(first) > 0, "two versions share the partitions")
        before = all_of.rows()
        until(lambda: all_of.rows() > before + 20, "both insert")
        assert first.stop() == 0
        new_port = all_of.ingress(new)
        visitors.send(new_port, 100, knows_field=True)
    visitors.send(old_port, 20, knows_field=False)

    await_rows(all_of.fleet, visitors.sent)
    assert all_of.letters() == 0
    assert second.stop() == 0
    third = all_of.worker(OLD)
    visitors.send(old_port, 20, knows_field=False)
    await_rows(all_of.fleet, visitors.sent)
    assert "will try again" not in first.said() + second.said() + third.said()


@pytest.mark.parametrize(
    "with_registry", [pytest.param(False, id="files", marks=SOAK_ONLY), pytest.param(True, id="registry")]
)
def test_an_ingress_that_comes_too_early_is_waited_for(
    deploy: Callable[[str], Deployment],
    new: Path,
    with_registry: bool,  # noqa: FBT001  (a case)
) -> None:
    """The old worker holds what it can't read, as lag and not as dead letters; its successor inserts it, once."""
    with SchemaRegistry() if with_registry else nullcontext() as running:
        all_of = deploy(running.url if running else "")
        visitors, old_port = Visitors(), all_of.ingress(OLD)
        first = all_of.worker(OLD)
        visitors.send(old_port, 50, knows_field=False)
        until(lambda: all_of.rows() >= 50, "rows of the old worker")

        new_port = all_of.ingress(new)
        visitors.send(new_port, 100, knows_field=True)
        visitors.send(old_port, 50, knows_field=False)
        until(lambda: first.page("/readyz")[0] == 503, "not ready")
        until(lambda: first.figure("headrace_consumer_lag_records") >= 100, "lag")
        assert first.page("/healthz")[0] == 200
        assert "upgrade" in first.said()

        unprepared = all_of.worker(new)
        assert unprepared.await_exit(WAIT_S) == 1
        assert "lacks the columns campaign: run `python -m consumer migrate`" in unprepared.said()

        run_migrate(all_of.fleet, new)
        second = all_of.worker(new)
        until(lambda: owned(second) > 0, "the new worker has joined")
        assert first.stop() == 0
        await_rows(all_of.fleet, visitors.sent)
        assert all_of.letters() == 0
        until(lambda: second.page("/readyz")[0] == 200, "ready, once it hears that all is inserted")
        assert len(running.texts if running else (1, 2)) == 2


@pytest.mark.parametrize("table", ["events", "dead_letters"])
def test_analysts_see_every_column(database: Connection, table: str) -> None:
    """A migration that adds a column has to make the view anew: a view keeps the columns that it was made with."""
    query = (
        "SELECT table, groupArray(name) AS names FROM system.columns WHERE database = currentDatabase() GROUP BY table"
    )
    columns = {row["table"]: row["names"] for row in database.query(query)}

    assert set(columns[f"{table}_unique"]) == set(columns[table]) - {
        "_precedence",
        "_known",
    }  # of merges, and of columns
