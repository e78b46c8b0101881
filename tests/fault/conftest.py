"""What the fault tests run on: a broker that may be hurt, topics, workers behind a proxy, and an oracle."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.conftest import IS_SOAK
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster
from tests.support.ledger import Account, settle, topic_census
from tests.support.load import Load, Request, percentile
from tests.support.proxy import FaultProxy, Pass
from tests.support.rig import Rig

_FIRST: Final = 150
_NO_WAIT_MS: Final = 1000.0
PARTITIONS: Final = 2
"""Those of a topic of events: each costs an insert for each batch."""


@pytest.fixture
def broker(one_node: KafkaCluster) -> Iterator[KafkaCluster]:
    """One node that the test may pause and kill; it is well again for the next one."""
    yield one_node
    one_node.heal()


@pytest.fixture
def events(broker: KafkaCluster) -> str:
    """A new topic."""
    return new_topic_on(broker)


def new_topic_on(cluster: KafkaCluster, partitions: int = PARTITIONS, replication_factor: int | None = None) -> str:
    """Make a topic for events, and one for the worker's dead letters beside it; return the first one's name."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    cluster.create_topic(f"{name}.dead")
    cluster.create_topic(name, partitions, replication_factor)
    return name


@pytest.fixture(scope="module")
def rig(one_node: KafkaCluster, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for all tests of a module: each settles what it sends."""
    address = urlsplit(clickhouse.url)
    topic = new_topic_on(one_node)
    servers = one_node.bootstrap_servers
    with (
        FaultProxy(address.hostname or "", address.port or 0) as proxy,
        Fleet(tmp_path_factory.mktemp("fleet"), servers, topic, clickhouse.url) as fleet,
    ):
        yield Rig(proxy, fleet, Feed(servers, topic, poison_every=40))


@pytest.fixture
def member(rig: Rig) -> Iterator[Member]:
    """The rig's worker, started if it does not run; it has its partitions, and nothing is struck while it starts."""
    rig.proxy.set(Pass())
    alive = [member for member in rig.fleet.members if member.is_alive]
    worker = alive[0] if alive else rig.start()
    until(lambda: worker.partitions() > PARTITIONS, "partitions")
    yield worker
    rig.proxy.set(Pass())


class Oracle:
    """Settles a test's requests, and prints its figures under its name, whether output is captured or not."""

    def __init__(self, request: pytest.FixtureRequest, directory: Path) -> None:
        """Know the test; a ClickHouse is started when one is asked for."""
        self._request = request
        self._directory = directory

    def prove(self, requests: list[Request], cluster: KafkaCluster, topic: str) -> Account:
        """Settle with the topic, and then with the table that a worker makes of it; return the topic's account.

        Fails unless analysts see each event that was taken exactly once, and nothing that nobody sent.
        """
        clickhouse: ClickHouse = self._request.getfixturevalue("clickhouse")
        account = self.settle(requests, cluster.bootstrap_servers, topic)
        with Fleet(self._directory, cluster.bootstrap_servers, topic, clickhouse.url) as fleet:
            fleet.start()
            settle(requests, fleet.census).check(once=True)
        return account

    def settle(self, requests: list[Request], bootstrap_servers: str, topic: str) -> Account:
        """Settle with the topic alone: not every broker serves a worker."""
        account = settle(requests, topic_census(bootstrap_servers, topic))
        account.check()
        return account

    def tell(self, account: Account, requests: list[Request], **figures: object) -> None:
        """Print an account and other figures."""
        sums = {"taken": account.taken, "on_disk": account.on_disk, "lost": len(account.lost)}
        doubts = {"twice": account.twice, "unclaimed": account.unclaimed, "statuses": statuses(requests)}
        self.say(**sums, **doubts, **figures)

    def say(self, **figures: object) -> None:
        """Print figures, when the test is over."""
        parts = [f"{name}={f'{value:.3g}' if isinstance(value, float) else value}" for name, value in figures.items()]
        self._request.node.user_properties.append(("says", " ".join(parts)))


@pytest.fixture
def oracle(request: pytest.FixtureRequest, tmp_path: Path) -> Oracle:
    """Says what became of a test's events."""
    return Oracle(request, tmp_path)


def statuses(requests: list[Request]) -> dict[int, int]:
    """Count requests by status; 0 is no answer."""
    return {status: sum(r.status == status for r in requests) for status in sorted({r.status for r in requests})}


def p99_ms(requests: list[Request]) -> float:
    """Return the time below which 99 % of the requests were answered (ms)."""
    return percentile([request.took_s for request in requests], 0.99) * 1000


def wait_ms(requests: list[Request]) -> float:
    """Return the time below which nearly all requests were answered (ms).

    That is 99 % on a machine of the test's own; `make test` runs several tests at once, which may stop the clients for
    a second, and looks at half of them.
    """
    return p99_ms(requests) if IS_SOAK else percentile([request.took_s for request in requests], 0.5) * 1000


def bearable_ms(before: list[Request]) -> float:
    """Return what an answer from the disk may take: 100 ms, or twice what answers took before on a busy machine.

    The first answers, for which the ingress had to find its broker, don't count. `make test` runs several tests at
    once and tells no more than that nobody waits for the broker.
    """
    return max(100.0, 2 * p99_ms(before[_FIRST:])) if IS_SOAK else _NO_WAIT_MS


def during(requests: list[Request], since_s: float, until_s: float) -> list[Request]:
    """Return the requests that were sent between two moments (Unix time)."""
    return [request for request in requests if since_s <= request.at_s < until_s]


def ended_before(requests: list[Request], moment_s: float) -> list[Request]:
    """Return the requests that were answered before a moment (Unix time)."""
    return [request for request in requests if request.at_s + request.took_s < moment_s]


def await_broker(clients: Load, latest: int) -> None:
    """Wait until the events of so many of the latest requests went to the broker.

    On a busy machine the broker may answer too late for the start of the ingress: its first events go to disk then.
    """
    until(lambda: {request.durability for request in clients.so_far[-latest:]} == {"broker"}, "with the broker")


def on_disk(requests: list[Request], since_s: float) -> int:
    """Count the requests whose events went to disk and that were answered after a moment (Unix time)."""
    return sum(request.durability == "disk" for request in requests if request.at_s + request.took_s >= since_s)
