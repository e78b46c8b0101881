"""Several addresses of ClickHouse, and several servers behind one address."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from consumer.__main__ import main
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.servers import scratch_table, servers_of
from consumer.errors import Cause, Fatal, Reason, Rejected, Transient
from consumer.operations.preflight import check_servers, check_tables
from tests.conftest import SOAK_ONLY
from tests.integration.test_shards import Inserter, places, rows_of
from tests.support.clickhouse import PASSWORD, USER, password_file
from tests.support.clickhouse_shards import Balancer, TwoServers
from tests.support.fixtures_consumer import TOPIC, encoded, record
from tests.support.proxy import DropAnswer, FaultProxy, Pass, Refuse

TARGET = Target("events", "event", TOPIC, 30)
PACE = InsertPace(partitions=5, age_s=1.0, timeout_s=30, session_s=30)


@pytest.fixture(params=[pytest.param(True, id="by request"), pytest.param(False, id="by connection", marks=SOAK_ONLY)])
def balancer(two_servers: TwoServers, request: pytest.FixtureRequest) -> Iterator[Balancer]:
    """A balancer before both two_servers."""
    with Balancer([node.port for node in two_servers.nodes], by_request=request.param) as running:
        yield running


class TwoWays:
    """Two addresses of one server, and a database there."""

    def __init__(self, two_servers: TwoServers, name: str) -> None:
        self.proxies = [FaultProxy("127.0.0.1", two_servers.nodes[0].port) for _ in range(2)]
        url = ",".join(proxy.url for proxy in self.proxies)
        self.connection = Connection(url, USER, PASSWORD, name, 10)

    @property
    def asked(self) -> list[int]:
        """How many requests went each way."""
        return [proxy.count(Pass) for proxy in self.proxies]

    def is_asked(self) -> int:
        """Ask, and return which way that went."""
        before = self.asked
        self.connection.query("SELECT 1 AS n")
        return next(number for number, count in enumerate(self.asked) if count > before[number])


@pytest.fixture(scope="module")
def single(two_servers: TwoServers) -> Iterator[str]:
    """A database of a single server, on each of both."""
    with two_servers.database("") as name:
        yield name


@pytest.fixture
def ways(two_servers: TwoServers, single: str) -> Iterator[TwoWays]:
    """A server with tables, reached in two ways."""
    made = TwoWays(two_servers, single)
    yield made
    made.connection.close()
    for proxy in made.proxies:
        proxy.close()


def test_a_host_stays_in_use_until_it_gives_no_answer(ways: TwoWays) -> None:
    """The next one is used then, also when the first one is back."""
    assert [ways.is_asked() for _ in range(3)] == [0, 0, 0]
    ways.proxies[0].set(Refuse())
    with pytest.raises(Transient) as failure:
        ways.connection.query("SELECT 1 AS n")
    assert failure.value.cause in (Cause.AWAY, Cause.UNKNOWN)
    ways.proxies[0].set(Pass())

    assert [ways.is_asked() for _ in range(3)] == [1, 1, 1]
    ways.proxies[1].set(Refuse())
    with pytest.raises(Transient):
        ways.connection.query("SELECT 1 AS n")
    assert ways.is_asked() == 0


def test_a_refusal_is_an_answer(ways: TwoWays) -> None:
    """A wrong statement is wrong at every host."""
    ways.is_asked()
    with pytest.raises(Fatal):
        ways.connection.query("SELECT nothing")

    assert ways.is_asked() == 0


def test_the_first_host_may_be_away_at_the_start(ways: TwoWays) -> None:
    """The first call says so, the second one succeeds."""
    ways.proxies[0].set(Refuse())
    with pytest.raises(Transient):
        ways.connection.query("SELECT 1 AS n")

    assert ways.is_asked() == 1


def test_an_insert_without_an_answer_is_repeated_at_the_next_host_once(ways: TwoWays, two_servers: TwoServers) -> None:
    """Both lead to the same table, which knows the token."""
    inserter = Inserter(ways.connection)
    ways.is_asked()
    ways.proxies[0].set(DropAnswer(), times=1, only=r"INSERT\+INTO\+events\+")
    with pytest.raises(Transient) as failure:
        inserter.insert(range(30), -1)
    assert failure.value.cause is Cause.UNKNOWN
    assert ways.is_asked() == 1
    inserter.insert(range(30), -1)

    assert rows_of(two_servers, ways.connection.database)[0] == places(0, range(30))


def test_what_needs_each_other_stays_on_its_host(ways: TwoWays) -> None:
    """Though other threads have left it: its table is there, and is dropped there."""
    with scratch_table(ways.connection, "events_probe_", "AS events ENGINE = Null") as (one, name):
        before = ways.asked[0]
        ways.proxies[0].set(Refuse())
        with pytest.raises(Transient):
            ways.connection.query("SELECT 1 AS n")
        ways.proxies[0].set(Pass())
        assert ways.is_asked() == 1
        one.query(f"SELECT count() AS n FROM {name}")
    assert ways.asked[0] == before + 2
    assert ways.connection.query("SELECT name FROM system.tables WHERE name LIKE 'events_probe_%'") == []


def test_two_ways_to_the_same_tables_pass_preflight(ways: TwoWays) -> None:
    """Whether by two proxies or two names; also while the second is away if tables are shared, else not."""
    check_tables(ways.connection, [(TARGET, PACE)])
    assert check_servers(ways.connection) == 0

    ways.proxies[1].set(Refuse())
    with pytest.raises(Transient):
        check_servers(ways.connection)


def test_servers_behind_a_balancer_are_told_apart(two_servers: TwoServers, balancer: Balancer) -> None:
    """By the names in their answers; statements to one of them are never answered by another."""
    found = {one.server: one for one in servers_of(two_servers.connect("default", url=balancer.url))}

    assert found.keys() == {"node-1", "node-2"}
    for name, one in found.items():
        assert {one.query("SELECT displayName() AS n")[0]["n"] for _ in range(5)} == {name}


def environ(balancer: Balancer, database: str) -> dict[str, str]:
    """What a command is told."""
    return {
        "CONSUMER_BOOTSTRAP_SERVERS": "-",
        "CONSUMER_CLICKHOUSE_URL": balancer.url,
        "CONSUMER_CLICKHOUSE_USER": USER,
        "CONSUMER_CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CONSUMER_CLICKHOUSE_DATABASE": database,
        "CONSUMER_CLICKHOUSE_CLUSTER": "one",
        "CONSUMER_CLICKHOUSE_REPLICATED": "false",
    }


def test_all_works_behind_a_balancer_before_two_entry_nodes(
    two_servers: TwoServers, balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrate makes the tables on both, preflight passes, poison is found, lost rows are put back."""
    with two_servers.database("one", is_empty=True) as name:
        for key, value in environ(balancer, name).items():
            monkeypatch.setenv(key, value)
        with pytest.raises(SystemExit) as ended:
            main(["migrate"])
        assert ended.value.code == 0
        query = "SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name"
        first, second = (one.query(query) for one in two_servers.each(name))
        assert first == second

        connection = two_servers.connect(name, "one", balancer.url)
        check_tables(connection, [(TARGET, PACE)])
        assert check_servers(connection) == 1
        inserter = Inserter(connection)
        for _ in range(4):
            inserter.insert(range(30), shard=1)
        far = encoded(7, receivedAt=99_999_999_999_999)
        batch = [record(30, encoded(31)), record(31, far), record(32, encoded(33))]
        inserter.rows.screen(batch)
        (block,) = inserter.rows.blocks(batch, inserter.block(range(1), 1)[0].origin, "t")
        with pytest.raises(Rejected) as refusal:
            inserter.table.insert(replace(block, shard=1))
        found = inserter.table.find_poison(block, refusal.value, batch)
        assert [(item.offset, item.reason) for item in found] == [(31, Reason.CONSTRAINT)]

        lose = "ALTER TABLE events DELETE WHERE _offset < 10"
        two_servers.each(name)[0].command(lose, settings={"mutations_sync": 2})
        assert inserter.repairer.repair(*inserter.block(range(30), shard=1)) == 10
        assert [rows.total() for rows in rows_of(two_servers, name)] == [30, 0]
        assert [one.query(query) for one in two_servers.each(name)] == [first, second]
