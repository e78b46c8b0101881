"""Fixtures for tests that need a broker: list this module in pytest_plugins."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from deploy.embedded.kafka_distribution import NotAvailableError
from tests.support.kafka import Broker, EmbeddedKafka, KafkaCluster, provide


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The most real broker that runs here, one for the session."""
    with provide(say=_teller(pytestconfig)) as broker:
        yield broker


@pytest.fixture(scope="session")
def one_node(kafka: Broker) -> Iterator[KafkaCluster]:
    """One node of Apache Kafka that tests may hurt and heal: the broker of all, unless that is no process of ours."""
    if isinstance(kafka, KafkaCluster):
        yield kafka
        return
    try:
        cluster = KafkaCluster(1)
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[Broker]:
    """The embedded broker, one for the session."""
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture(params=["kafka", "embedded_broker"])
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """Run the test on the most real broker and on the embedded one; each starts when first asked for."""
    broker: Broker = request.getfixturevalue(request.param)
    return broker


@pytest.fixture(scope="module")
def three_nodes(pytestconfig: pytest.Config) -> Iterator[KafkaCluster]:
    """Three nodes of Apache Kafka for a module, as idle nodes cost time; tests that hurt them take `kafka_cluster`."""
    try:
        broker = provide(nodes=3, say=_teller(pytestconfig))
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    assert isinstance(broker, KafkaCluster)
    with broker:
        yield broker


@pytest.fixture
def kafka_cluster(three_nodes: KafkaCluster) -> KafkaCluster:
    """Three nodes that the test may pause, stop and kill; the next one finds them whole again."""
    three_nodes.heal()
    return three_nodes


@pytest.fixture
def new_topic(request: pytest.FixtureRequest) -> Callable[..., str]:
    """A function that makes a topic of a unique name, with create_topic's arguments, on the broker of the test.

    That is the broker of the fixture which the test names: `any_broker`, `kafka_cluster`, `embedded_broker`, else
    `kafka`.
    """
    known = ("any_broker", "kafka_cluster", "embedded_broker")
    of_test = next((name for name in known if name in request.fixturenames), "kafka")
    broker: Broker = request.getfixturevalue(of_test)

    def make(**arguments: int) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        broker.create_topic(name, **arguments)  # type: ignore[arg-type]  # create_topic checks its own
        return name

    return make


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    """The name of a new topic with one partition, on the broker of the test."""
    return new_topic()


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """Return a print that the capture of tests does not swallow."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def tell(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}")

    return tell
