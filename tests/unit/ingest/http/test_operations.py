"""The operations port: which port answers what."""

import asyncio
import json

import pytest

from ingest.counters import EventCounters
from ingest.http.message import Answer, RequestHead
from ingest.http.middleware import RequestMiddleware
from ingest.settings import load
from tests.support.front import policies_for


class NoBody:
    """A body of nothing."""

    def take(self) -> bytes:
        """Be there."""
        return b""

    async def read(self, _: int, /) -> bytes:
        """Be at its end."""
        return b""


def ask(path: str, port: str) -> Answer:
    """Send a request to a port, and answer what goes on with 200."""
    middleware = RequestMiddleware([], EventCounters(), policies_for(port=9090))
    context = middleware.open(RequestHead("GET", path, headers={"host": "x"}, port=port), NoBody())
    return asyncio.run(middleware.enter(context)) or Answer(200)


@pytest.mark.parametrize(
    ("path", "public", "operations"),
    [
        ("/metrics", 404, 200),
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/collect/event", 200, 404),
        ("/docs", 200, 404),
        ("/openapi.json", 200, 404),
        ("/", 200, 404),
    ],
)
def test_figures_are_on_the_operations_port_alone(path: str, public: int, operations: int) -> None:
    """Probes are on both: a load balancer asks the port that it sends to."""
    for port, status in (("8080", public), ("9090", operations)):
        answer = ask(path, port)
        assert answer.status == status
        if status == 404:
            assert json.loads(answer.body) == {
                "error": "Not Found",
                "message": "there is no such route",
                "statusCode": 404,
            }


def test_the_two_ports_differ() -> None:
    """Else nothing would be public."""
    told = {"INGEST_BOOTSTRAP_SERVERS": "127.0.0.1:1", "INGEST_PORT": "9090", "INGEST_OPERATIONS_PORT": "9090"}

    with pytest.raises(ValueError, match="INGEST_OPERATIONS_PORT"):
        load(told)
