"""What the fault tests of the ingress run on: a broker of their own that may be hurt, and a topic for each test."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.support.kafka import KafkaCluster
from tests.support.kafka_broker import NotAvailableError
from tests.support.ledger import Account
from tests.support.load import Request, percentile


@pytest.fixture(scope="session")
def broker_of_session() -> Iterator[KafkaCluster]:
    """One node of Apache Kafka for the session."""
    try:
        cluster = KafkaCluster(1)
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with cluster:
        yield cluster


@pytest.fixture
def broker(broker_of_session: KafkaCluster) -> Iterator[KafkaCluster]:
    """One node that the test may pause and kill; it is well again for the next one."""
    yield broker_of_session
    broker_of_session.heal()


@pytest.fixture
def events(broker: KafkaCluster) -> str:
    """A new topic with four partitions."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, partitions=4)
    return name


@pytest.fixture
def figures(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """A function that prints a test's figures under its name, whether output is captured or not."""

    def tell(account: Account | None = None, **numbers: object) -> None:
        parts = [
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in numbers.items()
        ]
        if account is not None:
            parts.insert(
                0,
                f"taken={account.taken} on_disk={account.on_disk} lost={len(account.lost)} twice={account.twice}"
                f" unclaimed={account.unclaimed}",
            )
        with capsys.disabled():
            print(f"\n  {request.node.name}: {' '.join(parts)}")

    return tell


def statuses(requests: list[Request]) -> dict[int, int]:
    """Count requests by status; 0 is no answer."""
    return {status: sum(r.status == status for r in requests) for status in sorted({r.status for r in requests})}


def p99_ms(requests: list[Request]) -> float:
    """Return the time below which 99 % of the requests were answered (ms)."""
    return percentile([request.took_s for request in requests], 0.99) * 1000
